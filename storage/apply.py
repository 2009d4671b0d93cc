"""Apply a plan by set, in the write transaction: before-images, changed customers, new ones, enrolments, points."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from storage import unique_values
from storage.batch_transaction import BatchTransaction
from storage.queries import batches
from storage.sql_connection import PendingResult
from storage.sql_dialect import Dialect
from storage.tables import IMAGE_COLUMNS
from storage.write_modes import BatchShape, insert_values

# A query of its own for webhooks would cost a small batch as much as its enrolments.
SELECT_NEXT_CHANGE = (
    f"SELECT {batches.NEWEST_NUMBER} + :count, "
    "EXISTS (SELECT 1 FROM webhook w WHERE w.account_id = :account AND w.active) FROM account a WHERE a.id = :account"
)


class ChangeContext(NamedTuple):
    """Whose and which change this is. `now` is milliseconds since the epoch; `base` + n is the n-th new customer's id."""

    account: int
    change: int
    now: int
    base: int


def next_change(work: BatchTransaction, account: int, count: int = 1) -> int:
    """The next change number of the account, which only its one writer takes, or the first of the next `count`."""
    return int(send_next_change(work, account, count).rows[0][0]) - count + 1


def send_next_change(work: BatchTransaction, account: int, count: int = 1) -> PendingResult:
    """The same, not run yet: its one row is the (last) number and whether the account has active webhooks.

    A number is taken when a change or a batch that has it is written, in the same transaction.
    """
    return work.send(SELECT_NEXT_CHANGE, account=account, count=count)


def last_customer(work: BatchTransaction, account: int) -> int:
    """The id after which those of new customers of the account come. Removed customers keep theirs for ever."""
    return work.number("SELECT {last_customer} FROM account a WHERE a.id = :account", account=account)


def apply_plan(
    work: BatchTransaction,
    shape: BatchShape,
    change_context: ChangeContext,
    campaigns: tuple[int, ...],
    *,
    renames: bool,
) -> None:
    """Write what `target`, `new_customer` and `later_row` say. `campaigns` in order: points go to the first.

    `renames`: a stored customer may get another code or card.
    """
    values = change_context._asdict()
    if work.filled("target"):
        work.send(TAKE_BEFORE_IMAGES, **values)
        _change_customers(work, shape, values, renames=renames)
    if work.filled("new_customer"):
        work.send(_create_statement(shape, work.dialect), **values)
    for number in shape.written_uniques:
        for statement in _unique_value_statements(number):
            work.send(statement, **values)
    for position, campaign in enumerate(campaigns):
        for table, (enrol_with_points, enrol) in ENROL.items():
            if work.filled(table):
                work.send(enrol if position else enrol_with_points, campaign=campaign, **values)
    if campaigns:
        for table, entries in ADD_ENTRIES.items():
            if work.filled(table):
                work.send(entries, campaign=campaigns[0], **values)


def _change_customers(
    work: BatchTransaction, shape: BatchShape, values: Mapping[str, object], *, renames: bool
) -> None:
    renamed_customers = renames and work.number(COUNT_RENAMED)
    work.send(_update_statement(shape, work.dialect), **values)
    if renamed_customers:
        for statement in EMPTY_RENAMED_KEYS:
            work.send(statement, **values)
    if shape.writes_username:
        work.send(_drop_usernames_statement(shape), **values)
    if renamed_customers:
        for statement in GIVE_RENAMED_KEYS:
            work.send(statement, **values)
    if "username_key" in shape.columns:
        work.send(GIVE_USERNAMES, **values)


def record_change(
    work: BatchTransaction, change_context: ChangeContext, batch_id: str, made: int, removed: tuple[int, int] = (0, -1)
) -> None:
    """Record the change, with the range of customers that it made, and the one in which those that it removed lie."""
    work.send(
        "INSERT INTO change(account_id, change, batch_id, first_created, last_created, first_removed, last_removed) "
        "VALUES (:account, :change, :batch, :first, :last, :first_removed, :last_removed)",
        account=change_context.account,
        change=change_context.change,
        batch=batch_id,
        first=change_context.base + 1,
        last=change_context.base + made,
        first_removed=removed[0],
        last_removed=removed[1],
    )


# Stored customers may have joined before; new ones cannot have.
_ENROLMENT_SOURCES = {
    "target": (
        "t.id",
        "WHERE t.touched = 1 ON CONFLICT(account_id, customer_id, campaign_id) DO UPDATE "
        "SET balance = enrolment.balance + excluded.balance, uses = enrolment.uses + 1",
    ),
    "new_customer": (":base + t.n", "ORDER BY t.n"),
}
# With the points of the rows, and without.
ENROL = {
    table: tuple(
        "INSERT {or_rollback}INTO enrolment(account_id, customer_id, campaign_id, balance, uses) "
        f"SELECT :account, {customers}, :campaign, {points}, 1 FROM {table} t {end}"
        for points in ("coalesce(t.points, 0)", "0")
    )
    for table, (customers, end) in _ENROLMENT_SOURCES.items()
}

COUNT_RENAMED = "SELECT count(*) FROM target WHERE new_code IS NOT NULL OR new_card IS NOT NULL"
TAKE_BEFORE_IMAGES = (
    f"INSERT {{or_rollback}}INTO snapshot(account_id, change, customer_id, {', '.join(IMAGE_COLUMNS)}, removed) "
    f"SELECT :account, :change, c.id, {', '.join(f'c.{name}' for name in IMAGE_COLUMNS)}, c.removed "
    "FROM target t {join} {customer} = t.id WHERE t.touched = 1"
)

# Keys are emptied first, so that one customer can take what another gives up in the same batch.
EMPTY_RENAMED_KEYS, GIVE_RENAMED_KEYS = zip(
    *(
        (
            f"UPDATE customer SET {column} = NULL WHERE account_id = :account "
            f"AND id IN (SELECT id FROM target WHERE {new} IS NOT NULL)",
            f"UPDATE customer SET {column} = t.{new}, updated_at = :now FROM target t "
            f"WHERE customer.account_id = :account AND customer.id = t.id AND t.{new} IS NOT NULL",
        )
        for column, new in (("code", "new_code"), ("card_number", "new_card"))
    ),
    strict=True,
)
GIVE_USERNAMES = (
    "UPDATE customer SET customer_username = s.customer_username, username_key = s.username_key "
    'FROM target t {join} stage s ON s."row" = t."row" '
    "WHERE customer.account_id = :account AND customer.id = t.id AND t.changed = 1 AND s.username_key <> ''"
)

# The amounts of first rows on stored customers, of rows that made one, and of the later rows of either.
_ENTRY_SOURCES = {
    "target": 'SELECT :account, :change, t.id, t."row", :campaign, t.item_id, t.amount, :now FROM target t '
    "WHERE t.amount IS NOT NULL",
    "new_customer": 'SELECT :account, :change, :base + m.n, m."row", :campaign, m.item_id, m.amount, :now FROM new_customer m '
    "WHERE m.amount IS NOT NULL",
    "later_row": 'SELECT :account, :change, coalesce(f.id, :base + m.n), f."row", :campaign, f.item_id, f.amount, :now '
    'FROM later_row f LEFT JOIN new_customer m ON m."row" = f.first_row WHERE f.amount IS NOT NULL',
}
ADD_ENTRIES = {
    table: 'INSERT {or_rollback}INTO ledger_entry(account_id, change, customer_id, "row", campaign_id, item_id, amount, '
    "created_at) " + source
    for table, source in _ENTRY_SOURCES.items()
}


@lru_cache(maxsize=500)
def _update_statement(shape: BatchShape, dialect: Dialect) -> str:
    return dialect.update_customers(shape)


@lru_cache(maxsize=500)
def _create_statement(shape: BatchShape, dialect: Dialect) -> str:
    code, card = (
        f"coalesce(m.{name}, s.{name})" if name in shape.columns else f"m.{name}" for name in ("code", "card_number")
    )
    keys = {"account_id": ":account", "id": ":base + m.n", "code": code, "card_number": card}
    values = keys | {"created": ":change", "created_at": ":now", "updated_at": ":now"} | insert_values(shape, dialect)
    return (
        f"INSERT {{or_rollback}}INTO customer({', '.join(values)}) SELECT {', '.join(values.values())} "
        'FROM new_customer m {join} stage s ON s."row" = m."row" ORDER BY m.n'
    )


def _drop_usernames_statement(shape: BatchShape) -> str:
    if "username_key" in shape.columns and not shape.replaces:
        changed = (
            'SELECT t.id FROM target t {join} stage s ON s."row" = t."row" '
            "WHERE t.changed = 1 AND s.username_key IS NOT NULL"
        )
    else:
        changed = "SELECT id FROM target WHERE changed = 1"
    return (
        "UPDATE customer SET customer_username = NULL, username_key = NULL "
        f"WHERE account_id = :account AND username_key IS NOT NULL AND id IN ({changed})"
    )


def _unique_value_statements(number: int) -> tuple[str, str, str]:
    value = unique_values.value_sql(number, "c")
    give = f"INSERT INTO unique_value(account_id, number, value, customer_id) SELECT :account, {number}, {value}, c.id "
    return (
        f"DELETE FROM unique_value WHERE account_id = :account AND number = {number} "
        "AND customer_id IN (SELECT id FROM target WHERE changed = 1)",
        give + f"FROM target t {{join}} {{customer}} = t.id WHERE t.changed = 1 AND {value} IS NOT NULL",
        give + f"FROM new_customer m {{join}} {{customer}} = :base + m.n WHERE {value} IS NOT NULL",
    )
