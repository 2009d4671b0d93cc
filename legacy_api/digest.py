"""What "the same request" is: one digest for all encodings. Source: docs/protocol.md, Parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

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

_HEADER = re.compile(r"profiles_header_0*(\d+)")


def is_known(name: str) -> bool:
    """Whether a canonical field name belongs to the protocol, `profiles_data` apart."""
    return name in MEANING or name in APART or name.startswith("profiles_header")


def request_digest(fields: Mapping[str, str], data: bytes) -> bytes:
    """32 bytes. `fields` by canonical name, `data` the SHA-256 of the data as UTF-8 text, b"" where there are none.

    A blank value counts as absent, but for a header's: a header sent blank is an unused column.
    """
    meant: dict[str, str] = {}
    for name, value in fields.items():
        if name in MEANING:
            if value:
                meant[name] = value
        elif name.startswith("profiles_header_") and (header := _HEADER.fullmatch(name)):
            meant[f"profiles_header_{header[1]}"] = value
    said = "".join([f"{len(text.encode())}:{text}" for pair in sorted(meant.items()) for text in pair])
    return sha256(said.encode() + b"data:" + data).digest()
