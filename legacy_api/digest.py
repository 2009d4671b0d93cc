"""What "the same request" is: one digest for all encodings. Source: docs/protocol.md, Parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256

from legacy_api.headers import HIGHEST, NUMBERED

# Every field that means something to this protocol, but for those in APART. Others are ignored, here too.
MEANING: frozenset[str] = frozenset(
    {
        "api",
        "user_id",
        "account_id",
        "type",
        # customers_batch
        "delimiter",
        "overwrite_duplicates",
        "allow_undo",
        "no_undo",
        "card_number_generate",
        "campaigns_to_include",
        "details",
        "on_error",
        "async",
        # the calls beside it
        "action",
        "batch_id",
        "campaign_id",
        "card_number",
        "code",
        "customer_password",
        "customer_pin",
        "customer_username",
        "how_many_digits",
        "include_balances",
        "length",
        "offset",
        "type_restrict",
    }
)
# Known, but no part of what is asked for: the key of the repetition itself, the form of the reply, and credentials.
APART: frozenset[str] = frozenset(
    {"dry_run", "request_id", "output", "callback", "condensed", "_charset_", "user_api_key", "user_password"}
)

# Those that a sender says alike in every request: how it speaks, and what for. Never a secret, and nothing of a customer.
SETTINGS: frozenset[str] = (MEANING | APART | {f"{NUMBERED}{number}" for number in range(1, HIGHEST + 1)}) - {
    "batch_id",
    "callback",
    "card_number",
    "code",
    "customer_password",
    "customer_pin",
    "customer_username",
    "request_id",
    "user_api_key",
    "user_password",
}
Alike = tuple[tuple[str, str], ...]
# So many sets of these are remembered, of at most so many characters each.
KEPT, KEPT_SIZE = 500, 4_000

_HEADER = re.compile(rf"{NUMBERED}0*(\d+)")


def is_known(name: str) -> bool:
    """Whether a canonical field name belongs to the protocol, `profiles_data` apart."""
    return name in MEANING or name in APART or name.startswith("profiles_header")


def request_digest(fields: Mapping[str, str], data: bytes) -> bytes:
    """32 bytes. `fields` by canonical name, `data` the SHA-256 of the data as UTF-8 text, b"" where there are none.

    A blank value counts as absent, but for a header's: a header sent blank is an unused column.
    """
    told = alike(fields)
    said = _said(tuple(fields.items())) if told is None else _remembered(told)
    return sha256(said + b"data:" + data).digest()


def alike(fields: Mapping[str, str]) -> Alike | None:
    """The fields that a sender says alike in every request, by which what follows from them can be remembered.

    None where others say as much as they do, or where they are too long to be kept in memory.
    """
    told = dict(fields)
    for name in fields.keys() - SETTINGS:
        if name in MEANING or name.startswith(NUMBERED):
            return None
        del told[name]
    return tuple(told.items()) if sum(map(len, told.values())) <= KEPT_SIZE else None


def _said(fields: Alike) -> bytes:
    meant: dict[str, str] = {}
    for name, value in fields:
        if name in MEANING:
            if value:
                meant[name] = value
        elif header := _HEADER.fullmatch(name):
            meant[f"{NUMBERED}{header[1]}"] = value
    return "".join([f"{len(text.encode())}:{text}" for pair in sorted(meant.items()) for text in pair]).encode()


_remembered = lru_cache(maxsize=KEPT)(_said)
