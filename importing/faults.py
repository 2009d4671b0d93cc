"""What can go wrong, declared once: code, message and category. Knows no HTTP; each face renders faults in its own language.

A `Fault` refuses a whole request. A `Problem` concerns one row of a batch; its declarations are the ROW_* part of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Category(StrEnum):
    """Who or what a fault is about. A face maps each to its own status."""

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
class Declaration:
    """One thing that can go wrong: `template` is filled by `str.format` from the fault's values."""

    code: str
    template: str
    category: Category = Category.REQUEST


def _table(*declarations: Declaration) -> Mapping[str, Declaration]:
    return {declaration.code: declaration for declaration in declarations}


FAULTS: Mapping[str, Declaration] = _table(
    # Reading the request
    Declaration("method_not_allowed", "The method {method} is not served here; send POST or GET.", Category.METHOD),
    Declaration("method_not_served", "The method {method} is not served here; send {allowed}.", Category.METHOD),
    Declaration("get_disabled", "GET is switched off on this server; send POST.", Category.METHOD),
    Declaration(
        "body_too_large", "The request is larger than the {limit} bytes that this server takes.", Category.SIZE
    ),
    Declaration("body_incomplete", "The request ended before all of it had arrived."),
    Declaration("bad_form", "The form cannot be read: {reason}."),
    Declaration("bad_encoding", "The Content-Encoding {encoding} is not served; send the body plain or as gzip."),
    Declaration("spool_full", "The server is busy reading other requests; send it again in a moment.", Category.BUSY),
    Declaration("unknown_path", "Nothing is served at this address.", Category.MISSING),
    # Choosing the reply
    Declaration("bad_output", "Invalid output: {value}. Use XML or JSON."),
    Declaration("bad_callback", "Invalid callback: {value}. Use a dotted path of ASCII identifiers."),
    # Who is asking, and for what
    Declaration("bad_api", "API {value} is not served; this server serves API 1.5 and 1.6."),
    Declaration("bad_credentials", "Invalid user, API key or account.", Category.CREDENTIALS),
    Declaration("bad_password", "Invalid email or password.", Category.CREDENTIALS),
    Declaration("too_many_requests", "Too many requests; send it again in {seconds} s.", Category.RATE),
    Declaration("locked_out", "Too many requests. Please try again later.", Category.RATE),
    Declaration("foreign_origin", "The request comes from a page of another origin.", Category.RIGHTS),
    Declaration("not_signed_in", "Nobody is signed in.", Category.CREDENTIALS),
    Declaration("not_admin", "The user who is signed in is not an administrator.", Category.RIGHTS),
    Declaration("no_account", "The administrator belongs to no account to import into.", Category.RIGHTS),
    Declaration("bad_json", "The body is not JSON."),
    Declaration("bad_body", "Missing or invalid in the body: {member}."),
    Declaration("bad_email", "Invalid email"),
    Declaration("bad_callback_url", "Invalid callbackURL: only a path of this server will do.", Category.RIGHTS),
    Declaration("oauth_not_served", "OAuth is not served; send X-App-Id and X-App-Token.", Category.CREDENTIALS),
    Declaration("missing_type", "The type is missing; send type=customers_batch."),
    Declaration("unknown_type", "The type {value} is not served."),
    Declaration("type_not_yet", "The type {value} is not served yet."),
    Declaration("no_permission", "User does not have permission", Category.RIGHTS),
    # The parameters of a batch
    Declaration("bad_delimiter", "Invalid delimiter"),
    Declaration("bad_overwrite", "Invalid overwrite_duplicates: {value}. Use yes, update or ignore."),
    Declaration("bad_card_digits", "Invalid card_number_generate: {value}. Use a number of digits from 4 to 32."),
    Declaration("no_campaign", "At least one campaign is required."),
    Declaration("bad_campaign", "One of the campaigns selected is not valid. ({value})"),
    Declaration("bad_on_error", "Invalid on_error: {value}. Use reject or skip."),
    Declaration("bad_request_id", "Invalid request_id: use at most 255 characters, no control characters."),
    Declaration("request_id_reused", "The request_id {value} was used for a different request."),
    # Headers
    Declaration("no_header", "At least one profiles_header is required."),
    Declaration("bad_header_number", "Invalid header number in {value}. Number the headers from 1 to 999."),
    Declaration("header_number_twice", "The header number {number} is given twice."),
    Declaration("header_gap", "Headers may skip one number only: there is none between {first} and {second}."),
    Declaration("unknown_header", "Unknown field in {header}: {value}"),
    Declaration("header_twice", "The field {value} is given by two headers: {first} and {second}."),
    Declaration("undefined_custom_field", "The field {value} in {header} is not defined in this account."),
    # Data
    Declaration("no_data", "No data was given"),
    Declaration(
        "bad_header_line", "The first line names the columns, but has a quote that is misplaced or not closed."
    ),
    Declaration("bad_rows", "Nothing was imported: {count} of {rows} rows cannot be imported. {rows_text}"),
    Declaration("no_good_rows", "Nothing was imported: none of the {rows} rows can be imported. {rows_text}"),
    Declaration("cards_exhausted", "There are not enough free card numbers of {digits} digits; nothing was imported."),
    # Files
    Declaration("missing_file", "No file was sent; send it as the part file of a multipart form."),
    Declaration("unreadable_file", "The file is no text; send CSV in UTF-8 or Windows-1252."),
    Declaration(
        "bad_column", "The name of column {number} is longer than {limit} characters or has a control character."
    ),
    Declaration("too_many_columns", "The file has more than {limit} columns."),
    Declaration("column_twice", "The column {value} is given twice."),
    Declaration("missing_column", "The column {value} is missing."),
    # Undo
    Declaration("missing_batch_id", "The batch_id is missing."),
    Declaration("unknown_batch", "Unknown batch: {value}", Category.MISSING),
    Declaration("undo_unavailable", "The batch {value} has no undo state."),
    Declaration("already_undone", "The batch {value} is undone already."),
    Declaration("undo_expired", "The undo state of the batch {value} has expired."),
    Declaration("batch_running", "The batch {value} is still being imported; cancel it first."),
    # Jobs
    Declaration("bad_offset", "Invalid offset: {value}. Use a whole number from 0."),
    Declaration("bad_length", "Invalid length: {value}. Use a whole number from 1 to 100."),
    Declaration("bad_limit", "Invalid limit: {value}. Use a whole number from 1 to 100."),
    Declaration("bad_end_date", "Invalid end_date: {value}. Use a date or a date and time as in ISO 8601."),
    Declaration("no_failed_rows", "The batch {value} has no failed rows."),
    Declaration("not_running", "The batch {value} is not queued or running."),
    Declaration("not_resumable", "The batch {value} cannot be resumed; it has ended, or its data is gone."),
    Declaration("job_interrupted", "The import was interrupted ({reason}); it can be resumed.", Category.BUG),
    # The gateway itself
    Declaration("busy", "The account is busy with another import; nothing was imported.", Category.BUSY),
    Declaration("unavailable", "The server cannot reach its database; nothing was imported.", Category.BUSY),
    Declaration("out_of_room", "The server has no room to work in; nothing was imported.", Category.BUSY),
    Declaration("bug", "Internal error; nothing was imported. Quote the request id {request_id}.", Category.BUG),
)

# One sentence a problem: "Row 3, custom_date: " and the template. Of a secret, and where there is none, it says
# "The value" instead of the value.
PROBLEMS: Mapping[str, Declaration] = _table(
    Declaration("bad_character", "{value} has a control character."),
    Declaration("too_long", "{value} is longer than {limit} characters."),
    Declaration("too_many_columns", "{value} stands in a column without a header."),
    Declaration("line_too_long", "The line is longer than its columns allow."),
    Declaration("bad_quotes", "{value} has text after a closing quote, or a quote that is not closed."),
    Declaration("bad_date", "{value} is not a date (YYYY-MM-DD)."),
    Declaration("bad_date_time", "{value} is not a date (YYYY-MM-DD or YYYY-MM-DD HH:MM:SS)."),
    Declaration("bad_choice", "{value} is not one of the choices."),
    Declaration("bad_amount", "{value} is not an amount (digits, at most two decimals, below 10000000)."),
    Declaration("bad_visits", "{value} is not a whole number of visits."),
    Declaration("bad_item", "{value} is not an item of the campaign."),
    Declaration("no_campaign_to_add_to", "{value} cannot be added, for the batch names no campaign."),
    Declaration("bad_country", "{value} is not a country code (two letters, ISO 3166-1 alpha-2)."),
    Declaration("missing_value", "{value} is missing."),
    Declaration("exists", "{value} exists already."),
    Declaration("key_conflict", "{value} and the code belong to two different customers."),
    Declaration("username_in_use", "The username is already in use. ({value})"),
    Declaration("value_in_use", "{value} is already in use by another customer."),
)

WARNINGS: Mapping[str, Declaration] = _table(
    Declaration("odd_email", "{value} does not look like an e-mail address."),
    Declaration("odd_phone", "{value} does not look like a phone number."),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row. `value` is the offending text as sent, "" for a secret; `limit` only for lengths.

    `ref` is what the sender calls the row, where the batch says which field that is.
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
        declaration = PROBLEMS.get(self.code) or WARNINGS[self.code]
        where = f"Row {self.row}, {self.field}: " if self.field else f"Row {self.row}: "
        if self.value:
            return where + declaration.template.format(value=f'"{shown(self.value)}"', limit=self.limit)
        return where + declaration.template.replace("{value} ", "The value ").format(value="", limit=self.limit)


class Fault(Exception):
    """A refusal of a whole request. Raised where known, rendered once by each face.

    `values` fill the declaration's template, each escaped and cut by `shown`. `problems` are all the row problems
    behind the fault, in row order, re-iterable. `retry_after` is in seconds, for the BUSY and RATE categories.
    """

    def __init__(
        self, code: str, *, problems: Iterable[Problem] = (), listed: str = "", retry_after: int = 0, **values: object
    ) -> None:
        self.declaration = FAULTS[code]
        self.values = {name: shown(str(value)) for name, value in values.items()}
        if "{rows_text}" in self.declaration.template:
            self.values["rows_text"] = listed
        self.problems = problems
        self.retry_after = retry_after
        super().__init__(code)

    @property
    def code(self) -> str:
        return self.declaration.code

    @property
    def category(self) -> Category:
        return self.declaration.category

    @property
    def message(self) -> str:
        """The sentence for people: ASCII, without `& < >`. Source: docs/protocol.md, Replies."""
        return self.declaration.template.format(**self.values)


def shown(value: str, limit: int = 40) -> str:
    r"""A value as messages show it: cut to `limit` characters, then pure ASCII without `& < >`, a backslash as two.

    >>> shown("Zoë & <b>")
    'Zo\\xeb \\x26 \\x3cb\\x3e'
    """
    return "".join(_shown_character(character) for character in value[:limit])


def _shown_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    number = ord(character)
    if 32 <= number < 127 and character not in "&<>":
        return character
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
