"""What each row of a batch must give: many rows at once to find those that do not, then what is missing in each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from importing.batch import Requirement
from importing.fields import Field


class RequiredValues:
    """The requirements of a batch whose columns hold `fields`. A column that is not there gives nothing."""

    def __init__(self, requirements: Sequence[Requirement], fields: Sequence[Field | None]) -> None:
        self._requirements = requirements
        self._places: dict[str, list[int]] = defaultdict(list)
        for index, field in enumerate(fields):
            if field is not None:
                self._places[field.name].append(index)

    def find_incomplete(self, columns: Sequence[Sequence[str]], rows: int) -> set[int]:
        """Indices of the rows that do not give all they must."""
        return {index for requirement in self._requirements for index in self._missed(requirement, columns, rows)}

    def missing(self, cells: Sequence[str]) -> list[str]:
        """The names of the fields that one row should give and does not."""
        columns = [[cell] for cell in cells]
        return [requirement.fields[0] for requirement in self._requirements if self._missed(requirement, columns, 1)]

    def _missed(self, requirement: Requirement, columns: Sequence[Sequence[str]], rows: int) -> list[int]:
        given_columns = list(self._columns(requirement.fields, columns))
        if any("" not in column for column in given_columns):
            return []
        missing_rows = [index for index in range(rows) if not any(column[index] for column in given_columns)]
        if requirement.when is None:
            return missing_rows
        name, value = requirement.when
        condition_columns = list(self._columns([name], columns))
        return [
            index
            for index in missing_rows
            if any(column[index].casefold() == value.casefold() for column in condition_columns)
        ]

    def _columns(self, names: Iterable[str], columns: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
        return (columns[index] for name in names for index in self._places.get(name, ()) if index < len(columns))
