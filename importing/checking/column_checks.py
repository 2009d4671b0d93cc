"""Columns of values, many rows at once: which values need a closer check, and what is stored for them.

One column object for each field of a batch. `find_doubtful` may return a value too many but never one too few. Each
doubtful value then goes to `problem` and `warning`, and a value with a problem never reaches `stored`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from importing.batch import Campaign
from importing.checking.amounts import parse_addition
from importing.checking.parse_values import (
    DATE_PARSERS,
    PLAIN_DATE,
    PLAUSIBLE_PATTERNS,
    InvalidValue,
    Parser,
    find_parser,
    parse_json_value,
)
from importing.fields import SECRET_MASK, Field, FieldKind

PARSED_VALUES_KEPT = 50_000  # of all columns together


def _match_all(pattern: re.Pattern[str]) -> Callable[[Sequence[str]], bool]:
    """A function that returns whether the pattern matches each of some values."""
    lines = re.compile(f"(?:(?:{pattern.pattern})\n)*+")

    def match(values: Sequence[str]) -> bool:
        # A value of several lines does not count as matched.
        text = "\n".join(values) + "\n"
        return lines.fullmatch(text) is not None and text.count("\n") == len(values)

    return match


_are_plain_dates = _match_all(PLAIN_DATE)
_ARE_PLAUSIBLE = {kind: _match_all(pattern) for kind, pattern in PLAUSIBLE_PATTERNS.items()}


class SecretDigests(Protocol):
    """Makes the salted, keyed digest of a password or PIN."""

    def customer_secret(self, value: str) -> str: ...


class TextColumn:
    """Any text, stored as given."""

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:  # noqa: ARG002 - none is
        """Indices of the values that may deserve a problem or a warning."""
        return ()

    def problem(self, value: str) -> str:  # noqa: ARG002
        """The code of the value's problem, or ""."""
        return ""

    def warning(self, value: str) -> str:  # noqa: ARG002
        """The code of the value's warning, or ""."""
        return ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        """What is stored for each value."""
        return values


class KeyColumn(TextColumn):
    """A code or card number: blank counts as not given. Source: docs/protocol.md, Matching."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [value or None for value in values] if "" in values else values


class SecretColumn(TextColumn):
    """A password or PIN: only its digest is stored. With `masked`, the mask that our own export writes is no value."""

    def __init__(self, secrets: SecretDigests, masked: bool) -> None:
        self._digest = secrets.customer_secret
        self._mask = SECRET_MASK if masked else None

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [None if value == self._mask else self._digest(value) if value else "" for value in values]


class ContactColumn(TextColumn):
    """An e-mail address or phone number: stored as given, an odd one has a warning."""

    def __init__(self, kind: FieldKind) -> None:
        self._warning = f"odd_{kind}"
        self._is_plausible = PLAUSIBLE_PATTERNS[kind].fullmatch
        self._are_plausible = _ARE_PLAUSIBLE[kind]

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        # One match of all values costs two thirds of a match for each.
        if self._are_plausible(values):
            return ()
        return [index for index, value in enumerate(values) if not self._is_plausible(value)]

    def warning(self, value: str) -> str:
        return "" if self._is_plausible(value) else self._warning


class FullNameColumn(TextColumn):
    """A full name: stored as (first name, last name), which joined by a blank are the name as given."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return list(map(_split_name, values))


class NameKeyColumn(TextColumn):
    """A name that is its customer's code too: stored as (code, first name, last name). Inner blanks count as one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        # Case folding makes at most three characters of one.
        return [i for i, value in enumerate(values) if len(value) > self._limit // 3 and self.problem(value)]

    def problem(self, value: str) -> str:
        return "too_long" if len(_squeeze_blanks(value).casefold()) > self._limit else ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [(name.casefold() or None, *_split_name(name)) for name in map(_squeeze_blanks, values)]


class JsonColumn(TextColumn):
    """A free attribute: stored as JSON (see `parse_json_value`), which any text can be."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return map_distinct(parse_json_value, values)


class ParsedValues(dict[str, object]):
    """The parsed values of one column; `has_invalid` after an InvalidValue was returned in place of one."""

    def __init__(self, parse: Parser) -> None:
        super().__init__()
        self._parse = parse
        self.has_invalid = False

    def __missing__(self, value: str) -> object:
        try:
            parsed = self._parse(value)
        except InvalidValue as error:
            self.has_invalid = True
            return error
        self[value] = parsed
        return parsed


class ParsedColumn(TextColumn):
    """Values that are parsed one by one, each distinct one once: rows repeat their dates, choices and amounts."""

    def __init__(self, parse: Parser, max_kept: int) -> None:
        self._parse = parse
        self._max_kept = max_kept
        self._parsed = ParsedValues(parse)
        self._last: tuple[Sequence[str], list[object]] = ((), [])

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        if len(self._parsed) > self._max_kept:
            self._parsed.clear()
        self._parsed.has_invalid = False
        parsed = list(map(self._parsed.__getitem__, values))
        self._last = values, parsed
        if not self._parsed.has_invalid:
            return ()
        return [index for index, value in enumerate(parsed) if isinstance(value, InvalidValue)]

    def problem(self, value: str) -> str:
        try:
            self._parse(value)
        except InvalidValue as error:
            return error.code
        return ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        last_values, parsed = self._last
        # Nearly always the very values that were parsed last: none of their rows was bad.
        return parsed if values is last_values else list(map(self._parsed.__getitem__, values))


class DateColumn(ParsedColumn):
    """Dates, and times: those that are plainly right are matched all at once, in a tenth of the time of parsing them."""

    def find_doubtful(self, values: Sequence[str]) -> Iterable[int]:
        self._plain = _are_plain_dates(values)
        return () if self._plain else super().find_doubtful(values)

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return values if self._plain else super().stored(values)


def map_distinct(function: Callable[[str], str], values: Sequence[str]) -> list[str]:
    """The function's result for each value; where values repeat, it is called once for each distinct one."""
    distinct = set(values)
    if 2 * len(distinct) > len(values):
        return list(map(function, values))
    return list(map({value: function(value) for value in distinct}.__getitem__, values))


def make_columns(
    fields: Iterable[Field], campaign: Campaign | None, secrets: SecretDigests, *, masked: bool = False
) -> dict[str, TextColumn]:
    """The columns of a batch by field name. `auto_add` adds to `campaign`; `masked`: see `SecretColumn`."""
    columns: dict[str, TextColumn] = {}
    parsers: dict[str, Parser] = {}
    for field in fields:
        name, kind = field.name, field.kind
        if kind is FieldKind.AMOUNT:
            parsers[name] = lambda text: parse_addition(text, campaign)
        elif (parse := find_parser(field)) is not None:
            parsers[name] = parse
        elif kind is FieldKind.SECRET:
            columns[name] = SecretColumn(secrets, masked)
        elif kind is FieldKind.NAME_KEY:
            columns[name] = NameKeyColumn(field.limit)
        elif kind in PLAUSIBLE_PATTERNS:
            columns[name] = ContactColumn(kind)
        else:
            columns[name] = _COLUMN_OF_KIND.get(kind, TextColumn)()
    for name, parse in parsers.items():
        column = DateColumn if parse in DATE_PARSERS else ParsedColumn
        columns[name] = column(parse, PARSED_VALUES_KEPT // len(parsers))
    return columns


_COLUMN_OF_KIND: dict[FieldKind, type[TextColumn]] = {
    FieldKind.KEY: KeyColumn,
    FieldKind.FULL_NAME: FullNameColumn,
    FieldKind.TYPED: JsonColumn,
}


def _split_name(name: str) -> tuple[str, str]:
    first, blank, last = name.rpartition(" ")
    return (first, last) if blank else (last, "")


def _squeeze_blanks(name: str) -> str:
    return " ".join(name.split())
