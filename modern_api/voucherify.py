"""The face of Voucherify's customer import: `POST /v1/customers/importCSV` and the async actions. Source: docs/faces.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from uuid import uuid4

from flask import Request

from auth.authenticate import Access
from importing import batch_status
from importing.batch import Mode, Requirement
from importing.batch_status import ENDED_STATUSES, BatchStatus, FailureReason
from importing.context import Context
from importing.errors import ApiError, ErrorCategory
from importing.fields import Field, FieldDestination, FieldKind
from modern_api import credentials, told, uploads
from modern_api import voucherify_schemas as schemas
from modern_api.files import Format
from modern_api.routes import Call, Face, Refusal, Reply, Route, Told
from transport.rate import Standing

NAME = "voucherify"
ID_PREFIX = "aa_"
ATTRIBUTE_LIMIT = 64_000

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
_ID = re.compile(f"{ID_PREFIX}([0-9a-f]{{20}})")


def field_of(name: str) -> Field:
    """The field of a column: a standard one in any case, else an attribute of that name."""
    standard = _BY_NAME.get(name.casefold())
    return standard or Field(name, FieldKind.TYPED, FieldDestination.ATTRIBUTE, limit=ATTRIBUTE_LIMIT)


FORMAT = Format(
    face=NAME,
    mode=Mode.UPDATE,
    field=field_of,
    needed=(IDENTIFYING,),
    requirements=(Requirement(IDENTIFYING),),
    reference=("Source_id", "Id"),
)


def import_csv(call: Call) -> Reply:
    """Queue the file."""
    queued = uploads.submitted(call, FORMAT)
    document = schemas.Queued().dump({"async_action_id": ID_PREFIX + queued.batch_id})
    return Reply(document, HTTPStatus.ACCEPTED, uploads.replayed(queued))


def get_action(call: Call) -> Reply:
    """What became of a file."""
    match = _ID.fullmatch(call.path["action_id"])
    found = told.job(call.context, call.access.account, NAME, match[1] if match else None)
    if found is None:
        raise ApiError("unknown_batch", value=call.path["action_id"])
    return Reply({**schemas.Action().dump(_action(found)), "result": _result(call, found)})


def list_actions(call: Call) -> Reply:
    """The newest actions, or those before a time."""
    limit, before = call.query["limit"], call.query.get("end_date")
    found = batch_status.list_batches(call.context, call.access.account, face=NAME, before=before, length=limit + 1)
    document = {
        "object": "list",
        "data_ref": "async_actions",
        "async_actions": [_action(action) for action in found[:limit]],
        "has_more": len(found) > limit,
    }
    return Reply(schemas.ActionList().dump(document))


def _action(found: BatchStatus) -> dict[str, object]:
    status = _status(found)
    document: dict[str, object] = {
        "id": ID_PREFIX + found.id,
        "type": "CUSTOMERS.IMPORT_CSV",
        "status": status,
        "created_at": told.stamp(found.created_at),
        "updated_at": told.stamp(found.updated_at or found.created_at),
        "request_id": found.request_ref,
        "processing_time": found.milliseconds,
        "progress": 100 if status == "DONE" else found.progress.percent,
        "object": "async_action",
    }
    if found.status in ENDED_STATUSES:
        document["operation_status"] = "SUCCESS" if status == "DONE" else "FAILED"
    return document


def _status(found: BatchStatus) -> str:
    if found.status in ("queued", "running"):
        return "ENQUEUED" if found.status == "queued" else "IN_PROGRESS"
    # What was undone afterwards had been done.
    return "FAILED" if found.status in ("failed", "cancelled") else "DONE"


def _result(call: Call, found: BatchStatus) -> Mapping[str, object] | None:
    if found.status not in ENDED_STATUSES:
        return None
    done, failed = found.progress.successful, found.progress.failed
    message = f"{done} customer(s) imported successfully, {failed} failed."
    if found.status in ("failed", "cancelled"):
        reason = found.reason or FailureReason("cancelled", "The import was cancelled.")
        message = f"{reason.message} {message}" if found.progress.processed else reason.message
    rows = told.failed_rows(call.context, call.access.account, found.id)
    listed = (
        {"source_id": problems[0].ref, "row": problems[0].row, "reason": " ".join(p.message for p in problems)}
        for problems in rows
    )
    counts = schemas.Result(exclude=["failed"]).dump({"message": message, "done_count": done, "failed_count": failed})
    return {**counts, "failed": listed}


def authenticate(context: Context, request: Request) -> Access:
    """The access that X-App-Id and X-App-Token give. Raises bad_credentials and oauth_not_served."""
    header = partial(credentials.header, request)
    user_id, key = header("X-App-Id"), header("X-App-Token")
    oauth = header("X-Voucherify-OAuth") or header("Authorization").lower().startswith("bearer ")
    if oauth and not (user_id and key):
        raise ApiError("oauth_not_served")
    return credentials.access(context, request, user_id, key)


# Key and message by fault, else by status.
_SAID: Mapping[str, tuple[str, str]] = {
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
    fault = refusal.fault
    key, message = _SAID.get(fault.code) or _BY_STATUS[refusal.status]
    document: dict[str, object] = {
        "code": refusal.status,
        "key": key,
        "message": message,
        "details": _DETAILS.get(fault.code, fault.message),
        "request_id": refusal.request_id,
    }
    if fault.code == "unknown_batch" and fault.category is ErrorCategory.MISSING:
        action_id = refusal.path["action_id"]
        document |= {
            "details": f"Cannot find async_action with id {fault.values['value']}",
            "resource_id": action_id,
            "resource_type": "async_action",
        }
    loaded: Mapping[str, object] = schemas.Error().dump(document)
    return loaded


def rate_headers(standing: Standing) -> Mapping[str, str]:
    """What the vendor's clients read of their limit, on every reply; the times are in seconds since the epoch."""
    said = {"Limit": standing.limit, "Remaining": standing.remaining, "Reset": standing.resets}
    if standing.wait:
        said["Retry"] = standing.resets
    return {f"X-Rate-Limit-{name}": str(value) for name, value in said.items()}


FACE = Face(
    name=NAME,
    title="Voucherify: import and update customers using CSV",
    prefixes=("/v1",),
    below=("/v1", "/v1/", "/v1/<path:rest>"),
    routes=(
        Route(
            "POST",
            "/customers/importCSV",
            "importCustomersCsv",
            "Import and update customers using CSV",
            import_csv,
            {202: Told(schemas.Queued, "The file is queued.")},
            imports=True,
        ),
        Route(
            "GET",
            "/async-actions/<action_id>",
            "getAsyncAction",
            "Get an async action",
            get_action,
            {200: Told(schemas.Action, "What became of the file.")},
            parameters=schemas.ActionPath,
        ),
        Route(
            "GET",
            "/async-actions",
            "listAsyncActions",
            "List async actions, the newest first",
            list_actions,
            {200: Told(schemas.ActionList, "The actions.")},
            query=schemas.ListQuery,
        ),
    ),
    new_request_id=lambda: f"v-{uuid4().hex}",
    authenticate=authenticate,
    refused=refused,
    error=schemas.Error,
    errors={**{status: said[1] for status, said in _BY_STATUS.items()}, 422: "Idempotency-Key reused"},
    rate_headers=rate_headers,
    security={
        "voucherifyId": {"type": "apiKey", "in": "header", "name": "X-App-Id", "description": "the user id"},
        "voucherifyToken": {"type": "apiKey", "in": "header", "name": "X-App-Token", "description": "the user's key"},
    },
)
