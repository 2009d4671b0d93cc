"""Undo of a batch: whether it can be undone, what an undo would do, and the undo itself."""
