"""Jobs with their sealed input, failed rows, webhooks and the console's sessions.

A batch learns how its columns were named, and the status that an undo took it from; a problem what the sender calls its
row.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def text(name: str, *, length: int | None = None) -> sa.Column[str]:
    kind = sa.Text() if length is None else sa.String(length=length)
    return sa.Column(name, kind, server_default="", nullable=False)


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def upgrade() -> None:
    op.add_column("batch", text("status_before", length=16))
    op.add_column("batch", sa.Column("header", JSON, server_default="[]", nullable=False))
    op.add_column("batch_problem", text("ref"))
    op.create_table(
        "failed_row",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("cells", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "batch_id", "row"),
        sqlite_with_rowid=False,
    )
    _create_jobs()
    _create_webhooks()
    op.create_table(
        "admin_session",
        sa.Column("digest", KEY, nullable=False),
        sa.Column("admin_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        text("address"),
        text("agent"),
        sa.PrimaryKeyConstraint("digest"),
        sa.ForeignKeyConstraint(["admin_id"], ["admin_user.id"]),
    )
    op.create_index("admin_session_admin", "admin_session", ["admin_id"])


def _create_jobs() -> None:
    op.create_table(
        "job",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        number("portion"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        text("token"),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        text("input_id"),
        number("input_size"),
        number("position"),
        number("rows_read"),
        sa.Column("rereads", sa.BigInteger(), nullable=True),
        number("portion_rows"),
        number("total"),
        number("processed"),
        text("fault"),
        text("request_ref"),
        number("started_at"),
        number("ended_at"),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "batch_id"),
    )
    op.create_index("job_batch", "job", ["batch_id"], unique=True)
    op.create_index("job_due", "job", ["state", "due_at"])
    op.create_table(
        "job_input",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("input_id", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "input_id", "n"),
    )


def _create_webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "id"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"]),
    )
    op.create_table(
        "delivery",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("webhook_id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), server_default="0", nullable=False),
        text("error"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "id"),
    )
    op.create_index("delivery_id", "delivery", ["id"])
    op.create_index("delivery_webhook", "delivery", ["account_id", "webhook_id", "updated_at"])
    op.create_index("delivery_due", "delivery", ["state", "due_at"])


def downgrade() -> None:
    op.drop_index("delivery_due", table_name="delivery")
    op.drop_index("delivery_webhook", table_name="delivery")
    op.drop_index("delivery_id", table_name="delivery")
    op.drop_table("delivery")
    op.drop_table("webhook")
    op.drop_table("job_input")
    op.drop_index("job_due", table_name="job")
    op.drop_index("job_batch", table_name="job")
    op.drop_table("job")
    op.drop_index("admin_session_admin", table_name="admin_session")
    op.drop_table("admin_session")
    op.drop_table("failed_row")
    op.drop_column("batch_problem", "ref")
    op.drop_column("batch", "header")
    op.drop_column("batch", "status_before")
