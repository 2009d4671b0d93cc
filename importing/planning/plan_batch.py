"""From data to a plan: check and stage the rows, match them, settle those that meet each other, fold, draw numbers.

A preview reads the plan and a run applies it, so that one predicts the other exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from crypto.digests import Digests
from importing.batch import AssignedKey, Batch, Counts, Cursor, Mode
from importing.checking.check_rows import CheckedRows, check_rows
from importing.checking.distinct import Distinct
from importing.disk_list import DiskList
from importing.errors import ApiError, Problem
from importing.planning import dependent_rows, generate_keys, merge_rows
from importing.planning.sender_field_names import with_sender_names
from storage import generated_keys, match, merged_rows, staging, unique_values
from storage.batch_transaction import BatchTransaction
from storage.write_modes import BatchShape

# What is first planned and applied as if no two new customers shared a key. (Ignored rows write no keys.)
MODES_TRIED_FIRST = frozenset((Mode.REPLACE, Mode.UPDATE))
# What most batches settle: nothing, read by all of them.
NO_DEPENDENT_ROWS = dependent_rows.ResolvedRows()


class UncheckedRows(NamedTuple):
    """The rows of a batch on their way to be staged. `chunks` can be gone through once, and fill the two lists.

    `foreseen`: see `read_rows`. `again` checks all of them once more.
    """

    checked: CheckedRows
    chunks: Iterator[Sequence[tuple[object, ...]]]
    problems: DiskList[Problem]
    warnings: DiskList[Problem]
    is_preview: bool
    again: Callable[[], CheckedRows]


class StagedRows(NamedTuple):
    """The good rows of a batch in the workspace's tables, and what is wrong with the others.

    `codes` and `cards` tell whether any of them is there twice. `complete` stages what was left out of careful rows.
    `cursor` is where reading goes on, `ended` says that nothing is left.
    """

    shape: BatchShape
    rows: int
    failed: int
    without_code: int
    without_card: int
    codes: Distinct
    cards: Distinct
    complete: Callable[[], None] | None
    problems: DiskList[Problem]
    warnings: DiskList[Problem]
    cursor: Cursor
    ended: bool


class BatchPlan(NamedTuple):
    """What the batch shall do. `made` is the count of new customers; `problems` are all, in row order.

    `renames`: a stored customer may get another code or card.
    """

    counts: Counts
    made: int
    renames: bool
    problems: DiskList[Problem]


def read_rows(
    batch: Batch,
    digests: Digests,
    start: Cursor = Cursor(),
    rows: int | None = None,
    *,
    is_preview: bool = False,
) -> UncheckedRows:
    """Begin to check the rows: the first of them are checked now, and the others when they are staged.

    A portion of them: those from `start` on, ending with the block in which so many `rows` are reached.
    `foreseen`: nothing will be written, only the plan's counts are wanted. Then all of them are checked when staged.
    """
    problems: DiskList[Problem] = DiskList()
    warnings: DiskList[Problem] = DiskList()
    checked = check_rows(batch, digests, problems, warnings, start, rows)
    if not is_preview and batch.mode in MODES_TRIED_FIRST:
        # The first plan trusts, and where it may not, keys are there twice as likely as not: a sixtieth of an import.
        checked.codes.forget()
        checked.cards.forget()
    chunks = checked.chunks()
    if not is_preview:
        first = next(chunks, None)
        chunks = chain(() if first is None else (first,), chunks)
    return UncheckedRows(
        checked,
        chunks,
        problems,
        warnings,
        is_preview,
        lambda: check_rows(batch, digests, DiskList(), DiskList(), start, rows),
    )


def stage(work: BatchTransaction, batch: Batch, rows: UncheckedRows) -> StagedRows:
    """Stage the good rows. Holds no lock. Raises ApiError("no_data") where there is none."""
    checked = rows.checked
    account_uniques = unique_values.list_numbers(work, batch.account)
    given_uniques = unique_values.select_given(account_uniques, checked.documents)
    # Points touch their customer, whatever else the row gives.
    checked.keys_only = rows.is_preview and not given_uniques and "username_key" not in checked.columns
    staging.stage_rows(work, checked.columns, rows.chunks, checked.keys)
    if not checked.rows:
        raise ApiError("no_data")

    def complete() -> None:
        again = rows.again()
        staging.stage_dependent_rows(work, again.columns, again.chunks())

    shape = BatchShape(
        frozenset(checked.columns),
        # Who only creates leaves matched customers alone, too.
        Mode.IGNORE.value if batch.mode is Mode.CREATE else batch.mode.value,
        checked.partial,
        given_uniques,
        tuple(sorted({*account_uniques, *given_uniques})),
        batch.card_digits is not None,
        rows.is_preview,
        checked.clears,
    )
    return StagedRows(
        shape,
        checked.rows,
        checked.failed,
        checked.without_code,
        checked.without_card,
        checked.codes,
        checked.cards,
        complete if checked.keys_only else None,
        rows.problems,
        rows.warnings,
        checked.cursor,
        checked.ended,
    )


def make_plan(
    work: BatchTransaction, batch: Batch, staged: StagedRows, *, assume_unique_keys: bool = False
) -> BatchPlan:
    """Plan the staged rows against the store as it is now. Raises ApiError("cards_exhausted").

    `trusting`: new customers are taken to have keys of their own; where they have not, applying the plan fails.
    """
    shape, account = staged.shape, batch.account
    resolution = NO_DEPENDENT_ROWS
    good = staged.rows - staged.failed
    assume_unique_keys = assume_unique_keys or bool(staged.codes and staged.cards)
    match_result = match.match(work, shape, account, good, assume_unique_keys=assume_unique_keys)
    if match_result.dependent:
        if staged.complete is not None:
            staged.complete()
        resolution = dependent_rows.resolve(
            match.list_dependent_rows(work), match.list_key_owners(work, shape, account), batch.mode, shape.makes_cards
        )
        match.store_resolved_rows(
            work, resolution.matches.chunks(), resolution.later_rows.chunks(), resolution.bad_rows
        )
        match.compare_dependent_rows(work, shape, account)
        generated_keys.store_card_rows(work, resolution.cards)
    existing: DiskList[Problem] = DiskList()
    if batch.mode is Mode.CREATE:
        existing = DiskList(
            dependent_rows.exists_problem(row, code, card, bool(by_code))
            for row, code, card, by_code in match.list_matched(work, account)
        )
        match.drop_matched(work)
    is_plain = not match_result.dependent and batch.mode is not Mode.CREATE
    matched_rows = match_result.matches if is_plain else match.count_matched(work)
    draws_keys = staged.without_code > 0 or batch.card_digits is not None
    is_counted = is_plain and (matched_rows == good or (shape.is_preview and not draws_keys))
    made = good - matched_rows if is_counted else match.fill_new_customers(work, resolution.made)
    if batch.mode in (Mode.IGNORE, Mode.CREATE):
        match.clear_targets(work)
        unchanged = 0
    else:
        unmarked = match_result.unmarked if is_plain else None
        unchanged = match.mark_changed(work, account, tuple(campaign.id for campaign in batch.campaigns), unmarked)
        unchanged += _merge_rows(work, batch, shape, resolution)
    if staged.without_code:
        generate_keys.make_codes(work, account)
    if batch.card_digits is not None and (staged.without_card or "card_number" not in shape.columns):
        generate_keys.make_cards(work, batch.card_digits, account)
    return BatchPlan(
        Counts(
            new=made,
            updated=0 if batch.mode is Mode.IGNORE else matched_rows,
            unchanged=unchanged,
            ignored=matched_rows if batch.mode is Mode.IGNORE else 0,
            failed=staged.rows - made - matched_rows,
        ),
        made,
        not is_plain or match_result.renamed > 0 or batch.card_digits is not None,
        _merge_problems(staged.problems, with_sender_names(batch, _merge_problems(existing, resolution.problems))),
    )


def list_assigned_keys(
    work: BatchTransaction, batch: Batch, staged: StagedRows, base: int | None
) -> Iterator[AssignedKey]:
    """What the sender learns: rows sent without a code, and cards made. `base` None: a preview, nothing made up."""
    if staged.without_code or batch.card_digits is not None:
        for row, code, card in generated_keys.list_assigned_keys(work, batch.account, is_preview=base is None):
            yield AssignedKey(row, code, card or "")


def _merge_rows(
    work: BatchTransaction, batch: Batch, shape: BatchShape, resolution: dependent_rows.ResolvedRows
) -> int:
    match.store_new_keys(work, resolution.stored)
    if not len(resolution.later_rows):
        return 0
    unchanged = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal unchanged
        for folded in merge_rows.merge_rows(
            merged_rows.stream_customer_rows(work, shape, batch.account), batch.mode, resolution.renaming_rows
        ):
            unchanged += folded.unchanged
            values = {"first_row": folded.first_row, "points": folded.points, "changed": int(folded.changed)}
            if "username_key" in shape.columns:
                username = folded.values["customer_username"]
                values["username_key"] = None if username is None else username.casefold()
            yield {**folded.values, **values}

    merged_rows.store_merged_rows(work, shape, DiskList(rows()))
    return unchanged


def _merge_problems(first: DiskList[Problem], second: DiskList[Problem]) -> DiskList[Problem]:
    if not len(second):
        return first
    return DiskList(heapq.merge(first, second, key=lambda problem: problem.row))
