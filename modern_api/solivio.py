"""Solivio's `POST /api/customers/import`: a CSV text of names from a signed-in administrator, imported at once.

Source: docs/modern_protocols.md, Solivio.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from http import HTTPStatus
from itertools import chain, groupby
from operator import attrgetter

from flask import Request, Response
from marshmallow import RAISE, Schema, fields, validate

from auth import admin_sessions
from auth.admin_sessions import Role
from importing import import_batch
from importing.batch import Batch, Delimited, Header, Mode, OnError, Requirement, Source
from importing.context import Context
from importing.errors import ApiError, ErrorCategory, Problem
from importing.fields import Field, FieldDestination, FieldKind
from importing.reading.row_reader import read_first_row
from modern_api.csv_upload import MAX_COLUMNS, delimiter_of
from modern_api.json_stream import json_body, json_response
from modern_api.routes import STATUSES, ApiCall, JsonBody, ModernProtocol, Refusal, ReplySpec, Route, Sender
from transport.session_cookie import SESSION_SECURITY, is_foreign, session_cookie

NAME = "solivio"
PATH = "/api/customers/import"
MAX_BODY = 10 * 1024 * 1024

NAME_FIELD = Field("name", FieldKind.NAME_KEY)
SOURCE_FIELD = Field("source", into=FieldDestination.ATTRIBUTE)
DEFAULT_SOURCE = "import"
COLUMNS: Mapping[str, Field] = {
    **dict.fromkeys(
        ("name", "customer", "customer_name", "client", "client_name", "company", "company_name"), NAME_FIELD
    ),
    **dict.fromkeys(("firma", "nazwa", "nazwa_klienta", "klient"), NAME_FIELD),
    **dict.fromkeys(("source", "źródło", "zrodlo", "origin"), SOURCE_FIELD),
}
# The first of those that are equally frequent in the first line.
DELIMITERS = (",", ";", "\t")

# What is wrong with a text as a whole, by error code.
TEXT_MESSAGES: Mapping[str, str] = {
    "unreadable_file": "CSV is empty or unreadable",
    "missing_column": "Missing required columns: name",
    "no_data": "No valid rows found",
    "no_good_rows": "No valid rows found",
}
# What is wrong with a row where no single column is to blame.
ROW_MESSAGES: Mapping[str, str] = {
    "too_many_columns": "The row has more cells than there are columns",
    "bad_quotes": "The row has a misplaced quote or one that is not closed",
    "line_too_long": "The row is too long",
}
# Errors that "Forbidden" alone would leave without a remedy.
EXPLAINED = frozenset({"foreign_origin", "no_account"})
# Errors whose own message names a parameter of the legacy protocol.
MESSAGES: Mapping[str, str] = {
    "bad_request_id": "Invalid Idempotency-Key: use at most 255 characters, no control characters.",
    "request_id_reused": "The Idempotency-Key was used for a different text.",
}

_SURROGATE = re.compile("[\ud800-\udfff]")


class SolivioImportBody(Schema):
    """Exactly this."""

    class Meta:
        unknown = RAISE

    content = fields.String(
        required=True, validate=validate.Length(min=1), metadata={"description": "The text of a CSV file."}
    )


class SolivioRowError(Schema):
    index = fields.Integer(
        required=True, metadata={"description": "The data row, from 0; 0 where it is the whole text."}
    )
    name = fields.String(metadata={"description": "The name as it was sent."})
    message = fields.String(required=True)


class SolivioImported(Schema):
    count = fields.Integer(required=True, metadata={"description": "How many customers are new."})
    errors = fields.List(fields.Nested(SolivioRowError), required=True)


class SolivioError(Schema):
    error = fields.String(required=True)
    errors = fields.List(fields.Nested(SolivioRowError))


def import_customers(call: ApiCall) -> Response:
    """`POST /api/customers/import`: import the text at once."""
    content = json_body(call.request, SolivioImportBody(), MAX_BODY)["content"]
    outcome = import_batch.run(call.context, _batch(call, content))
    headers = {"X-Batch-Id": outcome.batch_id} | ({"Idempotent-Replayed": "true"} if outcome.replayed else {})
    document = {"count": outcome.counts.new, "errors": _row_errors(outcome.problems)}
    return json_response(document, headers=headers)


def authenticate(context: Context, request: Request) -> Sender:
    """The administrator who is signed in. Raises foreign_origin and not_signed_in."""
    if is_foreign(request):
        raise ApiError("foreign_origin")
    session = admin_sessions.find_session(context, session_cookie(request))
    if session is None:
        raise ApiError("not_signed_in")
    admin = session.admin
    import_refusal = "" if admin.account else "no_account"
    if admin.role is not Role.ADMIN:
        import_refusal = "not_admin"
    return Sender(admin.account or 0, admin.email, f"console:{admin.email}", import_refusal)


def refused(refusal: Refusal) -> Mapping[str, object]:
    """A refusal as Solivio words it."""
    error = refusal.error
    if error.code in TEXT_MESSAGES:
        of_text = {"index": 0, "message": TEXT_MESSAGES[error.code]}
        return {"error": "Import failed.", "errors": chain(_row_errors(error.problems), [of_text])}
    message = MESSAGES.get(error.code, error.message)
    if error.category not in (ErrorCategory.CREDENTIALS, ErrorCategory.RIGHTS):
        return {"error": message}
    title = "Unauthorized" if error.category is ErrorCategory.CREDENTIALS else "Forbidden"
    return {"error": f"{title}: {message}" if error.code in EXPLAINED else title}


def _batch(call: ApiCall, content: str) -> Batch:
    sender, key = call.sender, call.idempotency_key()
    # Half a surrogate pair is no character; browsers, too, send this one for it.
    text = _SURROGATE.sub("\ufffd", content).removeprefix("\ufeff")
    data = text.encode()
    delimited = Delimited(_delimiter_of_text(text), quotes=True, multiline=True)
    try:
        names, start = read_first_row(Source(io.BytesIO(data), "utf-8", len(data)), delimited)
    except ApiError as error:
        raise ApiError("unreadable_file") from error
    rows = data[start:]
    return Batch(
        account=sender.account,
        user=sender.user,
        protocol=NAME,
        headers=_headers(names),
        delimited=delimited,
        source=Source(io.BytesIO(rows), "utf-8", len(rows)),
        mode=Mode.IGNORE,
        on_error=OnError.SKIP,
        request_key=key,
        # Without a key a repetition is a request of its own: it finds all customers there, and says so.
        request_digest=sha256(b"\n".join((NAME.encode(), sender.user.encode(), data))).digest() if key else b"",
        names=tuple(names),
        requirements=(Requirement((NAME_FIELD.name,)),),
        constants=((SOURCE_FIELD, DEFAULT_SOURCE),),
        reference=(NAME_FIELD.name,),
        origin=call.origin(delimited.delimiter),
    )


def _delimiter_of_text(text: str) -> str:
    blank = " \t\r\n" + "".join(DELIMITERS)
    line = next((line for line in io.StringIO(text, newline=None) if line.strip(blank)), "")
    return delimiter_of(line, DELIMITERS)


def _headers(names: list[str]) -> tuple[Header, ...]:
    if len(names) > MAX_COLUMNS:
        raise ApiError("unreadable_file")
    columns = [COLUMNS.get(_folded(name)) for name in names]
    if NAME_FIELD not in columns:
        raise ApiError("missing_column", value=NAME_FIELD.name)
    # Of two columns for the same the first counts: two names of one customer would be mixed.
    first = {columns.index(field) for field in (NAME_FIELD, SOURCE_FIELD) if field in columns}
    return tuple(Header(n, field if n - 1 in first else None) for n, field in enumerate(columns, 1))


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFC", name).strip().casefold())


def _row_errors(problems: Iterable[Problem]) -> Iterator[dict[str, object]]:
    """One for each bad row. The name is left out where the row has none."""
    for row, in_row in groupby(problems, key=attrgetter("row")):
        of_row = list(in_row)
        named = {"name": of_row[0].ref} if of_row[0].ref else {}
        yield {"index": row - 1, **named, "message": _row_message(of_row)}


def _row_message(problems: list[Problem]) -> str:
    columns = dict.fromkeys(problem.field for problem in problems if problem.field)
    if columns:
        return f"Missing or invalid field(s): {', '.join(columns)}"
    return ROW_MESSAGES.get(problems[0].code, "The row cannot be read")


PROTOCOL = ModernProtocol(
    name=NAME,
    title="Solivio",
    routes=(
        Route(
            "POST",
            PATH,
            "importCustomers",
            "Import customers by their names",
            import_customers,
            ReplySpec(
                SolivioImported,
                "Imported: how many are new, and which rows were not valid.",
                {"count": 2, "errors": [{"index": 2, "message": "Missing or invalid field(s): name"}]},
            ),
            (400, 401, 403, 413, 422, 429, 500),
            body=JsonBody(SolivioImportBody, {"content": "name;source\nKim Lee;fair\nAnn Bell;\n;shop\n"}),
            imports=True,
        ),
    ),
    below=(),
    authenticate=authenticate,
    refused=refused,
    error_schema=SolivioError,
    refusals={
        400: "The body is not what it must be, or nothing in the text can be imported.",
        401: "Nobody is signed in.",
        403: "Not an administrator, one without an account, or a page of another origin.",
        405: "Not by that method.",
        413: "The body is larger than 10 MiB.",
        422: "The Idempotency-Key was used for another text.",
        429: "Too many requests; see Retry-After.",
        500: "The customers could not be written; nothing was imported.",
    },
    example_errors={
        400: ApiError("missing_column", value="name"),
        401: ApiError("not_signed_in"),
        403: ApiError("not_admin"),
        413: ApiError("body_too_large", limit=MAX_BODY),
        500: ApiError("busy"),
    },
    # The vendor's reference knows no 503: whatever keeps a good request from being written is a 500.
    statuses={**STATUSES, ErrorCategory.BUSY: HTTPStatus.INTERNAL_SERVER_ERROR},
    security=SESSION_SECURITY,
)
