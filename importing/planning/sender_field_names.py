"""Problems that only the store can tell, in the sender's own words: the names of its columns, and of its rows."""

from __future__ import annotations

from dataclasses import replace

from importing.batch import Batch
from importing.checking.column_plan import staged_column_names
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.fields import Field, FieldDestination


def with_sender_names(batch: Batch, problems: DiskList[Problem]) -> DiskList[Problem]:
    """The problems, whose fields are staged columns (or keys in documents) and whose refs are codes, as told to the sender."""
    if not len(problems):
        return problems
    names = _sender_names(batch)
    refers_to_code = names.get("code") in batch.reference
    return DiskList(
        replace(problem, field=names.get(problem.field, problem.field), ref=problem.ref if refers_to_code else "")
        for problem in problems
    )


def _sender_names(batch: Batch) -> dict[str, str]:
    """What the batch calls a column: of several headers for it the one that counts first."""

    def rank(field: Field) -> int:
        return batch.reference.index(field.name) if field.name in batch.reference else len(batch.reference)

    fields = sorted((header.field for header in batch.headers if header.field is not None), key=rank, reverse=True)
    return {
        target: field.name
        for field in fields
        for target in (staged_column_names(field) if field.into is FieldDestination.COLUMN else (field.target,))
    }
