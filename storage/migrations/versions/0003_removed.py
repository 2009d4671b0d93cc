"""Removed customers are their own before-images: their values stay in their rows, and their keys beside them.

Before, an undo copied them into `snapshot` and blanked the rows. What it left is carried over, in both directions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEYS = ("code", "card_number", "customer_username", "username_key")
HAD = tuple(f"had_{key}" for key in KEYS)
TEXTS = (
    "first_name",
    "last_name",
    "email",
    "phone",
    "custom_date",
    "street1",
    "street2",
    "city",
    "state",
    "postal_code",
    "country",
    "password_digest",
    "pin_digest",
)
NUMBERS = ("password_version", "pin_version")
DOCUMENTS = ("custom_fields", "attributes")
VALUES = (*TEXTS, *NUMBERS, *DOCUMENTS)
SAME = "s.account_id = customer.account_id AND s.change = customer.removed AND s.customer_id = customer.id"


def upgrade() -> None:
    for name in HAD:
        op.add_column("customer", sa.Column(name, sa.Text(), nullable=True))
    for name, default in (("first_removed", "0"), ("last_removed", "-1")):
        op.add_column("change", sa.Column(name, sa.BigInteger(), server_default=default, nullable=False))
    op.execute(
        "UPDATE change SET first_removed = r.first, last_removed = r.last FROM (SELECT s.account_id, s.change, "
        "min(s.customer_id) AS first, max(s.customer_id) AS last FROM customer JOIN snapshot s "
        f"ON {SAME} WHERE customer.removed IS NOT NULL GROUP BY s.account_id, s.change) r "
        "WHERE change.account_id = r.account_id AND change.change = r.change"
    )
    op.execute(f"UPDATE customer SET {_settings((*HAD, *VALUES), (*KEYS, *VALUES))} FROM snapshot s WHERE {SAME}")
    op.execute(
        "DELETE FROM snapshot WHERE EXISTS (SELECT 1 FROM customer c WHERE c.account_id = snapshot.account_id "
        "AND c.id = snapshot.customer_id AND c.removed = snapshot.change)"
    )


def downgrade() -> None:
    into = f"INSERT INTO snapshot(account_id, change, customer_id, {', '.join((*KEYS, *VALUES))}, removed) SELECT "
    op.execute(
        f"{into} account_id, removed, id, {', '.join((*HAD, *VALUES))}, NULL FROM customer "
        "WHERE removed IS NOT NULL AND had_code IS NOT NULL"
    )
    # Those that were brought back were removed by a change before, which has left no image of its own.
    op.execute(
        f"{into} s.account_id, s.removed, s.customer_id, {', '.join(f's.{name}' for name in (*KEYS, *VALUES))}, NULL "
        "FROM snapshot s WHERE s.removed IS NOT NULL AND NOT EXISTS (SELECT 1 FROM snapshot o "
        "WHERE o.account_id = s.account_id AND o.customer_id = s.customer_id "
        "AND (o.change = s.removed OR (o.removed = s.removed AND o.change < s.change)))"
    )
    blank = [
        *(f"{name} = ''" for name in TEXTS),
        *(f"{name} = 0" for name in NUMBERS),
        *(f"{name} = '{{}}'" for name in DOCUMENTS),
    ]
    op.execute(f"UPDATE customer SET {', '.join(blank)} WHERE removed IS NOT NULL")
    for name in ("first_removed", "last_removed"):
        op.drop_column("change", name)
    for name in HAD:
        op.drop_column("customer", name)


def _settings(names: tuple[str, ...], sources: tuple[str, ...]) -> str:
    return ", ".join(f"{name} = s.{source}" for name, source in zip(names, sources, strict=True))
