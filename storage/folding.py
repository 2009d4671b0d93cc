"""The rows of customers that have several in one batch: read for folding, and the folded row written back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from storage.models import PROFILE
from storage.modes import Shape
from storage.workspace import Workspace

KEYS = ("row", "code", "card_number", "username_key")
STATE = (*PROFILE, "customer_username", "password_digest", "pin_digest", "custom_fields", "attributes")

CHUNK = 500


def several(work: Workspace) -> bool:
    """Whether any customer has several rows that act."""
    return work.number("SELECT count(*) FROM follow WHERE ignored = 0") > 0


def groups(
    work: Workspace, shape: Shape, account: int
) -> Iterator[tuple[int, Mapping[str, Any] | None, list[tuple[int, Mapping[str, Any]]]]]:
    """(first row, stored customer or None, [(row, values)]) of each customer with several rows, by first row."""
    names = _folded_columns(shape)
    stored = _stored(work, account)
    waiting = next(stored, None)
    first: int | None = None
    rows: list[tuple[int, Mapping[str, Any]]] = []

    def group() -> tuple[int, Mapping[str, Any] | None, list[tuple[int, Mapping[str, Any]]]]:
        nonlocal waiting
        assert first is not None
        base = None
        if waiting is not None and waiting[0] == first:
            base, waiting = waiting[1], next(stored, None)
        return first, base, rows

    picked = "".join(f", s.{name}" for name in names)
    for number, of, *values in work.rows(
        f'SELECT s."row", coalesce(f.first_row, s."row"){picked} '
        'FROM stage s LEFT JOIN follow f ON f."row" = s."row" '
        'WHERE f."row" IS NOT NULL OR s."row" IN (SELECT first_row FROM follow) ORDER BY 2, 1'
    ):
        if of != first:
            if first is not None:
                yield group()
            first, rows = of, []
        rows.append((number, _parsed(dict(zip(names, values, strict=True)))))
    if first is not None:
        yield group()


def replace(work: Workspace, shape: Shape, folded: Iterable[Mapping[str, Any]]) -> None:
    """Write folded rows over the first rows. Each mapping: first_row, points, changed, and the staged columns."""
    names = [name for name in _folded_columns(shape) if name != "amount"]
    settings = ", ".join(
        f"{name} = CAST(:{name} AS {{json}})" if name in ("custom_fields", "attributes") else f"{name} = :{name}"
        for name in names
    )
    username = ", username_key = :username_key" if "username_key" in shape.columns else ""
    chunk: list[Mapping[str, Any]] = []

    def write() -> None:
        if settings:
            work.many(f'UPDATE stage SET {settings}{username} WHERE "row" = :first_row', chunk)
        work.many(
            "UPDATE target SET points = :points, changed = CASE WHEN :changed = 1 THEN 1 ELSE changed END, "
            'touched = CASE WHEN :changed = 1 OR touched = 1 THEN 1 ELSE 0 END WHERE "row" = :first_row',
            chunk,
        )
        work.many('UPDATE made SET points = :points WHERE "row" = :first_row', chunk)

    for row in folded:
        chunk.append({name: _dumped(value) for name, value in row.items()})
        if len(chunk) == CHUNK:
            write()
            chunk = []
    if chunk:
        write()


def _folded_columns(shape: Shape) -> list[str]:
    return [name for name in sorted(shape.columns) if name not in (*KEYS, "item_id")]


def _stored(work: Workspace, account: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for first_row, *values in work.rows(
        f"SELECT f.first_row, {', '.join(f'c.{name}' for name in STATE)} FROM "
        "(SELECT DISTINCT first_row, id FROM follow WHERE id IS NOT NULL) f "
        "{then} customer c ON c.account_id = :account AND c.id = f.id ORDER BY f.first_row",
        account=account,
    ):
        yield first_row, _parsed(dict(zip(STATE, values, strict=True)))


def _parsed(values: dict[str, Any]) -> dict[str, Any]:
    for name in ("custom_fields", "attributes"):
        if isinstance(values.get(name), str):
            values[name] = json.loads(values[name])
    return values


def _dumped(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, dict) else value
