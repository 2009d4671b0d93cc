"""Reads the parameters of a call from the canonical fields of its form.

Parameters are checked in the order of docs/protocol.md, Parameters. The first wrong one raises its ApiError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from marshmallow import EXCLUDE, Schema, pre_load
from marshmallow import fields as schema_fields
from marshmallow.experimental.context import Context as SchemaContext

from auth.authenticate import Access
from importing.account_settings import AccountSettings
from importing.batch import Batch, Delimited, Mode, OnError, Origin
from importing.context import Context
from importing.errors import ApiError
from importing.reading import row_reader
from importing.reading.column_layout import close_gaps
from legacy_api.form import Form
from legacy_api.headers import headers

YES = frozenset(("yes", "y", "true", "1"))
SERVED_API_NUMBERS = frozenset((Decimal("1.5"), Decimal("1.6")))
DELIMITERS: Mapping[str, str] = {"pipe": "|", "|": "|", "comma": ",", ",": ",", "tab": "\t"}
MODES: Mapping[str, Mode] = {
    "": Mode.IGNORE,  # the mode that changes nothing
    "yes": Mode.REPLACE,
    "overwrite": Mode.REPLACE,
    "update": Mode.UPDATE,
    "ignore": Mode.IGNORE,
    "skip": Mode.IGNORE,
}
ON_ERROR: Mapping[str, OnError] = {"": OnError.REJECT, "reject": OnError.REJECT, "skip": OnError.SKIP}
FEWEST_CARD_DIGITS, MOST_CARD_DIGITS = 4, 32
LONGEST_REQUEST_ID = 255
PAGE_LENGTH, LONGEST_PAGE = 20, 100

_API_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class CallContext(NamedTuple):
    """What a call is given: who sends it, the form, and the `Idempotency-Key` header ("" without one).

    `request_id` is the id in the `X-Request-Id` header of the reply, `address` the client's.
    """

    context: Context
    access: Access
    form: Form
    idempotency_key: str = ""
    request_id: str = ""
    address: str | None = None

    def is_set(self, name: str) -> bool:
        """Whether the yes-or-no parameter says yes."""
        return is_yes(self.form.fields.get(name, ""))


def is_yes(value: str) -> bool:
    """Whether a yes-or-no parameter says yes. Anything else means no. Source: docs/protocol.md, Transport."""
    return value.strip().lower() in YES


def check_api_number(fields: Mapping[str, str]) -> None:
    """Raises bad_api for anything but 1.5 and 1.6, compared as numbers. A request without a number is served."""
    number = fields.get("api", "").strip()
    if number and not (_API_NUMBER.fullmatch(number) and Decimal(number) in SERVED_API_NUMBERS):
        raise ApiError("bad_api", value=number)


def read_batch(context: CallContext, account: AccountSettings) -> Batch:
    """The batch of `customers_batch`. Raises an ApiError: for parameters first, then for headers, then for the data."""
    form = context.form
    request_id = form.fields.get("request_id", "").strip() or context.idempotency_key
    with SchemaContext(account):
        parameters: dict[str, Any] = _BATCH_PARAMETERS.load({**form.fields, "request_id": request_id})
    batch_headers = headers(form.fields, account.fields)
    if form.data is None or form.data.size == 0:
        raise ApiError("no_data")
    delimited = Delimited(parameters["delimiter"], quotes=parameters["delimiter"] == ",")
    # The width of the first row decides what a gap between two headers means. After this each column has its name.
    batch_headers = close_gaps(batch_headers, form.data, delimited)
    return Batch(
        account=context.access.account,
        user=context.access.user_id,
        protocol="legacy",
        headers=batch_headers,
        delimited=delimited,
        source=form.data,
        mode=parameters["overwrite_duplicates"],
        on_error=parameters["on_error"],
        keep_undo=parameters["allow_undo"] or not parameters["no_undo"],
        card_digits=parameters["card_number_generate"],
        campaigns=tuple([account.campaigns[name] for name in parameters["campaigns_to_include"]]),
        request_key=parameters["request_id"],
        request_digest=form.digest,
        last_change=context.access.last_change,
        charset=form.charset,
        names=tuple([header.field.name if header.field else "" for header in batch_headers]),
        origin=Origin(context.address, parameters["delimiter"], context.request_id, form.declared_charset),
    )


def check_data(batch: Batch) -> None:
    """Raises no_data if every row is blank. The sender learns it at once, and not from a job that fails later."""
    if next(row_reader.read_blocks(batch.source, batch.delimited), None) is None:
        raise ApiError("no_data")


def read_page(context: CallContext) -> tuple[int, int]:
    """The offset and the length of `customers_batches`. Raises bad_offset or bad_length."""
    offset_text, length_text = (context.form.fields.get(name, "").strip() for name in ("offset", "length"))
    offset = _whole_number(offset_text) if offset_text else 0
    if offset is None:
        raise ApiError("bad_offset", value=offset_text)
    length = _whole_number(length_text) if length_text else PAGE_LENGTH
    if length is None or not 0 < length <= LONGEST_PAGE:
        raise ApiError("bad_length", value=length_text)
    return offset, length


def read_batch_id(context: CallContext) -> str:
    """The `batch_id`, as it was sent. Raises missing_batch_id or unknown_batch."""
    batch_id = context.form.fields.get("batch_id", "").strip()
    if not batch_id:
        raise ApiError("missing_batch_id")
    if _CONTROL_CHARACTER.search(batch_id):
        # No batch has such an id, and a database would refuse the text in its own words.
        raise ApiError("unknown_batch", value=batch_id)
    return batch_id


def _delimiter(sent: str) -> str:
    # A tab is a blank, so this is the one parameter that arrives untrimmed.
    word = sent.strip().lower()
    if not word and "\t" in sent:
        return "\t"
    if word not in DELIMITERS:
        raise ApiError("bad_delimiter")
    return DELIMITERS[word]


def _mode(sent: str) -> Mode:
    if sent.lower() not in MODES:
        raise ApiError("bad_overwrite", value=sent)
    return MODES[sent.lower()]


def _card_digits(sent: str) -> int | None:
    if not sent:
        return None
    digits = sent.lstrip("0") if re.fullmatch("[0-9]+", sent) else ""
    if not (0 < len(digits) <= 2 and FEWEST_CARD_DIGITS <= int(digits) <= MOST_CARD_DIGITS):
        raise ApiError("bad_card_digits", value=sent)
    return int(digits)


def _on_error(sent: str) -> OnError:
    if sent.lower() not in ON_ERROR:
        raise ApiError("bad_on_error", value=sent)
    return ON_ERROR[sent.lower()]


def _whole_number(sent: str) -> int | None:
    # Long digits are not converted: that takes quadratic time, and a database counts in 64 bits.
    digits = sent.lstrip("0") or "0"
    return int(digits) if re.fullmatch("[0-9]{1,9}", digits) else None


def _request_id(sent: str) -> str | None:
    if len(sent) > LONGEST_REQUEST_ID or _CONTROL_CHARACTER.search(sent):
        raise ApiError("bad_request_id")
    return sent or None


class BatchParameters(Schema):
    """The parameters of `customers_batch`, in the order in which they are checked. An absent one is a blank one.

    They are loaded in the `Context` of the sender's account.
    """

    delimiter = schema_fields.Raw(pre_load=_delimiter)
    overwrite_duplicates = schema_fields.Raw(pre_load=_mode)
    allow_undo = schema_fields.Raw(pre_load=is_yes)
    no_undo = schema_fields.Raw(pre_load=is_yes)
    card_number_generate = schema_fields.Raw(pre_load=_card_digits)
    campaigns_to_include = schema_fields.Method(deserialize="choose_campaigns")
    on_error = schema_fields.Raw(pre_load=_on_error)
    # "async" is a word of Python.
    asynchronous = schema_fields.Raw(data_key="async", pre_load=is_yes)
    request_id = schema_fields.Raw(pre_load=_request_id)

    @pre_load
    def fill_blanks(self, fields: Mapping[str, str], **_: object) -> dict[str, str]:
        """Every parameter, trimmed but for the delimiter."""
        names = (field.data_key or name for name, field in self.fields.items())
        return {name: fields.get(name, "") if name == "delimiter" else fields.get(name, "").strip() for name in names}

    def choose_campaigns(self, sent: str) -> tuple[str, ...]:
        """The ids of the active campaigns that are named, in their order, each once."""
        # The vendor's own PHP example separates by `|,|`.
        names = [name.strip() for name in sent.replace("|,|", ",").split(",")]
        campaigns = dict.fromkeys(name for name in names if name)
        if not campaigns:
            raise ApiError("no_campaign")
        campaigns_of_account = SchemaContext[AccountSettings].get().campaigns
        for name in campaigns:
            if name not in campaigns_of_account:
                raise ApiError("bad_campaign", value=name)
        return tuple(campaigns)


_BATCH_PARAMETERS = BatchParameters(unknown=EXCLUDE)
