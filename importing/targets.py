"""Where the values of a field go: into one staged column or several, or under a key of one of a customer's documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import NamedTuple, cast

from importing.columns import each
from importing.fields import Field, Into, Kind

DOCUMENTS = (Into.CUSTOM, Into.ATTRIBUTE)
# Kinds whose values are stored in several columns.
SEVERAL: Mapping[Kind, tuple[str, ...]] = {
    Kind.AMOUNT: ("amount", "item_id"),
    Kind.FULL_NAME: ("first_name", "last_name"),
    Kind.NAME_KEY: ("code", "first_name", "last_name"),
}

Values = Sequence[object]


class Target(NamedTuple):
    """The staged columns that a field's values go to, `names`; or, of a `document`, the one key.

    `spread` makes of the values what each of them gets; None: the one gets the values as they are.
    """

    names: tuple[str, ...]
    document: str | None
    spread: Callable[[Values], Iterable[Values]] | None


def target_of(field: Field) -> Target:
    """Where the values of a field go, as its `Column` gives them (see `importing.columns`)."""
    if field.into in DOCUMENTS:
        return Target((field.target,), field.into.value, None if field.kind is Kind.TYPED else _literals)
    if field.kind in SEVERAL:
        return Target(SEVERAL[field.kind], None, _parts)
    if field.kind is Kind.USERNAME:
        return Target(("customer_username", "username_key"), None, _with_keys)
    return Target((field.target,), None, None)


def staged_columns(field: Field) -> tuple[str, ...]:
    """The staged columns that a field gives."""
    names, document, _ = target_of(field)
    return names if document is None else (document,)


def _literals(values: Values) -> Iterable[Values]:
    return (each(_literal, cast("Sequence[str]", values)),)


def _literal(text: str) -> str:
    return encode_basestring(text) if text else "null"


def _parts(values: Values) -> Iterable[Values]:
    return zip(*cast("Sequence[Values]", values), strict=True)


def _with_keys(values: Values) -> Iterable[Values]:
    return values, list(map(str.casefold, cast("Sequence[str]", values)))
