"""PostgreSQL's dialect (see storage/sql_dialect.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from storage.sql_dialect import EMPTY_DOCUMENT, Dialect, with_words
from storage.undo.plan_sql import FROM_IMAGES, VALUE_COLUMNS, ImageSource
from storage.write_modes import BatchShape, document_values, update_values

_WORDS: Mapping[str, str] = {
    "join": "JOIN",
    "greatest": "greatest",
    "differs": "IS DISTINCT FROM",
    "json": "jsonb",
    "key_text": 'text COLLATE "C"',
    "number": "bigint",
    # No keys: it joins these temporary tables by hash, and an index would cost more than the join.
    "row_key": "bigint",
    "pair_key": "",
    "customer": "customer c ON c.account_id = :account AND c.id",
    "last_customer": (
        "greatest(a.last_customer, coalesce((SELECT max(c.id) FROM customer c WHERE c.account_id = a.id), 0))"
    ),
    "next_n": 'row_number() OVER (ORDER BY s."row")',
    "or_ignore": "",
    "distinct_customers": "DISTINCT ON (h.id) ",
    "order_customers": ' ORDER BY h.id, h."row"',
    "or_rollback": "",
}
_VALUE = re.compile(r"(?<![:\w]):([a-z_]+)")


@lru_cache(maxsize=2000)
def postgres_sql(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement for PostgreSQL, and the names of its values `$1`, `$2` and so on."""
    names: dict[str, int] = {}
    text = with_words(statement, _WORDS)
    text = _VALUE.sub(lambda match: f"${names.setdefault(match[1], len(names) + 1)}", text)
    return text.encode(), tuple(names)


class PostgresDialect(Dialect):
    def match_statements(self, keys: Sequence[str]) -> tuple[str, ...]:
        if len(keys) < 2:
            return tuple(
                f'INSERT INTO match("row", id) SELECT s."row", c.id FROM stage s '
                f"JOIN customer c ON c.account_id = :account AND c.{key} = s.{key}"
                for key in keys
            )
        return (
            'INSERT INTO match("row", id) SELECT s."row", coalesce(a.id, b.id) FROM stage s '
            "LEFT JOIN customer a ON a.account_id = :account AND a.code = s.code "
            "LEFT JOIN customer b ON a.id IS NULL AND b.account_id = :account AND b.card_number = s.card_number "
            "WHERE a.id IS NOT NULL OR b.id IS NOT NULL",
        )

    def merge_document(self, stored: str, staged: str, clears: bool) -> str:  # noqa: ARG002
        base = f"{stored}::jsonb" if stored == EMPTY_DOCUMENT else stored
        return f"jsonb_strip_nulls({base} || coalesce({staged}, '{{}}'::jsonb))"

    def document_differs(self, stored: str, staged: str, clears: bool, *, replaces: bool) -> str:
        return f"{self.merge_document(EMPTY_DOCUMENT if replaces else stored, staged, clears)} <> {stored}"

    def update_customers(self, shape: BatchShape) -> str:
        values = update_values(shape) | document_values(shape, self, "c", "s") | {"updated_at": ":now"}
        return (
            f"UPDATE customer c SET {', '.join(f'{name} = {value}' for name, value in values.items())} "
            'FROM target t JOIN stage s ON s."row" = t."row" '
            "WHERE c.account_id = :account AND c.id = t.id AND t.changed = 1"
        )

    def restore_customers(self, source: ImageSource) -> str:
        # Which of its keys to find images by is a guess while there are no statistics of new ones: it read the account's.
        in_range = " AND b.change BETWEEN :oldest AND :newest" if source is FROM_IMAGES else ""
        return (
            f"UPDATE customer c SET {', '.join(f'{name} = b.{name}' for name in VALUE_COLUMNS)}, removed = NULL, "
            f"updated_at = :now FROM undo_customer k JOIN {source.joined} "
            f"WHERE c.account_id = :account AND c.id = k.id AND {source.where} AND k.differs = 1{in_range}"
        )

    def undo_enrolments(self, *, points: bool) -> str:
        if not points:
            return super().undo_enrolments(points=False)
        # Here a sum for each enrolment costs three times as much as all of them at once. Of a ledger that was filled just
        # now PostgreSQL expects one row, and would go through all of them for each enrolment; not where it is joined fully.
        return (
            "UPDATE enrolment SET uses = uses + :sign, balance = balance + coalesce(k.points, 0) FROM ("
            "SELECT k.id, p.points FROM undo_customer k FULL JOIN (SELECT e.customer_id, sum(e.amount) AS points "
            "FROM ledger_entry e WHERE e.account_id = :account AND e.change = :undo "
            "AND e.customer_id NOT BETWEEN :first AND :last GROUP BY e.customer_id) p ON p.customer_id = k.id OFFSET 0) k "
            "WHERE enrolment.account_id = :account AND enrolment.campaign_id = :campaign AND enrolment.customer_id = k.id"
        )
