"""The model held against examples worked out by hand from docs/protocol.md, Rows, Matching and 7."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.model import BAD_DATE, Import, Model, Row
from tests.support.model_undo import Undone, undo


def batch(*rows: Row, mode: str = "update", on_error: str = "skip", digits: int | None = None) -> Import:
    columns = tuple({name: None for row in rows for name in row})
    return Import(columns, rows, mode, on_error, ("club",), "points", digits)


def customers(model: Model) -> dict[str, dict[str, object]]:
    """Live customers by code, without the code; the secrets without their version."""
    return {
        str(c.fields["code"]): {n: v if isinstance(v, str) else v[0] for n, v in c.fields.items() if n != "code"}
        for c in model.customers.values()
        if not c.removed
    }


def balance(model: Model, number: int = 1) -> int:
    return sum(amount for (customer, _, _), amount in model.points.items() if customer == number)


@pytest.fixture
def jane() -> Model:
    """An account with one customer: code 1, card 11, a name, a user name and a PIN, 25 points in the club."""
    model = Model()
    row = {"code": "1", "card_number": "11", "first_name": "jane", "customer_username": "Jane", "customer_PIN": "1"}
    model.apply(batch({**row, "auto_add": "25"}))
    return model


def test_a_row_matches_by_code_else_by_card(jane: Model) -> None:
    done = jane.apply(batch({"code": "1", "first_name": "a"}, {"card_number": "11", "last_name": "b"}))
    assert done.counts == {"updated": 2}
    assert customers(jane)["1"]["first_name"] == "a"
    assert customers(jane)["1"]["last_name"] == "b"


@pytest.mark.parametrize(
    ("row", "code", "card"),
    [({"code": "1", "card_number": "22"}, "1", "22"), ({"code": "2", "card_number": "11"}, "2", "11")],
)
def test_the_other_key_is_replaced_but_not_by_ignore(jane: Model, row: Row, code: str, card: str) -> None:
    assert jane.apply(batch(row, mode="ignore")).counts == {"ignored": 1}
    assert customers(jane)["1"]["card_number"] == "11"
    jane.apply(batch(row))
    assert customers(jane)[code]["card_number"] == card


@pytest.mark.parametrize("mode", ["yes", "update", "ignore"])
def test_code_and_card_of_two_customers_are_a_problem(jane: Model, mode: str) -> None:
    jane.apply(batch({"code": "2", "card_number": "22"}))
    done = jane.apply(batch({"code": "1", "card_number": "22"}, mode=mode, on_error="reject"))
    assert (done.fault, done.problems) == ("bad_rows", [(1, "", "key_conflict")])


def test_yes_blanks_all_but_the_identity(jane: Model) -> None:
    jane.apply(batch({"code": "1", "card_number": "", "last_name": "doe"}, mode="yes"))
    assert customers(jane)["1"] == {"card_number": "11", "last_name": "doe"}
    assert balance(jane) == 2500


def test_update_writes_the_given_columns_and_a_blank_clears(jane: Model) -> None:
    jane.apply(batch({"code": "1", "first_name": "", "last_name": "doe"}))
    others = {"card_number": "11", "customer_username": "Jane", "customer_PIN": "1"}
    assert customers(jane)["1"] == {"last_name": "doe", **others}


def test_ignore_leaves_the_customer_wholly_untouched(jane: Model) -> None:
    before = customers(jane)
    done = jane.apply(replace(batch({"card_number": "11", "first_name": "x", "auto_add": "5"}, mode="ignore")))
    assert customers(jane) == before
    assert balance(jane) == 2500
    assert done.made == [(1, "1", "11")]


def test_a_later_row_matches_whom_an_earlier_one_made() -> None:
    model = Model()
    done = model.apply(batch({"code": "1", "first_name": "a"}, {"code": "1", "last_name": "b"}))
    assert done.counts == {"new": 1, "updated": 1}
    assert customers(model)["1"] == {"first_name": "a", "last_name": "b"}


def test_a_later_row_takes_what_an_earlier_one_gave_away(jane: Model) -> None:
    first = {"code": "1", "card_number": "99", "customer_username": ""}
    done = jane.apply(batch(first, {"code": "2", "card_number": "11", "customer_username": "JANE"}))
    assert done.counts == {"updated": 1, "new": 1}
    assert customers(jane)["2"] == {"card_number": "11", "customer_username": "JANE"}


def test_a_user_name_is_unique_in_any_case_in_every_mode(jane: Model) -> None:
    jane.apply(batch({"code": "2"}))
    row = {"code": "2", "customer_username": "jANE"}
    for mode in ("yes", "update", "ignore"):
        assert jane.apply(batch(row, mode=mode)).problems == [(1, "customer_username", "username_in_use")]
    assert jane.apply(batch({"code": "1", "customer_username": "JANE"})).counts == {"updated": 1}


def test_two_customers_of_a_batch_cannot_have_the_same_unique_value() -> None:
    model = Model()
    done = model.apply(batch({"code": "1", "custom_field_1": "v"}, {"code": "2", "custom_field_1": "v"}))
    assert done.problems == [(2, "custom_field_1", "value_in_use")]
    assert list(customers(model)) == ["1"]


def test_a_code_and_a_card_are_made_where_none_is_given(jane: Model) -> None:
    jane.apply(batch({"code": "2"}))
    done = jane.apply(batch({"last_name": "x"}, {"code": "2"}, {"code": "1"}, digits=8))
    assert done.made == [(1, "?code 3.1", "?card 3.1"), (2, "2", "?card 3.2")]
    jane.settle({"?code 3.1": "7", "?card 3.1": "77", "?card 3.2": "78"})
    assert customers(jane)["7"]["card_number"] == "77"


def test_the_senders_code_replaces_a_made_one_and_is_what_is_reported() -> None:
    model = Model()
    done = model.apply(batch({"card_number": "11"}, {"card_number": "11", "code": "5"}))
    assert done.made == [(1, "5", "11")]


def test_reject_lists_all_problems_and_changes_nothing(jane: Model) -> None:
    before = customers(jane)
    rows = ({"code": "2", "customer_username": "jane"}, {"code": "3"}, {"code": "1", "custom_date": BAD_DATE})
    done = jane.apply(batch(*rows, on_error="reject"))
    assert [(row, code) for row, _, code in done.problems] == [(1, "username_in_use"), (3, "bad_date")]
    assert customers(jane) == before


def test_unchanged_is_whatever_changes_nothing_at_all(jane: Model) -> None:
    assert jane.apply(batch({"code": "1", "first_name": "jane"})).counts == {"updated": 1, "unchanged": 1}
    assert jane.apply(batch({"code": "1", "customer_PIN": "1"})).counts == {"updated": 1}
    assert jane.apply(batch({"code": "1", "auto_add": "0,5"})).counts == {"updated": 1}
    assert jane.apply(replace(batch({"code": "1"}), campaigns=("other",))).counts == {"updated": 1}


def test_undo_brings_back_what_still_is_as_the_batch_wrote_it(jane: Model) -> None:
    jane.apply(batch({"code": "1", "first_name": "a", "last_name": "a", "auto_add": "5"}))
    jane.apply(batch({"code": "1", "last_name": "b"}))
    undone = undo(jane, 2)
    assert customers(jane)["1"]["first_name"] == "jane"
    assert undone.conflicts == [("1", "last_name", "a", "b")]
    assert undone.counts == {"restored": 1}
    assert balance(jane) == 2500


def test_a_created_customer_is_removed_unless_somebody_else_touched_it(jane: Model) -> None:
    jane.apply(batch({"code": "1", "first_name": "a"}))
    undone = undo(jane, 1)
    assert undone == Undone(log=3, counts=undone.counts, conflicts=[("1", "customer", "", "")])
    assert undone.counts == {"kept": 1}
    assert balance(jane) == 0
    assert undo(jane, 3).counts == {"restored": 1}
    undo(jane, 2)
    assert undo(jane, 1).counts == {"removed": 1}
    assert customers(jane) == {}


def test_a_value_that_somebody_else_has_by_now_is_a_conflict(jane: Model) -> None:
    jane.apply(batch({"code": "1", "card_number": "22"}))
    jane.apply(batch({"code": "2", "card_number": "11"}))
    assert undo(jane, 2).conflicts == [("1", "card_number", "22", "22")]
    assert customers(jane)["1"]["card_number"] == "22"


def test_cards_that_were_exchanged_are_exchanged_back(jane: Model) -> None:
    jane.apply(batch({"code": "2", "card_number": "22"}))
    rows = ({"code": "1", "card_number": "x"}, {"code": "2", "card_number": "11"}, {"code": "1", "card_number": "22"})
    assert jane.apply(batch(*rows)).counts == {"updated": 3}
    assert undo(jane, 3).counts == {"restored": 2}
    assert (customers(jane)["1"]["card_number"], customers(jane)["2"]["card_number"]) == ("11", "22")


def test_a_removed_customer_whose_code_is_taken_stays_removed(jane: Model) -> None:
    undo(jane, 1)
    jane.apply(batch({"code": "1", "first_name": "other"}))
    undone = undo(jane, 2)
    assert (undone.counts, undone.conflicts) == ({"kept": 1}, [("1", "code", "", "")])
    assert customers(jane) == {"1": {"first_name": "other"}}


def test_an_enrolment_lasts_while_any_batch_in_force_uses_it(jane: Model) -> None:
    jane.apply(batch({"code": "1", "first_name": "other"}))
    undo(jane, 1)
    assert jane.customers[1].uses == {"club": 1}
    undo(jane, 2)
    assert jane.customers[1].uses == {"club": 0}


def test_a_batch_is_undone_once_and_its_undo_can_be_undone(jane: Model) -> None:
    assert undo(jane, 1).counts == {"removed": 1}
    assert undo(jane, 1).fault == "already_undone"
    assert undo(jane, 2).counts == {"restored": 1}
    assert customers(jane)["1"]["customer_username"] == "Jane"
    assert balance(jane) == 2500
    assert undo(jane, 1).counts == {"removed": 1}
