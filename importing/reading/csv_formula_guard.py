"""Makes exported CSV safe to open in a spreadsheet: a cell that a spreadsheet would run gets an apostrophe in front.

Our own file import removes the apostrophe, so that an exported file is imported unchanged.
"""

from __future__ import annotations

import re

# What begins a formula, also in the full-width forms of East Asian keyboards, and the white space that may hide one.
_FORMULA_STARTS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
# A value that begins with apostrophes of its own gets one more; otherwise the import would remove one of its own.
_FORMULA = re.compile(f"'*[{_FORMULA_STARTS}]")
_GUARDED_FORMULA = re.compile(f"'+[{_FORMULA_STARTS}]")


def guard(value: str) -> str:
    """The value as a cell of an exported file.

    >>> guard("=1+1"), guard("'=1+1"), guard("O'Neil")
    ("'=1+1", "''=1+1", "O'Neil")
    """
    return "'" + value if _FORMULA.match(value) else value


def unguard(cell: str) -> str:
    """The value behind a cell of an exported file; a cell without a guard is the value itself."""
    return cell[1:] if _GUARDED_FORMULA.match(cell) else cell
