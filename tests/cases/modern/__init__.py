"""The modern protocols: cases of files, the HTTP around them, and the vendors' own clients."""
