"""Plain queries, one module for each kind of data."""
