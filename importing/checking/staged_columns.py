"""Where the values of a field go: into one staged column or several, or under a key of one of a customer's documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import NamedTuple, cast

from importing.checking.column_checks import map_distinct
from importing.fields import Field, FieldDestination, FieldKind

DOCUMENT_DESTINATIONS = (FieldDestination.CUSTOM, FieldDestination.ATTRIBUTE)
# Kinds whose values are stored in several columns.
SEVERAL_COLUMNS: Mapping[FieldKind, tuple[str, ...]] = {
    FieldKind.AMOUNT: ("amount", "item_id"),
    FieldKind.FULL_NAME: ("first_name", "last_name"),
    FieldKind.NAME_KEY: ("code", "first_name", "last_name"),
}

Values = Sequence[object]


class StagedColumns(NamedTuple):
    """The staged columns that a field's values go to, `names`; or, of a `document`, the one key.

    `spread` makes of the values what each of them gets; None: the one gets the values as they are.
    """

    names: tuple[str, ...]
    document: str | None
    spread: Callable[[Values], Iterable[Values]] | None


def staged_columns_of(field: Field) -> StagedColumns:
    """Where the values of a field go, as its `Column` gives them (see `importing.checking.column_checks`)."""
    if field.into in DOCUMENT_DESTINATIONS:
        return StagedColumns((field.target,), field.into.value, None if field.kind is FieldKind.TYPED else _to_literals)
    if field.kind in SEVERAL_COLUMNS:
        return StagedColumns(SEVERAL_COLUMNS[field.kind], None, _split_parts)
    if field.kind is FieldKind.USERNAME:
        return StagedColumns(("customer_username", "username_key"), None, _add_username_keys)
    return StagedColumns((field.target,), None, None)


def staged_column_names(field: Field) -> tuple[str, ...]:
    """The staged columns that a field gives."""
    names, document, _ = staged_columns_of(field)
    return names if document is None else (document,)


def _to_literals(values: Values) -> Iterable[Values]:
    return (map_distinct(_to_literal, cast("Sequence[str]", values)),)


def _to_literal(text: str) -> str:
    return encode_basestring(text) if text else "null"


def _split_parts(values: Values) -> Iterable[Values]:
    return zip(*cast("Sequence[Values]", values), strict=True)


def _add_username_keys(values: Values) -> Iterable[Values]:
    return values, list(map(str.casefold, cast("Sequence[str]", values)))
