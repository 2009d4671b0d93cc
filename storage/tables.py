"""The schema. Every table of an account's data begins with `account_id`, and every unique key contains it.

Numbers named `change` grow within an account: one for every write transaction of a batch. Times are milliseconds since
the epoch, UTC. Amounts and balances are hundredths. Text without a value is "", a key without a value is NULL.
The exception on SQLite: `customer.id` alone is the primary key there (the row id); nothing distributes an SQLite file.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

# Keys compare byte by byte on both databases.
KeyText = Text().with_variant(Text(collation="C"), "postgresql")
JsonDocument = JSON().with_variant(JSONB(), "postgresql")
SerialId = BigInteger().with_variant(Integer(), "sqlite")

PROFILE_COLUMNS = (
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
)

# What a before-image holds of a customer, in the order of both tables.
KEY_COLUMNS = ("code", "card_number", "customer_username", "username_key")
SECRET_COLUMNS = ("password_digest", "password_version", "pin_digest", "pin_version")
DOCUMENT_COLUMNS = ("custom_fields", "attributes")
IMAGE_COLUMNS = (*KEY_COLUMNS, *PROFILE_COLUMNS, *SECRET_COLUMNS, *DOCUMENT_COLUMNS)

# Where a removed customer's keys wait, which are other people's to have.
HAD_COLUMNS = tuple(f"had_{key}" for key in KEY_COLUMNS)


def _image_columns() -> list[Column[Any]]:
    return [
        Column("code", KeyText),
        Column("card_number", KeyText),
        Column("customer_username", Text),
        Column("username_key", KeyText),
        *(Column(name, Text, nullable=False, server_default="") for name in PROFILE_COLUMNS),
        Column("password_digest", Text, nullable=False, server_default=""),
        Column("password_version", BigInteger, nullable=False, server_default="0"),
        Column("pin_digest", Text, nullable=False, server_default=""),
        Column("pin_version", BigInteger, nullable=False, server_default="0"),
        Column("custom_fields", JsonDocument, nullable=False, server_default="{}"),
        Column("attributes", JsonDocument, nullable=False, server_default="{}"),
    ]


# `public_id` is what senders call the account. Everywhere else `account_id` is the number `id`; campaigns likewise.
account = Table(
    "account",
    metadata,
    Column("id", SerialId, primary_key=True),
    Column("public_id", KeyText, nullable=False, unique=True),
    Column("name", Text, nullable=False, server_default=""),
    # Numbers of changes and, on PostgreSQL, of customers up to these are taken, whether or not anything has them still.
    Column("last_change", BigInteger, nullable=False, server_default="0"),
    Column("last_customer", BigInteger, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
)

api_user = Table(
    "api_user",
    metadata,
    Column("user_id", KeyText, primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("key_digest", Text, nullable=False),
    Column("old_key_digest", Text, nullable=False, server_default=""),
    Column("old_key_until", BigInteger, nullable=False, server_default="0"),
    Column("may_import", Boolean, nullable=False, server_default=text("true")),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["account_id"], ["account.id"]),
)

admin_user = Table(
    "admin_user",
    metadata,
    Column("id", SerialId, primary_key=True),
    Column("email", KeyText, nullable=False, unique=True),
    Column("account_id", BigInteger),
    Column("role", String(16), nullable=False),
    Column("password_digest", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["account_id"], ["account.id"]),
)

campaign = Table(
    "campaign",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("public_id", KeyText, nullable=False),
    Column("name", Text, nullable=False),
    Column("type", String(16), nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "id"),
    UniqueConstraint("account_id", "public_id"),
    ForeignKeyConstraint(["account_id"], ["account.id"]),
)

campaign_item = Table(
    "campaign_item",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("campaign_id", BigInteger, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("item_id", KeyText, nullable=False),
    Column("name", Text, nullable=False),
    PrimaryKeyConstraint("account_id", "campaign_id", "id"),
    UniqueConstraint("account_id", "campaign_id", "item_id"),
    ForeignKeyConstraint(["account_id", "campaign_id"], ["campaign.account_id", "campaign.id"]),
)

custom_field = Table(
    "custom_field",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("label", Text, nullable=False),
    Column("type", String(16), nullable=False),
    Column("choices", JsonDocument, nullable=False, server_default="[]"),
    Column("is_unique", Boolean, nullable=False, server_default=text("false")),
    Column("searchable", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "number"),
    ForeignKeyConstraint(["account_id"], ["account.id"]),
)

# A removed customer stays as a tombstone without keys (`removed` is the change that removed it); its ledger stays. Its
# values, and its keys in `had_…`, are its before-image, and are blanked when that has expired.
customer = Table(
    "customer",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("id", SerialId, nullable=False),
    *_image_columns(),
    Column("created", BigInteger, nullable=False),
    Column("removed", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    *(Column(name, Text) for name in HAD_COLUMNS),
    PrimaryKeyConstraint("account_id", "id"),
    *(
        Index(
            f"customer_{key}",
            "account_id",
            key,
            unique=True,
            sqlite_where=text(f"{key} IS NOT NULL"),
            postgresql_where=text(f"{key} IS NOT NULL"),
        )
        for key in ("code", "card_number", "username_key")
    ),
    postgresql_with={"fillfactor": 70},
)

unique_value = Table(
    "unique_value",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("value", KeyText, nullable=False),
    Column("customer_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "number", "value"),
    Index("unique_value_customer", "account_id", "customer_id"),
    sqlite_with_rowid=False,
)

# `uses` counts the batches in force that included the customer; enrolled is who has one. Undo takes its use back.
enrolment = Table(
    "enrolment",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("customer_id", BigInteger, nullable=False),
    Column("campaign_id", BigInteger, nullable=False),
    Column("balance", BigInteger, nullable=False, server_default="0"),
    Column("uses", BigInteger, nullable=False, server_default="1"),
    PrimaryKeyConstraint("account_id", "customer_id", "campaign_id"),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 70},
)

# Append only; the balance of an enrolment is the sum of its entries. `row` tells the entries of one change apart.
ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("change", BigInteger, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("customer_id", BigInteger, nullable=False),
    Column("campaign_id", BigInteger, nullable=False),
    Column("item_id", BigInteger),
    Column("amount", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "change", "customer_id", "row"),
    sqlite_with_rowid=False,
)

# kind: import or undo. status: queued, running, imported, failed, cancelled or undone; in force is what is not undone.
# `status_before` is the import's status before an undo. `header` are the columns as the sender names them. `undoes` is
# the batch that an undo took back, `root` the import at the beginning of such a chain (an import is its own root).
# `campaigns` are the store's numbers, in order. `rows` to `failed` count the rows of an import; `restored`, `removed` and
# `kept` the customers of an undo. `charset` is the one that the data were read in, `declared_charset` what the sender
# said. `address`, `delimiter`, `request_id` and `declared_charset` are NULL where they are not known.
batch = Table(
    "batch",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("id", KeyText, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_before", String(16), nullable=False, server_default=""),
    Column("face", String(16), nullable=False),
    Column("user_id", Text, nullable=False, server_default=""),
    Column("mode", String(16), nullable=False, server_default=""),
    Column("on_error", String(16), nullable=False, server_default=""),
    Column("campaigns", JsonDocument, nullable=False, server_default="[]"),
    Column("columns", JsonDocument, nullable=False, server_default="[]"),
    Column("header", JsonDocument, nullable=False, server_default="[]"),
    Column("keep_undo", Boolean, nullable=False, server_default=text("true")),
    Column("undoes", KeyText),
    Column("root", KeyText, nullable=False),
    Column("charset", Text, nullable=False, server_default=""),
    Column("rows", BigInteger, nullable=False, server_default="0"),
    Column("new", BigInteger, nullable=False, server_default="0"),
    Column("updated", BigInteger, nullable=False, server_default="0"),
    Column("unchanged", BigInteger, nullable=False, server_default="0"),
    Column("ignored", BigInteger, nullable=False, server_default="0"),
    Column("failed", BigInteger, nullable=False, server_default="0"),
    Column("restored", BigInteger, nullable=False, server_default="0"),
    Column("removed", BigInteger, nullable=False, server_default="0"),
    Column("kept", BigInteger, nullable=False, server_default="0"),
    Column("duration_ms", BigInteger, nullable=False, server_default="0"),
    Column("address", Text),
    Column("delimiter", Text),
    Column("request_id", Text),
    Column("declared_charset", Text),
    Column("request_digest", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "number"),
    # Found by its id with the account or without. Every index is a page more in a small post's commit, and nobody looks
    # for an import by its root.
    Index("batch_id", "id", "account_id", unique=True),
    Index("batch_root", "account_id", "root", sqlite_where=text("root <> id"), postgresql_where=text("root <> id")),
)

# One write transaction of a batch. Customers first_created … last_created are those it made (an empty range: none); those
# it removed, whose before-images they are themselves, lie between first_removed and last_removed.
change = Table(
    "change",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("change", BigInteger, nullable=False),
    Column("batch_id", KeyText, nullable=False),
    Column("first_created", BigInteger, nullable=False, server_default="0"),
    Column("last_created", BigInteger, nullable=False, server_default="-1"),
    Column("first_removed", BigInteger, nullable=False, server_default="0"),
    Column("last_removed", BigInteger, nullable=False, server_default="-1"),
    PrimaryKeyConstraint("account_id", "change"),
    Index("change_batch", "account_id", "batch_id"),
    sqlite_with_rowid=False,
)

# The code and the card number that a sender learns of a row.
assigned_key = Table(
    "assigned_key",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("batch_id", KeyText, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("code", Text, nullable=False, server_default=""),
    Column("card_number", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("account_id", "batch_id", "row"),
    sqlite_with_rowid=False,
)

# kind: problem, warning or conflict (of an undo).
batch_problem = Table(
    "batch_problem",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("batch_id", KeyText, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("field", Text, nullable=False, server_default=""),
    Column("code", Text, nullable=False, server_default=""),
    Column("value", Text, nullable=False, server_default=""),
    Column("written", Text, nullable=False, server_default=""),
    Column("ref", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("account_id", "batch_id", "kind", "n"),
    sqlite_with_rowid=False,
)

# The before-image of every customer that a change touched but neither made nor removed. `removed`: it was a removed one
# (an undo brings it back).
snapshot = Table(
    "snapshot",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("change", BigInteger, nullable=False),
    Column("customer_id", BigInteger, nullable=False),
    *_image_columns(),
    Column("removed", BigInteger),
    PrimaryKeyConstraint("account_id", "change", "customer_id"),
    Index("snapshot_customer", "account_id", "customer_id", "change"),
    sqlite_with_rowid=False,
)

idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("key", KeyText, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("batch_id", KeyText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "key"),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit",
    metadata,
    Column("id", SerialId, primary_key=True),
    Column("account_id", BigInteger),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False, server_default=""),
)

# The cells of a failed row as a JSON list of texts, secrets masked: to be corrected and sent again.
failed_row = Table(
    "failed_row",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("batch_id", KeyText, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("cells", Text, nullable=False),
    PrimaryKeyConstraint("account_id", "batch_id", "row"),
    sqlite_with_rowid=False,
)

# A background import. `plan` is the batch as JSON; the data lies encrypted in job_input and is dropped when the job is done.
# `portion` counts the finished chunks: a message of the queue names the one that it asks for. `position`, `rows_read` and
# `rereads` are the cursor (importing/batch.py). `token` names the worker that has claimed it ("": none), until `due_at`;
# from then on any worker may claim it. `fault` is the error that ended it, as JSON {"code", "values"}.
job = Table(
    "job",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("batch_id", KeyText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("portion", BigInteger, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("token", Text, nullable=False, server_default=""),
    Column("due_at", BigInteger, nullable=False),
    Column("plan", Text, nullable=False),
    Column("input_id", Text, nullable=False, server_default=""),
    Column("input_size", BigInteger, nullable=False, server_default="0"),
    Column("position", BigInteger, nullable=False, server_default="0"),
    Column("rows_read", BigInteger, nullable=False, server_default="0"),
    Column("rereads", BigInteger),
    Column("portion_rows", BigInteger, nullable=False, server_default="0"),
    Column("total", BigInteger, nullable=False, server_default="0"),
    Column("processed", BigInteger, nullable=False, server_default="0"),
    Column("fault", Text, nullable=False, server_default=""),
    Column("request_ref", Text, nullable=False, server_default=""),
    Column("started_at", BigInteger, nullable=False, server_default="0"),
    Column("ended_at", BigInteger, nullable=False, server_default="0"),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "batch_id"),
    Index("job_batch", "batch_id", unique=True),
    Index("job_due", "state", "due_at"),
)

# The data of a job in encrypted pieces, in order. Pieces of an upload that was never finished are dropped after a day.
job_input = Table(
    "job_input",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("input_id", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "input_id", "n"),
)

# Where an account wants finished batches reported. `secret` is encrypted.
webhook = Table(
    "webhook",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("id", KeyText, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "id"),
    ForeignKeyConstraint(["account_id"], ["account.id"]),
)

# One message for one webhook, until it is delivered or given up: written in the transaction that it reports.
delivery = Table(
    "delivery",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("id", KeyText, nullable=False),
    Column("webhook_id", KeyText, nullable=False),
    Column("batch_id", KeyText, nullable=False),
    Column("event", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", BigInteger, nullable=False),
    Column("status", Integer, nullable=False, server_default="0"),
    Column("error", Text, nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "id"),
    Index("delivery_id", "id"),
    Index("delivery_webhook", "account_id", "webhook_id", "updated_at"),
    Index("delivery_due", "state", "due_at"),
)

# A signed-in administrator. Only the digest of the cookie's token is kept.
admin_session = Table(
    "admin_session",
    metadata,
    Column("digest", KeyText, primary_key=True),
    Column("admin_id", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("address", Text, nullable=False, server_default=""),
    Column("agent", Text, nullable=False, server_default=""),
    ForeignKeyConstraint(["admin_id"], ["admin_user.id"]),
    Index("admin_session_admin", "admin_id"),
)
