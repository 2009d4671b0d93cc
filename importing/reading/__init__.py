"""Bytes to rows: charset, lines, cells. Knows no database."""
