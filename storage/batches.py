"""The plain queries of batches: what was imported and undone, by whom, with which problems; and the stored replies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from storage.models import batch, batch_problem
from storage.workspace import Workspace

Row = RowMapping

CHUNK = 1000
BATCH_COLUMNS = tuple(column.name for column in batch.columns)
PROBLEM, WARNING, CONFLICT, MADE = "problem", "warning", "conflict", "made"
PROBLEM_COLUMNS = ("account_id", "batch_id", "kind", "n", "row", "field", "code", "value", "written")


def newest(connection: Connection, account: int, offset: int = 0, length: int = 20) -> list[Row]:
    """The account's batches, newest first."""
    query = select(batch).where(batch.c.account_id == account).order_by(batch.c.number.desc())
    return list(connection.execute(query.offset(offset).limit(length)).mappings())


def find(connection: Connection, batch_id: str) -> Row | None:
    """A batch by its id, whosever it is."""
    return connection.execute(select(batch).where(batch.c.id == batch_id)).mappings().first()


def problems(connection: Connection, account: int, batch_id: str, kind: str = PROBLEM) -> Iterator[Row]:
    """What is known of single rows of a batch (kinds: problem, warning, conflict, made), in row order, streamed."""
    query = (
        select(batch_problem)
        .where(
            batch_problem.c.account_id == account, batch_problem.c.batch_id == batch_id, batch_problem.c.kind == kind
        )
        .order_by(batch_problem.c.n)
    )
    yield from connection.execution_options(yield_per=CHUNK).execute(query).mappings()


def insert(work: Workspace, values: Mapping[str, object]) -> None:
    """Write a batch down. `campaigns` and `columns` are JSON texts."""
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(
        f"CAST(:{name} AS {{json}})" if name in ("campaigns", "columns") else f":{name}" for name in values
    )
    work.execute(f"INSERT INTO batch({names}) VALUES ({marks})", **values)


def insert_problems(
    work: Workspace, account: int, batch_id: str, kind: str, rows: Iterable[tuple[int, str, str, str, str]]
) -> None:
    """Write down (row, field, code, value, written), in order."""
    work.fill("batch_problem", PROBLEM_COLUMNS, _numbered(account, batch_id, kind, rows))


def _numbered(
    account: int, batch_id: str, kind: str, rows: Iterable[tuple[int, str, str, str, str]]
) -> Iterator[list[tuple[object, ...]]]:
    chunk: list[tuple[object, ...]] = []
    for n, row in enumerate(rows):
        chunk.append((account, batch_id, kind, n, *row))
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def stored_reply(work: Workspace, account: int, key: str) -> tuple[bytes, str] | None:
    """(request digest, batch id) under an idempotency key."""
    found = next(
        work.rows(
            "SELECT digest, batch_id FROM reply WHERE account_id = :account AND key = :key", account=account, key=key
        ),
        None,
    )
    return None if found is None else (bytes(found[0]), found[1])


def store_reply(work: Workspace, account: int, key: str, digest: bytes, batch_id: str, now: int) -> None:
    """Keep a reply under an idempotency key."""
    work.execute(
        "INSERT INTO reply(account_id, key, digest, batch_id, created_at) VALUES (:account, :key, :digest, :batch, :now)",
        account=account,
        key=key,
        digest=digest,
        batch=batch_id,
        now=now,
    )


def same_request(work: Workspace, account: int, user: str, digest: bytes, since: int) -> str | None:
    """The batch that the same request of the same user made since a time in milliseconds, if any."""
    rows = work.rows(
        "SELECT id, request_digest, user_id, created_at FROM batch WHERE account_id = :account "
        "ORDER BY number DESC LIMIT 50",
        account=account,
    )
    for batch_id, stored, stored_user, created_at in rows:
        if stored is not None and bytes(stored) == digest and stored_user == user and created_at >= since:
            return str(batch_id)
    return None


def load(work: Workspace, account: int, batch_id: str) -> dict[str, Any] | None:
    """A batch of the account, as a workspace sees it."""
    names = ", ".join(f'"{name}"' for name in BATCH_COLUMNS)
    found = next(
        work.rows(
            f"SELECT {names} FROM batch WHERE account_id = :account AND id = :batch", account=account, batch=batch_id
        ),
        None,
    )
    return None if found is None else dict(zip(BATCH_COLUMNS, found, strict=True))


def numbers(value: object) -> list[int]:
    """A stored list of numbers: text on SQLite, parsed by the driver on PostgreSQL."""
    parsed = json.loads(value) if isinstance(value, str) else value
    assert isinstance(parsed, list)
    return [int(number) for number in parsed]


def load_problems(work: Workspace, account: int, batch_id: str, kind: str) -> Iterator[tuple[Any, ...]]:
    """(row, field, code, value, written) of a batch, in order."""
    return work.rows(
        'SELECT "row", field, code, value, written FROM batch_problem '
        "WHERE account_id = :account AND batch_id = :batch AND kind = :kind ORDER BY n",
        account=account,
        batch=batch_id,
        kind=kind,
    )


def newer(work: Workspace, account: int, number: int) -> int:
    """How many batches with an undo state the account has that are newer than a batch's number."""
    return work.number(
        "SELECT count(*) FROM batch WHERE account_id = :account AND number > :number AND keep_undo",
        account=account,
        number=number,
    )


def close_chain(work: Workspace, account: int, root: str, root_status: str) -> None:
    """An undo changes its whole chain: the undos so far are done with, and the import is in force or not."""
    work.execute(
        "UPDATE batch SET status = CASE WHEN id = :root THEN :status ELSE 'undone' END "
        "WHERE account_id = :account AND root = :root",
        account=account,
        root=root,
        status=root_status,
    )
