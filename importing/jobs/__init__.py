"""Imports in the background: submitted with their data, then written chunk by chunk on whatever host."""
