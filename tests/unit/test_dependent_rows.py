"""Rows of a batch that meet each other, taken in row order. Keys only: who is matched, made, renamed or refused."""

from __future__ import annotations

from dataclasses import dataclass

from importing.batch import Mode
from importing.errors import Problem
from importing.planning.dependent_rows import resolve
from storage import unique_values
from storage.match import DependentRow, KeyOwner

ANN = KeyOwner(7, "k1", "c1")
BOB = KeyOwner(8, "k2", "c2")
# The number of a unique custom field.
SHOE = 3


@dataclass
class Result:
    """What became of the rows, in plain lists."""

    matched: list[tuple[int, int]]
    later_rows: list[tuple[int, int, int | None, int]]
    renaming_rows: set[int]
    made: list[tuple[int, str | None, str | None]]
    stored: list[tuple[int, str | None, str | None]]
    problems: list[Problem]
    rejected: list[int]
    cards: list[int]


def taken(
    *claims: DependentRow, owners: tuple[KeyOwner, ...] = (), mode: Mode = Mode.UPDATE, makes_cards: bool = False
) -> Result:
    done = resolve(claims, owners, mode, makes_cards)
    return Result(
        list(done.matches),
        list(done.later_rows),
        done.renaming_rows,
        done.created,
        done.stored,
        list(done.problems),
        done.bad_rows,
        done.card_rows,
    )


def row(
    number: int, code: str | None, card: str | None = None, *, username: str | None = None, shoe: str | None = None
) -> DependentRow:
    unique: dict[str | int, str] = {}
    if username is not None:
        unique["username"] = username.casefold()
    if shoe is not None:
        unique[SHOE] = shoe
    return DependentRow(number, code, card, unique, username or "")


class TestNewCustomers:
    def test_a_later_row_follows_the_one_that_made_the_customer(self) -> None:
        result = taken(row(1, "k5", "c5"), row(2, "k5"), row(3, None, "c5"))
        assert result.made == [(1, "k5", "c5")]
        assert result.later_rows == [(2, 1, None, 0), (3, 1, None, 0)]
        assert (result.matched, result.stored, result.rejected) == ([], [], [])

    def test_a_code_given_by_a_later_row_is_the_customers(self) -> None:
        result = taken(row(1, None, "c5"), row(2, "k5", "c5"))
        assert result.made == [(1, "k5", "c5")]
        assert result.renaming_rows == {1, 2}

    def test_rows_without_keys_in_common_make_one_each(self) -> None:
        assert taken(row(1, "k5"), row(2, "k6")).made == [(1, "k5", None), (2, "k6", None)]

    def test_in_ignore_they_get_their_keys_and_later_rows_change_nothing(self) -> None:
        result = taken(row(1, "k5", "c5"), row(2, "k5", "c6"), row(3, "k6", "c6"), mode=Mode.IGNORE)
        assert result.made == [(1, "k5", "c5"), (3, "k6", "c6")]
        assert result.later_rows == [(2, 1, None, 1)]
        assert result.renaming_rows == {1, 3}


class TestStoredCustomers:
    def test_the_first_row_matches_and_the_second_follows_it(self) -> None:
        result = taken(row(1, "k1"), row(2, None, "c1"), owners=(ANN, BOB))
        assert result.matched == [(1, 7), (2, 7)]
        assert result.later_rows == [(2, 1, 7, 0)]
        assert (result.made, result.renaming_rows) == ([], set())
        assert result.stored == [(7, None, None)], "who was not acted on is not there"

    def test_code_and_card_of_the_same_customer(self) -> None:
        assert taken(row(1, "k1", "c1"), owners=(ANN,)).matched == [(1, 7)]

    def test_by_code_a_new_card_is_given(self) -> None:
        result = taken(row(1, "k1", "c9"), owners=(ANN,))
        assert (result.stored, result.renaming_rows) == ([(7, None, "c9")], {1})

    def test_by_card_a_new_code_is_given(self) -> None:
        result = taken(row(1, "k9", "c1"), owners=(ANN,))
        assert (result.matched, result.stored, result.renaming_rows) == ([(1, 7)], [(7, "k9", None)], {1})

    def test_a_key_that_was_changed_and_changed_back_is_no_new_one(self) -> None:
        result = taken(row(1, "k1", "c9"), row(2, "k1", "c1"), owners=(ANN,))
        assert (result.stored, result.renaming_rows) == ([(7, None, None)], {1, 2})

    def test_a_card_that_was_given_away_makes_a_new_customer(self) -> None:
        result = taken(row(1, "k1", "c9"), row(2, "k5", "c1"), owners=(ANN,))
        assert result.matched == [(1, 7)]
        assert result.made == [(2, "k5", "c1")]

    def test_a_customer_without_keys_of_one_kind(self) -> None:
        result = taken(
            row(1, "k1", "c1"), row(2, None, "c3"), owners=(KeyOwner(7, "k1", None), KeyOwner(9, None, "c3"))
        )
        assert result.matched == [(1, 7), (2, 9)]
        assert result.stored == [(7, None, "c1"), (9, None, None)]

    def test_in_ignore_all_keys_stay_theirs(self) -> None:
        result = taken(row(1, "k1", "c9"), row(2, "k1", "c8"), row(3, "k5", "c1"), owners=(ANN,), mode=Mode.IGNORE)
        assert result.matched == [(1, 7), (2, 7), (3, 7)]
        assert result.later_rows == [(2, 1, 7, 1), (3, 1, 7, 1)]
        assert (result.stored, result.renaming_rows, result.made) == ([(7, None, None)], set(), [])


class TestProblems:
    def test_code_and_card_of_two_customers(self) -> None:
        result = taken(row(1, "k1", "c2"), row(2, "k1"), owners=(ANN, BOB))
        assert result.problems == [Problem(1, "card_number", "key_conflict", "c2", ref="k1")]
        assert result.rejected == [1]
        assert (result.matched, result.later_rows) == ([(2, 7)], []), "a refused row is nobody's first"

    def test_a_username_in_use_is_named_as_it_was_given(self) -> None:
        owner = KeyOwner(7, "k1", None, {"username": "ann"})
        result = taken(row(1, "k2", username="Ann"), row(2, None, "c5", username="ANN"), owners=(owner,))
        assert result.problems == [
            Problem(1, "customer_username", "username_in_use", "Ann", ref="k2"),
            Problem(2, "customer_username", "username_in_use", "ANN", ref=""),
        ]
        assert (result.rejected, result.made) == ([1, 2], [])

    def test_a_username_of_the_same_customer_is_not_in_use(self) -> None:
        owner = KeyOwner(7, "k1", None, {"username": "ann"})
        assert taken(row(1, "k1", username="Ann"), owners=(owner,)).problems == []

    def test_all_values_in_use_are_problems_of_the_row(self) -> None:
        owner = KeyOwner(7, "k1", None, {"username": "ann", SHOE: "42"})
        result = taken(row(1, "k2", username="ann", shoe="42"), row(2, None, "c5", shoe="42"), owners=(owner,))
        assert result.problems == [
            Problem(1, "customer_username", "username_in_use", "ann", ref="k2"),
            Problem(1, unique_values.field_name(SHOE), "value_in_use", "42", ref="k2"),
            Problem(2, unique_values.field_name(SHOE), "value_in_use", "42", ref=""),
        ]
        assert result.rejected == [1, 2]

    def test_a_value_of_a_customer_that_an_earlier_row_made(self) -> None:
        result = taken(row(1, "k5", shoe="42"), row(2, "k6", shoe="42"))
        assert [problem.row for problem in result.problems] == [2]

    def test_who_only_creates_refuses_matches_first(self) -> None:
        owners = (KeyOwner(7, "k1", "c1", {"username": "ann"}), BOB)
        result = taken(
            row(1, "k2", username="ann"), row(2, None, "c2"), row(3, "k9", "c2"), owners=owners, mode=Mode.CREATE
        )
        assert result.problems == [
            Problem(1, "code", "exists", "k2", ref="k2"),
            Problem(1, "customer_username", "username_in_use", "ann", ref="k2"),
            Problem(2, "card_number", "exists", "c2", ref=""),
            Problem(3, "card_number", "exists", "c2", ref="k9"),
        ]
        assert (result.matched, result.stored) == ([], [])


class TestUniqueValues:
    OWNER = KeyOwner(7, "k1", None, {"username": "ann", SHOE: "42"})

    def test_a_value_given_up_is_free_for_a_later_row(self) -> None:
        result = taken(
            row(1, "k1", username="", shoe=""), row(2, "k2", username="ann", shoe="42"), owners=(self.OWNER,)
        )
        assert result.problems == []

    def test_a_value_replaced_is_free_and_the_new_one_is_not(self) -> None:
        result = taken(row(1, "k1", shoe="43"), row(2, "k2", shoe="42"), row(3, "k3", shoe="43"), owners=(self.OWNER,))
        assert [problem.row for problem in result.problems] == [3]

    def test_a_value_not_given_is_given_up_where_rows_replace(self) -> None:
        rows = row(1, "k1"), row(2, "k2", username="ann", shoe="42")
        assert taken(*rows, owners=(self.OWNER,), mode=Mode.REPLACE).problems == []
        assert len(taken(*rows, owners=(self.OWNER,), mode=Mode.UPDATE).problems) == 2

    def test_a_given_one_is_kept_where_rows_replace(self) -> None:
        rows = row(1, "k1", username="ann"), row(2, "k2", username="ann")
        assert [problem.row for problem in taken(*rows, owners=(self.OWNER,), mode=Mode.REPLACE).problems] == [2]

    def test_an_attribute_is_never_given_up_by_silence(self) -> None:
        owner = KeyOwner(7, "k1", None, {unique_values.UMA_ADDRESS: "x@y"})
        later = DependentRow(2, "k2", None, {unique_values.UMA_ADDRESS: "x@y"})
        result = taken(row(1, "k1"), later, owners=(owner,), mode=Mode.REPLACE)
        assert [problem.row for problem in result.problems] == [2]

    def test_keys_are_never_given_up_by_silence(self) -> None:
        result = taken(row(1, "k1"), row(2, None, "c1"), owners=(ANN,), mode=Mode.REPLACE)
        assert result.matched == [(1, 7), (2, 7)]


class TestCards:
    def test_one_is_made_by_the_first_row_of_a_customer_without(self) -> None:
        owner = KeyOwner(7, "k1", None)
        result = taken(row(1, "k1"), row(2, "k1"), row(3, "k5"), row(4, "k5"), owners=(owner,), makes_cards=True)
        assert result.cards == [1, 3]

    def test_none_for_who_has_one_or_is_given_one(self) -> None:
        result = taken(row(1, "k1"), row(2, "k5", "c5"), row(3, "k5"), owners=(ANN,), makes_cards=True)
        assert result.cards == []

    def test_none_for_ignored_rows(self) -> None:
        owner = KeyOwner(7, "k1", None)
        result = taken(row(1, "k1"), row(2, "k5"), owners=(owner,), mode=Mode.IGNORE, makes_cards=True)
        assert result.cards == [2]

    def test_none_unless_the_batch_makes_cards(self) -> None:
        assert taken(row(1, "k5")).cards == []
