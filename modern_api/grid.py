"""Grid's bulk creation of customers: `POST /customers/bulk/csv` and its jobs. Source: docs/modern_protocols.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from flask import Request, Response
from marshmallow import Schema, fields
from marshmallow.validate import OneOf

from importing.batch import Mode, Requirement
from importing.batch_status import ENDED_STATUSES, BatchStatus
from importing.context import Context
from importing.errors import ApiError, Problem
from importing.fields import Field, FieldDestination, FieldKind
from importing.times import iso_milliseconds
from modern_api import credentials
from modern_api.csv_upload import CsvFormat, accepted
from modern_api.job_replies import failed_rows, failure_of, job_of
from modern_api.json_stream import json_response
from modern_api.routes import ApiCall, FileBody, ModernProtocol, Refusal, ReplySpec, Route, Sender

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


CSV_FORMAT = CsvFormat(
    protocol=NAME,
    mode=Mode.CREATE,
    field_of=field_of,
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


def batch_id(text: str) -> str | None:
    """The batch that an id of this protocol means, None for what is no such id."""
    match = _JOB_ID.fullmatch(text)
    return "".join(match.groups()).lower() if match else None


EXAMPLE_ID = "Job:019542f5-b3e7-8d02-8abc-6c0000000000"


class GridJobPath(Schema):
    job_id = fields.String(required=True, metadata={"example": EXAMPLE_ID})


class GridQueued(Schema):
    jobId = fields.String(required=True, metadata={"example": EXAMPLE_ID})  # noqa: N815 - the protocol's name
    status = fields.String(required=True, validate=OneOf(["PENDING", "PROCESSING"]))


class GridProgress(Schema):
    total = fields.Integer(required=True, metadata={"description": "0 until they are counted"})
    processed = fields.Integer(required=True)
    successful = fields.Integer(required=True)
    failed = fields.Integer(required=True)


class GridErrorEntry(Schema):
    correlationId = fields.String(  # noqa: N815
        required=True, metadata={"description": "the platformCustomerId, else row_N; file for the file as a whole"}
    )
    code = fields.String(required=True)
    message = fields.String(required=True)
    details = fields.Dict(required=True)


class GridJob(Schema):
    jobId = fields.String(required=True, metadata={"example": EXAMPLE_ID})  # noqa: N815
    id = fields.String(required=True, metadata={"description": "the same"})
    status = fields.String(required=True, validate=OneOf(["PENDING", "PROCESSING", "COMPLETED", "FAILED"]))
    progress = fields.Nested(GridProgress, required=True)
    errors = fields.List(fields.Nested(GridErrorEntry), required=True)
    completedAt = fields.String(metadata={"format": "date-time", "description": "once it has ended"})  # noqa: N815
    code = fields.String(metadata={"description": "of a job that failed as a whole"})
    message = fields.String(metadata={"description": "of a job that failed as a whole"})
    details = fields.Dict(metadata={"description": "of a job that failed as a whole"})


class GridError(Schema):
    status = fields.Integer(required=True, metadata={"description": "the HTTP status"})
    code = fields.String(required=True)
    message = fields.String(required=True)
    details = fields.Dict(required=True)


def upload_csv(call: ApiCall) -> Response:
    """Queue the file."""
    return accepted(call, CSV_FORMAT, lambda queued: {"jobId": job_id(queued.batch_id), "status": "PENDING"})


def get_job(call: ApiCall) -> Response:
    """The state of a job, and its failed rows."""
    job = job_of(call, NAME, batch_id(call.path["job_id"]))
    if job is None:
        raise ApiError("unknown_batch", value=call.path["job_id"])
    document = GridJob(exclude=["errors"]).dump(_job_document(job))
    return json_response({**document, "errors": chain(_file_errors(job), map(_row_error, failed_rows(call, job.id)))})


# A job that was undone afterwards had been completed.
STATUSES = {"queued": "PENDING", "running": "PROCESSING", "failed": "FAILED", "cancelled": "FAILED"}


def _job_document(job: BatchStatus) -> dict[str, object]:
    document: dict[str, object] = {
        "jobId": job_id(job.id),
        "id": job_id(job.id),
        "status": STATUSES.get(job.status, "COMPLETED"),
        "progress": job.progress,
    }
    if job.status in ENDED_STATUSES:
        document["completedAt"] = iso_milliseconds(job.ended_at)
    for error in _file_errors(job):
        document |= {name: error[name] for name in ("code", "message", "details")}
    return document


_COLUMN_REASONS: Mapping[str, str] = {
    "missing_column": "missing_required_column",
    "column_twice": "duplicate_column",
}
_FILE_REASONS = frozenset(
    ("unreadable_file", "no_data", "bad_header_line", "too_many_columns", "bad_column", *_COLUMN_REASONS)
)


def _file_errors(job: BatchStatus) -> Iterator[dict[str, object]]:
    """Why a job failed as a whole: an entry like that of a row, for clients that read nothing else."""
    if STATUSES.get(job.status) != "FAILED":
        return
    reason = failure_of(job)
    details: dict[str, object] = {"reason": reason.code}
    if reason.code in _COLUMN_REASONS:
        details = {"reason": _COLUMN_REASONS[reason.code], "column": reason.values["value"]}
    code = "invalid_csv_format" if reason.code in _FILE_REASONS else reason.code
    yield {"correlationId": "file", "code": code, "message": reason.message, "details": details}


def _row_error(problems: list[Problem]) -> dict[str, object]:
    """A failed row: the first thing that is wrong with it, and `also` what else is."""
    first, *others = problems
    details: dict[str, object] = {"row": first.row, **_problem_details(first)}
    if others:
        details["also"] = [{**_problem_details(problem), "message": problem.message} for problem in others]
    correlation = first.ref or f"row_{first.row}"
    return {"correlationId": correlation, "code": _code(first), "message": first.message, "details": details}


def _problem_details(problem: Problem) -> dict[str, str]:
    return {"field": problem.field, "value": problem.value, "reason": problem.code}


def _code(problem: Problem) -> str:
    if problem.code == "missing_value":
        return "MISSING_MANDATORY_USER_INFO"
    if problem.code == "value_in_use" and problem.field == "umaAddress":
        return "UMA_ADDRESS_EXISTS"
    return "CONFLICT" if problem.code in ("exists", "value_in_use", "key_conflict") else "INVALID_INPUT"


def authenticate(context: Context, request: Request) -> Sender:
    """The sender that HTTP Basic credentials give. Raises bad_credentials."""
    basic = request.authorization
    if basic is None or basic.type != "basic":
        raise ApiError("bad_credentials")
    return credentials.sender_by_key(context, request, basic.username or "", basic.password or "")


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
    error = refusal.error
    code = "BULK_UPLOAD_JOB_NOT_FOUND" if error.code == "unknown_batch" else _BY_STATUS[refusal.status][0]
    details = {"reason": error.code, "requestId": refusal.request_id}
    message = _MESSAGES.get(error.code, error.message)
    return {"status": refusal.status, "code": code, "message": message, "details": details}


_EXAMPLE_JOB = "Job:0a875d56-c805-8df6-8601-0b0000000000"
_EXAMPLE_PROBLEM = {
    "field": "country",
    "value": "",
    "reason": "missing_value",
    "message": "Row 2, country: The value is missing.",
}

PROTOCOL = ModernProtocol(
    name=NAME,
    title="Grid: bulk creation of customers",
    prefixes=("", "/grid/<date:version>"),
    below=("/customers/bulk", "/grid"),
    routes=(
        Route(
            "POST",
            "/customers/bulk/csv",
            "uploadCustomersCsv",
            "Upload customers via CSV file",
            upload_csv,
            ReplySpec(
                GridQueued,
                "The file is queued.",
                {"jobId": _EXAMPLE_JOB, "status": "PENDING"},
                next_call=("getBulkCustomerImportJob", "job_id", "jobId"),
                status=202,
            ),
            (400, 401, 403, 413, 422, 429, 500, 503),
            body=FileBody(
                "umaAddress,platformCustomerId,customerType,fullName,birthDate,addressLine1,city,state,postalCode,country\n"
                "$kim@uma.example,k-1001,INDIVIDUAL,Kim Lee,1970-05-17,1 Main Street,Springfield,IL,62701,US\n"
                "$ann@uma.example,k-1002,INDIVIDUAL,Ann Bell,1980-02-29,2 Main Street,Springfield,IL,62701,\n"
            ),
            imports=True,
        ),
        Route(
            "GET",
            "/customers/bulk/jobs/<job_id>",
            "getBulkCustomerImportJob",
            "Get bulk import job status",
            get_job,
            ReplySpec(
                GridJob,
                "What became of the file.",
                {
                    "jobId": _EXAMPLE_JOB,
                    "id": _EXAMPLE_JOB,
                    "status": "COMPLETED",
                    "progress": {"total": 2, "processed": 2, "successful": 1, "failed": 1},
                    "completedAt": "2026-11-21T09:00:00.310Z",
                    "errors": [
                        {
                            "correlationId": "k-1002",
                            "code": "MISSING_MANDATORY_USER_INFO",
                            "message": _EXAMPLE_PROBLEM["message"],
                            "details": {"row": 2, **_EXAMPLE_PROBLEM, "errors": [_EXAMPLE_PROBLEM]},
                        }
                    ],
                },
            ),
            (401, 404, 429, 500, 503),
            path_schema=GridJobPath,
            example_errors={404: ApiError("unknown_batch", value=EXAMPLE_ID)},
        ),
    ),
    authenticate=authenticate,
    refused=refused,
    error_schema=GridError,
    refusals={status: meaning for status, (_, meaning) in _BY_STATUS.items()},
    security={"gridBasic": {"type": "http", "scheme": "basic", "description": "user id and key"}},
    refusal_headers={401: {"WWW-Authenticate": 'Basic realm="Grid", charset="UTF-8"'}},
)
