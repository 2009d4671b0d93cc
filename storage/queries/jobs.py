"""The plain queries of jobs. One conditional update claims a chunk, so that of all workers on all hosts one has it.

A claim is a `token` that is valid until `due_at`. A worker that is late finds another token, and what it did is rolled
back: the last statement of a chunk's transaction is conditional on the token too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, text, update

from storage.batch_transaction import BatchTransaction
from storage.engine import now_ms
from storage.sql_dialect import SELECT_CLOCK_MS
from storage.tables import batch, failed_row, job, job_input

ACTIVE_STATES = ("queued", "running")
ROWS_PER_CHUNK = 1000


class ClaimLost(Exception):
    """Another worker has the job by now, or it was cancelled: nothing of this chunk counts."""


@dataclass(frozen=True, slots=True)
class ChunkClaim:
    """A chunk that this worker has claimed, with the job as it was then. `job` maps the table's columns."""

    account: int
    batch_id: str
    token: str
    job: Mapping[str, Any]


def clock_ms(connection: Connection) -> int:
    """Now, in milliseconds, by the one clock that all hosts share: the database's, on SQLite this machine's."""
    if connection.dialect.name == "sqlite":
        return now_ms()
    return int(connection.execute(text(SELECT_CLOCK_MS)).scalar_one())


def claim_chunk(connection: Connection, batch_id: str, chunk: int, token: str, lease: int) -> ChunkClaim | None:
    """Claim a chunk for `lease` milliseconds. None: it is done, its job has ended, or another worker has it."""
    now = clock_ms(connection)
    free = (job.c.token == "") | (job.c.due_at < now)
    statement = (
        update(job)
        .where(job.c.batch_id == batch_id, job.c.portion == chunk, job.c.state.in_(ACTIVE_STATES), free)
        .values(token=token, due_at=now + lease, state="running", updated_at=now)
    )
    if connection.execute(statement).rowcount == 0:
        return None
    result = connection.execute(select(job).where(job.c.batch_id == batch_id)).mappings().one()
    if not result["started_at"]:
        connection.execute(update(job).where(job.c.batch_id == batch_id).values(started_at=now))
        connection.execute(_update_batch(result["account_id"], batch_id).values(status="running"))
    return ChunkClaim(result["account_id"], batch_id, token, dict(result))


def extend_claim(connection: Connection, claim: ChunkClaim, lease: int) -> bool:
    """Prolong a claim. Returns whether it is still valid."""
    return _update_if_claimed(connection, claim, due_at=clock_ms(connection) + lease) > 0


def update_claimed(connection: Connection, claim: ChunkClaim, **values: object) -> None:
    """Change a job that is claimed. Raises ClaimLost."""
    if not _update_if_claimed(connection, claim, updated_at=clock_ms(connection), **values):
        raise ClaimLost


def release_claim(connection: Connection, claim: ChunkClaim, due_at: int, **values: object) -> None:
    """Give a claim up: the same chunk is due at a time. Another worker's claim is left alone."""
    _update_if_claimed(connection, claim, token="", due_at=due_at, **values)


def _update_if_claimed(connection: Connection, claim: ChunkClaim, **values: object) -> int:
    conditions = (job.c.account_id == claim.account, job.c.batch_id == claim.batch_id, job.c.token == claim.token)
    return connection.execute(update(job).where(*conditions, job.c.state == "running").values(**values)).rowcount


def check_claim(work: BatchTransaction, claim: ChunkClaim) -> None:
    """Check that a claim is still valid, before the work of a chunk. Raises ClaimLost."""
    result = work.number(
        "SELECT count(*) FROM job WHERE account_id = :account AND batch_id = :batch AND token = :token "
        "AND state = 'running'",
        account=claim.account,
        batch=claim.batch_id,
        token=claim.token,
    )
    if not result:
        raise ClaimLost


def finish_chunk(work: BatchTransaction, claim: ChunkClaim, lease: int, **values: object) -> None:
    """Mark a chunk as done, with the columns that it changes: the end of its transaction. Raises ClaimLost."""
    now = work.clock_ms()
    values = {
        "token": "",
        "due_at": now + lease,
        "updated_at": now,
        "attempts": 0,
        "portion": claim.job["portion"] + 1,
        **values,
    }
    settings = ", ".join(f"{name} = :{name}" for name in values)
    updated = work.execute(
        f"UPDATE job SET {settings} "
        "WHERE account_id = :account AND batch_id = :batch AND token = :claimed AND state = 'running'",
        account=claim.account,
        batch=claim.batch_id,
        claimed=claim.token,
        **values,
    )
    if not updated:
        raise ClaimLost


def take_due_chunks(connection: Connection, lease: int, limit: int = 500) -> list[tuple[str, int]]:
    """Release expired claims, and take jobs whose queue message is overdue: (batch id, chunk) each.

    They are due again after `lease` milliseconds, so that not every worker asks for them at once.
    """
    now = clock_ms(connection)
    is_late = (job.c.state.in_(ACTIVE_STATES), job.c.due_at < now)
    result = connection.execute(
        select(job.c.batch_id, job.c.portion).where(*is_late).order_by(job.c.due_at).limit(limit)
    )
    due_chunks = []
    for batch_id, chunk in result.all():
        conditions = update(job).where(job.c.batch_id == batch_id, job.c.portion == chunk, *is_late)
        if connection.execute(conditions.values(token="", due_at=now + lease)).rowcount:
            due_chunks.append((batch_id, chunk))
    return due_chunks


def has_due(connection: Connection) -> bool:
    """Whether there is anything for `take_due_chunks`. Takes no lock."""
    is_late = (job.c.state.in_(ACTIVE_STATES), job.c.due_at < clock_ms(connection))
    return connection.execute(select(job.c.batch_id).where(*is_late).limit(1)).first() is not None


def add_job(work: BatchTransaction, values: Mapping[str, object]) -> None:
    """Insert a job. `values` are columns of the table."""
    names, placeholders = ", ".join(values), ", ".join(f":{name}" for name in values)
    work.execute(f"INSERT INTO job({names}) VALUES ({placeholders})", **values)


def find_job(connection: Connection, batch_id: str) -> RowMapping | None:
    """The job of a batch, whosever it is."""
    return connection.execute(select(job).where(job.c.batch_id == batch_id)).mappings().first()


def change_state(
    connection: Connection, account: int, batch_id: str, states: Iterable[str], state: str, fault: str = ""
) -> bool:
    """Bring a job from one of `states` to another, and its batch with it. A worker that has it loses its claim."""
    # As a chunk does at its end: the batch, then the job. In another order both would wait for each other.
    lock_status(connection, account, batch_id)
    now = clock_ms(connection)
    values: dict[str, object] = {"state": state, "token": "", "fault": fault, "updated_at": now, "attempts": 0}
    values |= {"due_at": now, "ended_at": 0} if state in ACTIVE_STATES else {"ended_at": now}
    conditions = (job.c.account_id == account, job.c.batch_id == batch_id, job.c.state.in_(list(states)))
    if connection.execute(update(job).where(*conditions).values(**values)).rowcount == 0:
        return False
    connection.execute(_update_batch(account, batch_id).values(status=state))
    return True


def lock_status(connection: Connection, account: int, batch_id: str) -> str | None:
    """The status of a batch of the account, which nobody else changes until the transaction ends."""
    query = select(batch.c.status).where(batch.c.account_id == account, batch.c.id == batch_id)
    return connection.execute(query.with_for_update(key_share=True)).scalar()


def _update_batch(account: int, batch_id: str) -> Any:
    return update(batch).where(batch.c.account_id == account, batch.c.id == batch_id)


def add_pieces(connection: Connection, account: int, input_id: str, first: int, pieces: Iterable[bytes]) -> None:
    """Store encrypted pieces of a job's data, numbered from `first`."""
    now = now_ms()
    rows = [
        {"account_id": account, "input_id": input_id, "n": n, "data": piece, "created_at": now}
        for n, piece in enumerate(pieces, first)
    ]
    connection.execute(insert(job_input), rows)


def load_piece(connection: Connection, account: int, input_id: str, n: int) -> bytes | None:
    """An encrypted piece of a job's data."""
    conditions = (job_input.c.account_id == account, job_input.c.input_id == input_id, job_input.c.n == n)
    result = connection.execute(select(job_input.c.data).where(*conditions)).scalar()
    _forget_pages(connection)
    return result


def has_input(connection: Connection, job: RowMapping) -> bool:
    """Whether the data of a job, whose columns are given, are still there."""
    if not job["input_id"] or not job["input_size"]:
        return bool(job["input_id"])
    return load_piece(connection, job["account_id"], job["input_id"], 0) is not None


def drop_input(connection: Connection, account: int, input_id: str) -> None:
    """Drop a job's data, unless the job still needs it."""
    same_input = (job.c.account_id == job_input.c.account_id) & (job.c.input_id == job_input.c.input_id)
    needed = select(job.c.batch_id).where(same_input, job.c.state.in_(ACTIVE_STATES)).exists()
    conditions = (job_input.c.account_id == account, job_input.c.input_id == input_id)
    connection.execute(delete(job_input).where(*conditions, ~needed))
    _forget_pages(connection)


def _forget_pages(connection: Connection) -> None:
    # No piece is read twice: SQLite need not keep up to 44 MB of them on every connection that read some.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA shrink_memory")


def list_stale_inputs(connection: Connection, since: int, ended_since: int) -> list[tuple[int, str]]:
    """Data that are not needed: (account, input id) of uploads older than `since` that no job has, of imported jobs, and of
    jobs that ended otherwise before `ended_since` (they can be resumed until then). Times in milliseconds.
    """
    inputs = select(job_input.c.account_id, job_input.c.input_id).distinct().subquery()
    query = select(inputs.c.account_id, inputs.c.input_id, job.c.state, job.c.ended_at).join_from(
        inputs, job, (job.c.account_id == inputs.c.account_id) & (job.c.input_id == inputs.c.input_id), isouter=True
    )
    stale = []
    for account, input_id, state, ended in connection.execute(query).all():
        if state is None:
            first = select(job_input.c.created_at).where(
                job_input.c.account_id == account, job_input.c.input_id == input_id
            )
            newest = connection.execute(first.order_by(job_input.c.n.desc()).limit(1)).scalar()
            if newest is not None and newest < since:
                stale.append((account, input_id))
        elif state == "imported" or (state not in ACTIVE_STATES and ended < ended_since):
            stale.append((account, input_id))
    return stale


def add_failed_rows(work: BatchTransaction, account: int, batch_id: str, rows: Iterable[tuple[int, str]]) -> None:
    """Store the cells of failed rows: (row, JSON list)."""
    failed_rows = ((account, batch_id, row, cells) for row, cells in rows)
    work.fill_rows("failed_row", ("account_id", "batch_id", "row", "cells"), failed_rows)


def stream_failed_rows(connection: Connection, account: int, batch_id: str) -> Iterable[tuple[int, str]]:
    """The cells of a batch's failed rows, in row order, streamed: (row, JSON list)."""
    query = (
        select(failed_row.c.row, failed_row.c.cells)
        .where(failed_row.c.account_id == account, failed_row.c.batch_id == batch_id)
        .order_by(failed_row.c.row)
    )
    yield from connection.execution_options(yield_per=ROWS_PER_CHUNK).execute(query)
