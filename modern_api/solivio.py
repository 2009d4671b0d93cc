"""Solivio's `POST /api/customers/import`: a CSV text of names from a signed-in administrator, imported at once.

Source: docs/faces.md, Solivio.
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

from flask import Response
from marshmallow import RAISE, Schema, fields, validate

from auth import admin_sessions
from auth.admin_sessions import Admin, Role
from importing import import_batch
from importing.batch import Batch, Delimited, Header, Mode, OnError, Outcome, Requirement, Source
from importing.errors import ApiError, ErrorCategory, Problem
from importing.fields import Field, FieldDestination, FieldKind
from importing.reading.row_reader import read_first_row
from modern_api.people import Call, Face, Route, answered, body_of
from modern_api.routes import Reply, Told
from transport.browsers import is_foreign, pass_of
from transport.rate import Whose

PATH = "/api/customers/import"
MAX_BODY = 10 * 1024 * 1024
MOST_COLUMNS = 1000
LONGEST_KEY = 255
RETRY_AFTER = 5  # seconds

NAME = Field("name", FieldKind.NAME_KEY)
SOURCE = Field("source", into=FieldDestination.ATTRIBUTE)
DEFAULT_SOURCE = "import"
COLUMNS: Mapping[str, Field] = {
    **dict.fromkeys(("name", "customer", "customer_name", "client", "client_name", "company", "company_name"), NAME),
    **dict.fromkeys(("firma", "nazwa", "nazwa_klienta", "klient"), NAME),
    **dict.fromkeys(("source", "źródło", "zrodlo", "origin"), SOURCE),
}
# The first of those that are equally frequent in the first line.
DELIMITERS = (",", ";", "\t")

# Of the whole text, not of a row.
FAILED = "Import failed."
EMPTY = "CSV is empty or unreadable"
NO_NAME = "Missing required columns: name"
NO_ROWS = "No valid rows found"
# Of a row, where no single column is to blame.
ROWS: Mapping[str, str] = {
    "too_many_columns": "The row has more cells than there are columns",
    "bad_quotes": "The row has a misplaced quote or one that is not closed",
    "line_too_long": "The row is too long",
}

STATUS: Mapping[ErrorCategory, tuple[HTTPStatus, str]] = {
    ErrorCategory.CREDENTIALS: (HTTPStatus.UNAUTHORIZED, "Unauthorized"),
    ErrorCategory.RIGHTS: (HTTPStatus.FORBIDDEN, "Forbidden"),
    ErrorCategory.REQUEST: (HTTPStatus.BAD_REQUEST, ""),
    ErrorCategory.METHOD: (HTTPStatus.METHOD_NOT_ALLOWED, ""),
    ErrorCategory.SIZE: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ""),
    ErrorCategory.RATE: (HTTPStatus.TOO_MANY_REQUESTS, ""),
}
# "Forbidden" alone would leave these without a remedy.
EXPLAINED = frozenset({"foreign_origin", "no_account"})
# Of faults that name a parameter of the legacy protocol.
SAID: Mapping[str, str] = {
    "bad_request_id": "Invalid Idempotency-Key: use at most 255 characters, no control characters.",
    "request_id_reused": "The Idempotency-Key was used for a different text.",
}

_QUOTED = re.compile(r'"[^"]*"?')
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class ImportBody(Schema):
    """Exactly this."""

    class Meta:
        unknown = RAISE

    content = fields.String(
        required=True, validate=validate.Length(min=1), metadata={"description": "The text of a CSV file."}
    )


class RowError(Schema):
    index = fields.Integer(
        required=True, metadata={"description": "The data row, from 0; 0 where it is the whole text."}
    )
    name = fields.String(metadata={"description": "The name as it was sent."})
    message = fields.String(required=True)


class Imported(Schema):
    count = fields.Integer(required=True, metadata={"description": "How many customers are new."})
    errors = fields.List(fields.Nested(RowError), required=True)


class Error(Schema):
    error = fields.String(required=True)
    errors = fields.List(fields.Nested(RowError))


class Unfit(Exception):
    """A text of which nothing can be imported; the message is what the sender is told."""


def import_customers(call: Call) -> Response:
    """`POST /api/customers/import`. Judged in this order: origin, session, role, account, body."""
    admin, account = _admin(call)
    content = body_of(call, ImportBody(), MAX_BODY)["content"]
    try:
        outcome = import_batch.run(call.context, _batch(account, admin.email, content, _key(call)))
    except Unfit as unfit:
        return _failed(call, [_whole(str(unfit))])
    except ApiError as fault:
        if fault.code == "no_data":
            return _failed(call, [_whole(NO_ROWS)])
        if fault.code == "no_good_rows":
            return _failed(call, chain(_row_errors(fault.problems), [_whole(NO_ROWS)]))
        raise
    return _imported(call, outcome)


def refused(fault: ApiError) -> Reply:
    """A fault as Solivio tells of it. Whatever keeps a good request from being written is a write failure: 500."""
    status, error = STATUS.get(fault.category, (HTTPStatus.INTERNAL_SERVER_ERROR, ""))
    if fault.code == "request_id_reused":
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    message = SAID.get(fault.code, fault.message)
    error = f"{error}: {message}" if fault.code in EXPLAINED else error or message
    waits = fault.category in (ErrorCategory.RATE, ErrorCategory.BUSY)
    return Reply({"error": error}, status, {"Retry-After": str(fault.retry_after or RETRY_AFTER)} if waits else {})


FACE = Face(
    name="solivio",
    title="Solivio",
    routes=(
        Route(
            "POST",
            PATH,
            "importCustomers",
            "Import customers by their names",
            import_customers,
            {200: Told(Imported, "Imported: how many are new, and which rows were not valid.")},
            (400, 401, 403, 413, 422, 429, 500),
            body=ImportBody,
            signed_in=True,
        ),
    ),
    below=(),
    refused=refused,
    error=Error,
    errors={
        400: "The body is not what it must be, or nothing in the text can be imported.",
        401: "Nobody is signed in.",
        403: "Not an administrator, one without an account, or a page of another origin.",
        405: "Not by that method.",
        413: "The body is larger than 10 MiB.",
        422: "The Idempotency-Key was used for another text.",
        429: "Too many requests; see Retry-After.",
        500: "The customers could not be written; nothing was imported.",
    },
)


def _admin(call: Call) -> tuple[Admin, int]:
    if is_foreign(call.request):
        raise ApiError("foreign_origin")
    session = admin_sessions.find_session(call.context, pass_of(call.request))
    if session is None:
        raise ApiError("not_signed_in")
    call.count(Whose.USER, f"console:{session.admin.email}")
    if session.admin.role is not Role.ADMIN:
        raise ApiError("not_admin")
    if session.admin.account is None:
        raise ApiError("no_account")
    return session.admin, session.admin.account


def _key(call: Call) -> str | None:
    key = call.request.headers.get("Idempotency-Key", "").strip()
    if len(key) > LONGEST_KEY or _CONTROL.search(key):
        raise ApiError("bad_request_id")
    return key or None


def _batch(account: int, user: str, content: str, key: str | None) -> Batch:
    # Half a surrogate pair is no character; browsers, too, send this one for it.
    text = _SURROGATE.sub("\ufffd", content).removeprefix("\ufeff")
    data = text.encode()
    delimited = Delimited(_delimiter(text), quotes=True, multiline=True)
    try:
        names, start = read_first_row(Source(io.BytesIO(data), "utf-8", len(data)), delimited)
    except ApiError as fault:
        raise Unfit(EMPTY) from fault
    rows = data[start:]
    return Batch(
        account=account,
        user=user,
        face=FACE.name,
        headers=_headers(names),
        delimited=delimited,
        source=Source(io.BytesIO(rows), "utf-8", len(rows)),
        mode=Mode.IGNORE,
        on_error=OnError.SKIP,
        request_key=key,
        # Without a key a repetition is a request of its own: it finds all customers there, and says so.
        request_digest=sha256(b"\n".join((FACE.name.encode(), user.encode(), data))).digest() if key else b"",
        names=tuple(names),
        requirements=(Requirement((NAME.name,)),),
        constants=((SOURCE, DEFAULT_SOURCE),),
        reference=(NAME.name,),
    )


def _delimiter(text: str) -> str:
    blank = " \t\r\n" + "".join(DELIMITERS)
    line = next((line for line in io.StringIO(text, newline=None) if line.strip(blank)), "")
    line = _QUOTED.sub("", line)
    return max(DELIMITERS, key=line.count)


def _headers(names: list[str]) -> tuple[Header, ...]:
    if len(names) > MOST_COLUMNS:
        raise Unfit(EMPTY)
    found = [COLUMNS.get(_folded(name)) for name in names]
    if NAME not in found:
        raise Unfit(NO_NAME)
    # Of two columns for the same the first counts: two names of one customer would be mixed.
    first = {found.index(field) for field in (NAME, SOURCE) if field in found}
    return tuple(Header(n, field if n - 1 in first else None) for n, field in enumerate(found, 1))


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFC", name).strip().casefold())


def _imported(call: Call, outcome: Outcome) -> Response:
    response = answered(call, {"count": outcome.counts.new, "errors": _row_errors(outcome.problems)})
    response.headers["X-Batch-Id"] = outcome.batch_id
    if outcome.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _failed(call: Call, errors: Iterable[Mapping[str, object]]) -> Response:
    return answered(call, {"error": FAILED, "errors": iter(errors)}, HTTPStatus.BAD_REQUEST)


def _whole(message: str) -> dict[str, object]:
    return {"index": 0, "message": message}


def _row_errors(problems: Iterable[Problem]) -> Iterator[dict[str, object]]:
    """One for each bad row. The name is left out where the row has none."""
    for row, found in groupby(problems, key=attrgetter("row")):
        of_row = list(found)
        named = {"name": of_row[0].ref} if of_row[0].ref else {}
        yield {"index": row - 1, **named, "message": _message(of_row)}


def _message(problems: list[Problem]) -> str:
    columns = dict.fromkeys(problem.field for problem in problems if problem.field)
    if columns:
        return f"Missing or invalid field(s): {', '.join(columns)}"
    return ROWS.get(problems[0].code, "The row cannot be read")
