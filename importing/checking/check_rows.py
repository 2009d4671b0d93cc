"""Rows → clean staged rows and problems. Source: docs/protocol.md, Rows.

Whole blocks are checked column by column, which finds the few rows that need a closer look; those are judged value by
value, and only there problems and warnings arise. So a batch is checked at nearly the cost of splitting it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from json.encoder import encode_basestring
from operator import attrgetter, itemgetter
from typing import cast, overload

from importing.batch import ABSENT, Batch, CampaignType, Cursor
from importing.checking.column_checks import SecretDigests, ValueColumn, make_columns, map_distinct
from importing.checking.column_plan import plan_columns
from importing.checking.distinct import Distinct
from importing.checking.row_problems import FORBIDDEN_CHARACTER, FORBIDDEN_CHARACTERS, RowProblems
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.fields import SECRET_MASK, Field
from importing.reading.column_layout import column_fields
from importing.reading.csv_formula_guard import unguard
from importing.reading.lines import READ_BYTES
from importing.reading.row_reader import BEGINNING, read_blocks
from importing.reading.split_rows import Block, Cells, RowGroup, split_block

__all__ = ["CheckedRows", "check_rows", "column_fields"]

_JSON_NULLS, _BLANKS = (None, "null"), (None, "")
# The columns of some rows, and of each document its members.
_StoredColumns = tuple[dict[str, Sequence[object]], dict[str, dict[str, Sequence[object]]]]


def check_rows(
    batch: Batch,
    secrets: SecretDigests,
    problems: DiskList[Problem],
    warnings: DiskList[Problem],
    start: Cursor = BEGINNING,
    rows: int | None = None,
) -> CheckedRows:
    """The batch's rows, checked as they are read. What is wrong with them is added to `problems` and `warnings`.

    A portion of them: those from `start` on, ending with the block in which so many `rows` are reached.
    """
    return CheckedRows(batch, column_fields(batch), secrets, problems, warnings, start, rows)


class RowsByColumn(Sequence[tuple[object, ...]]):
    """Rows that lie column by column. Who goes through them and keeps none has one tuple made for all of them."""

    def __init__(self, columns: Sequence[Sequence[object]]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return zip(*self._columns, strict=True)

    @overload
    def __getitem__(self, index: int) -> tuple[object, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[object, ...]]: ...

    def __getitem__(self, index: int | slice) -> tuple[object, ...] | Sequence[tuple[object, ...]]:
        found = map(itemgetter(index), self._columns)
        return RowsByColumn(list(found)) if isinstance(index, slice) else tuple(found)


class CheckedRows:
    """The good rows of a batch, in row order, as tuples of `columns`; the counts are there when `chunks` is exhausted.

    None is "not given", "" is "given blank". `columns` are "row" and those staged columns that the batch has. Chunks of
    rows that all add points may be `thin`: those have the columns `keys` alone. `documents`: see `Prepared`.
    `rows` that are not blank, `failed` of them bad; of the good ones `without_code` and `without_card`; `partial`:
    some good row is too short to give every column but keys and auto_add; `clears`: some gives a custom field or an
    attribute blank. `codes` and `cards` tell whether any of them is there twice. `cursor` is where reading goes on, and
    `ended` says that there is nothing more to read.
    """

    def __init__(
        self,
        batch: Batch,
        fields: Sequence[Field | None],
        secrets: SecretDigests,
        problems: DiskList[Problem],
        warnings: DiskList[Problem],
        start: Cursor = BEGINNING,
        max_rows: int | None = None,
        piece: int = READ_BYTES,
    ) -> None:
        self.cursor = start
        self.ended = False
        self._max_rows = max_rows
        self._batch = batch
        self._piece = piece
        self._problems = problems
        self._warnings = warnings
        constants = tuple([field for field, _ in batch.constants])
        self._known = plan = plan_columns(tuple(fields), constants, batch.requirements, batch.reference)
        campaign = batch.campaigns[0] if batch.campaigns else None
        self._checks = make_columns(plan.kinds, campaign, secrets, masked=batch.delimited.guarded)
        self._constants = [_stored_constant(self._checks[field.name], text) for field, text in batch.constants]
        # A null costs the driver more than a text, and only what some campaigns give are items.
        items = campaign is not None and campaign.type is CampaignType.BUYX
        self.columns, self.keys = plan.staged if items else plan.plain
        self.documents = plan.documents
        self.keys_only = False
        self.rows = self.failed = self.without_code = self.without_card = 0
        self.partial = self.clears = False
        self.codes, self.cards = Distinct(), Distinct()

    def chunks(self) -> Iterator[Sequence[tuple[object, ...]]]:
        """The good rows. Reads the data once."""
        before, size = self.cursor.rows, self._batch.source.size
        for block in self._blocks():
            good = self._check_block(block)
            self.rows += block.rows
            self.failed += block.rows - len(good)
            self.cursor = Cursor(block.end, before + self.rows, block.rereads)
            if good:
                yield good
            if self._max_rows is not None and self.rows >= self._max_rows:
                break
        else:
            self.cursor = Cursor(size, before + self.rows, self.cursor.rereads)
        self.ended = self.cursor.position >= size

    def _blocks(self) -> Iterator[Block]:
        return read_blocks(
            self._batch.source,
            self._batch.delimited,
            self.cursor,
            limit=len(self._known.fields),
            longest=self._known.longest,
            piece=self._piece,
            by_column=True,
        )

    def _check_block(self, block: Block) -> Sequence[tuple[object, ...]]:
        guarded = self._batch.delimited.guarded
        masked = guarded and SECRET_MASK in block.text
        has_absent = self._batch.delimited.has_absent and ABSENT in block.text
        row_problems = RowProblems(self._known, self._checks, masked=masked)
        unfit = any(map(block.text.__contains__, FORBIDDEN_CHARACTERS))
        long = block.longer(self._known.shortest_limit)
        stored: list[_StoredColumns] = []
        for group in split_block(block, self._batch.delimited.delimiter, len(self._known.fields)):
            if guarded and "'" in block.text:
                group = RowGroup(group.numbers, [list(map(unguard, column)) for column in group.columns])
            stored_values = group.blanked(ABSENT) if has_absent else group
            doubtful_rows = self._find_doubtful(stored_values, unfit, long)
            if masked:
                doubtful_rows.update(
                    i for column in group.columns for i, value in enumerate(column) if value == SECRET_MASK
                )
            bad = {i for i in doubtful_rows if row_problems.check_row(group.numbers[i], stored_values.cells(i))}
            clean = group.without(bad)
            if clean.numbers:
                stored.append(self._stored(clean, has_absent))
                self.partial = self.partial or has_absent or len(clean.columns) < self._known.complete
        for number, cells in block.flawed:
            row_problems.check_row(number, _blanked(cells) if has_absent else cells)
        keys_only = self.keys_only and all(None not in columns.get("amount", (None,)) for columns, _ in stored)
        every = [_join_columns(*found, self.keys if keys_only else self.columns, has_absent) for found in stored]
        # Groups are by width; rows and what is wrong with them are wanted in row order (sorting sorted ones is cheap).
        good = every[0] if len(every) == 1 else sorted(chain.from_iterable(every), key=itemgetter(0))
        for problem_list, found in ((self._problems, row_problems.problems), (self._warnings, row_problems.warnings)):
            for problem in sorted(found, key=attrgetter("row")):
                problem_list.append(problem)
        return good

    def _find_doubtful(self, group: RowGroup, unfit: bool, long: bool) -> set[int]:
        """Indices of the rows that need a closer look; at characters only where `unfit`, at lengths where `long`."""
        columns, width = group.columns, len(group.columns)
        doubtful_rows = self._known.required.find_incomplete(columns, len(group.numbers))
        for index, field in self._known.judged:
            if index < width:
                doubtful_rows.update(self._checks[field.name].find_doubtful(columns[index]))
        for index, field in self._known.used if long or unfit else ():
            values = columns[index] if index < width else ()
            if long and max(map(len, values), default=0) > field.limit:
                doubtful_rows.update(row for row, value in enumerate(values) if len(value) > field.limit)
            if unfit:
                doubtful_rows.update(row for row, value in enumerate(values) if FORBIDDEN_CHARACTER.search(value))
        for extras in columns[len(self._known.fields) :]:
            doubtful_rows.update(row for row, extra in enumerate(extras) if extra)
        return doubtful_rows

    def _stored(self, group: RowGroup, has_absent: bool) -> _StoredColumns:
        columns, width, rows = group.columns, len(group.columns), len(group.numbers)
        values_of = group.blanked(ABSENT).columns if has_absent else columns
        stored: dict[str, Sequence[object]] = {"row": group.numbers}
        documents: dict[str, dict[str, Sequence[object]]] = defaultdict(dict)
        stored_values = [
            (target, self._checks[name].stored(values_of[index]), columns[index])
            for index, name, target in self._known.targets
            if index < width
        ]
        stored_values += [
            (target, [value] * rows, ()) for target, value in zip(self._known.constants, self._constants, strict=True)
        ]
        for (names, document, spread), values, cells in stored_values:
            into, blank = (stored, _BLANKS) if document is None else (documents[document], _JSON_NULLS)
            for name, column in zip(names, (values,) if spread is None else spread(values), strict=True):
                if has_absent and ABSENT in cells:
                    column = [None if cell == ABSENT else value for cell, value in zip(cells, column, strict=True)]
                into[name] = _first_filled(into[name], column, blank) if name in into else column
        self.without_code += stored["code"].count(None) if "code" in stored else rows
        self.without_card += stored["card_number"].count(None) if "card_number" in stored else rows
        self.clears = self.clears or any(
            "null" in values for members in documents.values() for values in members.values()
        )
        self.codes.add(stored.get("code", ()))
        self.cards.add(stored.get("card_number", ()))
        return stored, documents


def _join_columns(
    stored: Mapping[str, Sequence[object]],
    documents: Mapping[str, Mapping[str, Sequence[object]]],
    names: Sequence[str],
    has_absent: bool,
) -> RowsByColumn:
    written = _documents_with_gaps if has_absent else _join_documents
    joined_documents = {name: written(members) for name, members in documents.items() if name in names}
    empty_column = [None] * len(stored["row"])
    return RowsByColumn(list(map({**stored, **joined_documents}.get, names, repeat(empty_column))))


def _stored_constant(column: ValueColumn, text: str) -> object:
    """What is stored for a value that every row has."""
    if code := column.problem(text):
        raise ValueError(code)
    column.find_doubtful([text])
    return column.stored([text])[0]


def _first_filled(first: Sequence[object], second: Sequence[object], blank: Sequence[object]) -> Sequence[object]:
    # None is absent, which a blank value precedes.
    return [value if value not in blank or other is None else other for value, other in zip(first, second, strict=True)]


def _join_documents(members: Mapping[str, Sequence[object]]) -> Sequence[str]:
    """One JSON object a row, of JSON literals: what `json.dumps` makes of it, at an eighth of the time."""
    template = "{" + ",".join(encode_basestring(name).replace("%", "%%") + ":%s" for name in members) + "}"
    if len(members) == 1:
        return map_distinct(template.__mod__, *cast("Iterable[Sequence[str]]", members.values()))
    return list(map(template.__mod__, zip(*members.values(), strict=True)))


def _documents_with_gaps(members: Mapping[str, Sequence[object]]) -> Sequence[str]:
    """The same, where a row has only the members that are not None."""
    names = [encode_basestring(name) for name in members]
    return [
        "{" + ",".join([f"{name}:{value}" for name, value in zip(names, row, strict=True) if value is not None]) + "}"
        for row in zip(*members.values(), strict=True)
    ]


def _blanked(cells: Cells) -> Cells:
    return replace(cells, values=["" if value == ABSENT else value for value in cells.values])
