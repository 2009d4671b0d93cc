"""The statements of an undo: its plan in temporary tables, and its writes."""
