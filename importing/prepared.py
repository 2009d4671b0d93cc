"""What is known of a batch's columns before any of its rows: worked out once for all batches with the same columns.

A terminal sends the same columns every time, and to work this out costs as much as to check its three rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from importing.batch import Requirement
from importing.columns import Kinds, kinds
from importing.fields import STANDARD, Field, Into, Kind
from importing.layout import longest_row
from importing.required import Required

KEPT = 64
DOCUMENTS = (Into.CUSTOM, Into.ATTRIBUTE)
# Kinds whose values are stored in several columns.
SEVERAL: Mapping[Kind, tuple[str, ...]] = {
    Kind.AMOUNT: ("amount", "item_id"),
    Kind.FULL_NAME: ("first_name", "last_name"),
    Kind.NAME_KEY: ("code", "first_name", "last_name"),
}
_KEYS = ("row", "code", "card_number", "amount", "item_id")
_ORDER = (
    *dict.fromkeys(["code", "card_number", *(field.target for field in STANDARD if field.into is Into.COLUMN)]),
    "username_key",
    *(field.target for field in STANDARD if field.into is Into.DIGEST),
    *(into.value for into in DOCUMENTS),
    "amount",
    "item_id",
)

Place = tuple[int, Field]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The `fields` of the columns, None for an unused one; `used` are the others, with their indices.

    `ranked`: the same, in the order in which those with the same target count. `longest`: characters that a row may
    have; `shortest_limit`: that every field allows. A row of `complete` cells gives every column but keys and auto_add.
    `staged` are "row" and the staged columns that are given, `keys` those of them that say whom a row means and what it
    adds. `places` are indices by field name, `reference` those of the batch's reference. `secret`: a column is.
    """

    fields: tuple[Field | None, ...]
    used: Sequence[Place]
    ranked: Sequence[Place]
    kinds: Kinds
    required: Required
    longest: int
    shortest_limit: int
    complete: int
    staged: tuple[str, ...]
    keys: tuple[str, ...]
    places: Mapping[str, int]
    reference: Sequence[int]
    secret: bool


@lru_cache(maxsize=KEPT)
def prepared(
    fields: tuple[Field | None, ...],
    constants: tuple[Field, ...],
    requirements: tuple[Requirement, ...],
    reference: tuple[str, ...],
) -> Prepared:
    """What is known of such columns; `constants` are the fields whose value every row has. The others: see `Batch`."""
    used = [(index, field) for index, field in enumerate(fields) if field is not None]
    every = [*(field for _, field in used), *constants]
    given = {name for field in every for name in staged_columns(field)}
    staged = ("row", *(name for name in _ORDER if name in given))
    places = {field.name: index for index, field in reversed(used)}
    return Prepared(
        fields,
        used,
        _ranked(used, reference),
        kinds(every),
        Required(requirements, fields),
        longest_row(fields),
        min((field.limit for _, field in used), default=0),
        1 + max((i for i, field in used if field.kind not in (Kind.KEY, Kind.AMOUNT)), default=-1),
        staged,
        tuple(name for name in staged if name in _KEYS),
        places,
        [places[name] for name in reference if name in places],
        any(field.kind is Kind.SECRET for _, field in used),
    )


def _ranked(used: Sequence[Place], reference: Sequence[str]) -> Sequence[Place]:
    """The columns in the order in which those with the same target count: that of the reference, else their own."""
    ranks = {name: rank for rank, name in enumerate(reference)}
    named = [(index, field) for index, field in used if field.name in ranks]
    by_rank = iter(sorted(named, key=lambda column: ranks[column[1].name]))
    return [next(by_rank) if column[1].name in ranks else column for column in used]


def staged_columns(field: Field) -> tuple[str, ...]:
    """The staged columns that a field gives."""
    if field.into in DOCUMENTS:
        return (field.into.value,)
    if field.kind in SEVERAL:
        return SEVERAL[field.kind]
    return ("customer_username", "username_key") if field.kind is Kind.USERNAME else (field.target,)
