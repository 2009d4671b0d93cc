"""Statements are written once for both databases: `:name` for a value, `{word}` for what the two spell differently.

Expressions and statements that differ as a whole are methods of a Dialect; each database's folder has its own.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.undo.plan_sql import ImageSource
    from storage.write_modes import BatchShape

EMPTY_DOCUMENT = "'{}'"
# PostgreSQL's clock, the one that all hosts share.
SELECT_CLOCK_MS = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_WORD = re.compile(r"\{([a-z_]+)\}")


def with_words(statement: str, words: Mapping[str, str]) -> str:
    """The statement with its words as one database spells them."""
    return _WORD.sub(lambda match: words[match[1]], statement)


def parse_document(value: Any) -> dict[str, Any]:
    """A stored document: text on SQLite, parsed by the driver on PostgreSQL."""
    parsed: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return parsed


def dump_document(value: Any) -> Any:
    """A document as JSON text; any other value as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, Mapping) else value


class Dialect(ABC):
    """What one database says differently. The methods return SQL; `c` is a stored customer, `s` its staged row."""

    @abstractmethod
    def match_statements(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Statements that fill `match` by `keys`, which are of code and card_number. A row's code comes before its card."""

    @abstractmethod
    def merge_document(self, stored: str, staged: str, clears: bool) -> str:
        """A stored document with the staged members written over it. `clears`: a staged null removes a member."""

    @abstractmethod
    def document_differs(self, stored: str, staged: str, clears: bool, *, replaces: bool) -> str:
        """Whether the staged document changes the stored one. `replaces`: members that are not staged are removed."""

    @abstractmethod
    def update_customers(self, shape: BatchShape) -> str:
        """A statement that writes the staged rows to the customers in `target`."""

    @abstractmethod
    def restore_customers(self, source: ImageSource) -> str:
        """A statement that writes before-images back to the customers in `undo_customer`."""

    def undo_enrolments(self, *, points: bool) -> str:
        """A statement that takes the uses of a campaign back. `points`: and what the ledger entries of the undo say."""
        sums = (
            "SELECT sum(e.amount) FROM ledger_entry e WHERE e.account_id = :account AND e.change = :undo "
            "AND e.customer_id = enrolment.customer_id"
        )
        return (
            "UPDATE {or_rollback}enrolment SET uses = uses + :sign, "
            f"balance = balance + {f'coalesce(({sums}), 0)' if points else '0'} "
            "WHERE account_id = :account AND campaign_id = :campaign AND customer_id IN (SELECT id FROM undo_customer)"
        )
