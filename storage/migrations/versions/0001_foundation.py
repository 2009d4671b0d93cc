"""The foundation: accounts, customers, enrolments, the ledger, batches and their before-images.

On SQLite `customer.id` alone is the primary key, so that it is the row id; elsewhere every key begins with the account.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("last_change", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_customer", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id"),
    )
    op.create_table(
        "audit",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "batch",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("face", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.Text(), server_default="", nullable=False),
        sa.Column("mode", sa.String(length=16), server_default="", nullable=False),
        sa.Column("on_error", sa.String(length=16), server_default="", nullable=False),
        sa.Column("campaigns", JSON, server_default="[]", nullable=False),
        sa.Column("columns", JSON, server_default="[]", nullable=False),
        sa.Column("keep_undo", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("undoes", KEY, nullable=True),
        sa.Column("root", KEY, nullable=False),
        sa.Column("charset", sa.Text(), server_default="", nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("new", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unchanged", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("ignored", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("request_digest", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "id"),
    )
    op.create_index("batch_id", "batch", ["id"], unique=False)
    op.create_index("batch_root", "batch", ["account_id", "root"], unique=False)
    op.create_index("batch_number", "batch", ["account_id", "number"], unique=True)
    op.create_table(
        "batch_problem",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("field", sa.Text(), server_default="", nullable=False),
        sa.Column("code", sa.Text(), server_default="", nullable=False),
        sa.Column("value", sa.Text(), server_default="", nullable=False),
        sa.Column("written", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "batch_id", "kind", "n"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "change",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("first_created", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_created", sa.BigInteger(), server_default="-1", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "change"),
        sqlite_with_rowid=False,
    )
    op.create_index("change_batch", "change", ["account_id", "batch_id"], unique=False)
    op.create_table(
        "customer",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("code", KEY, nullable=True),
        sa.Column("card_number", KEY, nullable=True),
        sa.Column("customer_username", sa.Text(), nullable=True),
        sa.Column("username_key", KEY, nullable=True),
        sa.Column("first_name", sa.Text(), server_default="", nullable=False),
        sa.Column("last_name", sa.Text(), server_default="", nullable=False),
        sa.Column("email", sa.Text(), server_default="", nullable=False),
        sa.Column("phone", sa.Text(), server_default="", nullable=False),
        sa.Column("custom_date", sa.Text(), server_default="", nullable=False),
        sa.Column("street1", sa.Text(), server_default="", nullable=False),
        sa.Column("street2", sa.Text(), server_default="", nullable=False),
        sa.Column("city", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("postal_code", sa.Text(), server_default="", nullable=False),
        sa.Column("country", sa.Text(), server_default="", nullable=False),
        sa.Column("password_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("password_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pin_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("pin_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("custom_fields", JSON, server_default="{}", nullable=False),
        sa.Column("attributes", JSON, server_default="{}", nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*(("id",) if op.get_bind().dialect.name == "sqlite" else ("account_id", "id"))),
        postgresql_with={"fillfactor": 70},
    )
    for key in ("code", "card_number", "username_key"):
        op.create_index(
            f"customer_{key}",
            "customer",
            ["account_id", key],
            unique=True,
            sqlite_where=sa.text(f"{key} IS NOT NULL"),
            postgresql_where=sa.text(f"{key} IS NOT NULL"),
        )
    op.create_table(
        "enrolment",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("balance", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("uses", sa.BigInteger(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "customer_id", "campaign_id"),
        postgresql_with={"fillfactor": 70},
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_entry",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("item_id", sa.BigInteger(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "change", "customer_id", "row"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reply",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "snapshot",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("code", KEY, nullable=True),
        sa.Column("card_number", KEY, nullable=True),
        sa.Column("customer_username", sa.Text(), nullable=True),
        sa.Column("username_key", KEY, nullable=True),
        sa.Column("first_name", sa.Text(), server_default="", nullable=False),
        sa.Column("last_name", sa.Text(), server_default="", nullable=False),
        sa.Column("email", sa.Text(), server_default="", nullable=False),
        sa.Column("phone", sa.Text(), server_default="", nullable=False),
        sa.Column("custom_date", sa.Text(), server_default="", nullable=False),
        sa.Column("street1", sa.Text(), server_default="", nullable=False),
        sa.Column("street2", sa.Text(), server_default="", nullable=False),
        sa.Column("city", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("postal_code", sa.Text(), server_default="", nullable=False),
        sa.Column("country", sa.Text(), server_default="", nullable=False),
        sa.Column("password_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("password_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pin_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("pin_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("custom_fields", JSON, server_default="{}", nullable=False),
        sa.Column("attributes", JSON, server_default="{}", nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "change", "customer_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("snapshot_customer", "snapshot", ["account_id", "customer_id", "change"], unique=False)
    op.create_table(
        "unique_value",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("value", KEY, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "number", "value"),
        sqlite_with_rowid=False,
    )
    op.create_index("unique_value_customer", "unique_value", ["account_id", "customer_id"], unique=False)
    op.create_table(
        "admin_user",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("email", KEY, nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
    )
    op.create_table(
        "api_user",
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("key_digest", sa.Text(), nullable=False),
        sa.Column("old_key_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("old_key_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("may_import", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_table(
        "campaign",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("campaign_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.PrimaryKeyConstraint("account_id", "id"),
        sa.UniqueConstraint("account_id", "campaign_id"),
    )
    op.create_table(
        "custom_field",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("choices", JSON, server_default="[]", nullable=False),
        sa.Column("is_unique", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("searchable", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.PrimaryKeyConstraint("account_id", "number"),
    )
    op.create_table(
        "campaign_item",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("item_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "campaign_id"],
            ["campaign.account_id", "campaign.id"],
        ),
        sa.PrimaryKeyConstraint("account_id", "campaign_id", "id"),
        sa.UniqueConstraint("account_id", "campaign_id", "item_id"),
    )


def downgrade() -> None:
    op.drop_table("campaign_item")
    op.drop_table("custom_field")
    op.drop_table("campaign")
    op.drop_table("api_user")
    op.drop_table("admin_user")
    op.drop_index("unique_value_customer", table_name="unique_value")
    op.drop_table("unique_value")
    op.drop_index("snapshot_customer", table_name="snapshot")
    op.drop_table("snapshot")
    op.drop_table("reply")
    op.drop_table("ledger_entry")
    op.drop_table("enrolment")
    op.drop_index(
        "customer_username_key",
        table_name="customer",
        sqlite_where=sa.text("username_key IS NOT NULL"),
        postgresql_where=sa.text("username_key IS NOT NULL"),
    )
    op.drop_index("customer_code", table_name="customer")
    op.drop_index("customer_card_number", table_name="customer")
    op.drop_table("customer")
    op.drop_index("change_batch", table_name="change")
    op.drop_table("change")
    op.drop_table("batch_problem")
    op.drop_index("batch_root", table_name="batch")
    op.drop_index("batch_number", table_name="batch")
    op.drop_index("batch_id", table_name="batch")
    op.drop_table("batch")
    op.drop_table("audit")
    op.drop_table("account")
