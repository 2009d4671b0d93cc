"""The store: one schema on SQLite and PostgreSQL, and the set statements that work on it."""
