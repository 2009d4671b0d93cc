"""The documents, and what keeps their tables true."""
