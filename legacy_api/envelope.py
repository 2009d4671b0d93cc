"""Canonical fields -> what is asked for: the API's number, and the parameters of each call as a Batch or plain values.

Parameters are judged in the order of docs/protocol.md, Parameters; the first that is wrong raises its ApiError.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from contextvars import ContextVar
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from marshmallow import EXCLUDE, Schema, pre_load
from marshmallow import fields as read

from auth.authenticate import Access
from importing.account_settings import AccountSettings
from importing.batch import Batch, Delimited, Header, Mode, OnError
from importing.context import Context
from importing.errors import ApiError
from importing.reading import row_reader
from importing.reading.column_layout import close_gaps
from legacy_api.digest import KEPT, Alike, alike
from legacy_api.form import Form
from legacy_api.headers import headers

YES = frozenset(("yes", "y", "true", "1"))
APIS = frozenset((Decimal("1.5"), Decimal("1.6")))
DELIMITERS: Mapping[str, str] = {"pipe": "|", "|": "|", "comma": ",", ",": ",", "tab": "\t"}
MODES: Mapping[str, Mode] = {
    "": Mode.IGNORE,  # the one that changes nothing
    "yes": Mode.REPLACE,
    "overwrite": Mode.REPLACE,
    "update": Mode.UPDATE,
    "ignore": Mode.IGNORE,
    "skip": Mode.IGNORE,
}
ON_ERROR: Mapping[str, OnError] = {"": OnError.REJECT, "reject": OnError.REJECT, "skip": OnError.SKIP}
FEWEST_CARD_DIGITS, MOST_CARD_DIGITS = 4, 32
LONGEST_REQUEST_ID = 255
LONGEST_API = 41  # what _NUMBER takes at most
PAGE, LONGEST_PAGE = 20, 100

_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class Asked(NamedTuple):
    """What a call is given: who asks, the canonical form, and the `Idempotency-Key` header ("" without one).

    `request_id` is what the reply calls the request, in `X-Request-Id`.
    """

    context: Context
    access: Access
    form: Form
    idempotency_key: str = ""
    request_id: str = ""

    def says(self, name: str) -> bool:
        """Whether the yes-or-no parameter says yes."""
        return is_yes(self.form.fields.get(name, ""))


def is_yes(value: str) -> bool:
    """Whether a yes-or-no parameter says yes. Anything else is no. Source: docs/protocol.md, Transport."""
    return value.strip().lower() in YES


def check_api(fields: Mapping[str, str]) -> None:
    """Raises bad_api for anything but 1.5 and 1.6, compared as numbers. Absent and blank are served alike."""
    sent = fields.get("api", "").strip()
    if sent and not (len(sent) <= LONGEST_API and _is_served(sent)):
        raise ApiError("bad_api", value=sent)


@lru_cache(maxsize=16)
def _is_served(api: str) -> bool:
    return _NUMBER.fullmatch(api) is not None and Decimal(api) in APIS


def batch(asked: Asked, account: AccountSettings) -> Batch:
    """The batch that `customers_batch` asks for. Raises a ApiError: parameters first, then headers, then the data."""
    fields = asked.form.fields
    asking = _ACCOUNT.set(account)
    try:
        # What senders send alike with every batch is judged once: a third of a small batch's work.
        told = alike(fields)
        every, version = tuple(fields.items()), account.version
        sent = _parameters(every, version) if told is None else _known_parameters(told, version)
        request_id = _request_id(fields.get("request_id", "").strip() or asked.idempotency_key)
        columns = _headers(every, version) if told is None else _known_headers(told, version)
    finally:
        _ACCOUNT.reset(asking)
    source = asked.form.data
    if source is None or source.size == 0:
        raise ApiError("no_data")
    delimited = Delimited(sent["delimiter"], quotes=sent["delimiter"] == ",")
    # What gaps between the headers mean is settled here, so that each column has its name.
    columns = close_gaps(columns, source, delimited)
    return Batch(
        account=asked.access.account,
        user=asked.access.user_id,
        face="legacy",
        headers=columns,
        delimited=delimited,
        source=source,
        mode=sent["overwrite_duplicates"],
        on_error=sent["on_error"],
        keep_undo=sent["allow_undo"] or not sent["no_undo"],
        card_digits=sent["card_number_generate"],
        campaigns=tuple([account.campaigns[name] for name in sent["campaigns_to_include"]]),
        request_key=request_id,
        request_digest=asked.form.digest,
        last_change=asked.access.newest,
        charset=asked.form.charset,
        names=tuple([header.field.name if header.field else "" for header in columns]),
    )


def check_data(batch: Batch) -> None:
    """Raises no_data where no row has anything in it: told at once, and not by a job that fails later."""
    if next(row_reader.read_blocks(batch.source, batch.delimited), None) is None:
        raise ApiError("no_data")


def page(asked: Asked) -> tuple[int, int]:
    """The offset and the length that `customers_batches` asks for. Raises bad_offset or bad_length."""
    offset, length = (asked.form.fields.get(name, "").strip() for name in ("offset", "length"))
    skipped = _whole(offset) if offset else 0
    if skipped is None:
        raise ApiError("bad_offset", value=offset)
    wanted = _whole(length) if length else PAGE
    if wanted is None or not 0 < wanted <= LONGEST_PAGE:
        raise ApiError("bad_length", value=length)
    return skipped, wanted


def batch_id(asked: Asked) -> str:
    """The batch that `batch_id` names, as it was sent. Raises missing_batch_id or unknown_batch."""
    sent = asked.form.fields.get("batch_id", "").strip()
    if not sent:
        raise ApiError("missing_batch_id")
    if _CONTROL.search(sent):
        # No batch is called so, and a database refuses such a text in its own words.
        raise ApiError("unknown_batch", value=sent)
    return sent


def _delimiter(sent: str) -> str:
    # A tab is blank by itself, so this one parameter comes untrimmed.
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


def _whole(sent: str) -> int | None:
    # Long ones are never made a number: that takes quadratic time, and a database counts in 64 bits.
    digits = sent.lstrip("0") or "0"
    return int(digits) if re.fullmatch("[0-9]{1,9}", digits) else None


def _request_id(sent: str) -> str | None:
    if len(sent) > LONGEST_REQUEST_ID or _CONTROL.search(sent):
        raise ApiError("bad_request_id")
    return sent or None


class BatchParameters(Schema):
    """The parameters of `customers_batch`, in the order in which they are judged. An absent one is a blank one."""

    class Meta:
        unknown = EXCLUDE

    delimiter = read.Raw(pre_load=_delimiter)
    overwrite_duplicates = read.Raw(pre_load=_mode)
    allow_undo = read.Raw(pre_load=is_yes)
    no_undo = read.Raw(pre_load=is_yes)
    card_number_generate = read.Raw(pre_load=_card_digits)
    campaigns_to_include = read.Method(deserialize="choose_campaigns")
    on_error = read.Raw(pre_load=_on_error)
    # "async" is a word of Python.
    asynchronous = read.Raw(data_key="async", pre_load=is_yes)
    request_id = read.Raw(pre_load=_request_id)

    @pre_load
    def fill_blanks(self, fields: Mapping[str, str], **_: object) -> dict[str, str]:
        names = (field.data_key or name for name, field in self.fields.items())
        return {name: fields.get(name, "") if name == "delimiter" else fields.get(name, "").strip() for name in names}

    def choose_campaigns(self, sent: str) -> tuple[str, ...]:
        """The ids of the active campaigns that are named, in their order, each once."""
        # The vendor's own PHP example separates by `|,|`.
        names = [name.strip() for name in sent.replace("|,|", ",").split(",")]
        chosen = dict.fromkeys(name for name in names if name)
        if not chosen:
            raise ApiError("no_campaign")
        known = _ACCOUNT.get().campaigns
        for name in chosen:
            if name not in known:
                raise ApiError("bad_campaign", value=name)
        return tuple(chosen)


# One for all requests: to make a schema copies every field of it, a tenth of what a terminal's post takes. A request's
# own id is judged behind the others, apart.
_PARAMETERS = BatchParameters(exclude=("request_id",))
_ACCOUNT: ContextVar[AccountSettings] = ContextVar("account")


def _parameters(sent: Alike, _version: Hashable) -> Mapping[str, Any]:
    found: dict[str, Any] = _PARAMETERS.load(dict(sent))
    return found


def _headers(sent: Alike, _version: Hashable) -> tuple[Header, ...]:
    return headers(dict(sent), _ACCOUNT.get().fields)


_known_parameters = lru_cache(maxsize=KEPT)(_parameters)
_known_headers = lru_cache(maxsize=KEPT)(_headers)
