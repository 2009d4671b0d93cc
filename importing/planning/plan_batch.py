"""Data to a plan: check and stage the rows, match them, resolve dependent rows, merge rows of a customer, draw keys.

A preview reads the plan and an import applies it, so that one predicts the other exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from crypto.digests import Digests
from importing.batch import AssignedKey, Batch, Counts, Cursor, Mode
from importing.checking.check_rows import CheckedRows
from importing.checking.column_plan import staged_column_names
from importing.disk_list import DiskList
from importing.errors import ApiError, Problem
from importing.fields import Field, FieldDestination
from importing.planning import generate_keys, merge_rows
from importing.planning.dependent_rows import ResolvedRows, exists_problem, resolve
from storage import generated_keys, match, merged_rows, staging, unique_values
from storage.batch_transaction import BatchTransaction
from storage.write_modes import BatchShape

# Batches of these modes are first planned as if no two new customers shared a key. (Ignored rows write no keys.)
MODES_TRIED_FIRST = frozenset((Mode.REPLACE, Mode.UPDATE))
NO_DEPENDENT_ROWS = ResolvedRows()


class UncheckedRows(NamedTuple):
    """The rows of a batch before they are staged. `chunks` can be read once, and fills `problems` and `warnings`.

    `check_again` checks all rows once more. For `is_preview` see `read_rows`.
    """

    checked: CheckedRows
    chunks: Iterator[Sequence[tuple[object, ...]]]
    problems: DiskList[Problem]
    warnings: DiskList[Problem]
    is_preview: bool
    check_again: Callable[[], CheckedRows]


class StagedRows(NamedTuple):
    """The good rows of a batch in the temporary tables, and the problems of the others.

    `stage_left_out` stages what was left out of dependent rows.
    """

    shape: BatchShape
    checked: CheckedRows
    stage_left_out: Callable[[], None] | None
    problems: DiskList[Problem]
    warnings: DiskList[Problem]


class BatchPlan(NamedTuple):
    """What the batch shall do. `problems` are all, in row order. `renames`: a stored customer may get a new code or card."""

    counts: Counts
    renames: bool
    problems: DiskList[Problem]


def read_rows(
    batch: Batch, digests: Digests, start: Cursor = Cursor(), rows: int | None = None, *, is_preview: bool = False
) -> UncheckedRows:
    """Check the first rows now, and the others when they are staged; in a preview check all of them then.

    With `rows` only a chunk: from `start` to the end of the block in which so many rows are reached.
    `is_preview`: nothing will be written, only the plan's counts are needed.
    """
    problems: DiskList[Problem] = DiskList()
    warnings: DiskList[Problem] = DiskList()
    checked = CheckedRows(batch, digests, problems, warnings, start, rows)
    if not is_preview and batch.mode in MODES_TRIED_FIRST:
        # The first plan does not ask whether keys are repeated, and where it fails they probably are: asking costs a
        # sixtieth of an import.
        checked.codes.forget()
        checked.cards.forget()
    chunks = checked.chunks()
    if not is_preview:
        first = next(chunks, None)
        chunks = chain(() if first is None else (first,), chunks)

    def check_again() -> CheckedRows:
        return CheckedRows(batch, digests, DiskList(), DiskList(), start, rows)

    return UncheckedRows(checked, chunks, problems, warnings, is_preview, check_again)


def stage(work: BatchTransaction, batch: Batch, rows: UncheckedRows) -> StagedRows:
    """Stage the good rows; this takes no lock. Raises ApiError("no_data") when there is no row at all."""
    checked = rows.checked
    account_uniques = unique_values.list_numbers(work, batch.account)
    given_uniques = unique_values.select_given(account_uniques, checked.documents)
    # Points change their customer, whatever else the row gives.
    checked.keys_only = rows.is_preview and not given_uniques and "username_key" not in checked.columns
    staging.stage_rows(work, checked.columns, rows.chunks, checked.keys)
    if not checked.rows:
        raise ApiError("no_data")

    def stage_left_out() -> None:
        again = rows.check_again()
        staging.stage_dependent_rows(work, again.columns, again.chunks())

    shape = BatchShape(
        frozenset(checked.columns),
        # A batch that only creates does not change matched customers either.
        Mode.IGNORE.value if batch.mode is Mode.CREATE else batch.mode.value,
        checked.partial,
        given_uniques,
        tuple(sorted({*account_uniques, *given_uniques})),
        batch.card_digits is not None,
        rows.is_preview,
        checked.clears,
    )
    return StagedRows(shape, checked, stage_left_out if checked.keys_only else None, rows.problems, rows.warnings)


def make_plan(
    work: BatchTransaction, batch: Batch, staged: StagedRows, *, assume_unique_keys: bool = False
) -> BatchPlan:
    """Plan the staged rows against the store as it is now. Raises ApiError("cards_exhausted").

    `assume_unique_keys`: no two new customers share a key. If they do, applying the plan fails.
    """
    shape, account, checked = staged.shape, batch.account, staged.checked
    good = checked.rows - checked.failed
    assume_unique_keys = assume_unique_keys or bool(checked.codes and checked.cards)
    match_counts = match.match(work, shape, account, good, assume_unique_keys=assume_unique_keys)
    resolution = _resolve_rows(work, batch, staged) if match_counts.dependent else NO_DEPENDENT_ROWS
    existing: DiskList[Problem] = DiskList()
    if batch.mode is Mode.CREATE:
        existing = DiskList(
            exists_problem(row, code, card, bool(by_code))
            for row, code, card, by_code in match.list_matched(work, account)
        )
        match.drop_matched(work)
    is_plain = not match_counts.dependent and batch.mode is not Mode.CREATE
    matched = match_counts.matches if is_plain else match.count_matched(work)
    draws_keys = checked.without_code > 0 or batch.card_digits is not None
    is_counted = is_plain and (matched == good or (shape.is_preview and not draws_keys))
    new = good - matched if is_counted else match.fill_new_customers(work, resolution.created)
    unchanged = 0
    if batch.mode in (Mode.IGNORE, Mode.CREATE):
        match.clear_targets(work)
    else:
        campaigns = tuple(campaign.id for campaign in batch.campaigns)
        unchanged = match.mark_changed(work, account, campaigns, match_counts.unmarked if is_plain else None)
        unchanged += _merge_rows(work, batch, shape, resolution)
    if checked.without_code:
        generate_keys.make_codes(work, account)
    if batch.card_digits is not None and (checked.without_card or "card_number" not in shape.columns):
        generate_keys.make_cards(work, batch.card_digits, account)
    updated, ignored = (0, matched) if batch.mode is Mode.IGNORE else (matched, 0)
    store_problems = _use_sender_names(batch, _merge_problems(existing, resolution.problems))
    return BatchPlan(
        Counts(new, updated, unchanged, ignored, failed=checked.rows - new - matched),
        not is_plain or match_counts.renamed > 0 or batch.card_digits is not None,
        _merge_problems(staged.problems, store_problems),
    )


def list_assigned_keys(
    work: BatchTransaction, batch: Batch, staged: StagedRows, base: int | None
) -> Iterator[AssignedKey]:
    """The keys that the sender learns: of rows without a code, and drawn cards. `base` None: a preview, which draws none."""
    if staged.checked.without_code or batch.card_digits is not None:
        for row, code, card in generated_keys.list_assigned_keys(work, batch.account, is_preview=base is None):
            yield AssignedKey(row, code, card or "")


def _resolve_rows(work: BatchTransaction, batch: Batch, staged: StagedRows) -> ResolvedRows:
    shape = staged.shape
    if staged.stage_left_out is not None:
        staged.stage_left_out()
    owners = match.list_key_owners(work, shape, batch.account)
    resolution = resolve(match.list_dependent_rows(work), owners, batch.mode, shape.makes_cards)
    match.store_resolved_rows(work, resolution.matches.chunks(), resolution.later_rows.chunks(), resolution.bad_rows)
    match.compare_dependent_rows(work, shape, batch.account)
    generated_keys.store_card_rows(work, resolution.card_rows)
    return resolution


def _merge_rows(work: BatchTransaction, batch: Batch, shape: BatchShape, resolution: ResolvedRows) -> int:
    """Merge the rows of each customer that has several; returns how many later rows changed nothing."""
    match.store_new_keys(work, resolution.stored)
    if not len(resolution.later_rows):
        return 0
    unchanged = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal unchanged
        groups = merged_rows.stream_customer_rows(work, shape, batch.account)
        for merged in merge_rows.merge_rows(groups, batch.mode, resolution.renaming_rows):
            unchanged += merged.unchanged
            values = {"first_row": merged.first_row, "points": merged.points, "changed": int(merged.changed)}
            if "username_key" in shape.columns:
                username = merged.values["customer_username"]
                values["username_key"] = None if username is None else username.casefold()
            yield {**merged.values, **values}

    merged_rows.store_merged_rows(work, shape, DiskList(rows()))
    return unchanged


def _merge_problems(first: DiskList[Problem], second: DiskList[Problem]) -> DiskList[Problem]:
    if not len(second):
        return first
    return DiskList(heapq.merge(first, second, key=lambda problem: problem.row))


def _use_sender_names(batch: Batch, problems: DiskList[Problem]) -> DiskList[Problem]:
    """The problems that the store found, with the sender's names for staged columns and document members, and for rows."""
    if not len(problems):
        return problems

    def rank(field: Field) -> int:
        return batch.reference.index(field.name) if field.name in batch.reference else len(batch.reference)

    # Of several headers of a column the one that counts first comes last here, and stays.
    fields = sorted((header.field for header in batch.headers if header.field is not None), key=rank, reverse=True)
    names = {
        target: field.name
        for field in fields
        for target in (staged_column_names(field) if field.into is FieldDestination.COLUMN else (field.target,))
    }
    is_code = names.get("code") in batch.reference
    return DiskList(
        replace(problem, field=names.get(problem.field, problem.field), ref=problem.ref if is_code else "")
        for problem in problems
    )
