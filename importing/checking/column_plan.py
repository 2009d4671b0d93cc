"""What is known of a batch's columns before any of its rows: worked out once for all batches with the same columns.

A terminal sends the same columns every time, and to work this out costs as much as to check its three rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from importing.batch import Requirement
from importing.checking.column_checks import ColumnKinds, can_be_doubtful, sort_columns
from importing.checking.required_values import RequiredValues
from importing.checking.staged_columns import (
    DOCUMENT_DESTINATIONS,
    StagedColumns,
    staged_column_names,
    staged_columns_of,
)
from importing.fields import STANDARD_FIELDS, Field, FieldDestination, FieldKind
from importing.reading.column_layout import max_row_characters

COLUMN_PLANS_KEPT = 64
_KEY_COLUMNS = ("row", "code", "card_number", "amount", "item_id")
_COLUMN_ORDER = (
    *dict.fromkeys(
        ["code", "card_number", *(field.target for field in STANDARD_FIELDS if field.into is FieldDestination.COLUMN)]
    ),
    "username_key",
    *(field.target for field in STANDARD_FIELDS if field.into is FieldDestination.DIGEST),
    *(into.value for into in DOCUMENT_DESTINATIONS),
    "amount",
    "item_id",
)

IndexedField = tuple[int, Field]
# Staged columns, and those of them that say whom a row means and what it adds.
StagedNames = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """The `fields` of the columns, None for an unused one; `used` are the others, with their indices.

    `judged`: those whose values may be wrong. `targets`: index, name and target of each, in the order in which those with
    the same target count; `constants` are targets too. `documents`: of each field that is kept in one the document, the
    key, and whether it is unique. `longest`: characters that a row may have; `shortest_limit`: that every field allows. A
    row of `complete` cells gives every column but keys and auto_add. `staged` are "row" and the staged columns that are
    given, `plain` those of a campaign without items. `places` are indices by field name, `reference` those of the batch's
    reference. `secret`: a column is.
    """

    fields: tuple[Field | None, ...]
    used: Sequence[IndexedField]
    judged: Sequence[IndexedField]
    targets: Sequence[tuple[int, str, StagedColumns]]
    constants: Sequence[StagedColumns]
    documents: Sequence[tuple[str, str, bool]]
    kinds: ColumnKinds
    required: RequiredValues
    longest: int
    shortest_limit: int
    complete: int
    staged: StagedNames
    plain: StagedNames
    places: Mapping[str, int]
    reference: Sequence[int]
    secret: bool


@lru_cache(maxsize=COLUMN_PLANS_KEPT)
def plan_columns(
    fields: tuple[Field | None, ...],
    constants: tuple[Field, ...],
    requirements: tuple[Requirement, ...],
    reference: tuple[str, ...],
) -> ColumnPlan:
    """What is known of such columns; `constants` are the fields whose value every row has. The others: see `Batch`."""
    used = [(index, field) for index, field in enumerate(fields) if field is not None]
    every = [*(field for _, field in used), *constants]
    given_names = {name for field in every for name in staged_column_names(field)}
    staged = ("row", *(name for name in _COLUMN_ORDER if name in given_names))
    column_kinds = sort_columns(every)
    places = {field.name: index for index, field in reversed(used)}
    return ColumnPlan(
        fields,
        used,
        [(index, field) for index, field in used if can_be_doubtful(column_kinds, field.name)],
        [(index, field.name, staged_columns_of(field)) for index, field in _rank_columns(used, reference)],
        [staged_columns_of(field) for field in constants],
        [(field.into.value, field.target, field.unique) for _, field in used if field.into in DOCUMENT_DESTINATIONS],
        column_kinds,
        RequiredValues(requirements, fields),
        max_row_characters(fields),
        min((field.limit for _, field in used), default=0),
        1 + max((i for i, field in used if field.kind not in (FieldKind.KEY, FieldKind.AMOUNT)), default=-1),
        _with_keys(staged),
        _with_keys(name for name in staged if name != "item_id"),
        places,
        [places[name] for name in reference if name in places],
        any(field.kind is FieldKind.SECRET for _, field in used),
    )


def _with_keys(names: Iterable[str]) -> StagedNames:
    staged = tuple(names)
    return staged, tuple(name for name in staged if name in _KEY_COLUMNS)


def _rank_columns(used: Sequence[IndexedField], reference: Sequence[str]) -> Sequence[IndexedField]:
    """The columns in the order in which those with the same target count: that of the reference, else their own."""
    ranks = {name: rank for rank, name in enumerate(reference)}
    reference_columns = [(index, field) for index, field in used if field.name in ranks]
    by_rank = iter(sorted(reference_columns, key=lambda column: ranks[column[1].name]))
    return [next(by_rank) if column[1].name in ranks else column for column in used]
