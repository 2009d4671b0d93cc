"""Columns of values, many rows at once: which of them need a closer look, and what is stored for them.

One `Column` for each field of a batch. `doubtful` may name a value too many but never one too few; what it names goes
to `problem` and `warning`, one by one, and what has a problem never comes to `stored`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from importing.amounts import Addition, addition
from importing.batch import Campaign
from importing.fields import MASK, Field, Kind
from importing.judging import DATES, PLAIN_DATE, PLAUSIBLE, Judge, Wrong, judge_of, odd, typed

REMEMBERED = 50_000  # judged values, of all columns together


class Secrets(Protocol):
    """What keeps passwords and PINs: the salted, keyed digest of one."""

    def customer_secret(self, value: str) -> str: ...


class Column(Protocol):
    """How the values of one field are checked and stored."""

    def doubtful(self, values: Sequence[str]) -> Iterable[int]:
        """Indices of the values that may deserve a problem or a warning."""

    def problem(self, value: str) -> str:
        """The code of the value's problem, or ""."""

    def warning(self, value: str) -> str:
        """The code of the value's warning, or ""."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        """What is stored for each."""


class Text:
    """Any text, stored as given."""

    def doubtful(self, values: Sequence[str]) -> Iterable[int]:  # noqa: ARG002 - nothing is
        return ()

    def problem(self, value: str) -> str:  # noqa: ARG002
        return ""

    def warning(self, value: str) -> str:  # noqa: ARG002
        return ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return values


class Key(Text):
    """A code or card number: blank counts as not given. Source: docs/protocol.md, Matching."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [value or None for value in values] if "" in values else values


class Secret(Text):
    """A password or PIN: only its digest is stored. `masked`: the mask that our own export writes is none at all."""

    def __init__(self, secrets: Secrets, masked: bool) -> None:
        self._digest = secrets.customer_secret
        self._mask = MASK if masked else None

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [None if value == self._mask else self._digest(value) if value else "" for value in values]


class Plausible(Text):
    """An e-mail address or phone number: stored as given, an odd one is a warning."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._plausible = PLAUSIBLE[kind].fullmatch
        self._all_plausible = _all_of(PLAUSIBLE[kind])

    def doubtful(self, values: Sequence[str]) -> Iterable[int]:
        # One match of all of them costs two thirds of one for each.
        if self._all_plausible(values):
            return ()
        return [index for index, value in enumerate(values) if not self._plausible(value)]

    def warning(self, value: str) -> str:
        return odd(self._kind, value)


class FullName(Text):
    """A full name: stored as (first name, last name), which joined by a blank are the name as given."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return [(first, last) if blank else (last, "") for first, blank, last in [v.rpartition(" ") for v in values]]


class NameKey(Text):
    """A name that is its customer's code too: stored as (code, first name, last name). Inner blanks count as one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def doubtful(self, values: Sequence[str]) -> Iterable[int]:
        # Folding makes at most three characters of one.
        return [i for i, value in enumerate(values) if len(value) > self._limit // 3 and self.problem(value)]

    def problem(self, value: str) -> str:
        return "too_long" if len(_squeezed(value).casefold()) > self._limit else ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        names = map(_squeezed, values)
        return [(name.casefold() or None, *_first_and_last(name)) for name in names]


class Typed(Text):
    """A free attribute: stored as JSON (see `judging.typed`), which any text can be."""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return each(typed, values)


class Judgements(dict[str, object]):
    """What is stored for each value that was looked up; of those that their field cannot take the Wrong."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self._judge = judge
        self.wrong = False

    def __missing__(self, value: str) -> object:
        try:
            found = self._judge(value)
        except Wrong as wrong:
            self.wrong = True
            return wrong
        self[value] = found
        return found


class Judged(Text):
    """Values that are judged one by one, each distinct one once: rows repeat their dates, choices and amounts."""

    def __init__(self, judge: Judge, remembered: int) -> None:
        self._judge = judge
        self._remembered = remembered
        self._known = Judgements(judge)
        self._judged: tuple[Sequence[str], list[object]] = ((), [])

    def doubtful(self, values: Sequence[str]) -> Iterable[int]:
        if len(self._known) > self._remembered:
            self._known.clear()
        self._known.wrong = False
        found = list(map(self._known.__getitem__, values))
        self._judged = values, found
        return [index for index, value in enumerate(found) if isinstance(value, Wrong)] if self._known.wrong else ()

    def problem(self, value: str) -> str:
        try:
            self._judge(value)
        except Wrong as wrong:
            return wrong.code
        return ""

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        judged, found = self._judged
        # Nearly always the very values that were judged last: no row of theirs was bad.
        return found if values is judged else list(map(self._known.__getitem__, values))


class Dates(Judged):
    """Dates, and times: those that are plainly right are matched all at once, at a tenth of what judging them costs."""

    def doubtful(self, values: Sequence[str]) -> Iterable[int]:
        self._plain = _all_plain_dates(values)
        return () if self._plain else super().doubtful(values)

    def stored(self, values: Sequence[str]) -> Sequence[object]:
        return values if self._plain else super().stored(values)


def _all_of(value: re.Pattern[str]) -> Callable[[Sequence[str]], bool]:
    """What tells whether a pattern matches each of some values."""
    lines = re.compile(f"(?:(?:{value.pattern})\n)*+")

    def match(values: Sequence[str]) -> bool:
        # A value of several lines is none of those that are matched so.
        text = "\n".join(values) + "\n"
        return lines.fullmatch(text) is not None and text.count("\n") == len(values)

    return match


_all_plain_dates = _all_of(PLAIN_DATE)


def each(function: Callable[[str], str], values: Sequence[str]) -> list[str]:
    """What the function makes of each value; of values that repeat themselves, of each distinct one once."""
    different = set(values)
    if 2 * len(different) > len(values):
        return list(map(function, values))
    return list(map({value: function(value) for value in different}.__getitem__, values))


@dataclass(frozen=True, slots=True)
class Kinds:
    """The columns that batches can share, by field name; the judges of the others (None: of amounts); the secret ones."""

    shared: Mapping[str, Column]
    judges: Mapping[str, Judge | None]
    secrets: Sequence[str]


def kinds(fields: Iterable[Field]) -> Kinds:
    """What columns the fields need."""
    shared: dict[str, Column] = {}
    judges: dict[str, Judge | None] = {}
    secrets: list[str] = []
    for field in fields:
        judge = judge_of(field)
        if judge is not None or field.kind is Kind.AMOUNT:
            judges[field.name] = judge
        elif field.kind is Kind.SECRET:
            secrets.append(field.name)
        elif field.kind is Kind.NAME_KEY:
            shared[field.name] = NameKey(field.limit)
        elif field.kind in PLAUSIBLE:
            shared[field.name] = Plausible(field.kind)
        else:
            shared[field.name] = _PLAIN.get(field.kind, Text)()
    return Kinds(shared, judges, secrets)


def doubts(kinds: Kinds, name: str) -> bool:
    """Whether any value of that field deserves a closer look."""
    shared = kinds.shared.get(name)
    return name in kinds.judges or (shared is not None and type(shared).doubtful is not Text.doubtful)


def columns(kinds: Kinds, campaign: Campaign | None, secrets: Secrets, *, masked: bool = False) -> dict[str, Column]:
    """The columns of a batch by field name. `campaign`: the one that `auto_add` adds to; `masked`: see `Secret`."""
    found = dict(kinds.shared)
    for name in kinds.secrets:
        found[name] = Secret(secrets, masked)
    for name, judge in kinds.judges.items():
        column = Dates if judge in DATES else Judged
        found[name] = column(judge or _adding_to(campaign), REMEMBERED // len(kinds.judges))
    return found


_PLAIN: Mapping[Kind, Callable[[], Column]] = {Kind.KEY: Key, Kind.FULL_NAME: FullName, Kind.TYPED: Typed}


def _adding_to(campaign: Campaign | None) -> Callable[[str], Addition]:
    return lambda text: addition(text, campaign)


def _first_and_last(name: str) -> tuple[str, str]:
    first, blank, last = name.rpartition(" ")
    return (first, last) if blank else (last, "")


def _squeezed(name: str) -> str:
    return " ".join(name.split())
