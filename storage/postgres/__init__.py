"""What PostgreSQL does its own way: pipelines, the account's row as the lock, plans for small batches."""
