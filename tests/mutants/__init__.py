"""Mutation testing: which changes of the code do the tests not notice? Run by `make mutants`; see docs/testing.md."""
