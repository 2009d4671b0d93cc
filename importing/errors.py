"""What can go wrong, declared once: code, message and category. Each protocol renders errors in its own format.

An `ApiError` refuses a whole request. A `Problem` concerns one row of a batch; PROBLEMS and WARNINGS declare them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class ErrorCategory(StrEnum):
    """Who or what an error is about. Each protocol maps it to its own status."""

    REQUEST = "request"
    CREDENTIALS = "credentials"
    RIGHTS = "rights"
    METHOD = "method"
    SIZE = "size"
    RATE = "rate"
    MISSING = "missing"
    BUSY = "busy"
    BUG = "bug"


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """One thing that can go wrong: `str.format` fills `template` with the error's values."""

    code: str
    template: str
    category: ErrorCategory = ErrorCategory.REQUEST


def _by_code(*specs: ErrorSpec) -> Mapping[str, ErrorSpec]:
    return {spec.code: spec for spec in specs}


API_ERRORS: Mapping[str, ErrorSpec] = _by_code(
    # Reading the request
    ErrorSpec("method_not_allowed", "The method {method} is not served here; send POST or GET.", ErrorCategory.METHOD),
    ErrorSpec("method_not_served", "The method {method} is not served here; send {allowed}.", ErrorCategory.METHOD),
    ErrorSpec("get_disabled", "GET is switched off on this server; send POST.", ErrorCategory.METHOD),
    ErrorSpec(
        "body_too_large", "The request is larger than the {limit} bytes that this server takes.", ErrorCategory.SIZE
    ),
    ErrorSpec("body_incomplete", "The request ended before all of it had arrived."),
    ErrorSpec("bad_form", "The form cannot be read: {reason}."),
    ErrorSpec("bad_encoding", "The Content-Encoding {encoding} is not served; send the body plain or as gzip."),
    ErrorSpec(
        "spool_full", "The server is busy reading other requests; send it again in a moment.", ErrorCategory.BUSY
    ),
    ErrorSpec("unknown_path", "Nothing is served at this address.", ErrorCategory.MISSING),
    # Choosing the reply
    ErrorSpec("bad_output", "Invalid output: {value}. Use XML or JSON."),
    ErrorSpec("bad_callback", "Invalid callback: {value}. Use a dotted path of ASCII identifiers."),
    # Who is asking, and for what
    ErrorSpec("bad_api", "API {value} is not served; this server serves API 1.5 and 1.6."),
    ErrorSpec("bad_credentials", "Invalid user, API key or account.", ErrorCategory.CREDENTIALS),
    ErrorSpec("bad_password", "Invalid email or password.", ErrorCategory.CREDENTIALS),
    ErrorSpec("too_many_requests", "Too many requests; send it again in {seconds} s.", ErrorCategory.RATE),
    ErrorSpec("locked_out", "Too many requests. Please try again later.", ErrorCategory.RATE),
    ErrorSpec("foreign_origin", "The request comes from a page of another origin.", ErrorCategory.RIGHTS),
    ErrorSpec("not_signed_in", "Nobody is signed in.", ErrorCategory.CREDENTIALS),
    ErrorSpec("not_admin", "The user who is signed in is not an administrator.", ErrorCategory.RIGHTS),
    ErrorSpec("no_account", "The administrator belongs to no account to import into.", ErrorCategory.RIGHTS),
    ErrorSpec("bad_json", "The body is not JSON."),
    ErrorSpec("bad_body", "Missing or invalid in the body: {member}."),
    ErrorSpec("bad_email", "Invalid email"),
    ErrorSpec("bad_callback_url", "Invalid callbackURL: only a path of this server will do.", ErrorCategory.RIGHTS),
    ErrorSpec("oauth_not_served", "OAuth is not served; send X-App-Id and X-App-Token.", ErrorCategory.CREDENTIALS),
    ErrorSpec("missing_type", "The type is missing; send type=customers_batch."),
    ErrorSpec("unknown_type", "The type {value} is not served."),
    ErrorSpec("type_not_yet", "The type {value} is not served yet."),
    ErrorSpec("no_permission", "User does not have permission", ErrorCategory.RIGHTS),
    # The parameters of a batch
    ErrorSpec("bad_delimiter", "Invalid delimiter"),
    ErrorSpec("bad_overwrite", "Invalid overwrite_duplicates: {value}. Use yes, update or ignore."),
    ErrorSpec("bad_card_digits", "Invalid card_number_generate: {value}. Use a number of digits from 4 to 32."),
    ErrorSpec("no_campaign", "At least one campaign is required."),
    ErrorSpec("bad_campaign", "One of the campaigns selected is not valid. ({value})"),
    ErrorSpec("bad_on_error", "Invalid on_error: {value}. Use reject or skip."),
    ErrorSpec("bad_request_id", "Invalid request_id: use at most 255 characters, no control characters."),
    ErrorSpec("request_id_reused", "The request_id {value} was used for a different request."),
    # Headers
    ErrorSpec("no_header", "At least one profiles_header is required."),
    ErrorSpec("bad_header_number", "Invalid header number in {value}. Number the headers from 1 to 999."),
    ErrorSpec("header_number_twice", "The header number {number} is given twice."),
    ErrorSpec("header_gap", "Headers may skip one number only: there is none between {first} and {second}."),
    ErrorSpec("unknown_header", "Unknown field in {header}: {value}"),
    ErrorSpec("header_twice", "The field {value} is given by two headers: {first} and {second}."),
    ErrorSpec("undefined_custom_field", "The field {value} in {header} is not defined in this account."),
    # Data
    ErrorSpec("no_data", "No data was given"),
    ErrorSpec("bad_header_line", "The first line names the columns, but has a quote that is misplaced or not closed."),
    ErrorSpec("bad_rows", "Nothing was imported: {count} of {rows} rows cannot be imported. {rows_text}"),
    ErrorSpec("no_good_rows", "Nothing was imported: none of the {rows} rows can be imported. {rows_text}"),
    ErrorSpec("cards_exhausted", "There are not enough free card numbers of {digits} digits; nothing was imported."),
    # Files
    ErrorSpec("missing_file", "No file was sent; send it as the part file of a multipart form."),
    ErrorSpec("unreadable_file", "The file is no text; send CSV in UTF-8 or Windows-1252."),
    ErrorSpec(
        "bad_column", "The name of column {number} is longer than {limit} characters or has a control character."
    ),
    ErrorSpec("too_many_columns", "The file has more than {limit} columns."),
    ErrorSpec("column_twice", "The column {value} is given twice."),
    ErrorSpec("missing_column", "The column {value} is missing."),
    # Undo
    ErrorSpec("missing_batch_id", "The batch_id is missing."),
    ErrorSpec("unknown_batch", "Unknown batch: {value}", ErrorCategory.MISSING),
    ErrorSpec("undo_unavailable", "The batch {value} has no undo state."),
    ErrorSpec("already_undone", "The batch {value} is undone already."),
    ErrorSpec("undo_expired", "The undo state of the batch {value} has expired."),
    ErrorSpec("batch_running", "The batch {value} is still being imported; cancel it first."),
    # Jobs
    ErrorSpec("bad_offset", "Invalid offset: {value}. Use a whole number from 0."),
    ErrorSpec("bad_length", "Invalid length: {value}. Use a whole number from 1 to 100."),
    ErrorSpec("bad_limit", "Invalid limit: {value}. Use a whole number from 1 to 100."),
    ErrorSpec("bad_end_date", "Invalid end_date: {value}. Use a date or a date and time as in ISO 8601."),
    ErrorSpec("no_failed_rows", "The batch {value} has no failed rows."),
    ErrorSpec("not_running", "The batch {value} is not queued or running."),
    ErrorSpec("not_resumable", "The batch {value} cannot be resumed; it has ended, or its data is gone."),
    ErrorSpec("job_interrupted", "The import was interrupted ({reason}); it can be resumed.", ErrorCategory.BUG),
    # The gateway itself
    ErrorSpec("busy", "The account is busy with another import; nothing was imported.", ErrorCategory.BUSY),
    ErrorSpec("unavailable", "The server cannot reach its database; nothing was imported.", ErrorCategory.BUSY),
    ErrorSpec("out_of_room", "The server has no room to work in; nothing was imported.", ErrorCategory.BUSY),
    ErrorSpec("bug", "Internal error; nothing was imported. Quote the request id {request_id}.", ErrorCategory.BUG),
)

# A message is "Row 3, custom_date: " and the template, with "The value" for a secret or missing value.
PROBLEMS: Mapping[str, ErrorSpec] = _by_code(
    ErrorSpec("bad_character", "{value} has a control character."),
    ErrorSpec("too_long", "{value} is longer than {limit} characters."),
    ErrorSpec("too_many_columns", "{value} stands in a column without a header."),
    ErrorSpec("line_too_long", "The line is longer than its columns allow."),
    ErrorSpec("bad_quotes", "{value} has text after a closing quote, or a quote that is not closed."),
    ErrorSpec("bad_date", "{value} is not a date (YYYY-MM-DD)."),
    ErrorSpec("bad_date_time", "{value} is not a date (YYYY-MM-DD or YYYY-MM-DD HH:MM:SS)."),
    ErrorSpec("bad_choice", "{value} is not one of the choices."),
    ErrorSpec("bad_amount", "{value} is not an amount (digits, at most two decimals, below 10000000)."),
    ErrorSpec("bad_visits", "{value} is not a whole number of visits."),
    ErrorSpec("bad_item", "{value} is not an item of the campaign."),
    ErrorSpec("no_campaign_to_add_to", "{value} cannot be added, for the batch names no campaign."),
    ErrorSpec("bad_country", "{value} is not a country code (two letters, ISO 3166-1 alpha-2)."),
    ErrorSpec("missing_value", "{value} is missing."),
    ErrorSpec("exists", "{value} exists already."),
    ErrorSpec("key_conflict", "{value} and the code belong to two different customers."),
    ErrorSpec("username_in_use", "The username is already in use. ({value})"),
    ErrorSpec("value_in_use", "{value} is already in use by another customer."),
)

WARNINGS: Mapping[str, ErrorSpec] = _by_code(
    ErrorSpec("odd_email", "{value} does not look like an e-mail address."),
    ErrorSpec("odd_phone", "{value} does not look like a phone number."),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row. `value` is the invalid text as sent, "" for a secret; `limit` only for lengths.

    `ref` is what the sender calls the row, if the batch says which field that is.
    """

    row: int
    field: str
    code: str
    value: str = ""
    limit: int = 0
    ref: str = ""

    @property
    def message(self) -> str:
        """The sentence for people: ASCII, without `& < >`. Source: docs/protocol.md, Replies."""
        template = (PROBLEMS.get(self.code) or WARNINGS[self.code]).template
        no_value = "The value" if template.startswith("{value}") else ""
        value = f'"{escape_value(self.value)}"' if self.value else no_value
        where = f"Row {self.row}, {self.field}: " if self.field else f"Row {self.row}: "
        return where + template.format(value=value, limit=self.limit)


class ApiError(Exception):
    """A refusal of a whole request. Raised where known, rendered by each protocol in one place.

    `values` fill the template, each through `escape_value`; `listed` fills `{rows_text}` as it is. `problems` are all the
    row problems behind the error, in row order, re-iterable. `retry_after` is in seconds, for categories BUSY and RATE.
    """

    def __init__(
        self, code: str, *, problems: Iterable[Problem] = (), listed: str = "", retry_after: int = 0, **values: object
    ) -> None:
        spec = API_ERRORS[code]
        self.code, self.category, self._template = code, spec.category, spec.template
        self.values = {name: escape_value(str(value)) for name, value in values.items()}
        if "{rows_text}" in self._template:
            self.values["rows_text"] = listed
        self.problems = problems
        self.retry_after = retry_after
        super().__init__(code)

    @property
    def message(self) -> str:
        """The sentence for people: ASCII, without `& < >`. Source: docs/protocol.md, Replies."""
        return self._template.format(**self.values)


# Backslashes are doubled; control characters and `& < >` are escaped as `backslashreplace` escapes what is not ASCII.
_ESCAPES = {ord("\\"): "\\\\", **{code: f"\\x{code:02x}" for code in (*range(32), 127, *b"&<>")}}


def escape_value(value: str, limit: int = 40) -> str:
    r"""A value as messages show it: cut to `limit` characters, then pure ASCII without `& < >`, a backslash as two.

    >>> escape_value("Zoë & <b>")
    'Zo\\xeb \\x26 \\x3cb\\x3e'
    """
    return value[:limit].translate(_ESCAPES).encode("ascii", "backslashreplace").decode()
