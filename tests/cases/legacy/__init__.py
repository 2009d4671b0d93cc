"""The legacy form protocol from outside: the cases of fixtures/legacy, the decisions that are no case, real sockets."""
