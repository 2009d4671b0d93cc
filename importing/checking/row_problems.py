"""What is wrong with single rows: all problems and warnings of each, in column order. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from importing.checking.column_checks import ValueColumn
from importing.checking.column_plan import ColumnPlan
from importing.errors import Problem
from importing.fields import SECRET_MASK, Field, FieldKind
from importing.reading.split_rows import Cells, Flaw

VALUE_CHARACTERS_KEPT = 255  # characters of an offending value that its problem keeps; messages show fewer

# What XML 1.0 cannot carry. Lone surrogates cannot come out of any of the charsets.
FORBIDDEN_CHARACTERS = [*(chr(code) for code in range(32) if chr(code) not in "\t\n\r"), "\ufffe", "\uffff"]
FORBIDDEN_CHARACTER = re.compile(f"[{re.escape(''.join(FORBIDDEN_CHARACTERS))}]")


class RowProblems:
    """The problems and warnings of some rows. `masked`: a mask that our own export wrote over a value is no value."""

    def __init__(self, known: ColumnPlan, columns: Mapping[str, ValueColumn], *, masked: bool = False) -> None:
        self._known = known
        self._columns = columns
        self._masked = masked
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def check_row(self, number: int, cells: Cells) -> bool:
        """Judge one row, value by value; whether it is bad. One cell beyond the columns stands for all extra ones."""
        width, values = len(self._known.fields), cells.values
        extra = len(values) > width and values[width] != ""
        # A delimiter or quote inside a password moves pieces of it into other columns: then no value is shown.
        hidden = self._known.secret and (extra or bool(cells.flaw))
        problems, warnings = self._values(number, cells, hidden)
        if not cells.flaw and (missing := self._known.required.missing(values)):
            problems += [Problem(number, name, "missing_value") for name in missing]
            problems.sort(key=lambda problem: self._known.places.get(problem.field, width))
        if extra and cells.flaw is not Flaw.BAD_QUOTES:
            problems.append(
                Problem(number, "", "too_many_columns", "" if hidden else values[width][:VALUE_CHARACTERS_KEPT])
            )
        if cells.flaw:
            problems += self._flaw(number, cells, hidden, bool(problems))
        ref = "" if hidden else self._ref(cells)
        self.problems += [replace(problem, ref=ref) for problem in problems] if ref else problems
        self.warnings += [replace(warning, ref=ref) for warning in warnings] if ref else warnings
        return bool(problems)

    def _values(self, number: int, cells: Cells, hidden: bool) -> tuple[list[Problem], list[Problem]]:
        problems, warnings = [], []
        for index, (field, value) in enumerate(zip(self._known.fields, cells.values, strict=False)):
            if field is not None and not (cells.flaw and index == len(cells.values) - 1):
                quoted_value = "" if hidden or field.kind is FieldKind.SECRET else value[:VALUE_CHARACTERS_KEPT]
                column = self._columns[field.name]
                if self._masked and value == SECRET_MASK and field.kind is not FieldKind.SECRET:
                    problems.append(Problem(number, field.name, "missing_value"))
                elif code := _problem_code(field, value, column):
                    problems.append(_value_problem(number, field, code, quoted_value))
                elif code := column.warning(value):
                    warnings.append(Problem(number, field.name, code, quoted_value))
        return problems, warnings

    def _ref(self, cells: Cells) -> str:
        """What the sender calls the row."""
        whole = cells.values[:-1] if cells.flaw else cells.values
        return next(
            (
                whole[index][:VALUE_CHARACTERS_KEPT]
                for index in self._known.reference
                if index < len(whole) and whole[index]
            ),
            "",
        )

    def _flaw(self, number: int, cells: Cells, hidden: bool, explained: bool) -> list[Problem]:
        last, value = len(cells.values) - 1, cells.values[-1]
        field = self._known.fields[last] if last < len(self._known.fields) else None
        quoted_value = (
            "" if hidden or field is None or field.kind is FieldKind.SECRET else value[:VALUE_CHARACTERS_KEPT]
        )
        if cells.flaw is Flaw.BAD_QUOTES:
            return [Problem(number, field.name if field else "", "bad_quotes", quoted_value)]
        if field is not None and len(value) > field.limit:
            return [_value_problem(number, field, "too_long", quoted_value)]
        return [] if explained else [Problem(number, "", "line_too_long")]


def _problem_code(field: Field, value: str, column: ValueColumn) -> str:
    if FORBIDDEN_CHARACTER.search(value):
        return "bad_character"
    return "too_long" if len(value) > field.limit else column.problem(value)


def _value_problem(number: int, field: Field, code: str, quoted_value: str) -> Problem:
    return Problem(number, field.name, code, quoted_value, field.limit if code == "too_long" else 0)
