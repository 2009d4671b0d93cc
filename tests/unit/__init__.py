"""Examples for one part at a time."""
