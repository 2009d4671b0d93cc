"""What a batch and its outcome are: frozen values. What differs between protocols is a value here, never their name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from importing.errors import Problem
from importing.fields import Field


class Mode(StrEnum):
    """Which columns are written of a customer that a row matches. CREATE: such a row has a problem."""

    REPLACE = "yes"
    UPDATE = "update"
    IGNORE = "ignore"
    CREATE = "create"


class OnError(StrEnum):
    """Whether a bad row prevents the whole batch, or the good rows are imported."""

    REJECT = "reject"
    SKIP = "skip"


class CampaignType(StrEnum):
    POINTS = "points"
    GIFTCARD = "giftcard"
    EVENTS = "events"
    EARNED = "earned"
    BUYX = "buyx"


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign. `id` is the database's number, `public_id` the protocols' name; `items` (buyx only) maps an item's name or
    id, case-folded, to its number.
    """

    id: int
    public_id: str
    name: str
    type: CampaignType
    items: Mapping[str, int] = field(default_factory=dict)


# A cell that gives no value, in data that may have such cells. No value contains this character: it is forbidden.
ABSENT = "\0"


@dataclass(frozen=True, slots=True)
class Delimited:
    """How text is split into rows and columns.

    `quotes`: a value may be quoted as in RFC 4180. `multiline`: a quoted value may span lines, in files only; in the
    legacy protocol a stray quote must not spoil more than one row. `guarded`: our own export may have written the file,
    so the guard of formulas is removed (see `importing.reading.csv_formula_guard`). `has_absent`: a cell that is ABSENT
    gives no value (see `importing.row_writer`).
    """

    delimiter: str
    quotes: bool = False
    multiline: bool = False
    guarded: bool = False
    has_absent: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """The data of a batch: a seekable binary file at any position, its charset (a Python codec name) and size in bytes."""

    file: BinaryIO
    charset: str
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """One column of the data. `position` is the number in the request, from 1. A column without a field is unused."""

    position: int
    field: Field | None


@dataclass(frozen=True, slots=True)
class Requirement:
    """A row must give one of `fields` (names), else it has the problem `missing_value` in the first of them.

    With `when`, only a row whose field of that name has that value, in any case.
    """

    fields: tuple[str, ...]
    when: tuple[str, str] | None = None


class Cursor(NamedTuple):
    """Where reading resumes: the byte in the source, the rows before it, and the characters that may still be read again
    after quotes that are never closed (None: as many as a batch may).
    """

    position: int = 0
    rows: int = 0
    rereads: int | None = None


class Origin(NamedTuple):
    """Where a batch came from, None where that is not known: the client's address, the delimiter that the sender chose,
    the X-Request-Id of the reply, and the charset that the sender declared.
    """

    address: str | None = None
    delimiter: str | None = None
    request_id: str | None = None
    declared_charset: str | None = None


class Batch(NamedTuple):
    """One import: what to do with which data, for whom.

    `account` is the database's number of the account. `headers` are in order of position; see `close_gaps` for gaps.
    `request_key` is the sender's idempotency key. `request_digest` identifies the same request (32 bytes, or empty).
    `last_change` is the number of the account's newest change when the request arrived (None: when it is imported).
    `charset` is the usual name of the data's charset. `names` are the sender's names of the columns, in their order.

    For files whose columns are no legacy headers: `requirements` of each row, `constants` that every row has beside its
    own values, and `reference`: names of fields, of which the first that is not blank is what the sender calls a row. Of
    two headers with the same target the first value that is not blank counts.
    """

    account: int
    user: str
    protocol: str
    headers: tuple[Header, ...]
    delimited: Delimited
    source: Source
    mode: Mode = Mode.IGNORE
    on_error: OnError = OnError.REJECT
    keep_undo: bool = True
    card_digits: int | None = None
    campaigns: tuple[Campaign, ...] = ()
    request_key: str | None = None
    request_digest: bytes = b""
    last_change: int | None = None
    charset: str = "UTF-8"
    names: tuple[str, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    constants: tuple[tuple[Field, str], ...] = ()
    reference: tuple[str, ...] = ()
    origin: Origin = Origin()


@dataclass(frozen=True, slots=True)
class AssignedKey:
    """The keys of a row for which a code or a card number was generated."""

    row: int
    code: str
    card_number: str


class Counts(NamedTuple):
    """Counts of rows. `updated` are all matched rows that were processed, `unchanged` those of them that changed nothing."""

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    ignored: int = 0
    failed: int = 0


class Outcome(NamedTuple):
    """What a batch did, or in a preview would do (`batch_id` is "" then).

    `assigned_keys`, `problems` and `warnings` are re-iterable, false if empty, and may be long. `replayed`: this is the
    stored outcome of an earlier request, and nothing was imported now.
    """

    batch_id: str
    counts: Counts
    assigned_keys: Iterable[AssignedKey]
    problems: Iterable[Problem]
    warnings: Iterable[Problem]
    charset: str
    seconds: float
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """A value that an undo did not restore. `written` and `current` are "" for secrets."""

    code: str
    field: str
    written: str
    current: str


@dataclass(frozen=True, slots=True)
class UndoOutcome:
    """What an undo did, or in a preview would do (`batch_id` is "" then). The counts are of customers."""

    batch_id: str
    undoes: str
    restored: int
    removed: int
    kept: int
    conflicts: Iterable[Conflict]
