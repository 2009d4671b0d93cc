"""The tests: examples first, then what must always hold."""
