"""Columns of values, many rows at once: which of them need a closer look, and what is stored for them.

One `Column` for each field of a batch. `doubtful` may name a value too many but never one too few; what it names goes
to `problem` and `warning`, one by one, and what has a problem never comes to `stored`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from importing.batch import Campaign
from importing.checking.amounts import Addition, parse_addition
from importing.checking.parse_values import (
    DATE_PARSERS,
    PLAIN_DATE,
    PLAUSIBLE_PATTERNS,
    InvalidValue,
    Parser,
    find_parser,
    odd_code,
    parse_json_value,
)
from importing.fields import SECRET_MASK, Field, FieldKind

PARSED_VALUES_KEPT = 50_000  # judged values, of all columns together


class SecretDigests(Protocol):
    """What keeps passwords and PINs: the salted, keyed digest of one."""

    def customer_secret(self, value: str) -> str: ...


class ValueColumn(Protocol):
    """How the values of one field are checked and stored."""

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        """Indices of the values that may deserve a problem or a warning."""

    def problem(self, value: str) -> str:
        """The code of the value's problem, or ""."""

    def warning(self, value: str) -> str:
        """The code of the value's warning, or ""."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        """What is stored for each."""


class TextColumn:
    """Any text, stored as given."""

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:  # noqa: ARG002 - nothing is
        return ()

    def problem(self, value: str) -> str:  # noqa: ARG002
        return ""

    def warning(self, value: str) -> str:  # noqa: ARG002
        return ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return values


class KeyColumn(TextColumn):
    """A code or card number: blank counts as not given. Source: docs/protocol.md, Matching."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [value or None for value in values] if "" in values else values


class SecretColumn(TextColumn):
    """A password or PIN: only its digest is stored. `masked`: the mask that our own export writes is none at all."""

    def __init__(self, secrets: SecretDigests, masked: bool) -> None:
        self._digest = secrets.customer_secret
        self._mask = SECRET_MASK if masked else None

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [None if value == self._mask else self._digest(value) if value else "" for value in values]


class ContactColumn(TextColumn):
    """An e-mail address or phone number: stored as given, an odd one is a warning."""

    def __init__(self, kind: FieldKind) -> None:
        self._kind = kind
        self._plausible = PLAUSIBLE_PATTERNS[kind].fullmatch
        self._all_plausible = _match_all(PLAUSIBLE_PATTERNS[kind])

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        # One match of all of them costs two thirds of one for each.
        if self._all_plausible(values):
            return ()
        return [index for index, value in enumerate(values) if not self._plausible(value)]

    def warning(self, value: str) -> str:
        return odd_code(self._kind, value)


class FullNameColumn(TextColumn):
    """A full name: stored as (first name, last name), which joined by a blank are the name as given."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [(first, last) if blank else (last, "") for first, blank, last in [v.rpartition(" ") for v in values]]


class NameKeyColumn(TextColumn):
    """A name that is its customer's code too: stored as (code, first name, last name). Inner blanks count as one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        # Folding makes at most three characters of one.
        return [i for i, value in enumerate(values) if len(value) > self._limit // 3 and self.problem(value)]

    def problem(self, value: str) -> str:
        return "too_long" if len(_squeeze_blanks(value).casefold()) > self._limit else ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        names = map(_squeeze_blanks, values)
        return [(name.casefold() or None, *_split_name(name)) for name in names]


class JsonColumn(TextColumn):
    """A free attribute: stored as JSON (see `judging.typed`), which any text can be."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return map_distinct(parse_json_value, values)


class ParsedValues(dict[str, object]):
    """What is stored for each value that was looked up; of those that their field cannot take the Wrong."""

    def __init__(self, parser: Parser) -> None:
        super().__init__()
        self._judge = parser
        self.wrong = False

    def __missing__(self, value: str) -> object:
        try:
            found = self._judge(value)
        except InvalidValue as wrong:
            self.wrong = True
            return wrong
        self[value] = found
        return found


class ParsedColumn(TextColumn):
    """Values that are judged one by one, each distinct one once: rows repeat their dates, choices and amounts."""

    def __init__(self, parser: Parser, max_kept: int) -> None:
        self._judge = parser
        self._remembered = max_kept
        self._known = ParsedValues(parser)
        self._judged: tuple[Sequence[str], list[object]] = ((), [])

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        if len(self._known) > self._remembered:
            self._known.clear()
        self._known.wrong = False
        found = list(map(self._known.__getitem__, values))
        self._judged = values, found
        return (
            [index for index, value in enumerate(found) if isinstance(value, InvalidValue)] if self._known.wrong else ()
        )

    def problem(self, value: str) -> str:
        try:
            self._judge(value)
        except InvalidValue as wrong:
            return wrong.code
        return ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        judged, found = self._judged
        # Nearly always the very values that were judged last: no row of theirs was bad.
        return found if values is judged else list(map(self._known.__getitem__, values))


class DateColumn(ParsedColumn):
    """Dates, and times: those that are plainly right are matched all at once, at a tenth of what judging them costs."""

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        self._plain = _are_plain_dates(values)
        return () if self._plain else super().find_doubtful(values)

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return values if self._plain else super().stored(values)


def _match_all(value: re.Pattern[str]) -> Callable[[Sequence[str]], bool]:
    """What tells whether a pattern matches each of some values."""
    lines = re.compile(f"(?:(?:{value.pattern})\n)*+")

    def match(values: Sequence[str]) -> bool:
        # A value of several lines is none of those that are matched so.
        text = "\n".join(values) + "\n"
        return lines.fullmatch(text) is not None and text.count("\n") == len(values)

    return match


_are_plain_dates = _match_all(PLAIN_DATE)


def map_distinct(function: Callable[[str], str], values: Sequence[str]) -> list[str]:
    """What the function makes of each value; of values that repeat themselves, of each distinct one once."""
    distinct = set(values)
    if 2 * len(distinct) > len(values):
        return list(map(function, values))
    return list(map({value: function(value) for value in distinct}.__getitem__, values))


@dataclass(frozen=True, slots=True)
class ColumnKinds:
    """The columns that batches can share, by field name; the judges of the others (None: of amounts); the secret ones."""

    shared: Mapping[str, ValueColumn]
    parsers: Mapping[str, Parser | None]
    secrets: Sequence[str]


def sort_columns(fields: Iterable[Field]) -> ColumnKinds:
    """What columns the fields need."""
    shared: dict[str, ValueColumn] = {}
    parsers: dict[str, Parser | None] = {}
    secrets: list[str] = []
    for field in fields:
        parser = find_parser(field)
        if parser is not None or field.kind is FieldKind.AMOUNT:
            parsers[field.name] = parser
        elif field.kind is FieldKind.SECRET:
            secrets.append(field.name)
        elif field.kind is FieldKind.NAME_KEY:
            shared[field.name] = NameKeyColumn(field.limit)
        elif field.kind in PLAUSIBLE_PATTERNS:
            shared[field.name] = ContactColumn(field.kind)
        else:
            shared[field.name] = _COLUMN_OF_KIND.get(field.kind, TextColumn)()
    return ColumnKinds(shared, parsers, secrets)


def can_be_doubtful(kinds: ColumnKinds, name: str) -> bool:
    """Whether any value of that field deserves a closer look."""
    shared = kinds.shared.get(name)
    return name in kinds.parsers or (shared is not None and type(shared).find_doubtful is not TextColumn.find_doubtful)


def make_columns(
    kinds: ColumnKinds, campaign: Campaign | None, secrets: SecretDigests, *, masked: bool = False
) -> dict[str, ValueColumn]:
    """The columns of a batch by field name. `campaign`: the one that `auto_add` adds to; `masked`: see `Secret`."""
    found = dict(kinds.shared)
    for name in kinds.secrets:
        found[name] = SecretColumn(secrets, masked)
    for name, parser in kinds.parsers.items():
        column = DateColumn if parser in DATE_PARSERS else ParsedColumn
        found[name] = column(parser or _addition_parser(campaign), PARSED_VALUES_KEPT // len(kinds.parsers))
    return found


_COLUMN_OF_KIND: Mapping[FieldKind, Callable[[], ValueColumn]] = {
    FieldKind.KEY: KeyColumn,
    FieldKind.FULL_NAME: FullNameColumn,
    FieldKind.TYPED: JsonColumn,
}


def _addition_parser(campaign: Campaign | None) -> Callable[[str], Addition]:
    return lambda text: parse_addition(text, campaign)


def _split_name(name: str) -> tuple[str, str]:
    first, blank, last = name.rpartition(" ")
    return (first, last) if blank else (last, "")


def _squeeze_blanks(name: str) -> str:
    return " ".join(name.split())
