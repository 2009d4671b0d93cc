"""What the Grid face takes and gives, as schemas: the replies, and the OpenAPI document, are made from them."""

from __future__ import annotations

from marshmallow import Schema, fields
from marshmallow.validate import OneOf

EXAMPLE = "Job:019542f5-b3e7-8d02-8abc-6c0000000000"


class JobPath(Schema):
    job_id = fields.String(required=True, metadata={"example": EXAMPLE})


class Queued(Schema):
    jobId = fields.String(required=True, metadata={"example": EXAMPLE})  # noqa: N815 - the protocol's name
    status = fields.String(required=True, validate=OneOf(["PENDING", "PROCESSING"]))


class Progress(Schema):
    total = fields.Integer(required=True, metadata={"description": "0 until they are counted"})
    processed = fields.Integer(required=True)
    successful = fields.Integer(required=True)
    failed = fields.Integer(required=True)


class ErrorEntry(Schema):
    correlationId = fields.String(  # noqa: N815
        required=True, metadata={"description": "the platformCustomerId, else row_N; file for the file as a whole"}
    )
    code = fields.String(required=True)
    message = fields.String(required=True)
    details = fields.Dict(required=True)


class Job(Schema):
    jobId = fields.String(required=True, metadata={"example": EXAMPLE})  # noqa: N815
    id = fields.String(required=True, metadata={"description": "the same"})
    status = fields.String(required=True, validate=OneOf(["PENDING", "PROCESSING", "COMPLETED", "FAILED"]))
    progress = fields.Nested(Progress, required=True)
    errors = fields.List(fields.Nested(ErrorEntry), required=True)
    completedAt = fields.String(metadata={"format": "date-time", "description": "once it has ended"})  # noqa: N815
    code = fields.String(metadata={"description": "of a job that failed as a whole"})
    message = fields.String(metadata={"description": "of a job that failed as a whole"})
    details = fields.Dict(metadata={"description": "of a job that failed as a whole"})


class Error(Schema):
    status = fields.Integer(required=True, metadata={"description": "the HTTP status"})
    code = fields.String(required=True)
    message = fields.String(required=True)
    details = fields.Dict(required=True)
