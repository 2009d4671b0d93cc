"""The schema of what goes on beside the imports themselves: jobs, failed rows, webhooks, the console's sessions."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

from storage.tables import KeyText, metadata

# The cells of a failed row as a JSON list of texts, secrets masked: to be mended and sent again.
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

# A background import. `plan` is the batch as JSON; the data lies sealed in job_input and goes when the job is done.
# `portion` counts the finished ones: a message of the queue names the one that it asks for. `position`, `rows_read`
# and `rereads` are the cursor (importing/batch.py). `token` is who works on it now ("": nobody), until `due_at` if it falls
# silent; from then on anybody may take it over. `fault` is why it ended, as JSON {"code", "values"}.
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

# The data of a job in sealed pieces, in order. Pieces of an upload that was never finished are dropped after a day.
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

# Where an account wants to be told of finished batches. `secret` is sealed.
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

# One message for one webhook, until it was taken or given up: written with what it tells of, in one transaction.
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
