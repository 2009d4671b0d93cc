"""What must always hold, found out with drawn examples."""
