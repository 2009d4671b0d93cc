"""Computes the digest by which a repeated request is recognised, the same in every encoding of a form.

Source: docs/protocol.md, Parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

from legacy_api.headers import HEADER_PREFIX

# The fields of the protocol that say what is asked for. The digest covers them, the headers and the data.
DIGESTED_FIELDS: frozenset[str] = frozenset(
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
        # the other calls
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
# The other fields of the protocol: the key of the repetition itself, the format of the reply, and the credentials.
UNDIGESTED_FIELDS: frozenset[str] = frozenset(
    {"dry_run", "request_id", "output", "callback", "condensed", "_charset_", "user_api_key", "user_password"}
)

_HEADER = re.compile(rf"{HEADER_PREFIX}0*(\d+)")


def is_protocol_field(name: str) -> bool:
    """Whether a canonical field name belongs to the protocol. `profiles_data` is not asked for."""
    return name in DIGESTED_FIELDS or name in UNDIGESTED_FIELDS or name.startswith("profiles_header")


def request_digest(fields: Mapping[str, str], data_digest: bytes) -> bytes:
    """32 bytes. `fields` has canonical names; `data_digest` is the SHA-256 of the data as UTF-8, b"" without data.

    A blank field counts as absent. A blank header does not: it says that a column is not used.
    """
    digested: dict[str, str] = {}
    for name, value in fields.items():
        if name in DIGESTED_FIELDS:
            if value:
                digested[name] = value
        elif header := _HEADER.fullmatch(name):
            digested[f"{HEADER_PREFIX}{header[1]}"] = value
    # Each text has its length in front, so that two different requests never read alike.
    text = "".join(f"{len(text.encode())}:{text}" for pair in sorted(digested.items()) for text in pair)
    return sha256(text.encode() + b"data:" + data_digest).digest()
