"""Rows → clean staged rows and problems. Source: docs/protocol.md, Rows.

Whole blocks are checked column by column, which finds the few rows that need a closer look; those are judged value by
value, and only there problems and warnings arise. So a batch is checked at nearly the cost of splitting it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from operator import attrgetter, itemgetter
from typing import cast

from importing.batch import Batch
from importing.columns import Secrets, columns
from importing.cutting import Block, Group, groups
from importing.decode import LONGEST, PIECE, blocks
from importing.faults import Problem
from importing.fields import STANDARD, Field, Into, Kind
from importing.findings import UNFIT, UNFIT_CHARACTERS, Findings
from importing.guard import unguard
from importing.layout import layout
from importing.spool import Spool

__all__ = ["Checked", "check", "layout"]

LONGEST_EVER = 16_000_000  # characters of a row, however many long columns it has

_DOCUMENTS = (Into.CUSTOM, Into.ATTRIBUTE)
_ORDER = (
    *dict.fromkeys(["code", "card_number", *(field.target for field in STANDARD if field.into is Into.COLUMN)]),
    "username_key",
    *(field.target for field in STANDARD if field.into is Into.DIGEST),
    *(into.value for into in _DOCUMENTS),
    "amount",
    "item_id",
)


def check(batch: Batch, secrets: Secrets, problems: Spool[Problem], warnings: Spool[Problem]) -> Checked:
    """The batch's rows, checked as they are read. What is wrong with them is added to `problems` and `warnings`."""
    return Checked(batch, layout(batch), secrets, problems, warnings)


class Checked:
    """The good rows of a batch, in row order, as tuples of `columns`; the counts are there when `chunks` is exhausted.

    None is "not given", "" is "given blank". `columns` are "row" and those staged columns that the batch has.
    `rows` that are not blank, `failed` of them bad; of the good ones `without_code` and `without_card`; `partial`:
    some good row is too short to give every column but keys and auto_add.
    """

    def __init__(
        self,
        batch: Batch,
        fields: Sequence[Field | None],
        secrets: Secrets,
        problems: Spool[Problem],
        warnings: Spool[Problem],
        piece: int = PIECE,
    ) -> None:
        self._batch = batch
        self._fields = fields
        self._piece = piece
        self._problems = problems
        self._warnings = warnings
        self._used = [(index, field) for index, field in enumerate(fields) if field is not None]
        used = [field for _, field in self._used]
        self._checks = columns(used, batch.campaigns[0] if batch.campaigns else None, secrets)
        self._longest = sum(2 * field.limit + len('"",') for field in used) + len(fields)
        self._shortest_limit = min((field.limit for field in used), default=0)
        self._complete = 1 + max((i for i, f in self._used if f.kind not in (Kind.KEY, Kind.AMOUNT)), default=-1)
        staged = {name for field in used for name in _staged(field)}
        self.columns = ("row", *(name for name in _ORDER if name in staged))
        self.rows = self.failed = self.without_code = self.without_card = 0
        self.partial = False

    def chunks(self) -> Iterator[list[tuple[object, ...]]]:
        """The good rows. Reads the data once."""
        for block in blocks(
            self._batch.source,
            self._batch.delimited,
            most=len(self._fields),
            longest=min(max(self._longest, LONGEST), LONGEST_EVER),
            piece=self._piece,
        ):
            good = self._checked(block)
            self.rows += len(block.lines)
            self.failed += len(block.lines) - len(good)
            if good:
                yield good

    def _checked(self, block: Block) -> list[tuple[object, ...]]:
        findings = Findings(self._fields, self._checks)
        unfit = any(map(block.text.__contains__, UNFIT_CHARACTERS))
        long = block.longest > self._shortest_limit
        good: list[tuple[object, ...]] = []
        guarded = self._batch.delimited.guarded and "'" in block.text
        for group in groups(block, self._batch.delimited.delimiter, len(self._fields)):
            if guarded:
                group = Group(group.numbers, [list(map(unguard, column)) for column in group.columns])
            bad = {i for i in self._doubtful(group, unfit, long) if findings.judge(group.numbers[i], group.cells(i))}
            clean = group.without(bad)
            if clean.numbers:
                good.extend(self._stored(clean))
                self._count(clean)
        for number, cells in block.flawed:
            findings.judge(number, cells)
        # Groups are by width; rows and what is wrong with them are wanted in row order (sorting sorted ones is cheap).
        good.sort(key=itemgetter(0))
        for spool, found in ((self._problems, findings.problems), (self._warnings, findings.warnings)):
            for problem in sorted(found, key=attrgetter("row")):
                spool.append(problem)
        return good

    def _doubtful(self, group: Group, unfit: bool, long: bool) -> set[int]:
        """Indices of the rows that need a closer look; at characters only where `unfit`, at lengths where `long`."""
        doubtful: set[int] = set()
        for field, values in self._given(group):
            doubtful.update(self._checks[field.name].doubtful(values))
            if long and max(map(len, values)) > field.limit:
                doubtful.update(index for index, value in enumerate(values) if len(value) > field.limit)
            if unfit:
                doubtful.update(index for index, value in enumerate(values) if UNFIT.search(value))
        for extras in group.columns[len(self._fields) :]:
            doubtful.update(index for index, extra in enumerate(extras) if extra)
        return doubtful

    def _stored(self, group: Group) -> Iterator[tuple[object, ...]]:
        stored: dict[str, Iterable[object]] = {"row": group.numbers}
        documents: dict[str, dict[str, Sequence[str]]] = defaultdict(dict)
        for field, given in self._given(group):
            values = self._checks[field.name].stored(given)
            if field.into in _DOCUMENTS:
                documents[field.into.value][field.target] = cast("Sequence[str]", values)
            elif field.into is Into.LEDGER:
                stored |= zip(("amount", "item_id"), zip(*values, strict=True), strict=True)
            else:
                stored[field.target] = values
            if field.kind is Kind.USERNAME:
                stored["username_key"] = map(str.casefold, given)
        stored |= {name: _documents(members) for name, members in documents.items()}
        not_given = [None] * len(group.numbers)
        return zip(*(stored.get(name, not_given) for name in self.columns), strict=True)

    def _given(self, group: Group) -> Iterator[tuple[Field, Sequence[str]]]:
        return ((field, group.columns[index]) for index, field in self._used if index < len(group.columns))

    def _count(self, good: Group) -> None:
        blank = {field.name: given.count("") for field, given in self._given(good) if field.kind is Kind.KEY}
        self.without_code += blank.get("code", len(good.numbers))
        self.without_card += blank.get("card_number", len(good.numbers))
        self.partial = self.partial or len(good.columns) < self._complete


def _staged(field: Field) -> tuple[str, ...]:
    """The staged columns that a field gives."""
    if field.into in _DOCUMENTS:
        return (field.into.value,)
    if field.into is Into.LEDGER:
        return ("amount", "item_id")
    return ("customer_username", "username_key") if field.kind is Kind.USERNAME else (field.target,)


def _documents(members: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """One JSON object a row, a blank value as null: what `json.dumps` makes of it, at an eighth of the time."""
    template = "{" + ",".join(encode_basestring(name).replace("%", "%%") + ":%s" for name in members) + "}"
    encoded = ([encode_basestring(value) if value else "null" for value in values] for values in members.values())
    return map(template.__mod__, zip(*encoded, strict=True))
