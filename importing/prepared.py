"""What is known of a batch's columns before any of its rows: worked out once for all batches with the same columns.

A terminal sends the same columns every time, and to work this out costs as much as to check its three rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from importing.batch import Requirement
from importing.columns import Kinds, doubts, kinds
from importing.fields import STANDARD, Field, Into, Kind
from importing.layout import longest_row
from importing.required import Required
from importing.targets import DOCUMENTS, Target, staged_columns, target_of

KEPT = 64
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
# Staged columns, and those of them that say whom a row means and what it adds.
Names = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The `fields` of the columns, None for an unused one; `used` are the others, with their indices.

    `judged`: those whose values may be wrong. `targets`: index, name and target of each, in the order in which those with
    the same target count; `constants` are targets too. `documents`: of each field that is kept in one the document, the
    key, and whether it is unique. `longest`: characters that a row may have; `shortest_limit`: that every field allows. A
    row of `complete` cells gives every column but keys and auto_add. `staged` are "row" and the staged columns that are
    given, `plain` those of a campaign without items. `places` are indices by field name, `reference` those of the batch's
    reference. `secret`: a column is.
    """

    fields: tuple[Field | None, ...]
    used: Sequence[Place]
    judged: Sequence[Place]
    targets: Sequence[tuple[int, str, Target]]
    constants: Sequence[Target]
    documents: Sequence[tuple[str, str, bool]]
    kinds: Kinds
    required: Required
    longest: int
    shortest_limit: int
    complete: int
    staged: Names
    plain: Names
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
    needed = kinds(every)
    places = {field.name: index for index, field in reversed(used)}
    return Prepared(
        fields,
        used,
        [(index, field) for index, field in used if doubts(needed, field.name)],
        [(index, field.name, target_of(field)) for index, field in _ranked(used, reference)],
        [target_of(field) for field in constants],
        [(field.into.value, field.target, field.unique) for _, field in used if field.into in DOCUMENTS],
        needed,
        Required(requirements, fields),
        longest_row(fields),
        min((field.limit for _, field in used), default=0),
        1 + max((i for i, field in used if field.kind not in (Kind.KEY, Kind.AMOUNT)), default=-1),
        _with_keys(staged),
        _with_keys(name for name in staged if name != "item_id"),
        places,
        [places[name] for name in reference if name in places],
        any(field.kind is Kind.SECRET for _, field in used),
    )


def _with_keys(names: Iterable[str]) -> Names:
    staged = tuple(names)
    return staged, tuple(name for name in staged if name in _KEYS)


def _ranked(used: Sequence[Place], reference: Sequence[str]) -> Sequence[Place]:
    """The columns in the order in which those with the same target count: that of the reference, else their own."""
    ranks = {name: rank for rank, name in enumerate(reference)}
    named = [(index, field) for index, field in used if field.name in ranks]
    by_rank = iter(sorted(named, key=lambda column: ranks[column[1].name]))
    return [next(by_rank) if column[1].name in ranks else column for column in used]
