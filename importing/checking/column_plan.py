"""The facts about a batch's columns that do not depend on its rows, among them where the values of each field are staged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring
from typing import NamedTuple, cast

from importing.batch import Requirement
from importing.checking.column_checks import map_distinct
from importing.fields import STANDARD_FIELDS, Field, FieldDestination, FieldKind
from importing.reading.column_layout import max_row_characters

COLUMN_PLANS_KEPT = 64
DOCUMENT_DESTINATIONS = (FieldDestination.CUSTOM, FieldDestination.ATTRIBUTE)
# Kinds whose values are stored in several columns.
SEVERAL_COLUMNS: Mapping[FieldKind, tuple[str, ...]] = {
    FieldKind.AMOUNT: ("amount", "item_id"),
    FieldKind.FULL_NAME: ("first_name", "last_name"),
    FieldKind.NAME_KEY: ("code", "first_name", "last_name"),
}
# The staged columns that say which customer a row means and what it adds.
KEY_COLUMNS = ("row", "code", "card_number", "amount", "item_id")
_STAGING_ORDER = (
    *dict.fromkeys(
        ["code", "card_number", *(field.target for field in STANDARD_FIELDS if field.into is FieldDestination.COLUMN)]
    ),
    "username_key",
    *(field.target for field in STANDARD_FIELDS if field.into is FieldDestination.DIGEST),
    *(into.value for into in DOCUMENT_DESTINATIONS),
    "amount",
    "item_id",
)

ColumnValues = Sequence[object]


class StagedColumns(NamedTuple):
    """The staged columns `names` that hold a field's values, or the one key in a `document`.

    `split` makes of the values those of each name; None: the one name gets the values as they are.
    """

    names: tuple[str, ...]
    document: str | None
    split: Callable[[ColumnValues], Iterable[ColumnValues]] | None


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """The `fields` of the columns, None for an unused one; `used` are the others with their indices, `indices` by name.

    `targets`: index, name and staged columns of each used field, in the order in which those with the same target count;
    `constants` are the staged columns of the constant fields. `documents`: the document, the key, and whether it is
    unique, of each field that is stored in a document. `longest` is the limit of a row, `shortest_limit` the smallest
    limit of a field, both in characters. A row of `complete` cells gives every column but keys and auto_add. `staged` are
    "row" and the staged columns that the batch gives. `reference` are the indices of the batch's reference. `has_secret`:
    a column holds secrets.
    """

    fields: tuple[Field | None, ...]
    used: Sequence[tuple[int, Field]]
    indices: Mapping[str, int]
    targets: Sequence[tuple[int, str, StagedColumns]]
    constants: Sequence[StagedColumns]
    documents: Sequence[tuple[str, str, bool]]
    requirements: tuple[Requirement, ...]
    longest: int
    shortest_limit: int
    complete: int
    staged: tuple[str, ...]
    reference: Sequence[int]
    has_secret: bool


# Terminals send the same columns in every request; without the cache the plan takes as long as checking three rows.
@lru_cache(maxsize=COLUMN_PLANS_KEPT)
def plan_columns(
    fields: tuple[Field | None, ...],
    constants: tuple[Field, ...],
    requirements: tuple[Requirement, ...],
    reference: tuple[str, ...],
) -> ColumnPlan:
    """The plan of such columns. `constants` are the fields whose value every row has; the other arguments: see `Batch`."""
    used = [(index, field) for index, field in enumerate(fields) if field is not None]
    indices = {field.name: index for index, field in reversed(used)}
    given_names = {"row"}.union(*(staged_column_names(field) for field in [*(field for _, field in used), *constants]))
    return ColumnPlan(
        fields,
        used,
        indices,
        [(index, field.name, staged_columns_of(field)) for index, field in _rank_columns(used, reference)],
        [staged_columns_of(field) for field in constants],
        [(field.into.value, field.target, field.unique) for _, field in used if field.into in DOCUMENT_DESTINATIONS],
        requirements,
        max_row_characters(fields),
        min((field.limit for _, field in used), default=0),
        1 + max((i for i, field in used if field.kind not in (FieldKind.KEY, FieldKind.AMOUNT)), default=-1),
        tuple(name for name in ("row", *_STAGING_ORDER) if name in given_names),
        [indices[name] for name in reference if name in indices],
        any(field.kind is FieldKind.SECRET for _, field in used),
    )


def staged_column_names(field: Field) -> tuple[str, ...]:
    """The staged columns that a field gives."""
    names, document, _ = staged_columns_of(field)
    return names if document is None else (document,)


def staged_columns_of(field: Field) -> StagedColumns:
    """Where the values of a field are staged, as its column returns them (see `importing.checking.column_checks`)."""
    if field.into in DOCUMENT_DESTINATIONS:
        return StagedColumns((field.target,), field.into.value, None if field.kind is FieldKind.TYPED else _to_literals)
    if field.kind in SEVERAL_COLUMNS:
        return StagedColumns(SEVERAL_COLUMNS[field.kind], None, _split_parts)
    if field.kind is FieldKind.USERNAME:
        return StagedColumns(("customer_username", "username_key"), None, _add_username_keys)
    return StagedColumns((field.target,), None, None)


def _rank_columns(used: Sequence[tuple[int, Field]], reference: Sequence[str]) -> Sequence[tuple[int, Field]]:
    """The columns in the order in which those with the same target count: that of the reference, else their own."""
    ranks = {name: rank for rank, name in enumerate(reference)}
    by_rank = iter(sorted((pair for pair in used if pair[1].name in ranks), key=lambda pair: ranks[pair[1].name]))
    return [next(by_rank) if field.name in ranks else (index, field) for index, field in used]


def _to_literals(values: ColumnValues) -> Iterable[ColumnValues]:
    return (map_distinct(_to_literal, cast("Sequence[str]", values)),)


def _to_literal(text: str) -> str:
    return encode_basestring(text) if text else "null"


def _split_parts(values: ColumnValues) -> Iterable[ColumnValues]:
    return zip(*cast("Sequence[ColumnValues]", values), strict=True)


def _add_username_keys(values: ColumnValues) -> Iterable[ColumnValues]:
    return values, list(map(str.casefold, cast("Sequence[str]", values)))
