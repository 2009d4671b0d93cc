"""From data to a plan: check and stage the rows, match them, settle those that meet each other, fold, draw numbers.

A preview reads the plan and a run applies it, so that one predicts the other exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from importing import fold, numbers, resolve
from importing.batch import Batch, Counts, Cursor, Made, Mode
from importing.distinct import Distinct
from importing.faults import Fault, Problem
from importing.naming import told
from importing.secrets import Digests
from importing.spool import Spool
from importing.validate import Checked, check
from storage import creating, folding, fresh, listing, reconcile, staging, uniques
from storage.modes import Shape
from storage.workspace import Workspace

# What is first planned and applied as if no two new customers shared a key. (Ignored rows write no keys.)
TRUSTED = frozenset((Mode.REPLACE, Mode.UPDATE))
# What most batches settle: nothing, read by all of them.
NONE_CAREFUL = resolve.Settled()


class Rows(NamedTuple):
    """The rows of a batch on their way to be staged. `chunks` can be gone through once, and fill the two lists.

    `foreseen`: see `read_rows`. `again` checks all of them once more.
    """

    checked: Checked
    chunks: Iterator[Sequence[tuple[object, ...]]]
    problems: Spool[Problem]
    warnings: Spool[Problem]
    foreseen: bool
    again: Callable[[], Checked]


class Staged(NamedTuple):
    """The good rows of a batch in the workspace's tables, and what is wrong with the others.

    `codes` and `cards` tell whether any of them is there twice. `complete` stages what was left out of careful rows.
    `cursor` is where reading goes on, `ended` says that nothing is left.
    """

    shape: Shape
    rows: int
    failed: int
    without_code: int
    without_card: int
    codes: Distinct
    cards: Distinct
    complete: Callable[[], None] | None
    problems: Spool[Problem]
    warnings: Spool[Problem]
    cursor: Cursor
    ended: bool


class Plan(NamedTuple):
    """What the batch shall do. `made` is the count of new customers; `problems` are all, in row order.

    `renames`: a stored customer may get another code or card.
    """

    counts: Counts
    made: int
    renames: bool
    problems: Spool[Problem]


def read_rows(
    batch: Batch,
    digests: Digests,
    start: Cursor = Cursor(),
    rows: int | None = None,
    *,
    foreseen: bool = False,
) -> Rows:
    """Begin to check the rows: the first of them are checked now, and the others when they are staged.

    A portion of them: those from `start` on, ending with the block in which so many `rows` are reached.
    `foreseen`: nothing will be written, only the plan's counts are wanted. Then all of them are checked when staged.
    """
    problems: Spool[Problem] = Spool()
    warnings: Spool[Problem] = Spool()
    checked = check(batch, digests, problems, warnings, start, rows)
    if not foreseen and batch.mode in TRUSTED:
        # The first plan trusts, and where it may not, keys are there twice as likely as not: a sixtieth of an import.
        checked.codes.forget()
        checked.cards.forget()
    chunks = checked.chunks()
    if not foreseen:
        first = next(chunks, None)
        chunks = chain(() if first is None else (first,), chunks)
    return Rows(
        checked, chunks, problems, warnings, foreseen, lambda: check(batch, digests, Spool(), Spool(), start, rows)
    )


def stage(work: Workspace, batch: Batch, rows: Rows) -> Staged:
    """Stage the good rows. Holds no lock. Raises Fault("no_data") where there is none."""
    checked = rows.checked
    account_uniques = uniques.numbers(work, batch.account)
    given = uniques.given(account_uniques, checked.documents)
    # Points touch their customer, whatever else the row gives.
    checked.thin = rows.foreseen and not given and "username_key" not in checked.columns
    staging.fill(work, checked.columns, rows.chunks, checked.keys)
    if not checked.rows:
        raise Fault("no_data")

    def complete() -> None:
        again = rows.again()
        staging.fill_again(work, again.columns, again.chunks())

    shape = Shape(
        frozenset(checked.columns),
        # Who only creates leaves matched customers alone, too.
        Mode.IGNORE.value if batch.mode is Mode.CREATE else batch.mode.value,
        checked.partial,
        given,
        tuple(sorted({*account_uniques, *given})),
        batch.card_digits is not None,
        rows.foreseen,
        checked.clears,
    )
    return Staged(
        shape,
        checked.rows,
        checked.failed,
        checked.without_code,
        checked.without_card,
        checked.codes,
        checked.cards,
        complete if checked.thin else None,
        rows.problems,
        rows.warnings,
        checked.cursor,
        checked.ended,
    )


def make_plan(work: Workspace, batch: Batch, staged: Staged, *, trusting: bool = False) -> Plan:
    """Plan the staged rows against the store as it is now. Raises Fault("cards_exhausted").

    `trusting`: new customers are taken to have keys of their own; where they have not, applying the plan fails.
    """
    shape, account = staged.shape, batch.account
    settled = NONE_CAREFUL
    good = staged.rows - staged.failed
    trusting = trusting or bool(staged.codes and staged.cards)
    found = reconcile.match(work, shape, account, good, trusting=trusting)
    if found.careful:
        if staged.complete is not None:
            staged.complete()
        settled = resolve.settle(
            reconcile.claims(work), reconcile.owners(work, shape, account), batch.mode, shape.makes_cards
        )
        reconcile.settle(work, settled.hits.chunks(), settled.follows.chunks(), settled.bad_rows)
        reconcile.compare_careful(work, shape, account)
        fresh.note_rows(work, settled.cards)
    existing: Spool[Problem] = Spool()
    if batch.mode is Mode.CREATE:
        existing = Spool(
            resolve.exists(row, code, card, bool(by_code))
            for row, code, card, by_code in creating.matched(work, account)
        )
        creating.drop_matched(work)
    plain = not found.careful and batch.mode is not Mode.CREATE
    matched = found.hits if plain else reconcile.matched_rows(work)
    drawn = staged.without_code > 0 or batch.card_digits is not None
    counted = plain and (matched == good or (shape.foreseen and not drawn))
    made = good - matched if counted else reconcile.make(work, settled.made)
    if batch.mode in (Mode.IGNORE, Mode.CREATE):
        reconcile.forget_targets(work)
        unchanged = 0
    else:
        untouched = found.untouched if plain else None
        unchanged = reconcile.touch(work, account, tuple(campaign.id for campaign in batch.campaigns), untouched)
        unchanged += _fold(work, batch, shape, settled)
    if staged.without_code:
        numbers.make_codes(work, account)
    if batch.card_digits is not None and (staged.without_card or "card_number" not in shape.columns):
        numbers.make_cards(work, batch.card_digits, account)
    return Plan(
        Counts(
            new=made,
            updated=0 if batch.mode is Mode.IGNORE else matched,
            unchanged=unchanged,
            ignored=matched if batch.mode is Mode.IGNORE else 0,
            failed=staged.rows - made - matched,
        ),
        made,
        not plain or found.renamed > 0 or batch.card_digits is not None,
        _merged(staged.problems, told(batch, _merged(existing, settled.problems))),
    )


def made_rows(work: Workspace, batch: Batch, staged: Staged, base: int | None) -> Iterator[Made]:
    """What the sender learns: rows sent without a code, and cards made. `base` None: a preview, nothing made up."""
    if staged.without_code or batch.card_digits is not None:
        for row, code, card in listing.made(work, batch.account, base):
            yield Made(row, code, card or "")


def _fold(work: Workspace, batch: Batch, shape: Shape, settled: resolve.Settled) -> int:
    reconcile.rename(work, settled.stored)
    if not len(settled.follows):
        return 0
    unchanged = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal unchanged
        for folded in fold.fold(folding.groups(work, shape, batch.account), batch.mode, settled.renaming):
            unchanged += folded.unchanged
            values = {"first_row": folded.first_row, "points": folded.points, "changed": int(folded.changed)}
            if "username_key" in shape.columns:
                username = folded.values["customer_username"]
                values["username_key"] = None if username is None else username.casefold()
            yield {**folded.values, **values}

    folding.replace(work, shape, Spool(rows()))
    return unchanged


def _merged(first: Spool[Problem], second: Spool[Problem]) -> Spool[Problem]:
    if not len(second):
        return first
    return Spool(heapq.merge(first, second, key=lambda problem: problem.row))
