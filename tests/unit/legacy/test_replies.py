"""Outcomes, undos and faults as reply trees, held against the schema. Source: docs/protocol.md, Replies and 7."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from importing.batch import AssignedKey, Conflict, Counts, Outcome, UndoOutcome
from importing.batch_status import BatchProgress, BatchStatus, FailureReason
from importing.errors import API_ERRORS, PROBLEMS, WARNINGS, ApiError, Problem
from importing.jobs.lifecycle import SubmittedBatch
from legacy_api import replies
from legacy_api.encoders import Encoder, MediaType
from legacy_api.replies import GroupList, GroupNode

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parents[3] / "fixtures" / "legacy" / "reply.xsd"))

MADE = [AssignedKey(1, "1234567890123456", "4711"), AssignedKey(3, "a&<b>\u2028", "")]
PROBLEMS_FOUND = [Problem(2, "custom_date", "bad_date", "1.2.99 & <so>"), Problem(5, "", "too_many_columns")]
ODD = [Problem(1, "email", "odd_email", "jane")]
CONFLICTS = [Conflict("c1", "city", "Ulm", "K\u00f6ln"), Conflict("c2", "customer_PIN", "", "")]


def outcome(counts: Counts, made: list[AssignedKey], *, problems: list[Problem], batch_id: str = "b1") -> Outcome:
    return Outcome(batch_id, counts, made, problems, ODD, "tillgate-1252", 0.25)


def bad_rows(problems: list[Problem]) -> ApiError:
    return ApiError("bad_rows", problems=problems, listed="Row 2: so.", count=len(problems), rows=9)


PLAIN = outcome(Counts(2, 1), [], problems=[])
FULL = outcome(Counts(2, 3, 1, 0, 2), MADE, problems=PROBLEMS_FOUND)
PREVIEW = outcome(Counts(2, 1), [], problems=[], batch_id="")
UNDONE = UndoOutcome("u1", "b1", 3, 2, 1, CONFLICTS)

FOLLOWED = BatchStatus(
    id="b1",
    kind="import",
    status="imported",
    protocol="legacy",
    user_id="john1970",
    progress=BatchProgress(9, 9, 5, 2),
    counts=Counts(2, 3, 1, 0, 2),
    reason=None,
    charset="UTF-8",
    duration_ms=250,
    created_at=1795251600000,
    started_at=0,
    updated_at=0,
    ended_at=0,
    request_ref="",
    undoes="",
    has_assigned_keys=True,
    row={},
)
WHY = FailureReason("bad_rows", bad_rows(PROBLEMS_FOUND).message)
WHOLE = replies.batch_tree(FOLLOWED, MADE, PROBLEMS_FOUND, "available")
WAITING = replies.batch_tree(
    FOLLOWED._replace(status="queued", progress=BatchProgress(), counts=Counts()), [], [], "none"
)
UNDO = replies.batch_tree(FOLLOWED._replace(kind="undo", counts=Counts(), undoes="b0"), [], [], "expired")
IN_VAIN = replies.batch_tree(FOLLOWED._replace(status="failed", reason=WHY), [], PROBLEMS_FOUND, "none")

EVERY_TREE: dict[str, GroupNode] = {
    "imported": replies.import_reply(PLAIN, details=False).root,
    "imported with details": replies.import_reply(PLAIN, details=True).root,
    "made ids and failed rows": replies.import_reply(FULL, details=False).root,
    "made ids and failed rows with details": replies.import_reply(FULL, details=True).root,
    "checked": replies.preview_reply(PREVIEW, details=False).root,
    "checked with details": replies.preview_reply(PREVIEW, details=True).root,
    "undone": replies.undo_reply(UNDONE).root,
    "undone without conflicts": replies.undo_reply(UndoOutcome("u1", "b1", 3, 2, 0, [])).root,
    "undo checked": replies.undo_reply(UndoOutcome("", "b1", 3, 2, 1, CONFLICTS)).root,
    "queued": replies.queued_reply(SubmittedBatch("b1")).root,
    "status": replies.success_tree(WHOLE),
    "batches": replies.success_tree(GroupList("batches", [WAITING, WHOLE, UNDO, IN_VAIN])),
    "no batches": replies.success_tree(GroupList("batches", [])),
    "cancelled": replies.change_reply(FOLLOWED._replace(status="cancelled")).root,
    "bad rows": replies.error_tree(bad_rows(PROBLEMS_FOUND)),
    "bad rows with details": replies.error_tree(bad_rows(PROBLEMS_FOUND), details=True),
    "error with details": replies.error_tree(ApiError("no_data"), details=True),
}


def as_xml(root: GroupNode) -> etree._Element:
    return etree.fromstring(b"".join(Encoder().encode(root)))


def as_json(root: GroupNode) -> Any:
    return json.loads(b"".join(Encoder(MediaType.JSON).encode(root)))


def names(root: GroupNode, path: str) -> list[str]:
    found = as_xml(root).find(path)
    assert found is not None
    return [child.tag for child in found]


@pytest.mark.parametrize("name", EVERY_TREE)
def test_every_reply_is_valid(name: str) -> None:
    SCHEMA.assertValid(as_xml(EVERY_TREE[name]))


@pytest.mark.parametrize("code", API_ERRORS)
def test_every_fault_is_a_valid_reply(code: str) -> None:
    names = re.findall(r"{(\w+)}", API_ERRORS[code].template)
    values: dict[str, Any] = dict.fromkeys(names, "<\u00e9&\x00>")
    fault = ApiError(code, listed="Row 1: so.", **values)
    SCHEMA.assertValid(as_xml(replies.error_tree(fault)))
    assert as_json(replies.error_tree(fault))["error"] == fault.message


@pytest.mark.parametrize("code", [*PROBLEMS, *WARNINGS])
def test_every_problem_is_a_valid_reply(code: str) -> None:
    problem = Problem(7, "city", code, "\\<\u00e9&\x00>", limit=255)
    SCHEMA.assertValid(as_xml(replies.error_tree(bad_rows([problem]), details=True)))


@pytest.mark.parametrize(
    "wrong",
    [
        "<response><error>x</error></response>",
        '<response status="error"><error>a &lt; b</error></response>',
        '<response status="error"><error>\u00e9</error></response>',
        '<response status="success"/>',
        '<response status="success"><batch status="imported"><customers><updated>1</updated><new>2</new></customers>'
        "</batch></response>",
        '<response status="success"><batch status="imported"><customers><new>1</new><updated>0</updated></customers>'
        "<warnings/></batch></response>",
        '<response status="success"><batch status="done"><customers><new>1</new><updated>0</updated></customers>'
        "</batch></response>",
    ],
)
def test_the_schema_is_strict(wrong: str) -> None:
    assert not SCHEMA.validate(etree.fromstring(wrong))


def test_a_plain_import_has_the_documented_members_only() -> None:
    assert as_json(EVERY_TREE["imported"]) == {
        "status": "success",
        "batch": {"status": "imported", "customers": {"new": "2", "updated": "1"}},
    }


def test_the_order_in_customers() -> None:
    assert names(EVERY_TREE["made ids and failed rows with details"], "batch/customers") == (
        ["new", "updated", "unchanged", "ignored", "failed", "customer", "customer"]
    )


def test_details_in_their_order_also_when_empty() -> None:
    root = EVERY_TREE["imported with details"]
    assert names(root, "batch") == ["id", "customers", "charset", "seconds", "warnings", "problems"]
    batch = as_json(root)["batch"]
    assert batch["customers"] == {"new": "2", "updated": "1", "unchanged": "0", "ignored": "0", "failed": "0"}
    assert (batch["id"], batch["charset"], batch["seconds"]) == ("b1", "Windows-1252", "0.250")
    assert batch["problems"] == []
    assert batch["warnings"] == [
        {
            "row": "1",
            "field": "email",
            "code": "odd_email",
            "message": 'Row 1, email: "jane" does not look like an e-mail address.',
        }
    ]


@pytest.mark.parametrize(
    ("codec", "name"),
    [("utf-8", "UTF-8"), ("tillgate-1252", "Windows-1252"), ("cp1250", "Windows-1250"), ("iso8859-2", "ISO-8859-2")],
)
def test_the_charset_as_people_call_it(codec: str, name: str) -> None:
    told = as_json(replies.import_reply(PLAIN._replace(charset=codec), details=True).root)
    assert told["batch"]["charset"] == name


def test_failed_rows_are_reported_without_details_too() -> None:
    root = EVERY_TREE["made ids and failed rows"]
    assert names(root, "batch") == ["customers", "problems"]
    assert names(root, "batch/customers") == ["new", "updated", "failed", "customer", "customer"]
    assert [problem["row"] for problem in as_json(root)["batch"]["problems"]] == ["2", "5"]


def test_a_card_number_only_where_there_is_one() -> None:
    assert as_json(EVERY_TREE["made ids and failed rows"])["batch"]["customers"]["customer"] == [
        {"row": "1", "code": "1234567890123456", "card_number": "4711"},
        {"row": "3", "code": "a&<b>\u2028"},
    ]


def test_a_preview_is_checked_and_has_no_id() -> None:
    answer = replies.preview_reply(PREVIEW, details=True)
    assert answer.batch_id == ""
    assert as_json(answer.root)["batch"]["status"] == "checked"
    assert "id" not in names(answer.root, "batch")


def test_the_batch_id_reaches_the_endpoint_without_details_too() -> None:
    answer = replies.import_reply(PLAIN, details=False)
    assert (answer.batch_id, answer.replayed) == ("b1", False)
    assert "id" not in names(answer.root, "batch")


def test_an_undo() -> None:
    answer = replies.undo_reply(UNDONE)
    assert answer.batch_id == "u1"
    assert as_json(answer.root)["batch"] == {
        "status": "undone",
        "id": "u1",
        "undoes": "b1",
        "customers": {"restored": "3", "removed": "2", "kept": "1"},
        "conflicts": [
            {"code": "c1", "field": "city", "written": "Ulm", "current": "K\u00f6ln"},
            {"code": "c2", "field": "customer_PIN", "written": "", "current": ""},
        ],
    }


def test_a_preview_of_an_undo_is_checked_and_has_no_id() -> None:
    assert names(EVERY_TREE["undo checked"], "batch") == ["undoes", "customers", "conflicts"]
    assert as_json(EVERY_TREE["undo checked"])["batch"]["status"] == "checked"


def test_a_queued_batch_has_its_id_and_nothing_else() -> None:
    answer = replies.queued_reply(SubmittedBatch("b1", replayed=True))
    assert as_json(answer.root) == {"status": "success", "batch": {"status": "queued", "id": "b1"}}
    assert (answer.batch_id, answer.replayed) == ("b1", True)


def test_a_status_has_its_elements_in_order() -> None:
    root = replies.success_tree(WHOLE)
    expected = ["id", "status", "created_stamp", "user_id", "progress", "customers", "problems", "undo"]
    assert names(root, "batch") == expected
    assert as_xml(root).xpath("batch/@*") == []
    assert names(root, "batch/progress") == ["total", "processed", "successful", "failed"]
    counts = ["new", "updated", "unchanged", "ignored", "failed"]
    assert names(root, "batch/customers") == [*counts, "customer", "customer"]
    assert as_xml(root).findtext("batch/created_stamp") == "2026-11-21 09:00:00"


def test_what_an_undo_undoes_and_why_a_job_failed_stand_at_the_end() -> None:
    assert names(replies.success_tree(UNDO), "batch")[-2:] == ["undo", "undoes"]
    assert names(replies.success_tree(IN_VAIN), "batch")[-2:] == ["undo", "reason"]
    assert as_json(replies.success_tree(IN_VAIN))["batch"]["reason"] == {"code": "bad_rows", "message": WHY.message}


def test_the_list_wrapper_of_batches_is_a_bare_array() -> None:
    found = as_json(EVERY_TREE["batches"])["batches"]
    assert [batch["status"] for batch in found] == ["queued", "imported", "imported", "failed"]
    assert as_json(EVERY_TREE["no batches"]) == {"status": "success", "batches": []}


def test_conflicts_only_where_there_are_some() -> None:
    assert names(EVERY_TREE["undone without conflicts"], "batch") == ["id", "undoes", "customers"]


def test_errors_in_json_are_the_first_ten_problems() -> None:
    found = [Problem(row, "", "too_many_columns") for row in range(1, 13)]
    told = as_json(replies.error_tree(bad_rows(found)))
    assert told["error"] == bad_rows(found).message
    assert told["errors"] == [problem.message for problem in found[:10]]
    assert "problems" not in told


def test_with_details_all_problems_follow_the_error() -> None:
    found = [Problem(row, "", "too_many_columns") for row in range(1, 13)]
    root = replies.error_tree(bad_rows(found), details=True)
    assert names(root, ".") == ["error", "problems"]
    assert len(as_json(root)["problems"]) == 12


def test_an_error_without_rows_has_no_problems_even_with_details() -> None:
    assert as_json(EVERY_TREE["error with details"]) == {
        "status": "error",
        "error": "No data was given",
        "errors": ["No data was given"],
    }
