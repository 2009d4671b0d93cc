"""Columns and tables hold what their names say.

`batch.seconds` held milliseconds. The counts of an undo stood in the columns of an import's counts. Table `reply` held
idempotency keys, and table `batch_problem` the codes and cards that rows had been given. `account_id` and `campaign_id`
were public texts in the tables `account` and `campaign`, and numbers in all others; the plans of jobs name campaigns too.
New in `batch` is where a batch came from. Those four columns are all that is lost on the way down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UNDO_COUNTS = ("restored", "removed", "kept")
ORIGIN = ("address", "delimiter", "request_id", "declared_charset")
# Table, old name, new name.
COLUMNS = (
    ("batch", "seconds", "duration_ms"),
    ("account", "account_id", "public_id"),
    ("campaign", "campaign_id", "public_id"),
)
# PostgreSQL names a key after its table and columns, and renames it with neither. SQLite has no such names.
CONSTRAINTS = (
    ("account", "account_account_id_key", "account_public_id_key"),
    ("campaign", "campaign_account_id_campaign_id_key", "campaign_account_id_public_id_key"),
    ("idempotency_key", "reply_pkey", "idempotency_key_pkey"),
)
# In a plan, a campaign's id is the only text with this key. An item of that name has a number.
OLD_MEMBER, NEW_MEMBER = '"campaign_id":"', '"public_id":"'


def upgrade() -> None:
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    for name in UNDO_COUNTS:
        op.add_column("batch", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    for name in ORIGIN:
        op.add_column("batch", sa.Column(name, sa.Text(), nullable=True))
    op.execute(
        "UPDATE batch SET restored = updated, removed = ignored, kept = failed, "
        "\"rows\" = 0, updated = 0, ignored = 0, failed = 0 WHERE kind = 'undo'"
    )
    op.rename_table("reply", "idempotency_key")
    op.create_table(
        "assigned_key",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), server_default="", nullable=False),
        sa.Column("card_number", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "batch_id", "row"),
        sqlite_with_rowid=False,
    )
    op.execute(
        'INSERT INTO assigned_key(account_id, batch_id, "row", code, card_number) '
        "SELECT account_id, batch_id, \"row\", code, value FROM batch_problem WHERE kind = 'made'"
    )
    op.execute("DELETE FROM batch_problem WHERE kind = 'made'")
    _rename_in_plans(OLD_MEMBER, NEW_MEMBER)
    if op.get_bind().dialect.name == "postgresql":
        for table, old, new in CONSTRAINTS:
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, old, new in CONSTRAINTS:
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {new} TO {old}")
    _rename_in_plans(NEW_MEMBER, OLD_MEMBER)
    op.execute(
        'INSERT INTO batch_problem(account_id, batch_id, kind, n, "row", code, value) '
        "SELECT account_id, batch_id, 'made', row_number() OVER (PARTITION BY account_id, batch_id ORDER BY \"row\") - 1, "
        '"row", code, card_number FROM assigned_key'
    )
    op.drop_table("assigned_key")
    op.rename_table("idempotency_key", "reply")
    op.execute(
        'UPDATE batch SET updated = restored, ignored = removed, failed = kept, "rows" = restored + removed + kept '
        "WHERE kind = 'undo'"
    )
    for name in (*ORIGIN, *UNDO_COUNTS):
        op.drop_column("batch", name)
    for table, old, new in COLUMNS:
        op.alter_column(table, new, new_column_name=old)


def _rename_in_plans(old: str, new: str) -> None:
    op.execute(f"UPDATE job SET plan = replace(plan, '{old}', '{new}') WHERE plan LIKE '%{old}%'")
