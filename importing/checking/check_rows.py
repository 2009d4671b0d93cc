"""Rows → valid staged rows and problems. Source: docs/protocol.md, Rows.

Whole blocks are checked column by column, which finds the few rows that need a closer check. Only those are checked
value by value, and only there problems and warnings arise. So checking costs little more than splitting.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from json.encoder import encode_basestring
from operator import attrgetter, itemgetter
from typing import cast, overload

from importing.batch import ABSENT, Batch, CampaignType, Cursor
from importing.checking.column_checks import SecretDigests, TextColumn, make_columns, map_distinct
from importing.checking.column_plan import KEY_COLUMNS, plan_columns
from importing.checking.row_problems import FORBIDDEN_CHARACTER, FORBIDDEN_CHARACTERS, RowProblems, find_incomplete
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.fields import SECRET_MASK
from importing.reading.column_layout import column_fields
from importing.reading.csv_formula_guard import unguard
from importing.reading.row_reader import BEGINNING, read_blocks
from importing.reading.split_rows import RowBlock, RowCells, RowGroup, split_block

MAX_HASHES = 200_000  # of a DistinctValues: 1.6 MB, and ten times as much while it answers

_JSON_NULLS, _BLANKS = (None, "null"), (None, "")
# The staged columns of some rows, and the members of each document.
_StoredColumns = tuple[dict[str, Sequence[object]], dict[str, dict[str, Sequence[object]]]]


class RowsByColumn(Sequence[tuple[object, ...]]):
    """Rows that are stored column by column. Iteration reuses one tuple for rows that the caller does not keep."""

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
        values = map(itemgetter(index), self._columns)
        return RowsByColumn(list(values)) if isinstance(index, slice) else tuple(values)


class DistinctValues:
    """True if all values that were added are known to differ: by their hashes, and only of up to MAX_HASHES values."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._is_unknown = False

    def add(self, values: Iterable[object]) -> None:
        """Add values. None does not count."""
        if self._is_unknown:
            return
        self._hashes.extend(map(hash, filter(None, values)))
        if len(self._hashes) > MAX_HASHES:
            self.forget()

    def forget(self) -> None:
        """Stop collecting: from now on nothing is known."""
        self._is_unknown = True
        self._hashes = array("q")

    def __bool__(self) -> bool:
        return not self._is_unknown and len(set(self._hashes)) == len(self._hashes)


class CheckedRows:
    """Checks a batch's rows as they are read: `chunks` yields the good ones, in row order, as tuples of `columns`.

    Problems and warnings are appended to the two lists. `start` and `max_rows` select a part of the batch: it ends with
    the block that reaches so many rows.

    None is "not given", "" is "given blank". `columns` are "row" and those staged columns that the batch has. Where
    `keys_only` is set, chunks of rows that all add points have the columns `keys` alone. `documents`: see `ColumnPlan`.

    The counts are complete when `chunks` is exhausted: `rows` that are not blank, `failed` of them bad; of the good ones
    `without_code` and `without_card`. `partial`: some good row is too short to give every column but keys and auto_add.
    `clears`: some row gives a custom field or an attribute blank. `codes` and `cards`: whether they differ in all rows.
    `cursor` is where reading resumes; `ended` says that nothing is left to read.
    """

    def __init__(
        self,
        batch: Batch,
        secrets: SecretDigests,
        problems: DiskList[Problem],
        warnings: DiskList[Problem],
        start: Cursor = BEGINNING,
        max_rows: int | None = None,
    ) -> None:
        self._batch = batch
        self._problems = problems
        self._warnings = warnings
        self._max_rows = max_rows
        constants = tuple([field for field, _ in batch.constants])
        self._plan = plan = plan_columns(column_fields(batch), constants, batch.requirements, batch.reference)
        fields = [*(field for _, field in plan.used), *constants]
        campaign = batch.campaigns[0] if batch.campaigns else None
        self._checks = make_columns(fields, campaign, secrets, masked=batch.delimited.guarded)
        self._constants = [_stored_constant(self._checks[field.name], text) for field, text in batch.constants]
        # Only buyx campaigns have items, and a null costs the driver more than a text.
        has_items = campaign is not None and campaign.type is CampaignType.BUYX
        self.columns = tuple([name for name in plan.staged if has_items or name != "item_id"])
        self.keys = tuple([name for name in self.columns if name in KEY_COLUMNS])
        self.documents = plan.documents
        self.keys_only = False
        self.rows = self.failed = self.without_code = self.without_card = 0
        self.partial = self.clears = False
        self.codes, self.cards = DistinctValues(), DistinctValues()
        self.cursor = start
        self.ended = False

    def chunks(self) -> Iterator[Sequence[tuple[object, ...]]]:
        """The good rows. Reads the data once."""
        before, source, delimited = self.cursor.rows, self._batch.source, self._batch.delimited
        limit, longest = len(self._plan.fields), self._plan.longest
        for block in read_blocks(source, delimited, self.cursor, limit=limit, longest=longest, by_column=True):
            good = self._check_block(block)
            self.rows += block.rows
            self.failed += block.rows - len(good)
            self.cursor = Cursor(block.end, before + self.rows, block.rereads)
            if good:
                yield good
            if self._max_rows is not None and self.rows >= self._max_rows:
                break
        else:
            self.cursor = Cursor(source.size, before + self.rows, self.cursor.rereads)
        self.ended = self.cursor.position >= source.size

    def _check_block(self, block: RowBlock) -> Sequence[tuple[object, ...]]:
        delimited = self._batch.delimited
        masked = delimited.guarded and SECRET_MASK in block.text
        has_absent = delimited.has_absent and ABSENT in block.text
        row_problems = RowProblems(self._plan, self._checks, masked=masked)
        has_forbidden = any(map(block.text.__contains__, FORBIDDEN_CHARACTERS))
        has_long = block.may_exceed(self._plan.shortest_limit)
        stored: list[_StoredColumns] = []
        for group in split_block(block, delimited.delimiter, len(self._plan.fields)):
            if delimited.guarded and "'" in block.text:
                group = RowGroup(group.numbers, [list(map(unguard, column)) for column in group.columns])
            blanked = group.blanked(ABSENT) if has_absent else group
            doubtful = self._find_doubtful(blanked, has_forbidden, has_long)
            if masked:
                doubtful.update(i for column in group.columns for i, value in enumerate(column) if value == SECRET_MASK)
            bad = {i for i in doubtful if row_problems.check_row(group.numbers[i], blanked.row(i))}
            good_rows = group.without(bad)
            if good_rows.numbers:
                stored.append(self._store(good_rows, has_absent))
                self.partial = self.partial or has_absent or len(good_rows.columns) < self._plan.complete
        for number, cells in block.flawed:
            row_problems.check_row(number, _blank_absent(cells) if has_absent else cells)
        keys_only = self.keys_only and all(None not in columns.get("amount", (None,)) for columns, _ in stored)
        names = self.keys if keys_only else self.columns
        groups = [_join_columns(columns, documents, names, has_absent) for columns, documents in stored]
        for problem_list, problems in (
            (self._problems, row_problems.problems),
            (self._warnings, row_problems.warnings),
        ):
            for problem in sorted(problems, key=attrgetter("row")):
                problem_list.append(problem)
        # Groups are by width; their rows are merged into row order (sorting sorted ones is cheap).
        return groups[0] if len(groups) == 1 else sorted(chain.from_iterable(groups), key=itemgetter(0))

    def _find_doubtful(self, group: RowGroup, has_forbidden: bool, has_long: bool) -> set[int]:
        """Indices of the rows that need a closer check."""
        plan, columns, width = self._plan, group.columns, len(group.columns)
        doubtful: set[int] = set()
        for requirement in plan.requirements:
            doubtful.update(find_incomplete(requirement, plan.indices, columns, len(group.numbers)))
        for index, field in plan.used:
            if index >= width:
                break
            values = columns[index]
            doubtful.update(self._checks[field.name].find_doubtful(values))
            if has_long and max(map(len, values)) > field.limit:
                doubtful.update(row for row, value in enumerate(values) if len(value) > field.limit)
            if has_forbidden:
                doubtful.update(row for row, value in enumerate(values) if FORBIDDEN_CHARACTER.search(value))
        for extras in columns[len(plan.fields) :]:
            doubtful.update(row for row, extra in enumerate(extras) if extra)
        return doubtful

    def _store(self, group: RowGroup, has_absent: bool) -> _StoredColumns:
        rows, width = len(group.numbers), len(group.columns)
        values_of = group.blanked(ABSENT).columns if has_absent else group.columns
        stored: dict[str, Sequence[object]] = {"row": group.numbers}
        documents: dict[str, dict[str, Sequence[object]]] = defaultdict(dict)
        columns = [
            (target, self._checks[name].stored(values_of[index]), group.columns[index])
            for index, name, target in self._plan.targets
            if index < width
        ]
        columns += [(target, [v] * rows, ()) for target, v in zip(self._plan.constants, self._constants, strict=True)]
        for (names, document, split), values, cells in columns:
            into, blank = (stored, _BLANKS) if document is None else (documents[document], _JSON_NULLS)
            for name, column in zip(names, (values,) if split is None else split(values), strict=True):
                if has_absent and ABSENT in cells:
                    column = [None if cell == ABSENT else value for cell, value in zip(cells, column, strict=True)]
                into[name] = _first_filled(into[name], column, blank) if name in into else column
        self.without_code += stored["code"].count(None) if "code" in stored else rows
        self.without_card += stored["card_number"].count(None) if "card_number" in stored else rows
        self.clears = self.clears or any("null" in values for doc in documents.values() for values in doc.values())
        self.codes.add(stored.get("code", ()))
        self.cards.add(stored.get("card_number", ()))
        return stored, documents


def _join_columns(
    stored: Mapping[str, Sequence[object]],
    documents: Mapping[str, Mapping[str, Sequence[object]]],
    names: Sequence[str],
    has_absent: bool,
) -> RowsByColumn:
    join = _join_given_members if has_absent else _join_members
    joined_documents = {name: join(members) for name, members in documents.items() if name in names}
    empty_column = [None] * len(stored["row"])
    return RowsByColumn(list(map({**stored, **joined_documents}.get, names, repeat(empty_column))))


def _stored_constant(column: TextColumn, text: str) -> object:
    """What is stored for a value that every row has."""
    if code := column.problem(text):
        raise ValueError(code)
    column.find_doubtful([text])
    return column.stored([text])[0]


def _first_filled(first: Sequence[object], second: Sequence[object], blank: Sequence[object]) -> Sequence[object]:
    # None is absent: a blank value comes before it.
    return [value if value not in blank or other is None else other for value, other in zip(first, second, strict=True)]


def _join_members(members: Mapping[str, Sequence[object]]) -> Sequence[str]:
    """One JSON object a row, of JSON literals: the same as `json.dumps`, in an eighth of the time."""
    template = "{" + ",".join(encode_basestring(name).replace("%", "%%") + ":%s" for name in members) + "}"
    if len(members) == 1:
        return map_distinct(template.__mod__, *cast("Iterable[Sequence[str]]", members.values()))
    return list(map(template.__mod__, zip(*members.values(), strict=True)))


def _join_given_members(members: Mapping[str, Sequence[object]]) -> Sequence[str]:
    """The same, with only those members of a row that are not None."""
    names = [encode_basestring(name) for name in members]
    return [
        "{" + ",".join([f"{name}:{value}" for name, value in zip(names, row, strict=True) if value is not None]) + "}"
        for row in zip(*members.values(), strict=True)
    ]


def _blank_absent(cells: RowCells) -> RowCells:
    return replace(cells, values=["" if value == ABSENT else value for value in cells.values])
