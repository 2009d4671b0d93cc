"""Problems that only the store can tell, in the sender's own words: the names of its columns, and of its rows."""

from __future__ import annotations

from dataclasses import replace

from importing.batch import Batch
from importing.faults import Problem
from importing.fields import Field, Into
from importing.spool import Spool
from importing.targets import staged_columns


def told(batch: Batch, problems: Spool[Problem]) -> Spool[Problem]:
    """The problems, whose fields are staged columns (or keys in documents) and whose refs are codes, as told to the sender."""
    if not len(problems):
        return problems
    names = _names(batch)
    refers = names.get("code") in batch.reference
    return Spool(
        replace(problem, field=names.get(problem.field, problem.field), ref=problem.ref if refers else "")
        for problem in problems
    )


def _names(batch: Batch) -> dict[str, str]:
    """What the batch calls a column: of several headers for it the one that counts first."""

    def rank(field: Field) -> int:
        return batch.reference.index(field.name) if field.name in batch.reference else len(batch.reference)

    fields = sorted((header.field for header in batch.headers if header.field is not None), key=rank, reverse=True)
    return {
        target: field.name
        for field in fields
        for target in (staged_columns(field) if field.into is Into.COLUMN else (field.target,))
    }
