"""The HTTP of the modern protocols: credentials, uploads, limits, repetition, paths; refusals in a protocol's own words."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client

from app import create_app
from importing import batch_status
from importing.context import Context
from importing.errors import API_ERRORS, ApiError
from importing.jobs import lifecycle
from importing.jobs.queue_huey import HueyQueue
from importing.undo import undo_batch
from modern_api import csv_upload, dispatch
from modern_api.grid import batch_id, job_id
from storage.engine import Busy, Database
from storage.queries import batches
from tests.cases.modern.conftest import Callers
from tests.conftest import settings_for
from tests.support.demo_accounts import Demo
from tests.support.job_batches import HeldQueue, holds
from tests.support.job_queries import origin_of
from tests.support.modern_client import BOUNDARY, READER, Caller, form

MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
FILES = {
    "voucherify": b"Source_id,Name\nc1,Ann Lee\n",
    "grid": b"umaAddress,platformCustomerId,customerType,fullName,birthDate,addressLine1,city,state,postalCode,country\n"
    b"$a@example.com,c1,INDIVIDUAL,Ann Lee,1990-01-15,1 Main St,Austin,TX,78701,US\n",
}
KEYS = {
    "voucherify": {
        400: "invalid_payload",
        401: "unauthorized",
        403: "forbidden",
        404: "not_found",
        405: "method_not_allowed",
        413: "payload_too_large",
        422: "idempotency_key_reused",
        429: "too_many_requests",
        500: "internal_error",
        503: "service_unavailable",
    },
    "grid": {
        400: "INVALID_INPUT",
        401: "UNAUTHORIZED",
        403: "FORBIDDEN",
        404: "NOT_FOUND",
        405: "METHOD_NOT_ALLOWED",
        413: "PAYLOAD_TOO_LARGE",
        422: "IDEMPOTENCY_KEY_REUSED",
        429: "RATE_LIMITED",
        500: "INTERNAL_ERROR",
        503: "SERVICE_UNAVAILABLE",
    },
}


def refused(caller: Caller, response: Any, status: int) -> Any:
    return caller.refused(response, status, KEYS[caller.name][status])


def no_file(caller: Caller, response: Any) -> Any:
    return caller.refused(response, 400, "missing_file" if caller.name == "voucherify" else "INVALID_INPUT")


def unknown_job(caller: Caller, job: str) -> Any:
    key = "not_found" if caller.name == "voucherify" else "BULK_UPLOAD_JOB_NOT_FOUND"
    return caller.refused(caller.call("GET", caller.api.of(job)), 404, key)


def post(caller: Caller, body: bytes, kind: str = MULTIPART, **headers: str) -> Any:
    return caller.call("POST", caller.api.upload, body, {"Content-Type": kind, **headers})


class TestCredentials:
    @pytest.mark.parametrize(
        ("user", "key"),
        [("john1970", "wrong"), ("nobody", "1959caadac9b13dcb3"), ("", ""), ("nul\\0", "x"), ("é", "ü")],
    )
    def test_wrong_ones_are_refused_before_the_body_is_read(
        self, caller: Caller, user: str, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(csv_upload, "received_file", lambda *_: pytest.fail("the body was read"))
        response = caller.being(user, key).send(FILES[caller.name])
        refused(caller, response, 401)
        assert ("WWW-Authenticate" in response.headers) == (caller.name == "grid")

    def test_a_user_who_may_not_import_may_only_read(self, caller: Caller) -> None:
        job = caller.queued(FILES[caller.name])
        reader = caller.being(*READER)
        refused(caller, reader.send(FILES[caller.name]), 403)
        assert reader.job(job) == caller.job(job)

    def test_who_fails_too_often_is_locked_out_with_the_right_key_too(self, caller: Caller, account: Demo) -> None:
        for _ in range(20):
            refused(caller, caller.being(account.user_id, "wrong").send(b""), 401)
        refused(caller, caller.send(FILES[caller.name]), 401)

    def test_no_credentials_at_all_are_no_attempt(self, caller: Caller) -> None:
        for _ in range(210):
            caller.client.get(caller.api.of("x"))
        caller.queued(FILES[caller.name])

    def test_basic_credentials_that_cannot_be_read(self, callers: Callers) -> None:
        caller = callers("grid")
        for sent in ("Basic ???", "Basic " + "YQ==", "Bearer x", "Basic"):
            refused(caller, caller.call("GET", caller.api.of("x"), headers={"Authorization": sent}), 401)

    def test_oauth_is_refused_with_a_message_that_says_so(self, callers: Callers) -> None:
        caller = callers("voucherify")
        bare = Caller(caller.name, caller.client, {})
        for headers in ({"Authorization": "Bearer x"}, {"X-Voucherify-OAuth": "Bearer x"}):
            said = refused(caller, bare.call("GET", "/v1/async-actions", headers=headers), 401)
            assert said["details"] == "OAuth is not served; send X-App-Id and X-App-Token."
        # Who sends both is known.
        assert caller.call("GET", "/v1/async-actions", headers={"Authorization": "Bearer x"}).status_code == 200


class TestUploads:
    def test_a_file_says_where_it_came_from(self, caller: Caller, context: Context) -> None:
        for declared, body in (
            (None, form(FILES[caller.name])),
            ("iso-8859-2", form(FILES[caller.name]).replace(b"text/csv", b"text/csv; charset=iso-8859-2")),
        ):
            response = caller.client.post(
                caller.api.upload,
                data=body,
                headers={**caller.headers, "Content-Type": MULTIPART},
                environ_overrides={"REMOTE_ADDR": "192.0.2.7"},
            )
            job = json.loads(response.data)[caller.api.job_id]
            expected = ("192.0.2.7", ",", response.headers["X-Request-Id"], declared)
            assert origin_of(context, _batch(job)) == expected
        job = caller.queued(b"no,such,columns\n")
        assert origin_of(context, _batch(job))[1] is None

    def test_a_file_is_queued_at_once_and_imported_afterwards(
        self, caller: Caller, context: Context, account: Demo, queue: HeldQueue
    ) -> None:
        job = caller.queued(FILES[caller.name])
        assert caller.job(job)["status"] in ("ENQUEUED", "PENDING")
        assert holds(context, account).customers == 0
        queue.run(context)
        assert caller.job(job)["status"] in ("DONE", "COMPLETED")
        assert holds(context, account).customers == 1

    @pytest.mark.parametrize(
        ("name", "filename"), [("file", None), ("file", "notes.pdf"), ("file", "ünï.csv"), ("file", "a\\b.csv")]
    )
    def test_file_names_and_types_do_not_matter(self, caller: Caller, name: str, filename: str | None) -> None:
        assert post(caller, form(FILES[caller.name], name, filename)).status_code == 202

    def test_the_boundary_that_the_body_begins_with_is_believed(self, caller: Caller) -> None:
        for kind in ("multipart/form-data", "multipart/form-data; boundary=another", "application/json"):
            assert post(caller, form(FILES[caller.name]), kind).status_code == 202

    def test_without_the_part_file_nothing_is_queued(self, caller: Caller, queue: HeldQueue) -> None:
        file = FILES[caller.name]
        for body in (form(None), form(file, "csv"), form(b"", filename=""), b""):
            no_file(caller, post(caller, body))
        for kind in ("text/csv", "application/x-www-form-urlencoded", "multipart/form-data"):
            no_file(caller, post(caller, file, kind))
        assert not queue.messages

    def test_a_form_that_is_cut_off(self, caller: Caller, queue: HeldQueue) -> None:
        refused(caller, post(caller, form(FILES[caller.name])[:-40]), 400)
        whole = form(FILES[caller.name])
        for length, status in ((len(whole) + 1, 400), (len(whole), 202)):
            announced = {"CONTENT_LENGTH": str(length), "wsgi.input": io.BytesIO(whole)}
            headers = {**caller.headers, "Content-Type": MULTIPART}
            response = caller.client.post(caller.api.upload, headers=headers, environ_overrides=announced)
            assert response.status_code == status
            assert bool(queue.messages) == (status == 202)

    def test_two_files_in_one_form(self, caller: Caller) -> None:
        twice = form(FILES[caller.name]).removesuffix(f"--{BOUNDARY}--\r\n".encode()) + form(FILES[caller.name])
        assert "more than one part file" in json.dumps(refused(caller, post(caller, twice), 400))

    def test_gzip(self, caller: Caller) -> None:
        packed = gzip.compress(form(FILES[caller.name]))
        assert post(caller, packed, **{"Content-Encoding": "gzip"}).status_code == 202
        refused(caller, post(caller, packed, **{"Content-Encoding": "br"}), 400)
        refused(caller, post(caller, packed[:-9], **{"Content-Encoding": "gzip"}), 400)

    def test_larger_than_the_limit(self, caller: Caller, context: Context, database: Database, account: Demo) -> None:
        small = Caller.of(caller.name, create_app(settings_for(database, max_body=1000), context), account)
        refused(caller, small.send(FILES[caller.name] + b"x" * 1000), 413)
        bomb = gzip.compress(form(b"x" * 10_000))
        refused(caller, post(small, bomb, **{"Content-Encoding": "gzip"}), 413)

    @pytest.mark.parametrize(
        "header", [b"\xff", b'"', b",,,", b"\r\r\n", b"Source_id" + b",x" * 2000, b"n" * 300, b"a\x07b"]
    )
    def test_a_first_line_of_whatever_kind_is_a_job_that_failed(self, caller: Caller, header: bytes) -> None:
        job = caller.job(caller.queued(header + b"\n1,2\n"))
        assert job["status"] == "FAILED"
        assert (job["result"] if caller.name == "voucherify" else job)["message"]


class TestRepetition:
    def test_the_same_key_and_file_is_the_same_job(self, caller: Caller, queue: HeldQueue) -> None:
        first = caller.send(FILES[caller.name], **{"Idempotency-Key": "k"})
        again = caller.send(FILES[caller.name], **{"Idempotency-Key": " k "})
        assert first.data == again.data
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert len(queue.messages) == 1
        assert caller.queued(FILES[caller.name]) != json.loads(first.data)[caller.api.job_id]

    def test_a_file_that_failed_at_once_is_repeated_as_well(self, caller: Caller) -> None:
        assert caller.queued(b"", **{"Idempotency-Key": "k"}) == caller.queued(b"", **{"Idempotency-Key": "k"})

    def test_the_same_key_for_another_file_or_protocol_is_refused(self, callers: Callers) -> None:
        one, other = callers("voucherify"), callers("grid")
        one.queued(b"Source_id\n1\n", **{"Idempotency-Key": "k"})
        # Not 409: the clients send that again.
        refused(one, one.send(b"Source_id\n2\n", **{"Idempotency-Key": "k"}), 422)
        refused(other, other.send(b"Source_id\n1\n", **{"Idempotency-Key": "k"}), 422)

    def test_a_key_that_cannot_be_kept(self, caller: Caller) -> None:
        response = caller.send(FILES[caller.name], **{"Idempotency-Key": "k" * 256})
        assert response.status_code == 400
        assert "Idempotency-Key" in response.text
        assert "request_id:" not in response.text


class TestJobs:
    def test_nobody_sees_the_jobs_of_other_accounts_and_protocols(
        self, callers: Callers, app: Flask, accounts: tuple[Demo, Demo]
    ) -> None:
        voucherify, grid = callers("voucherify"), callers("grid")
        action, job = voucherify.queued(FILES["voucherify"]), grid.queued(FILES["grid"])
        as_grid, as_voucherify = job_id(action.removeprefix("aa_")), f"aa_{batch_id(job)}"
        for caller, mine, other in ((voucherify, action, as_voucherify), (grid, job, as_grid)):
            assert caller.job(mine)
            unknown = "aa_" + "0" * 20 if caller is voucherify else job_id("0" * 20)
            stranger = Caller.of(caller.name, app, accounts[1])
            refusals = [
                unknown_job(who, asked) for who, asked in ((caller, unknown), (caller, other), (stranger, mine))
            ]
            for refusal, asked in zip(refusals, (unknown, other, mine), strict=True):
                told = json.dumps(refusal).replace(asked, "{id}")
                assert _without_request(told) == _without_request(json.dumps(refusals[0]).replace(unknown, "{id}"))

    def test_the_id_of_a_grid_job_comes_with_its_colon_in_any_form(self, callers: Callers) -> None:
        caller = callers("grid")
        job = caller.queued(FILES["grid"])
        found = caller.job(job)
        assert found["jobId"] == found["id"] == job
        for place in ("/customers/bulk/jobs/", "/grid/2099-12-31/customers/bulk/jobs/"):
            for spelled in (job, job.replace(":", "%3A"), job.replace(":", "%3a"), job.upper().replace("JOB", "Job")):
                assert json.loads(caller.call("GET", place + spelled).data) == found

    @pytest.mark.parametrize("asked", ["x", "aa_", "aa_" + "g" * 20, "Job:", "%00", "é", "0" * 3000, "'; --"])
    def test_ids_that_are_none(self, caller: Caller, asked: str) -> None:
        unknown_job(caller, asked)

    def test_a_cancelled_job_failed_and_says_so(self, caller: Caller, context: Context, account: Demo) -> None:
        job = caller.queued(FILES[caller.name])
        lifecycle.cancel(context, account.number, _batch(job))
        told = caller.job(job)
        assert told["status"] == "FAILED"
        assert (told["result"] if caller.name == "voucherify" else told)["message"] == "The import was cancelled."

    def test_a_job_that_was_undone_had_been_done(
        self, caller: Caller, context: Context, account: Demo, queue: HeldQueue
    ) -> None:
        job = caller.queued(FILES[caller.name])
        queue.run(context)
        done = caller.job(job)
        undo_batch.undo(context, account.number, _batch(job), "u", "cli")
        assert holds(context, account).customers == 0
        assert caller.job(job) == done

    def test_progress_while_it_runs(
        self, caller: Caller, context: Context, queue: HeldQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importing.jobs.chunk.FIRST_CHUNK_ROWS", 500)
        head, _, row = FILES[caller.name].partition(b"\n")
        rows = b"".join(row.replace(b"c1", b"c%d" % n).replace(b"$a", b"$a%d" % n) for n in range(20_000))
        job = caller.queued(head + b"\n" + rows)
        queue.run(context, 1)
        told = caller.job(job)
        assert told["status"] in ("IN_PROGRESS", "PROCESSING")
        if caller.name == "voucherify":
            assert 0 < told["progress"] < 100
            assert told["result"] is None
            assert "operation_status" not in told
        else:
            assert told["progress"]["total"] == 20_000
            assert 0 < told["progress"]["processed"] == told["progress"]["successful"] < 20_000
            assert "completedAt" not in told

    def test_failed_rows_are_read_as_they_are_sent(
        self, caller: Caller, context: Context, queue: HeldQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head, _, row = FILES[caller.name].partition(b"\n")
        count = 6000
        job = caller.queued(head + b"\n" + row.replace(b"\n", b",too many\n") * count)
        queue.run(context)
        pages = 0
        page = batches.load_problem_page

        def counted(*asked: Any) -> Any:
            nonlocal pages
            pages += 1
            return page(*asked)

        monkeypatch.setattr(batches, "load_problem_page", counted)
        monkeypatch.setattr(batch_status, "ROWS_PER_PAGE", 100)
        response = caller.client.get(caller.api.of(job), headers=caller.headers, buffered=False)
        assert 0 < pages < count / 100 / 2
        assert response.data.count(b"stands in a column without a header") == count
        assert pages > count / 100

    def test_the_list_of_actions(self, callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
        caller = callers("voucherify")
        callers("grid").queued(FILES["grid"])
        made = []
        for n in range(12):
            monkeypatch.setattr(lifecycle, "now_ms", lambda n=n: 1_795_251_600_000 + n)
            made.append(caller.queued(b"Source_id\n%d\n" % n))
        made.reverse()

        def listed(query: str) -> tuple[list[str], bool]:
            document = json.loads(caller.call("GET", f"/v1/async-actions{query}").data)
            return [action["id"] for action in document["async_actions"]], document["has_more"]

        assert listed("") == (made[:10], True)
        assert listed("?limit=100&other=1") == (made, False)
        assert listed("?limit=12") == (made, False)
        assert listed("?limit=1") == (made[:1], True)
        # Before a moment, as each client writes it; one nobody encoded too.
        for time_text in (
            "09:00:00.003Z",
            "09:00:00.002500%2B0000",
            "10:00:00.003%2B01:00",
            "09:00:00.003+0000",
            "09:00:00.003",
        ):
            assert listed(f"?limit=2&end_date=2026-11-21T{time_text}") == (made[9:11], True), time_text
        assert listed("?end_date=2026-11-21") == ([], False)
        assert listed("?end_date=9999-12-31T23:59:59-01:00")[0] == made[:10]
        for query in ("limit=0", "limit=101", "limit=x", "limit=", "limit=" + "9" * 5000, "end_date=x", "end_date="):
            caller.refused(caller.call("GET", f"/v1/async-actions?{query}"), 400, "invalid_query_params")

    def test_a_reply_of_many_failed_rows_is_written_in_pieces(
        self, caller: Caller, context: Context, queue: HeldQueue
    ) -> None:
        head, _, row = FILES[caller.name].partition(b"\n")
        if caller.name == "voucherify":
            head, row = head + b",Birthdate", row.rstrip() + b",never\n"
        job = caller.queued(head + b"\n" + row.replace(b"1990-01-15", b"never") * 3000)
        queue.run(context)
        response = caller.call("GET", caller.api.of(job))
        assert "Content-Length" not in response.headers
        told = json.loads(response.data)
        rows = told["result"]["failed"] if caller.name == "voucherify" else told["errors"]
        assert [entry.get("row") or entry["details"]["row"] for entry in rows] == list(range(1, 3001))


class TestPaths:
    @pytest.mark.parametrize(
        ("protocol", "path"),
        [
            ("voucherify", "/v1"),
            ("voucherify", "/v1/"),
            ("voucherify", "/v1/vouchers"),
            ("voucherify", "/v1/customers/importCSV/"),
            ("voucherify", "/v1/async-actions/a/b"),
            ("voucherify", "/v1/async-actions/"),
            ("grid", "/customers/bulk"),
            ("grid", "/customers/bulk/"),
            ("grid", "/customers/bulk/x"),
            ("grid", "/grid"),
            ("grid", "/grid/2025-10-13"),
            ("grid", "/grid/2025-10-13/customers/bulk/jobs/a/b"),
            ("grid", "/grid/v1/customers/bulk/csv"),
            ("grid", "/grid/20251-10-13/customers/bulk/csv"),
        ],
    )
    def test_unknown_ones_are_refused_in_the_language_of_the_protocol(
        self, callers: Callers, protocol: str, path: str
    ) -> None:
        caller = callers(protocol)
        for method in ("GET", "POST"):
            refused(caller, caller.call(method, path), 404)

    def test_other_methods(self, caller: Caller) -> None:
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
            response = caller.call(method, caller.api.upload)
            refused(caller, response, 405)
            assert response.headers["Allow"] == "POST"
        response = caller.call("POST", caller.api.of("x"))
        refused(caller, response, 405)
        assert response.headers["Allow"] == "GET, HEAD"

    def test_head_is_a_get_without_the_body(self, caller: Caller) -> None:
        job = caller.queued(FILES[caller.name])
        response = caller.call("HEAD", caller.api.of(job))
        assert (response.status_code, response.data) == (200, b"")

    def test_gets_with_a_json_content_type_and_no_body(self, caller: Caller) -> None:
        job = caller.queued(FILES[caller.name])
        assert caller.call("GET", caller.api.of(job), headers={"Content-Type": "application/json"}).status_code == 200

    def test_other_addresses_are_nobodys(self, app: Flask) -> None:
        for path in ("/v2", "/customers", "/grids"):
            assert Client(app).get(path).content_type.startswith("text/plain")


class TestWhatGoesWrong:
    def test_a_bug_names_the_request_and_nothing_else(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise ValueError("secret")

        monkeypatch.setattr(csv_upload, "with_columns", broken)
        response = caller.send(FILES[caller.name])
        refused(caller, response, 500)
        assert response.headers["X-Request-Id"] in response.text
        assert "secret" not in response.text

    @pytest.mark.parametrize(
        ("error", "status", "wait"),
        [(Busy(), 503, "5"), (OSError(28, "full"), 503, "5"), (ApiError("busy", retry_after=7), 503, "7")],
    )
    def test_what_passes_says_when_to_try_again(
        self, caller: Caller, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, wait: str
    ) -> None:
        def busy(*_: object) -> None:
            raise error

        monkeypatch.setattr(lifecycle, "submit", busy)
        response = caller.send(FILES[caller.name])
        refused(caller, response, status)
        assert response.headers["Retry-After"] == wait

    def test_a_queue_that_cannot_be_reached_does_not_fail_the_request(
        self, caller: Caller, context: Context, database: Database, account: Demo
    ) -> None:
        # A 5xx after the job was written would make clients send it twice.
        alone = replace(context, queue=HueyQueue("redis://127.0.0.1:1/0"))
        cut_off = Caller.of(caller.name, create_app(settings_for(database), alone), account)
        assert cut_off.job(cut_off.queued(FILES[caller.name]))["status"] in ("ENQUEUED", "PENDING")


def test_every_kind_of_fault_has_a_status_that_each_protocol_declares(caller: Caller) -> None:
    values = {"value": "x", "request_id": "", "limit": 1, "seconds": 1, "number": 1}
    errors = [ApiError(code, **values) for code in API_ERRORS if code != "unknown_batch"]  # type: ignore[arg-type]
    statuses = {dispatch.refusal(caller.protocol, error, "", {}).status_code for error in errors if _is_whole(error)}
    assert statuses == set(caller.protocol.refusals)


def _is_whole(error: ApiError) -> bool:
    """Whether the values that a test gives fill the error's message."""
    try:
        return bool(error.message)
    except KeyError:
        return False


def _batch(job: str) -> str:
    return batch_id(job) or job.removeprefix("aa_")


def _without_request(text: str) -> str:
    document = json.loads(text)
    document.pop("request_id", None)
    if isinstance(document["details"], dict):
        document["details"].pop("requestId")
    return json.dumps(document)
