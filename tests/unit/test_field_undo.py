"""Undo of one customer that something has written to since: a field is given back where the batch's value still stands."""

from __future__ import annotations

from typing import Any

import pytest

from importing.batch import Conflict
from importing.undo.undo_batch import plan_field_undo
from storage.tables import IMAGE_COLUMNS
from storage.undo.plan_sql import CustomerImages

BLANK: dict[str, Any] = {
    **dict.fromkeys(IMAGE_COLUMNS, ""),
    "code": "k1",
    "card_number": None,
    "customer_username": None,
    "username_key": None,
    "password_version": 0,
    "pin_version": 0,
    "custom_fields": {},
    "attributes": {},
}


def undone(
    before: dict[str, Any], written: dict[str, Any], current: dict[str, Any]
) -> tuple[dict[str, Any], list[Any]]:
    """What differs in the end from `current`, and the conflicts as (field, written, current)."""
    image, conflicts = plan_field_undo(CustomerImages(7, BLANK | before, BLANK | written, BLANK | current))
    assert all(conflict.code == "k1" for conflict in conflicts)
    changed = {name: value for name, value in image.items() if value != (BLANK | current)[name]}
    return changed, [(conflict.field, conflict.written, conflict.current) for conflict in conflicts]


@pytest.mark.parametrize("field", ["card_number", "first_name", "email", "phone", "custom_date", "customer_username"])
class TestOneField:
    def test_a_value_that_still_stands_is_given_back(self, field: str) -> None:
        assert undone({field: "old"}, {field: "new"}, {field: "new"})[1] == []
        assert undone({field: "old"}, {field: "new"}, {field: "new"})[0][field] == "old"

    def test_a_value_that_was_written_over_is_a_conflict(self, field: str) -> None:
        assert undone({field: "old"}, {field: "new"}, {field: "newer"}) == ({}, [(field, "new", "newer")])

    def test_a_value_that_the_batch_did_not_change_is_left_alone(self, field: str) -> None:
        assert undone({field: "old"}, {field: "old"}, {field: "newer"}) == ({}, [])


def test_each_field_by_itself() -> None:
    before, written = {"email": "a@x", "phone": "1"}, {"email": "b@x", "phone": "2"}
    assert undone(before, written, {"email": "b@x", "phone": "3"}) == ({"email": "a@x"}, [("phone", "2", "3")])


def test_a_code_that_was_given_another_name() -> None:
    images = CustomerImages(7, BLANK | {"code": "k1"}, BLANK | {"code": "k2"}, BLANK | {"code": "k2"})
    assert plan_field_undo(images)[0]["code"] == "k1"
    nobody = CustomerImages(7, BLANK | {"code": "k1"}, BLANK | {"code": "k2"}, BLANK | {"code": None})
    assert plan_field_undo(nobody)[1] == [Conflict("", "code", "k2", "")]


def test_a_user_name_comes_back_with_its_key() -> None:
    before, written = ({"customer_username": name, "username_key": name.casefold()} for name in ("Ann", "Bob"))
    assert undone(before, written, written) == (before, [])


@pytest.mark.parametrize(
    ("field", "digest", "version"),
    [("customer_password", "password_digest", "password_version"), ("customer_PIN", "pin_digest", "pin_version")],
)
class TestSecrets:
    def test_they_come_back_with_their_version(self, field: str, digest: str, version: str) -> None:
        before, written = {digest: "a", version: 1}, {digest: "b", version: 2}
        assert undone(before, written, written) == (before, []), field

    def test_a_conflict_names_the_field_only(self, field: str, digest: str, version: str) -> None:
        before, written, current = ({digest: text, version: number} for number, text in enumerate("abc"))
        assert undone(before, written, current) == ({}, [(field, "", "")])

    def test_the_version_decides_not_the_digest(self, field: str, digest: str, version: str) -> None:
        before, written = {digest: "a", version: 1}, {digest: "b", version: 2}
        raised = {digest: "b by a newer way", version: 2}
        assert undone(before, written, raised) == (before, []), field


@pytest.mark.parametrize("document", ["custom_fields", "attributes"])
class TestDocuments:
    def test_keys_come_back_one_by_one(self, document: str) -> None:
        before, written = {"a": "1", "b": "1"}, {"a": "2", "b": "2"}
        changed, conflicts = undone({document: before}, {document: written}, {document: {"a": "2", "b": "3", "z": "9"}})
        assert changed == {document: {"a": "1", "b": "3", "z": "9"}}
        assert conflicts == [("b", "2", "3")]

    def test_one_that_the_batch_added_goes(self, document: str) -> None:
        assert undone({}, {document: {"a": "1"}}, {document: {"a": "1", "z": "9"}}) == ({document: {"z": "9"}}, [])

    def test_one_that_the_batch_took_comes_back(self, document: str) -> None:
        assert undone({document: {"a": "1"}}, {}, {}) == ({document: {"a": "1"}}, [])

    def test_one_that_is_gone_by_now_is_a_conflict(self, document: str) -> None:
        assert undone({document: {"a": "1"}}, {document: {"a": "2"}}, {}) == ({}, [("a", "2", "")])

    def test_conflicts_come_in_the_order_of_the_keys(self, document: str) -> None:
        before, written, current = (dict.fromkeys("cab", value) for value in "123")
        assert [field for field, *_ in undone({document: before}, {document: written}, {document: current})[1]] == [
            *"abc"
        ]

    def test_the_stored_document_is_not_written_to(self, document: str) -> None:
        current = {"a": "1"}
        undone({}, {document: {"a": "1"}}, {document: current})
        assert current == {"a": "1"}


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, 1.0), ([1], [True])])
def test_values_of_other_types_are_other_values(one: object, other: object) -> None:
    before, written = {"attributes": {"a": one}}, {"attributes": {"a": other}}
    assert str(undone(before, written, written)[0]) in (str({"attributes": {"a": one}}), "{}")
    _, conflicts = undone({"attributes": {"a": "was"}}, written, before)
    assert [field for field, *_ in conflicts] == ["a"]


def test_values_that_are_no_text_are_told_as_json() -> None:
    before, written, current = ({"attributes": {"a": value}} for value in ("x", [1, "é"], True))
    assert undone(before, written, current)[1] == [("a", '[1, "é"]', "true")]
