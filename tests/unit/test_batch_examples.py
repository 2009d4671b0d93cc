"""Batches whose rows meet each other or other batches, and what the store holds in the end. Each shows one condition of SQL."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from importing.batch import UndoOutcome
from importing.context import Context
from tests.support.model import Import
from tests.support.real_core import Actual

COLUMNS = ("code", "card_number", "first_name", "auto_add")


@pytest.fixture
def actual(context: Context) -> Actual:
    return Actual(context)


def rows(
    *texts: str,
    columns: Sequence[str] = COLUMNS,
    mode: str = "update",
    campaigns: tuple[str, ...] = ("club",),
    card_digits: int | None = None,
) -> Import:
    """A batch of rows such as "k1 c1 ann 5"; a dash is a blank, and a short row lacks its last columns."""
    cells = (["" if cell == "-" else cell for cell in text.split()] for text in texts)
    every = tuple(dict(zip(columns, row, strict=False)) for row in cells)
    return Import(tuple(columns), every, mode, "skip", campaigns, card_digits=card_digits)


def applied(actual: Actual, batch: Import) -> dict[str, int]:
    """The counts of a batch that nothing is wrong with, those that are 0 left out."""
    result = actual.apply(batch)
    assert (result.fault, result.problems) == ("", [])
    actual.check()
    return {name: count for name, count in result.counts.items() if count}


def balances(actual: Actual) -> dict[str, object]:
    return {code: customer["balances"].get("club") for code, customer in actual.state().items()}


def names(actual: Actual, field: str) -> dict[str, str | None]:
    return {code: customer["fields"].get(field) for code, customer in actual.state().items()}


def counts(undone: UndoOutcome) -> tuple[int, int, int]:
    return undone.restored, undone.removed, undone.kept


class TestImport:
    def test_points_of_all_rows_of_a_new_customer_add_up(self, actual: Actual) -> None:
        assert applied(actual, rows("k1 c1 ann 5", "k1 c1 ann 7")) == {"new": 1, "updated": 1}
        assert balances(actual) == {"k1": 1200}

    def test_points_of_ignored_rows_are_not_added(self, actual: Actual) -> None:
        assert applied(actual, rows("k1 c1 ann 5", "k1 c1 ann 7", mode="ignore")) == {"new": 1, "ignored": 1}
        assert balances(actual) == {"k1": 500}

    def test_a_code_moves_to_a_customer_that_is_older(self, actual: Actual) -> None:
        applied(actual, rows("k1 c1 ann -", "k2 c2 bob -"))
        applied(actual, rows("k9 c2 bob -", "k2 c1 ann -"))
        assert names(actual, "card_number") == {"k2": "c1", "k9": "c2"}

    def test_a_card_that_is_made_is_a_change(self, actual: Actual) -> None:
        applied(actual, rows("k1 - ann -", "k2 c2 bob -", "k3 c3 cid -"))
        # All had joined before and send nothing new; a customer that gets a card is not unchanged.
        counted = applied(actual, rows("k1 ann", "k2 bob", "k3 cid", columns=("code", "first_name"), card_digits=8))
        assert counted == {"updated": 3, "unchanged": 2}
        cards = names(actual, "card_number")
        assert (cards["k2"], cards["k3"]) == ("c2", "c3")
        assert len(cards["k1"] or "") == 8

    def test_a_user_name_that_a_short_row_does_not_give_stays_and_a_blank_one_goes(self, actual: Actual) -> None:
        columns = ("code", "first_name", "customer_username")
        applied(actual, rows("k1 a Ann", "k2 b Bob", "k3 c Cid", columns=columns))
        applied(actual, rows("k1 new", "k2 new Bobby", "k3 new -", columns=columns))
        assert names(actual, "customer_username") == {"k1": "Ann", "k2": "Bobby", "k3": None}

    def test_of_several_rows_of_a_customer_the_last_user_name_counts(self, actual: Actual) -> None:
        columns = ("code", "first_name", "customer_username")
        applied(actual, rows("k1 a Ann", "k1 b Bob", "k2 c Ann", columns=columns))
        assert names(actual, "customer_username") == {"k1": "Bob", "k2": "Ann"}
        result = actual.apply(rows("k3 d BOB", "k4 e Cid", columns=columns))
        assert result.problems == [(1, "customer_username", "username_in_use")]

    def test_mode_create_refuses_each_row_that_matches(self, actual: Actual) -> None:
        applied(actual, rows("k1 c1 ann -"))
        result = actual.apply(rows("k1 c9 eve -", "k9 c1 eve -", "k2 c2 bob -", mode="create"))
        assert result.problems == [(1, "code", "exists"), (2, "card_number", "exists")]
        assert (result.counts["new"], result.counts["failed"]) == (1, 2)
        assert names(actual, "first_name") == {"k1": "ann", "k2": "bob"}

    def test_a_user_name_that_is_not_given_goes_where_rows_replace(self, actual: Actual) -> None:
        columns = ("code", "first_name", "customer_username")
        applied(actual, rows("k1 a Ann", "k2 b Bob", columns=columns))
        applied(actual, rows("k1 a", "k2 b -", columns=columns, mode="yes"))
        assert names(actual, "customer_username") == {"k1": None, "k2": None}


class TestUndo:
    """Counts are customers restored, removed and kept."""

    def undo_and_redo(self, actual: Actual, batch: Import) -> tuple[int, int, int]:
        """Apply a batch, undo it and undo the undo; each restores the state exactly. Returns the counts of the undo."""
        before = actual.raw()
        batch_id = actual.apply(batch).id
        after = actual.raw()
        undone = actual.undo(batch_id)
        assert (undone.undoes, actual.raw()) == (batch_id, before)
        redone = actual.undo(undone.batch_id)
        assert (redone.undoes, actual.raw()) == (undone.batch_id, after)
        actual.check()
        return counts(undone)

    def test_points_alone_come_back(self, actual: Actual) -> None:
        applied(actual, rows("k1 c1 ann 5", "k2 c2 bob 5"))
        assert self.undo_and_redo(actual, rows("k1 7", "k2 -", columns=("code", "auto_add"))) == (1, 0, 0)

    def test_an_enrolment_alone_comes_back(self, actual: Actual) -> None:
        applied(actual, rows("k1 c1 ann -", "k2 c2 bob -", campaigns=("club", "visits")))
        applied(actual, rows("k3 c3 cid -"))
        again = rows("k1", "k3", columns=("code",), campaigns=("club", "visits"))
        assert self.undo_and_redo(actual, again) == (1, 0, 0)

    def test_a_customer_that_a_batch_does_not_change_is_not_counted(self, actual: Actual) -> None:
        applied(actual, rows("k1 c1 ann -"))
        assert self.undo_and_redo(actual, rows("k1 c1 ann -")) == (0, 0, 0)

    def test_new_and_changed_customers_of_one_batch(self, actual: Actual) -> None:
        applied(actual, rows("k1 c1 ann 5"))
        assert self.undo_and_redo(actual, rows("k1 c1 eve 7", "k2 c2 bob 7", "k3 c3 cid -")) == (1, 2, 0)

    def test_who_only_wants_a_card_back_that_somebody_else_has_is_kept(self, actual: Actual) -> None:
        applied(actual, rows("k1 c1 ann -"))
        batch_id = actual.apply(rows("k1 c9 ann -", campaigns=())).id
        applied(actual, rows("k2 c1 bob -"))
        assert counts(actual.preview_undo(batch_id)) == counts(actual.undo(batch_id)) == (0, 0, 1)
        assert names(actual, "card_number") == {"k1": "c9", "k2": "c1"}

    def test_who_was_away_before_a_change_and_after_it_stays_when_others_have_brought_it_back(
        self, actual: Actual
    ) -> None:
        made = actual.apply(rows("k1 c1 ann -")).id
        changed = actual.apply(rows("k1 c1 bob -")).id
        change_undone = actual.undo(changed).batch_id
        making_undone = actual.undo(made).batch_id
        # While the customer is away its change is brought back: nothing comes of it.
        change_redone = actual.undo(change_undone).batch_id
        actual.undo(making_undone)
        assert counts(actual.undo(change_redone)) == (0, 0, 0)
        assert names(actual, "first_name") == {"k1": "ann"}
        actual.check()
