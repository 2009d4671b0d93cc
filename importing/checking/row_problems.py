"""What is wrong with single rows: all problems and warnings of each, in column order. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from importing.batch import Requirement
from importing.checking.column_checks import TextColumn
from importing.checking.column_plan import ColumnPlan
from importing.errors import Problem
from importing.fields import SECRET_MASK, Field, FieldKind
from importing.reading.split_rows import RowCells, RowFlaw

VALUE_CHARACTERS_KEPT = 255  # of an invalid value, in its problem; messages show fewer

# What XML 1.0 cannot represent. None of the charsets can decode to lone surrogates.
FORBIDDEN_CHARACTERS = [*(chr(code) for code in range(32) if chr(code) not in "\t\n\r"), "\ufffe", "\uffff"]
FORBIDDEN_CHARACTER = re.compile(f"[{re.escape(''.join(FORBIDDEN_CHARACTERS))}]")


def find_incomplete(
    requirement: Requirement, indices: Mapping[str, int], columns: Sequence[Sequence[str]], rows: int
) -> list[int]:
    """Indices of the rows that do not meet the requirement. A column that is not there gives nothing."""

    def columns_of(*names: str) -> list[Sequence[str]]:
        return [columns[indices[name]] for name in names if indices.get(name, len(columns)) < len(columns)]

    given = columns_of(*requirement.fields)
    if any("" not in column for column in given):
        return []
    incomplete = [row for row in range(rows) if not any(column[row] for column in given)]
    if requirement.when is None:
        return incomplete
    name, value = requirement.when
    return [row for column in columns_of(name) for row in incomplete if column[row].casefold() == value.casefold()]


class RowProblems:
    """Collects the problems and warnings of rows. With `masked`, a mask that our own export wrote is no value."""

    def __init__(self, plan: ColumnPlan, columns: Mapping[str, TextColumn], *, masked: bool) -> None:
        self._plan = plan
        self._columns = columns
        self._masked = masked
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def check_row(self, number: int, cells: RowCells) -> bool:
        """Check one row, value by value; whether it is bad. One cell beyond the columns stands for all extra ones."""
        width, values = len(self._plan.fields), cells.values
        extra = len(values) > width and values[width] != ""
        # A delimiter or quote inside a password moves pieces of it into other columns: then no value is shown.
        hidden = self._plan.has_secret and (extra or bool(cells.flaw))
        problems, warnings = self._check_values(number, cells, hidden)
        if not cells.flaw and (missing := self._missing_fields(values)):
            problems += [Problem(number, name, "missing_value") for name in missing]
            problems.sort(key=lambda problem: self._plan.indices.get(problem.field, width))
        if extra and cells.flaw is not RowFlaw.BAD_QUOTES:
            problems.append(Problem(number, "", "too_many_columns", _quote(values[width], None, hidden)))
        if cells.flaw:
            problems += self._describe_flaw(number, cells, hidden, bool(problems))
        ref = "" if hidden else self._reference(cells)
        self.problems += [replace(problem, ref=ref) for problem in problems] if ref else problems
        self.warnings += [replace(warning, ref=ref) for warning in warnings] if ref else warnings
        return bool(problems)

    def _check_values(self, number: int, cells: RowCells, hidden: bool) -> tuple[list[Problem], list[Problem]]:
        problems, warnings = [], []
        for field, value in zip(self._plan.fields, _whole_values(cells), strict=False):
            if field is None:
                continue
            column = self._columns[field.name]
            if self._masked and value == SECRET_MASK and field.kind is not FieldKind.SECRET:
                problems.append(Problem(number, field.name, "missing_value"))
            elif code := _problem_code(field, value, column):
                limit = field.limit if code == "too_long" else 0
                problems.append(Problem(number, field.name, code, _quote(value, field, hidden), limit))
            elif code := column.warning(value):
                warnings.append(Problem(number, field.name, code, _quote(value, field, hidden)))
        return problems, warnings

    def _missing_fields(self, values: Sequence[str]) -> list[str]:
        columns = [[value] for value in values]
        requirements, indices = self._plan.requirements, self._plan.indices
        return [required.fields[0] for required in requirements if find_incomplete(required, indices, columns, 1)]

    def _reference(self, cells: RowCells) -> str:
        """What the sender calls the row."""
        values = _whole_values(cells)
        names = (values[index] for index in self._plan.reference if index < len(values))
        return next(filter(None, names), "")[:VALUE_CHARACTERS_KEPT]

    def _describe_flaw(self, number: int, cells: RowCells, hidden: bool, has_problems: bool) -> list[Problem]:
        last, value = len(cells.values) - 1, cells.values[-1]
        field = self._plan.fields[last] if last < len(self._plan.fields) else None
        quoted = _quote(value, field, hidden or field is None)
        if cells.flaw is RowFlaw.BAD_QUOTES:
            return [Problem(number, field.name if field else "", "bad_quotes", quoted)]
        if field is not None and len(value) > field.limit:
            return [Problem(number, field.name, "too_long", quoted, field.limit)]
        return [] if has_problems else [Problem(number, "", "line_too_long")]


def _whole_values(cells: RowCells) -> list[str]:
    return cells.values[:-1] if cells.flaw else cells.values


def _quote(value: str, field: Field | None, hidden: bool) -> str:
    """The value as its problem keeps it."""
    is_secret = field is not None and field.kind is FieldKind.SECRET
    return "" if hidden or is_secret else value[:VALUE_CHARACTERS_KEPT]


def _problem_code(field: Field, value: str, column: TextColumn) -> str:
    if FORBIDDEN_CHARACTER.search(value):
        return "bad_character"
    return "too_long" if len(value) > field.limit else column.problem(value)
