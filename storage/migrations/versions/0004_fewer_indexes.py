"""A batch is written with two keys and no further index: a small post had touched five B-trees for its one row.

The number is the primary key, the id a unique key that serves those who know the account and those who do not, and the
index by root has undos alone, for an import is its own root.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _drop("batch_id", "batch_root", "batch_number")
    _key("account_id", "number")
    op.create_index("batch_id", "batch", ["id", "account_id"], unique=True)
    undos = sa.text("root <> id")
    op.create_index("batch_root", "batch", ["account_id", "root"], sqlite_where=undos, postgresql_where=undos)


def downgrade() -> None:
    _drop("batch_id", "batch_root")
    _key("account_id", "id")
    op.create_index("batch_id", "batch", ["id"])
    op.create_index("batch_root", "batch", ["account_id", "root"])
    op.create_index("batch_number", "batch", ["account_id", "number"], unique=True)


def _drop(*indexes: str) -> None:
    for index in indexes:
        op.drop_index(index, table_name="batch")


def _key(*key: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("batch_pkey", "batch", type_="primary")
        op.create_primary_key("batch_pkey", "batch", list(key))
        return
    # SQLite changes no key of a table: it is copied.
    found = sa.Table("batch", sa.MetaData(), autoload_with=op.get_bind()).columns
    columns = [sa.Column(c.name, c.type, server_default=c.server_default, nullable=c.nullable) for c in found]
    op.create_table("batch_copy", *columns, sa.PrimaryKeyConstraint(*key))
    op.execute("INSERT INTO batch_copy SELECT * FROM batch")
    op.drop_table("batch")
    op.rename_table("batch_copy", "batch")
