"""Voucherify's import of customers: `POST /v1/customers/importCSV` and the async actions. Source: docs/modern_protocols.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from flask import Request, Response
from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import OneOf, Range

from importing import batch_status
from importing.batch import Mode, Requirement
from importing.batch_status import ENDED_STATUSES, BatchStatus
from importing.context import Context
from importing.errors import ApiError
from importing.fields import Field, FieldDestination, FieldKind
from importing.times import iso_milliseconds
from modern_api import credentials
from modern_api.csv_upload import CsvFormat, accepted
from modern_api.job_replies import failed_rows, failure_of, job_of
from modern_api.json_stream import json_response
from modern_api.routes import ApiCall, FileBody, ModernProtocol, Refusal, ReplySpec, Route, Sender
from transport.rate import Standing

NAME = "voucherify"
ID_PREFIX = "aa_"
ATTRIBUTE_LIMIT = 64_000
MAX_LISTED = 100

# The columns that the vendor's page names, with what they are here, and those of the dashboard's template.
STANDARD: tuple[Field, ...] = (
    Field("Source_id", FieldKind.KEY, column="code", note="the customer's code"),
    Field("Id", FieldKind.KEY, column="code", note="the customer's code where there is no `Source_id`"),
    Field("Name", FieldKind.FULL_NAME),
    Field("Email", FieldKind.EMAIL, column="email"),
    Field("Phone", FieldKind.PHONE, column="phone"),
    Field("Birthdate", FieldKind.ISO_DATE, column="custom_date", note="of a date and time the date counts"),
    Field("Address_line_1", column="street1"),
    Field("Address_line_2", column="street2"),
    Field("Address_Postal_Code", column="postal_code"),
    Field("Address_City", column="city"),
    Field("Address_State", column="state"),
    Field("Address_Country", column="country"),
    Field("Postal_Code", column="postal_code", note="as the dashboard's template has it"),
    Field("City", column="city", note="as the dashboard's template has it"),
    Field("State", column="state", note="as the dashboard's template has it"),
    Field("Country", column="country", note="as the dashboard's template has it"),
    Field("Description", into=FieldDestination.ATTRIBUTE, column="description", limit=ATTRIBUTE_LIMIT),
)
IDENTIFYING = ("Source_id", "Id", "Name", "Email")

_BY_NAME: Mapping[str, Field] = {field.name.casefold(): field for field in STANDARD}
_EPOCH = datetime.fromtimestamp(0, UTC)
_EXAMPLE_ID = "aa_0a875d56c805df66010b"
_ID = re.compile(f"{ID_PREFIX}([0-9a-f]{{20}})")


def field_of(name: str) -> Field:
    """The field of a column: a standard one in any case, else an attribute of that name."""
    standard = _BY_NAME.get(name.casefold())
    return standard or Field(name, FieldKind.TYPED, FieldDestination.ATTRIBUTE, limit=ATTRIBUTE_LIMIT)


CSV_FORMAT = CsvFormat(
    protocol=NAME,
    mode=Mode.UPDATE,
    field_of=field_of,
    needed=(IDENTIFYING,),
    requirements=(Requirement(IDENTIFYING),),
    reference=("Source_id", "Id"),
)


class IsoTimeField(fields.Field[int]):
    """A date, or a date and time, as in ISO 8601; UTC where it says nothing else. Milliseconds since the epoch, rounded up."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> int:  # noqa: ARG002 - the library's signature
        try:
            text = str(value).strip()
            # A plus sign that nobody encoded has become a blank on the way.
            time = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        except ValueError as error:
            raise ValidationError("not a date") from error
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        return -((_EPOCH - time) // timedelta(milliseconds=1))


class VoucherifyListQuery(Schema):
    limit = fields.Integer(
        load_default=10, validate=Range(1, MAX_LISTED), metadata={"description": "how many actions at most"}
    )
    end_date = IsoTimeField(
        metadata={"type": "string", "format": "date-time", "description": "actions before this time"}
    )


class VoucherifyActionPath(Schema):
    action_id = fields.String(required=True, metadata={"example": _EXAMPLE_ID})


class VoucherifyQueued(Schema):
    async_action_id = fields.String(required=True, metadata={"example": _EXAMPLE_ID})


class VoucherifyFailedRow(Schema):
    source_id = fields.String(required=True, metadata={"description": "blank where the row has none"})
    row = fields.Integer(required=True, metadata={"description": "from 1, without the first line"})
    reason = fields.String(required=True)


class VoucherifyResult(Schema):
    message = fields.String(required=True)
    failed = fields.List(fields.Nested(VoucherifyFailedRow), required=True)
    done_count = fields.Integer(required=True)
    failed_count = fields.Integer(required=True)


class VoucherifyListedAction(Schema):
    id = fields.String(required=True)
    type = fields.String(required=True, validate=OneOf(["CUSTOMERS.IMPORT_CSV"]))
    status = fields.String(required=True, validate=OneOf(["ENQUEUED", "IN_PROGRESS", "DONE", "FAILED"]))
    operation_status = fields.String(
        validate=OneOf(["SUCCESS", "FAILED", "UNKNOWN"]), metadata={"description": "once it has ended"}
    )
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    updated_at = fields.String(required=True, metadata={"format": "date-time"})
    request_id = fields.String(required=True)
    processing_time = fields.Integer(required=True, metadata={"description": "milliseconds of work"})
    progress = fields.Integer(required=True, validate=Range(0, 100))
    object = fields.String(required=True, validate=OneOf(["async_action"]))


class VoucherifyAction(VoucherifyListedAction):
    result = fields.Nested(
        VoucherifyResult, required=True, allow_none=True, metadata={"description": "null until it has ended"}
    )


class VoucherifyActionList(Schema):
    object = fields.String(required=True, validate=OneOf(["list"]))
    data_ref = fields.String(required=True, validate=OneOf(["async_actions"]))
    async_actions = fields.List(fields.Nested(VoucherifyListedAction), required=True)
    has_more = fields.Boolean(required=True)


class VoucherifyError(Schema):
    code = fields.Integer(required=True, metadata={"description": "the HTTP status"})
    key = fields.String(required=True)
    message = fields.String(required=True)
    details = fields.String(required=True)
    request_id = fields.String(required=True)
    resource_id = fields.String()
    resource_type = fields.String()


def import_csv(call: ApiCall) -> Response:
    """Queue the file."""
    return accepted(call, CSV_FORMAT, lambda queued: {"async_action_id": ID_PREFIX + queued.batch_id})


def get_action(call: ApiCall) -> Response:
    """The state of an action, and its failed rows."""
    match = _ID.fullmatch(call.path["action_id"])
    job = job_of(call, NAME, match[1] if match else None)
    if job is None:
        raise ApiError("unknown_batch", value=call.path["action_id"])
    return json_response({**VoucherifyAction().dump(_action(job)), "result": _result(call, job)})


def list_actions(call: ApiCall) -> Response:
    """The newest actions, or those before a time."""
    limit, before = call.query["limit"], call.query.get("end_date")
    jobs = batch_status.list_batches(call.context, call.sender.account, protocol=NAME, before=before, length=limit + 1)
    document = {
        "object": "list",
        "data_ref": "async_actions",
        "async_actions": [_action(job) for job in jobs[:limit]],
        "has_more": len(jobs) > limit,
    }
    return json_response(VoucherifyActionList().dump(document))


# A job that was undone afterwards had been done.
STATUSES = {"queued": "ENQUEUED", "running": "IN_PROGRESS", "failed": "FAILED", "cancelled": "FAILED"}


def _action(job: BatchStatus) -> dict[str, object]:
    status = STATUSES.get(job.status, "DONE")
    document: dict[str, object] = {
        "id": ID_PREFIX + job.id,
        "type": "CUSTOMERS.IMPORT_CSV",
        "status": status,
        "created_at": iso_milliseconds(job.created_at),
        "updated_at": iso_milliseconds(job.updated_at or job.created_at),
        "request_id": job.request_ref,
        "processing_time": job.duration_ms,
        "progress": 100 if status == "DONE" else job.progress.percent,
        "object": "async_action",
    }
    if job.status in ENDED_STATUSES:
        document["operation_status"] = "SUCCESS" if status == "DONE" else "FAILED"
    return document


def _result(call: ApiCall, job: BatchStatus) -> Mapping[str, object] | None:
    if job.status not in ENDED_STATUSES:
        return None
    done, failed = job.progress.successful, job.progress.failed
    message = f"{done} customer(s) imported successfully, {failed} failed."
    if STATUSES.get(job.status) == "FAILED":
        reason = failure_of(job).message
        message = f"{reason} {message}" if job.progress.processed else reason
    entries = (
        {"source_id": problems[0].ref, "row": problems[0].row, "reason": " ".join(p.message for p in problems)}
        for problems in failed_rows(call, job.id)
    )
    return {"message": message, "done_count": done, "failed_count": failed, "failed": entries}


def authenticate(context: Context, request: Request) -> Sender:
    """The sender that X-App-Id and X-App-Token give. Raises bad_credentials and oauth_not_served."""
    header = partial(credentials.header_text, request)
    user_id, key = header("X-App-Id"), header("X-App-Token")
    oauth = header("X-Voucherify-OAuth") or header("Authorization").lower().startswith("bearer ")
    if oauth and not (user_id and key):
        raise ApiError("oauth_not_served")
    return credentials.sender_by_key(context, request, user_id, key)


# Key and message by error code, else by status.
_BY_CODE: Mapping[str, tuple[str, str]] = {
    "bad_limit": ("invalid_query_params", "Invalid query parameters"),
    "bad_end_date": ("invalid_query_params", "Invalid query parameters"),
    "missing_file": ("missing_file", "Missing file"),
    "bad_request_id": ("invalid_idempotency_key", "Invalid Idempotency-Key"),
    "request_id_reused": ("idempotency_key_reused", "Idempotency-Key reused"),
}
_BY_STATUS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_payload", "Invalid payload"),
    401: ("unauthorized", "Unauthorized"),
    403: ("forbidden", "Forbidden"),
    404: ("not_found", "Resource not found"),
    405: ("method_not_allowed", "Method not allowed"),
    413: ("payload_too_large", "Payload too large"),
    429: ("too_many_requests", "Too many requests"),
    500: ("internal_error", "Internal error"),
    503: ("service_unavailable", "Service unavailable"),
}
_DETAILS: Mapping[str, str] = {
    "bad_credentials": "Invalid X-App-Id or X-App-Token.",
    "bad_request_id": "Invalid Idempotency-Key: use at most 255 characters, no control characters.",
    "request_id_reused": "The Idempotency-Key was used for a different file.",
}


def refused(refusal: Refusal) -> Mapping[str, object]:
    """A refusal in the vendor's form."""
    error = refusal.error
    key, message = _BY_CODE.get(error.code) or _BY_STATUS[refusal.status]
    document: dict[str, object] = {
        "code": refusal.status,
        "key": key,
        "message": message,
        "details": _DETAILS.get(error.code, error.message),
        "request_id": refusal.request_id,
    }
    if error.code == "unknown_batch":
        document |= {
            "details": f"Cannot find async_action with id {error.values['value']}",
            "resource_id": refusal.path["action_id"],
            "resource_type": "async_action",
        }
    return document


def rate_headers(standing: Standing) -> Mapping[str, str]:
    """What the vendor's clients read of their limit, on every reply; the times are in seconds since the epoch."""
    values = {"Limit": standing.limit, "Remaining": standing.remaining, "Reset": standing.resets}
    if standing.wait:
        values["Retry"] = standing.resets
    return {f"X-Rate-Limit-{name}": str(value) for name, value in values.items()}


_EXAMPLE_ACTION = {
    "id": _EXAMPLE_ID,
    "type": "CUSTOMERS.IMPORT_CSV",
    "status": "DONE",
    "created_at": "2026-11-21T09:00:00.042Z",
    "updated_at": "2026-11-21T09:00:00.310Z",
    "request_id": "v-4f1c0de2b7a94c53a1f6d2e8c9b07a35",
    "processing_time": 203,
    "progress": 100,
    "object": "async_action",
    "operation_status": "SUCCESS",
}
_EXAMPLE_RESULT = {
    "message": "1 customer(s) imported successfully, 1 failed.",
    "done_count": 1,
    "failed_count": 1,
    "failed": [{"source_id": "c-1002", "row": 2, "reason": 'Row 2, Birthdate: "17 May" is not a date (YYYY-MM-DD).'}],
}

PROTOCOL = ModernProtocol(
    name=NAME,
    title="Voucherify: import and update customers using CSV",
    prefixes=("/v1",),
    below=("/v1",),
    routes=(
        Route(
            "POST",
            "/customers/importCSV",
            "importCustomersCsv",
            "Import and update customers using CSV",
            import_csv,
            ReplySpec(
                VoucherifyQueued,
                "The file is queued.",
                {"async_action_id": _EXAMPLE_ID},
                next_call=("getAsyncAction", "action_id", "async_action_id"),
                status=202,
            ),
            (400, 401, 403, 413, 422, 429, 500, 503),
            body=FileBody(
                "Name,Email,Source_id,Birthdate,Favourite_brands\n"
                'Kim Lee,kim@example.com,c-1001,1970-05-17,"Acme,Umbra"\n'
                "Ann Bell,ann@example.com,c-1002,17 May,\n"
            ),
            imports=True,
        ),
        Route(
            "GET",
            "/async-actions/<action_id>",
            "getAsyncAction",
            "Get an async action",
            get_action,
            ReplySpec(VoucherifyAction, "What became of the file.", {**_EXAMPLE_ACTION, "result": _EXAMPLE_RESULT}),
            (401, 404, 429, 500, 503),
            path_schema=VoucherifyActionPath,
            example_errors={404: ApiError("unknown_batch", value=_EXAMPLE_ID)},
        ),
        Route(
            "GET",
            "/async-actions",
            "listAsyncActions",
            "List async actions, the newest first",
            list_actions,
            ReplySpec(
                VoucherifyActionList,
                "The actions.",
                {
                    "object": "list",
                    "data_ref": "async_actions",
                    "async_actions": [_EXAMPLE_ACTION],
                    "has_more": False,
                },
            ),
            (400, 401, 429, 500, 503),
            query_schema=VoucherifyListQuery,
            example_errors={400: ApiError("bad_limit", value="1000")},
        ),
    ),
    new_request_id=lambda: f"v-{uuid4().hex}",
    authenticate=authenticate,
    refused=refused,
    error_schema=VoucherifyError,
    refusals={**{status: meaning for status, (_, meaning) in _BY_STATUS.items()}, 422: "Idempotency-Key reused"},
    rate_headers=rate_headers,
    security={
        "voucherifyId": {"type": "apiKey", "in": "header", "name": "X-App-Id", "description": "the user id"},
        "voucherifyToken": {"type": "apiKey", "in": "header", "name": "X-App-Token", "description": "the user's key"},
    },
)
