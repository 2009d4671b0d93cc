"""Signed posts that report finished batches, to URLs that accounts have registered."""
