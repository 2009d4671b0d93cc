"""The rows of one customer merged into one: of each column the last given value counts, and points add up. Pure.

It also counts what each row changed, as if the rows had come in batches of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from importing.batch import Mode
from storage.merged_rows import CustomerRows
from storage.tables import PROFILE_COLUMNS

DIGEST_COLUMNS = ("password_digest", "pin_digest")
TEXT_COLUMNS = (*PROFILE_COLUMNS, "customer_username", *DIGEST_COLUMNS)
DOCUMENT_COLUMNS = ("custom_fields", "attributes")

RowValues = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MergedRow:
    """All rows of a customer as one. `unchanged`: how many later rows changed nothing; `changed`: at least one did."""

    first_row: int
    values: dict[str, Any]
    points: int | None
    unchanged: int
    changed: bool


def merge_rows(groups: Iterable[CustomerRows], mode: Mode, renaming_rows: set[int]) -> Iterator[MergedRow]:
    """Merge groups of (first row, stored customer or None, rows in order). `renaming_rows` changed a key."""
    for first_row, stored_customer, rows in groups:
        stored = stored_customer or {}
        state: dict[str, Any] = {name: stored.get(name) or "" for name in TEXT_COLUMNS}
        state |= {name: dict(stored.get(name) or {}) for name in DOCUMENT_COLUMNS}
        values: dict[str, Any] = {}
        points: int | None = None
        later_row_count = unchanged = 0
        for number, row in rows:
            changed = _write_row(state, row, mode)
            _merge_row(values, row, mode)
            amount = row.get("amount")
            if amount is not None:
                points = (points or 0) + amount
            if number != first_row:
                later_row_count += 1
                unchanged += not (changed or number in renaming_rows or amount is not None)
        yield MergedRow(first_row, values, points, unchanged, unchanged < later_row_count)


def _write_row(state: dict[str, Any], row: RowValues, mode: Mode) -> bool:
    """Write a row to the customer's state; returns whether it changed anything. A new password or PIN always does."""
    before = dict(state)
    for name in TEXT_COLUMNS:
        value = row.get(name)
        if value is not None:
            state[name] = value
        elif mode is Mode.REPLACE:
            state[name] = ""
    if mode is Mode.REPLACE:
        state["custom_fields"] = {}
    for name in DOCUMENT_COLUMNS:
        merged = {**state[name], **(row.get(name) or {})}
        state[name] = {key: value for key, value in merged.items() if value is not None}
    return state != before or any(row.get(name) for name in DIGEST_COLUMNS)


def _merge_row(values: dict[str, Any], row: RowValues, mode: Mode) -> None:
    for name, value in row.items():
        if name == "attributes" or (name == "custom_fields" and mode is not Mode.REPLACE):
            before = values.get(name)
            values[name] = {**(before or {}), **value} if value is not None else before
        elif mode is Mode.REPLACE or value is not None:
            values[name] = value
        else:
            values.setdefault(name, None)
