"""The only field catalogue: every field's name, limit, kind and destination, for headers, checks, columns and docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class FieldKind(StrEnum):
    """What a value of the field must look like.

    In files only: a FULL_NAME becomes a first and a last name, a NAME_KEY a code too; of an ISO_DATE with a time only the
    date is stored; a TYPED attribute is stored as JSON (true, 12, a list where it has commas).
    """

    KEY = "key"
    TEXT = "text"
    DATE = "date"
    DATE_TIME = "date_time"
    PICK = "pick"
    LIST = "list"
    EMAIL = "email"
    PHONE = "phone"
    USERNAME = "username"
    SECRET = "secret"  # noqa: S105 - the name of a kind
    AMOUNT = "amount"
    FULL_NAME = "full_name"
    NAME_KEY = "name_key"
    ISO_DATE = "iso_date"
    TYPED = "typed"
    COUNTRY = "country"


class FieldDestination(StrEnum):
    """Where a value is stored."""

    COLUMN = "column"
    CUSTOM = "custom_fields"
    ATTRIBUTE = "attributes"
    DIGEST = "digest"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a customer. `column`, if it is not the name: the column of `customer`, or the key inside JSON."""

    name: str
    kind: FieldKind = FieldKind.TEXT
    into: FieldDestination = FieldDestination.COLUMN
    column: str = ""
    limit: int = 255
    note: str = ""
    label: str = ""
    choices: tuple[str, ...] = ()
    unique: bool = False

    @property
    def target(self) -> str:
        return self.column or self.name

    def __hash__(self) -> int:
        # Names differ, and every column of every batch is hashed.
        return hash(self.name)


CODE = Field("code", FieldKind.KEY, note="the sender's own id of the customer; made when none is given")
CARD_NUMBER = Field("card_number", FieldKind.KEY, note="unique in the account")
USERNAME = Field("customer_username", FieldKind.USERNAME, note="unique in the account, in any case")
PASSWORD = Field(
    "customer_password", FieldKind.SECRET, FieldDestination.DIGEST, "password_digest", note="kept as a digest only"
)
PIN = Field("customer_PIN", FieldKind.SECRET, FieldDestination.DIGEST, "pin_digest", note="kept as a digest only")
AUTO_ADD = Field(
    "auto_add", FieldKind.AMOUNT, FieldDestination.LEDGER, "amount", note="added to the first campaign of the batch"
)

STANDARD_FIELDS: tuple[Field, ...] = (
    CARD_NUMBER,
    CODE,
    Field("first_name"),
    Field("last_name"),
    Field("email", FieldKind.EMAIL, note="an odd one is a warning"),
    Field("phone", FieldKind.PHONE, note="an odd one is a warning"),
    Field("custom_date", FieldKind.DATE, note="YYYY-MM-DD"),
    Field("street1"),
    Field("street2"),
    Field("city"),
    Field("state"),
    Field("postal_code"),
    Field("country"),
    USERNAME,
    PASSWORD,
    PIN,
    AUTO_ADD,
)

FIELD_BY_NAME: Mapping[str, Field] = {field.name.lower(): field for field in STANDARD_FIELDS}

# Other spellings of header names that real clients send. The vendor's own PHP example has `custome_date`.
HEADER_ALIASES: Mapping[str, str] = {"custome_date": "custom_date", "custom_field": "custom_field_1"}

# The plain text columns of `customer`, which mode `yes` blanks, besides the user name, secrets and custom fields.
PROFILE_FIELDS: tuple[str, ...] = tuple(
    field.name
    for field in STANDARD_FIELDS
    if field.into is FieldDestination.COLUMN and field.kind not in (FieldKind.KEY, FieldKind.USERNAME)
)

LONG_TEXT_LIMIT = 64_000

SECRET_MASK = "********"  # noqa: S105 - what is shown instead of a secret


def make_custom_field(
    number: int,
    label: str,
    kind: FieldKind,
    choices: tuple[str, ...] = (),
    *,
    unique: bool = False,
    searchable: bool = False,
) -> Field:
    """The field of an account's custom field. The limit of a text is 64,000 characters, or 255 if unique or searchable."""
    long = kind is FieldKind.TEXT and not (unique or searchable)
    name = f"custom_field_{number}"
    return Field(
        name, kind, FieldDestination.CUSTOM, name, LONG_TEXT_LIMIT if long else 255, "", label, choices, unique
    )
