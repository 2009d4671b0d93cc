"""What a batch is: frozen values. Policies are values on `Batch`, never names of faces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from importing.errors import Problem
from importing.fields import Field


class Mode(StrEnum):
    """What happens to a customer that a row matches: which columns are written. CREATE: such a row is a problem."""

    REPLACE = "yes"
    UPDATE = "update"
    IGNORE = "ignore"
    CREATE = "create"


class OnError(StrEnum):
    """What a bad row does to the batch: nothing at all is imported, or the good rows are."""

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
    """A campaign. `id` is the store's number, `campaign_id` what the protocols call it.

    `items` (buyx only): an item's name or id, case-folded, to its number.
    """

    id: int
    campaign_id: str
    name: str
    type: CampaignType
    items: Mapping[str, int] = field(default_factory=dict)


# A cell that gives no value, in data that may have such cells. No value has this character: it is refused everywhere.
ABSENT = "\0"


@dataclass(frozen=True, slots=True)
class Delimited:
    """How text is cut into rows and columns.

    `quotes`: a value may be quoted as RFC 4180 says. `multiline`: a quoted value may span lines (files);
    the legacy protocol never lets it, so that a stray quote spoils one row only. `guarded`: a file that our own export
    may have written; the guard before what a spreadsheet would run is removed (see
    `importing.reading.csv_formula_guard`). `has_absent`: a cell that is ABSENT gives no value, so its row does not give
    that column (see `importing.row_writer`).
    """

    delimiter: str
    quotes: bool = False
    multiline: bool = False
    guarded: bool = False
    has_absent: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """The data of a batch: a seekable binary file positioned anywhere, its charset (a Python codec name) and size in bytes."""

    file: BinaryIO
    charset: str
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """One named column of the data. `position` is the number that it was sent with, from 1; None: an unused column."""

    position: int
    field: Field | None


@dataclass(frozen=True, slots=True)
class Requirement:
    """A row must give one of `fields` (names), else it has the problem `missing_value` in the first of them.

    `when`: only where the field of that name has that value, in any case.
    """

    fields: tuple[str, ...]
    when: tuple[str, str] | None = None


class Cursor(NamedTuple):
    """Where reading goes on: the byte in the source, the rows before it, and what may still be read again of quotes
    that are never closed (characters; None: all that a batch may).
    """

    position: int = 0
    rows: int = 0
    rereads: int | None = None


class Batch(NamedTuple):
    """One import: what to do with which data, for whom.

    `account` is the store's number of the account. `headers` are in growing position; where the positions have gaps,
    the widest row decides what the gaps mean (docs/protocol.md, Headers). `request_key` is the sender's idempotency key,
    `request_digest` says what "the same request" is (32 bytes, empty where nobody asks), and `since` the number of the
    account's newest change when it came (None: the newest when it is imported). `charset` is the data's, as people call
    it. `names` are the columns as the sender names them, in the order of the data.

    For files whose columns are no legacy headers: `requirements` of each row, `constants` that every row has beside its
    own values, and `reference`, the fields (names) of which the first that is not blank is what the sender calls a row.
    Of two headers with the same target the first value that is not blank counts.
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


@dataclass(frozen=True, slots=True)
class AssignedKey:
    """What a sender learns of a row that came without a code, or that got a card made."""

    row: int
    code: str
    card_number: str


class Counts(NamedTuple):
    """Rows: `updated` counts every matched row that was processed; `unchanged` are those of them that changed nothing."""

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    ignored: int = 0
    failed: int = 0


class Outcome(NamedTuple):
    """What a batch did, or in a preview would do. `made`, `problems` and `warnings` are re-iterable, false where there is
    none, and may be long.

    `batch_id` is "" in a preview. `replayed`: this is the stored outcome of an earlier request, nothing was imported now.
    """

    batch_id: str
    counts: Counts
    made: Iterable[AssignedKey]
    problems: Iterable[Problem]
    warnings: Iterable[Problem]
    charset: str
    seconds: float
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """A value that an undo left as it is. Secrets are named, `written` and `current` are "" for them."""

    code: str
    field: str
    written: str
    current: str


@dataclass(frozen=True, slots=True)
class UndoOutcome:
    """What an undo did, or in a preview would do (`batch_id` is "" then). The counts are customers."""

    batch_id: str
    undoes: str
    restored: int
    removed: int
    kept: int
    conflicts: Iterable[Conflict]
