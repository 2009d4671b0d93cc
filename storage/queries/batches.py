"""The plain queries of batches: what was imported and undone, by whom, with which problems; and idempotency keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, select

from storage.batch_transaction import BatchTransaction
from storage.sql_connection import PendingResult, SqlConnection
from storage.tables import assigned_key, batch, batch_problem

TableRow = RowMapping
BatchRow = RowMapping | Mapping[str, Any]

ROWS_PER_CHUNK = 1000
BATCH_COLUMNS = tuple(column.name for column in batch.columns)
PROBLEM, WARNING, CONFLICT = "problem", "warning", "conflict"
# The newest number that a change or a batch of the account `a` has. Looked up, not counted in the account's row: while
# any transaction goes on, PostgreSQL keeps all versions of a row, and each reader goes through them.
NEWEST_NUMBER = (
    "{greatest}(a.last_change, coalesce((SELECT max(h.change) FROM change h WHERE h.account_id = a.id), 0), "
    "coalesce((SELECT max(n.number) FROM batch n WHERE n.account_id = a.id), 0))"
)
PROBLEM_COLUMNS = ("account_id", "batch_id", "kind", "n", "row", "field", "code", "value", "written", "ref")
ASSIGNED_KEY_COLUMNS = ("account_id", "batch_id", "row", "code", "card_number")
# Where a batch came from.
ORIGIN_COLUMNS = ("address", "delimiter", "request_id", "declared_charset")


def find_anywhere(connection: Connection, batch_id: str) -> TableRow | None:
    """A batch by its id, whosever it is."""
    return connection.execute(select(batch).where(batch.c.id == batch_id)).mappings().first()


def find_batch(connection: Connection, account: int, batch_id: str) -> TableRow | None:
    """A batch of the account by its id."""
    query = select(batch).where(batch.c.account_id == account, batch.c.id == batch_id)
    return connection.execute(query).mappings().first()


_JOB_COLUMNS = ("state", "total", "processed", "fault", "request_ref", "started_at", "updated_at", "ended_at")


# Terminals ask for these again and again, by the driver's cursor: to compile a statement costs more than to run it.
_COLUMNS_LEFT_OUT = frozenset(("campaigns", "columns", "header", "request_digest", "status_before", *ORIGIN_COLUMNS))
_STATUS_COLUMNS = tuple(name for name in BATCH_COLUMNS if name not in _COLUMNS_LEFT_OUT)
_STATUS_ROW = (*_STATUS_COLUMNS, *_JOB_COLUMNS, "has_assigned_keys")
# Whether there are codes to be learned goes along: to look for them where there are none costs as much as all the rest.
# For EXISTS PostgreSQL would read the whole table once and hash it; for one value it looks into the index for each batch.
_HAS_ASSIGNED_KEYS = (
    "(SELECT 1 FROM assigned_key k WHERE k.account_id = b.account_id AND k.batch_id = b.id LIMIT 1) IS NOT NULL"
)
# Of a batch `b` and its job `j`.
_FOLLOWED_COLUMNS = ", ".join(
    [*(f'b."{name}"' for name in _STATUS_COLUMNS), *(f"j.{name}" for name in _JOB_COLUMNS), _HAS_ASSIGNED_KEYS]
)
_ITS_JOB = "LEFT JOIN job j ON j.account_id = b.account_id AND j.batch_id = b.id"
_SELECT_WITH_JOB = f"SELECT {_FOLLOWED_COLUMNS} FROM batch b {_ITS_JOB} WHERE "
# By the index of its id alone, whatever statistics say: else all batches of its account may be read.
_SELECT_ONE_WITH_JOB = _SELECT_WITH_JOB + "b.id = :batch AND +b.account_id = :account"
_SELECT_BATCH = "SELECT {} FROM batch WHERE id = :batch AND +account_id = :account".format(
    ", ".join(f'"{name}"' for name in BATCH_COLUMNS)
)
_PROBLEM_PAGE_COLUMNS = ("n", "row", "field", "code", "value", "written", "ref")
_KEY_PAGE_COLUMNS = ("row", "code", "card_number")


def find_with_job(work: SqlConnection, account: int, batch_id: str) -> BatchRow | None:
    """A batch of the account with the columns of its job, None for each where it has none, and `has_assigned_keys`."""
    rows = work.all(_SELECT_ONE_WITH_JOB, account=account, batch=batch_id)
    return dict(zip(_STATUS_ROW, rows[0], strict=True)) if rows else None


def list_with_job(
    work: SqlConnection, account: int, face: str | None, before: int | None, offset: int, length: int
) -> list[BatchRow]:
    """The account's batches like that, newest first; of one protocol, created before a time in milliseconds."""
    values: dict[str, object] = {"account": account, "offset": offset, "length": length}
    query = _SELECT_WITH_JOB + "b.account_id = :account"
    if face is not None:
        query, values["face"] = f"{query} AND b.face = :face", face
    if before is not None:
        query, values["before"] = f"{query} AND b.created_at < :before", before
    rows = work.all(f"{query} ORDER BY b.number DESC LIMIT :length OFFSET :offset", **values)
    return [dict(zip(_STATUS_ROW, row, strict=True)) for row in rows]


_SELECT_PROBLEMS = (
    select(batch_problem)
    .where(
        batch_problem.c.account_id == bindparam("account"),
        batch_problem.c.batch_id == bindparam("batch"),
        batch_problem.c.kind == bindparam("kind"),
    )
    .order_by(batch_problem.c.n)
)


def stream_problems(connection: Connection, account: int, batch_id: str, kind: str = PROBLEM) -> Iterator[TableRow]:
    """What is known of single rows of a batch (kinds: problem, warning, conflict), in row order, streamed."""
    values = {"account": account, "batch": batch_id, "kind": kind}
    yield from connection.execution_options(yield_per=ROWS_PER_CHUNK).execute(_SELECT_PROBLEMS, values).mappings()


def stream_assigned_keys(connection: Connection, account: int, batch_id: str) -> Iterator[TableRow]:
    """The codes and card numbers that a sender learns of a batch's rows, in row order, streamed."""
    query = (
        select(assigned_key)
        .where(assigned_key.c.account_id == account, assigned_key.c.batch_id == batch_id)
        .order_by(assigned_key.c.row)
    )
    yield from connection.execution_options(yield_per=ROWS_PER_CHUNK).execute(query).mappings()


def load_assigned_key_page(work: SqlConnection, account: int, batch_id: str, after: int, length: int) -> list[BatchRow]:
    """So many of these, of the rows behind `after`."""
    rows = work.all(
        'SELECT "row", code, card_number FROM assigned_key WHERE account_id = :account AND batch_id = :batch '
        'AND "row" > :after ORDER BY "row" LIMIT :length',
        account=account,
        batch=batch_id,
        after=after,
        length=length,
    )
    return [dict(zip(_KEY_PAGE_COLUMNS, row, strict=True)) for row in rows]


def load_problem_page(work: SqlConnection, account: int, batch_id: str, after: int, length: int) -> list[BatchRow]:
    """So many problems (kind: problem) of a batch, behind the one with the number `after` (column `n`, from 0)."""
    rows = work.all(
        'SELECT n, "row", field, code, value, written, ref FROM batch_problem WHERE account_id = :account '
        "AND batch_id = :batch AND kind = :kind AND n > :after ORDER BY n LIMIT :length",
        account=account,
        batch=batch_id,
        kind=PROBLEM,
        after=after,
        length=length,
    )
    return [dict(zip(_PROBLEM_PAGE_COLUMNS, row, strict=True)) for row in rows]


def insert_batch(work: BatchTransaction, values: Mapping[str, object]) -> None:
    """Insert a batch. `campaigns`, `columns` and `header` are JSON texts."""
    work.send(_insert_statement(tuple(values)), **values)


@lru_cache(maxsize=16)
def _insert_statement(columns: tuple[str, ...]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    placeholders = ", ".join(
        f"CAST(:{name} AS {{json}})" if name in ("campaigns", "columns", "header") else f":{name}" for name in columns
    )
    return f"INSERT INTO batch({names}) VALUES ({placeholders})"


def insert_problems(
    work: BatchTransaction,
    account: int,
    batch_id: str,
    kind: str,
    rows: Iterable[tuple[int, str, str, str, str, str]],
    *,
    again: bool = False,
) -> None:
    """Insert (row, field, code, value, written, ref), in order. `again`: behind those that the batch has already."""
    first = 0
    if again:
        first = work.number(
            "SELECT max(n) + 1 FROM batch_problem WHERE account_id = :account AND batch_id = :batch AND kind = :kind",
            account=account,
            batch=batch_id,
            kind=kind,
        )
    numbered = ((account, batch_id, kind, n, *row) for n, row in enumerate(rows, first))
    work.fill("batch_problem", PROBLEM_COLUMNS, _chunks(numbered))


def insert_assigned_keys(
    work: BatchTransaction, account: int, batch_id: str, rows: Iterable[tuple[int, str, str]]
) -> None:
    """Write down (row, code, card number), in order."""
    work.fill("assigned_key", ASSIGNED_KEY_COLUMNS, _chunks((account, batch_id, *row) for row in rows))


def _chunks(rows: Iterable[tuple[object, ...]]) -> Iterator[list[tuple[object, ...]]]:
    chunk: list[tuple[object, ...]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_PER_CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def find_idempotency_key(work: BatchTransaction, account: int, key: str) -> PendingResult:
    """What stands under an idempotency key: the batch's id, the request's digest."""
    return work.send(
        "SELECT batch_id, digest FROM idempotency_key WHERE account_id = :account AND key = :key",
        account=account,
        key=key,
    )


def store_idempotency_key(
    work: BatchTransaction, account: int, key: str, digest: bytes, batch_id: str, now: int
) -> None:
    """Keep the batch's id and the request's digest under an idempotency key."""
    work.send(
        "INSERT INTO idempotency_key(account_id, key, digest, batch_id, created_at) "
        "VALUES (:account, :key, :digest, :batch, :now)",
        account=account,
        key=key,
        digest=digest,
        batch=batch_id,
        now=now,
    )


def has_changes(work: SqlConnection, account: int, batch_id: str) -> bool:
    """Whether a batch has written anything."""
    rows = work.all(
        "SELECT change FROM change WHERE account_id = :account AND batch_id = :batch LIMIT 1",
        account=account,
        batch=batch_id,
    )
    return bool(rows)


def last_change(work: SqlConnection, account: int) -> int:
    """The newest number that a change or a batch of the account has."""
    return work.number(f"SELECT {NEWEST_NUMBER} FROM account a WHERE a.id = :account", account=account)


def find_same_request(work: BatchTransaction, account: int, user: str, digest: bytes, after: int) -> PendingResult:
    """The batch that the same request of the same user made, among those whose number comes after one: its id."""
    return work.send(
        "SELECT id FROM batch WHERE account_id = :account AND number > :after AND request_digest = :digest "
        "AND user_id = :user ORDER BY number DESC LIMIT 1",
        account=account,
        user=user,
        digest=digest,
        after=after,
    )


def load_batch(work: SqlConnection, account: int, batch_id: str) -> dict[str, Any] | None:
    """A batch of the account, in a batch transaction."""
    rows = work.all(_SELECT_BATCH, account=account, batch=batch_id)
    return dict(zip(BATCH_COLUMNS, rows[0], strict=True)) if rows else None


def parse_numbers(value: object) -> list[int]:
    """A stored list of numbers: text on SQLite, parsed by the driver on PostgreSQL."""
    parsed = json.loads(value) if isinstance(value, str) else value
    assert isinstance(parsed, list)
    return [int(number) for number in parsed]


def load_problems(work: BatchTransaction, account: int, batch_id: str, kind: str) -> Iterator[tuple[Any, ...]]:
    """(row, field, code, value, written, ref) of a batch, in order."""
    return work.rows(
        'SELECT "row", field, code, value, written, ref FROM batch_problem '
        "WHERE account_id = :account AND batch_id = :batch AND kind = :kind ORDER BY n",
        account=account,
        batch=batch_id,
        kind=kind,
    )


def load_assigned_keys(work: BatchTransaction, account: int, batch_id: str) -> Iterator[tuple[int, str, str]]:
    """(row, code, card number) of a batch, in order."""
    return work.rows(
        'SELECT "row", code, card_number FROM assigned_key WHERE account_id = :account AND batch_id = :batch '
        'ORDER BY "row"',
        account=account,
        batch=batch_id,
    )


def count_newer(work: SqlConnection, account: int, number: int, limit: int) -> int:
    """How many batches with an undo state the account has that are newer than a batch's number, counted up to `limit`."""
    return work.number(
        "SELECT count(*) FROM (SELECT 1 FROM batch WHERE account_id = :account AND number > :number AND keep_undo "
        "LIMIT :limit) newer",
        account=account,
        number=number,
        limit=limit,
    )


def mark_chain_undone(work: BatchTransaction, account: int, root: str) -> None:
    """Change the whole chain of an undo: the undos so far are undone, and the import is undone, or in force again.

    In force again, it has the status that it had: a job may have failed, or been cancelled.
    """
    # The index by root has undos only.
    for members in ("id = :root", "root = :root AND root <> id"):
        work.execute(
            "UPDATE batch SET status_before = CASE WHEN status = 'undone' THEN status_before ELSE status END, "
            "status = CASE WHEN id <> :root OR status <> 'undone' THEN 'undone' WHEN status_before = '' THEN 'imported' "
            f"ELSE status_before END WHERE account_id = :account AND {members}",
            account=account,
            root=root,
        )


def lock_root(work: BatchTransaction, account: int, batch_id: str) -> None:
    """Let nobody cancel or resume the import that a batch descends from, until the write transaction ends."""
    work.lock_rows(
        "SELECT id FROM batch WHERE account_id = :account AND id = (SELECT root FROM batch "
        "WHERE account_id = :account AND id = :batch)",
        account=account,
        batch=batch_id,
    )


def has_grown_since(work: SqlConnection, account: int, root: str, number: int) -> bool:
    """Whether an import wrote more after the undo of that number restored it."""
    return bool(
        work.all(
            "SELECT 1 FROM change WHERE account_id = :account AND batch_id = :root AND change > :number LIMIT 1",
            account=account,
            root=root,
            number=number,
        )
    )


def add_counts(work: BatchTransaction, account: int, batch_id: str, **growth: int) -> None:
    """Add to the counts of a batch: columns of the table, each with what it grows by."""
    settings = ", ".join(f'"{name}" = "{name}" + :{name}' for name in growth)
    work.execute(
        f"UPDATE batch SET {settings} WHERE account_id = :account AND id = :batch",
        account=account,
        batch=batch_id,
        **growth,
    )


def load_count(work: BatchTransaction, account: int, batch_id: str, column: str) -> int:
    """One count of a batch."""
    return work.number(
        f"SELECT {column} FROM batch WHERE account_id = :account AND id = :batch", account=account, batch=batch_id
    )


def set_status(work: BatchTransaction, account: int, batch_id: str, status: str) -> None:
    """Change the status of a batch."""
    work.execute(
        "UPDATE batch SET status = :status WHERE account_id = :account AND id = :batch",
        account=account,
        batch=batch_id,
        status=status,
    )
