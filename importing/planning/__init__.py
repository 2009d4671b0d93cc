"""Clean rows to a plan: what each row matches in the store, and what shall happen to it."""
