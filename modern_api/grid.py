"""The face of Grid's bulk customer creation: `POST /customers/bulk/csv` and its jobs. Source: docs/faces.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from itertools import chain
from uuid import uuid4

from flask import Request

from auth.authenticate import Access
from importing.batch import Mode, Requirement
from importing.batch_status import ENDED_STATUSES, BatchStatus, FailureReason
from importing.context import Context
from importing.errors import ApiError, Problem
from importing.fields import Field, FieldDestination, FieldKind
from modern_api import credentials, told, uploads
from modern_api import grid_schemas as schemas
from modern_api.files import Format
from modern_api.routes import Call, Face, Refusal, Reply, Route, Told

NAME = "grid"

# The columns that the vendor's page names, with what they are here.
COLUMNS: tuple[Field, ...] = (
    Field("umaAddress", into=FieldDestination.ATTRIBUTE, unique=True, note="unique in the account"),
    Field("platformCustomerId", FieldKind.KEY, column="code", note="the customer's code"),
    Field("customerType", FieldKind.PICK, FieldDestination.ATTRIBUTE, choices=("INDIVIDUAL", "BUSINESS")),
    Field("fullName", FieldKind.FULL_NAME),
    Field("birthDate", FieldKind.DATE, column="custom_date", note="YYYY-MM-DD"),
    Field("email", FieldKind.EMAIL),
    Field("businessLegalName", into=FieldDestination.ATTRIBUTE),
    Field("businessRegistrationNumber", into=FieldDestination.ATTRIBUTE),
    Field("businessTaxId", into=FieldDestination.ATTRIBUTE),
    Field("addressLine1", column="street1"),
    Field("addressLine2", column="street2"),
    Field("city"),
    Field("state"),
    Field("postalCode", column="postal_code"),
    Field("country", FieldKind.COUNTRY),
    Field("platformAccountId", into=FieldDestination.ATTRIBUTE),
    Field("description", into=FieldDestination.ATTRIBUTE),
)
OF_ALL = ("umaAddress", "platformCustomerId", "customerType", "addressLine1", "city", "state", "postalCode", "country")
OF_INDIVIDUALS = ("fullName", "birthDate")
OF_BUSINESSES = ("businessLegalName",)

_BY_NAME: Mapping[str, Field] = {field.name.casefold(): field for field in COLUMNS}


def field_of(name: str) -> Field | None:
    """The field of a column, in any case. Other columns are not read."""
    return _BY_NAME.get(name.casefold())


FORMAT = Format(
    face=NAME,
    mode=Mode.CREATE,
    field=field_of,
    # Which of the others a file needs depends on its rows.
    needed=tuple((name,) for name in OF_ALL),
    requirements=(
        *(Requirement((name,)) for name in OF_ALL),
        *(Requirement((name,), ("customerType", "INDIVIDUAL")) for name in OF_INDIVIDUALS),
        *(Requirement((name,), ("customerType", "BUSINESS")) for name in OF_BUSINESSES),
    ),
    reference=("platformCustomerId",),
)

# A batch's id is 80 random bits. As a UUID it is of version 8, which leaves the bits to whoever makes it; the last 40
# are none. So an id needs no table to find its batch.
_JOB_ID = re.compile("Job:([0-9a-f]{8})-([0-9a-f]{4})-8([0-9a-f]{3})-8([0-9a-f]{3})-([0-9a-f]{2})0{10}", re.IGNORECASE)


def job_id(batch_id: str) -> str:
    """What this protocol calls a batch.

    >>> job_id("0123456789abcdef0123")
    'Job:01234567-89ab-8cde-8f01-230000000000'
    """
    return f"Job:{batch_id[:8]}-{batch_id[8:12]}-8{batch_id[12:15]}-8{batch_id[15:18]}-{batch_id[18:]}{'0' * 10}"


def batch_id(sent: str) -> str | None:
    """The batch that an id of this protocol means, None for what is no such id."""
    match = _JOB_ID.fullmatch(sent)
    return "".join(match.groups()).lower() if match else None


def upload_csv(call: Call) -> Reply:
    """Queue the file."""
    queued = uploads.submitted(call, FORMAT)
    document = schemas.Queued().dump({"jobId": job_id(queued.batch_id), "status": "PENDING"})
    return Reply(document, HTTPStatus.ACCEPTED, uploads.replayed(queued))


def get_job(call: Call) -> Reply:
    """What became of a file."""
    found = told.job(call.context, call.access.account, NAME, batch_id(call.path["job_id"]))
    if found is None:
        raise ApiError("unknown_batch", value=call.path["job_id"])
    document = schemas.Job(exclude=["errors"]).dump(_job(found))
    of_rows = map(_entry, told.failed_rows(call.context, call.access.account, found.id))
    return Reply({**document, "errors": chain(_of_file(found), of_rows)})


def _job(found: BatchStatus) -> dict[str, object]:
    document: dict[str, object] = {
        "jobId": job_id(found.id),
        "id": job_id(found.id),
        "status": _status(found),
        "progress": found.progress,
    }
    if found.status in ENDED_STATUSES:
        document["completedAt"] = told.stamp(found.ended_at)
    for entry in _of_file(found):
        document |= {name: entry[name] for name in ("code", "message", "details")}
    return document


def _status(found: BatchStatus) -> str:
    if found.status in ("queued", "running"):
        return "PENDING" if found.status == "queued" else "PROCESSING"
    # What was undone afterwards had been completed.
    return "FAILED" if found.status in ("failed", "cancelled") else "COMPLETED"


def _of_file(found: BatchStatus) -> Iterator[dict[str, object]]:
    """Why a job failed as a whole: told like a row's error, for clients that look nowhere else, and beside."""
    if _status(found) != "FAILED":
        return
    reason = found.reason or FailureReason("cancelled", "The import was cancelled.")
    details: dict[str, object] = {"reason": reason.code}
    if reason.code in ("missing_column", "column_twice"):
        details = {"reason": _OF_COLUMNS[reason.code], "column": reason.values["value"]}
    code = "invalid_csv_format" if reason.code in _OF_FILES else reason.code
    yield {"correlationId": "file", "code": code, "message": reason.message, "details": details}


_OF_COLUMNS: Mapping[str, str] = {"missing_column": "missing_required_column", "column_twice": "duplicate_column"}
_OF_FILES = frozenset(("unreadable_file", "no_data", "bad_header_line", "too_many_columns", "bad_column", *_OF_COLUMNS))


def _entry(problems: list[Problem]) -> dict[str, object]:
    """A failed row: the first thing that is wrong with it, and `also` what else is."""
    first, *others = problems
    details: dict[str, object] = {"row": first.row, **_wrong(first)}
    if others:
        details["also"] = [{**_wrong(problem), "message": problem.message} for problem in others]
    correlation = first.ref or f"row_{first.row}"
    return {"correlationId": correlation, "code": _code(first), "message": first.message, "details": details}


def _wrong(problem: Problem) -> dict[str, str]:
    return {"field": problem.field, "value": problem.value, "reason": problem.code}


def _code(problem: Problem) -> str:
    if problem.code == "missing_value":
        return "MISSING_MANDATORY_USER_INFO"
    if problem.code == "value_in_use" and problem.field == "umaAddress":
        return "UMA_ADDRESS_EXISTS"
    return "CONFLICT" if problem.code in ("exists", "value_in_use", "key_conflict") else "INVALID_INPUT"


def authenticate(context: Context, request: Request) -> Access:
    """The access that HTTP Basic credentials give. Raises bad_credentials."""
    sent = request.authorization
    if sent is None or sent.type != "basic":
        raise ApiError("bad_credentials")
    return credentials.access(context, request, sent.username or "", sent.password or "")


_BY_STATUS: Mapping[int, tuple[str, str]] = {
    400: ("INVALID_INPUT", "Invalid input"),
    401: ("UNAUTHORIZED", "Unauthorized"),
    403: ("FORBIDDEN", "Forbidden"),
    404: ("NOT_FOUND", "Not found"),
    405: ("METHOD_NOT_ALLOWED", "Method not allowed"),
    413: ("PAYLOAD_TOO_LARGE", "Payload too large"),
    422: ("IDEMPOTENCY_KEY_REUSED", "Idempotency-Key reused"),
    429: ("RATE_LIMITED", "Too many requests"),
    500: ("INTERNAL_ERROR", "Internal error"),
    503: ("SERVICE_UNAVAILABLE", "Service unavailable"),
}
_MESSAGES: Mapping[str, str] = {
    "bad_credentials": "Invalid API token id or client secret.",
    "bad_request_id": "Invalid Idempotency-Key: use at most 255 characters, no control characters.",
    "request_id_reused": "The Idempotency-Key was used for a different file.",
    "unknown_batch": "Bulk upload job not found.",
}


def refused(refusal: Refusal) -> Mapping[str, object]:
    """A refusal in the vendor's form."""
    fault = refusal.fault
    code = "BULK_UPLOAD_JOB_NOT_FOUND" if fault.code == "unknown_batch" else _BY_STATUS[refusal.status][0]
    details = {"reason": fault.code, "requestId": refusal.request_id}
    message = _MESSAGES.get(fault.code, fault.message)
    document = {"status": refusal.status, "code": code, "message": message, "details": details}
    loaded: Mapping[str, object] = schemas.Error().dump(document)
    return loaded


FACE = Face(
    name=NAME,
    title="Grid: bulk creation of customers",
    prefixes=("", "/grid/<date:version>"),
    below=(
        *("/customers/bulk", "/customers/bulk/", "/customers/bulk/<path:rest>"),
        *("/grid", "/grid/", "/grid/<path:rest>"),
    ),
    routes=(
        Route(
            "POST",
            "/customers/bulk/csv",
            "uploadCustomersCsv",
            "Upload customers via CSV file",
            upload_csv,
            {202: Told(schemas.Queued, "The file is queued.")},
            imports=True,
        ),
        Route(
            "GET",
            "/customers/bulk/jobs/<job_id>",
            "getBulkCustomerImportJob",
            "Get bulk import job status",
            get_job,
            {200: Told(schemas.Job, "What became of the file.")},
            parameters=schemas.JobPath,
        ),
    ),
    new_request_id=lambda: uuid4().hex,
    authenticate=authenticate,
    refused=refused,
    error=schemas.Error,
    errors={status: said for status, (_, said) in _BY_STATUS.items()},
    security={"gridBasic": {"type": "http", "scheme": "basic", "description": "user id and key"}},
    refusal_headers={401: {"WWW-Authenticate": 'Basic realm="Grid", charset="UTF-8"'}},
)
