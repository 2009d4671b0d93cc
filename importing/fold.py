"""Rows of one customer folded into one: the last given value of a column wins, points add up. Pure.

What each row by itself changed is counted on the way, as if the rows had come in batches of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from importing.batch import Mode
from storage.folding import Group
from storage.models import PROFILE

PLAIN = (*PROFILE, "customer_username")
SECRETS = ("password_digest", "pin_digest")
DOCUMENTS = ("custom_fields", "attributes")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Folded:
    """What stands for all rows of a customer. `unchanged`: how many of the later rows changed nothing; `changed`: not all."""

    first_row: int
    values: dict[str, Any]
    points: int | None
    unchanged: int
    changed: bool


def fold(groups: Iterable[Group], mode: Mode, renaming: set[int]) -> Iterator[Folded]:
    """Fold groups of (first row, stored customer or None, rows in order). `renaming` are rows that changed a key."""
    for first_row, stored, rows in groups:
        state = _state(stored)
        values: dict[str, Any] = {}
        points: int | None = None
        later = unchanged = 0
        for number, row in rows:
            changed = _write(state, row, mode)
            _add(values, row, mode)
            amount = row.get("amount")
            if amount is not None:
                points = (points or 0) + amount
            if number != first_row:
                later += 1
                unchanged += not (changed or number in renaming or amount is not None)
        yield Folded(first_row, values, points, unchanged, unchanged < later)


def _state(stored: Row | None) -> dict[str, Any]:
    stored = stored or {}
    return {
        **{name: stored.get(name) or "" for name in (*PLAIN, *SECRETS)},
        **{name: dict(stored.get(name) or {}) for name in DOCUMENTS},
    }


def _write(state: dict[str, Any], row: Row, mode: Mode) -> bool:
    before = {name: dict(value) if isinstance(value, dict) else value for name, value in state.items()}
    for name in (*PLAIN, *SECRETS):
        value = row.get(name)
        if value is not None:
            state[name] = value
        elif mode is Mode.REPLACE:
            state[name] = ""
    if mode is Mode.REPLACE:
        state["custom_fields"] = {}
    for name in DOCUMENTS:
        merged = {**state[name], **(row.get(name) or {})}
        state[name] = {key: value for key, value in merged.items() if value is not None}
    return state != before or any(row.get(name) for name in SECRETS)


def _add(values: dict[str, Any], row: Row, mode: Mode) -> None:
    for name, value in row.items():
        if name == "attributes" or (name == "custom_fields" and mode is not Mode.REPLACE):
            before = values.get(name)
            values[name] = {**(before or {}), **value} if value is not None else before
        elif mode is Mode.REPLACE or value is not None:
            values[name] = value
        else:
            values.setdefault(name, None)
