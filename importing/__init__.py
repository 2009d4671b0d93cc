"""The import core: what a batch is, how it is checked, planned, applied, previewed and undone. Knows no HTTP."""
