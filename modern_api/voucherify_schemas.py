"""What the Voucherify face takes and gives, as schemas: the replies, and the OpenAPI document, are made from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import OneOf, Range

STATUSES = ("ENQUEUED", "IN_PROGRESS", "DONE", "FAILED")
MOST = 100

_EPOCH = datetime.fromtimestamp(0, UTC)


class Moment(fields.Field[int]):
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


class ListQuery(Schema):
    limit = fields.Integer(
        load_default=10, validate=Range(1, MOST), metadata={"description": "how many actions at most"}
    )
    end_date = Moment(metadata={"type": "string", "format": "date-time", "description": "actions before this time"})


class ActionPath(Schema):
    action_id = fields.String(required=True, metadata={"example": "aa_0a875d56c805df66010b"})


class Queued(Schema):
    async_action_id = fields.String(required=True, metadata={"example": "aa_0a875d56c805df66010b"})


class FailedRow(Schema):
    source_id = fields.String(required=True, metadata={"description": "blank where the row has none"})
    row = fields.Integer(required=True, metadata={"description": "from 1, without the first line"})
    reason = fields.String(required=True)


class Result(Schema):
    message = fields.String(required=True)
    failed = fields.List(fields.Nested(FailedRow), required=True)
    done_count = fields.Integer(required=True)
    failed_count = fields.Integer(required=True)


class ListedAction(Schema):
    id = fields.String(required=True)
    type = fields.String(required=True, validate=OneOf(["CUSTOMERS.IMPORT_CSV"]))
    status = fields.String(required=True, validate=OneOf(STATUSES))
    operation_status = fields.String(
        validate=OneOf(["SUCCESS", "FAILED", "UNKNOWN"]), metadata={"description": "once it has ended"}
    )
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    updated_at = fields.String(required=True, metadata={"format": "date-time"})
    request_id = fields.String(required=True)
    processing_time = fields.Integer(required=True, metadata={"description": "milliseconds of work"})
    progress = fields.Integer(required=True, validate=Range(0, 100))
    object = fields.String(required=True, validate=OneOf(["async_action"]))


class Action(ListedAction):
    result = fields.Nested(Result, required=True, allow_none=True, metadata={"description": "null until it has ended"})


class ActionList(Schema):
    object = fields.String(required=True, validate=OneOf(["list"]))
    data_ref = fields.String(required=True, validate=OneOf(["async_actions"]))
    async_actions = fields.List(fields.Nested(ListedAction), required=True)
    has_more = fields.Boolean(required=True)


class Error(Schema):
    code = fields.Integer(required=True, metadata={"description": "the HTTP status"})
    key = fields.String(required=True)
    message = fields.String(required=True)
    details = fields.String(required=True)
    request_id = fields.String(required=True)
    resource_id = fields.String()
    resource_type = fields.String()
