"""Rows to clean values and problems. Knows no database."""
