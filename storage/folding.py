"""The rows of customers that have several in one batch: read for folding, and the folded row written back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from storage.models import PROFILE
from storage.modes import Shape
from storage.workspace import Workspace

KEYS = ("row", "code", "card_number", "username_key")
STATE = (*PROFILE, "customer_username", "password_digest", "pin_digest", "custom_fields", "attributes")

CHUNK = 500

# First row, stored customer or None, and (row, values) of all its rows.
Group = tuple[int, Mapping[str, Any] | None, Iterator[tuple[int, Mapping[str, Any]]]]


def several(work: Workspace) -> bool:
    """Whether any customer has several rows that act."""
    return work.number("SELECT count(*) FROM follow WHERE ignored = 0") > 0


def groups(work: Workspace, shape: Shape, account: int) -> Iterator[Group]:
    """Each customer with several rows, by first row. A group's rows are streamed, and gone when the next group comes."""
    names = _folded_columns(shape)
    picked = "".join(f", s.{name}" for name in names)
    stored = _stored(work, account)
    waiting = next(stored, None)
    found = work.rows(
        f'SELECT f.first_row, s."row"{picked} FROM follow f {{then}} stage s ON s."row" = f."row" UNION ALL '
        f'SELECT s."row", s."row"{picked} FROM stage s WHERE s."row" IN (SELECT first_row FROM follow) ORDER BY 1, 2'
    )
    for first, rows in groupby(found, key=itemgetter(0)):
        base = None
        if waiting is not None and waiting[0] == first:
            base, waiting = waiting[1], next(stored, None)
        yield first, base, ((row, _parsed(dict(zip(names, values, strict=True)))) for _, row, *values in rows)


def replace(work: Workspace, shape: Shape, folded: Iterable[Mapping[str, Any]]) -> None:
    """Write folded rows over the first rows. Each mapping: first_row, points, changed, and the staged columns.

    All of `groups` must have been read before: PostgreSQL does one thing at a time on a connection.
    """
    names = _folded_columns(shape)
    columns = [*names, *(["username_key"] if "username_key" in shape.columns else []), "points", "changed"]
    tuples = ((row["first_row"], *(_dumped(row[name]) for name in columns)) for row in folded)
    work.fill("folded", ("row", *columns), iter(lambda: list(islice(tuples, CHUNK)), []))
    work.analyze("folded")
    settings = ", ".join(f"{name} = f.{name}" for name in columns[:-2] if name != "amount")
    if settings:
        work.execute(f'UPDATE stage SET {settings} FROM folded f WHERE f."row" = stage."row"')
    work.execute(
        "UPDATE target SET points = f.points, "
        "changed = CASE WHEN f.changed = 1 THEN 1 ELSE target.changed END, "
        "touched = CASE WHEN f.changed = 1 THEN 1 ELSE target.touched END "
        'FROM folded f WHERE f."row" = target."row"'
    )
    work.execute('UPDATE made SET points = f.points FROM folded f WHERE f."row" = made."row"')


def _folded_columns(shape: Shape) -> list[str]:
    return [name for name in sorted(shape.columns) if name not in (*KEYS, "item_id")]


def _stored(work: Workspace, account: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for first_row, *values in work.rows(
        f"SELECT f.first_row, {', '.join(f'c.{name}' for name in STATE)} FROM "
        "(SELECT DISTINCT first_row, id FROM follow WHERE id IS NOT NULL) f "
        "{then} {customer} = f.id ORDER BY f.first_row",
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
