"""`tillgate worker` and the consumer in `tillgate serve` as processes: killed, paused and stopped, on every kind of queue."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

import cli
from importing import batch_status
from importing.context import Context
from importing.jobs import huey_connection, lifecycle, queue_huey
from server.installation import open_context
from server.job_worker import JobWorker
from settings import Settings
from storage.engine import Busy, Database, Kind
from storage.tables import job
from tests.conftest import settings_for
from tests.support.demo_accounts import Demo, open_accounts
from tests.support.gateway_process import PROGRAM, serving
from tests.support.job_batches import Held, batch, holds, rows
from tests.support.postgres_server import PostgresServer

PATIENCE = 90.0
LEASE = 2.0
# With the recovery's own pause and a busy machine.
TAKEN_OVER = LEASE + 10.0
SECRET = "a secret that all workers of the test share"  # noqa: S105
SOAK = os.environ.get("TILLGATE_SOAK") == "1"
KILLS = 60 if SOAK else 6
ROWS = 100_000 if SOAK else 10_000
# Of a job that is still at work when something happens to its worker.
MANY = 12 * ROWS if SOAK else 6 * ROWS
# As many borders between chunks, with less to write: the workers' chunks are small.
SMALL = f"from importing.jobs import chunk; chunk.FIRST_CHUNK_ROWS = chunk.MAX_CHUNK_ROWS = {ROWS // 10}; "
WORKER = PROGRAM if SOAK else SMALL + PROGRAM
# More than the servers, whose chunks are as they come, can write before they are stopped.
LONG = 1_000_000

QUEUES = ("sqlite", "redis", "postgresql")


@dataclass
class Installation:
    """A database, a queue, and worker processes on them."""

    settings: Settings
    context: Context
    demo: Demo
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(Path(cli.__file__).parent),
            "TILLGATE_DATA_DIR": str(self.settings.data_dir),
            "TILLGATE_DATABASE_URL": self.settings.database_url,
            "TILLGATE_QUEUE_URL": self.settings.queue_url,
            "TILLGATE_SECRET": SECRET,
            "TILLGATE_JOB_LEASE": str(LEASE),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """A worker more."""
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", WORKER, "worker"],
            cwd=self.settings.data_dir,
            env=self.environment,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"Tillgate works on jobs\n"
        self.workers.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a worker as the kernel would, in the middle of whatever it does."""
        self.workers.remove(process)
        process.kill()
        process.communicate(timeout=PATIENCE)

    def end(self) -> None:
        for process in self.workers:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate(timeout=PATIENCE)

    def status(self, batch_id: str) -> str:
        found = batch_status.find_batch(self.context, self.demo.number, batch_id)
        assert found is not None
        return found.status

    def processed(self, batch_id: str) -> int:
        found = batch_status.find_batch(self.context, self.demo.number, batch_id)
        assert found is not None
        return found.progress.processed


def eventually(true: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Fails unless it comes true in time."""
    never = threading.Event()
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        never.wait(0.02)


@contextmanager
def redis_server() -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--dir",
            folder,
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - found above
        try:
            eventually(lambda: _listens(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


@pytest.fixture(params=QUEUES)
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """Each kind of queue; beside the PostgreSQL queue a PostgreSQL database, beside the others SQLite."""
    kind = request.param
    blank = request.getfixturevalue("blank_postgresql" if kind == "postgresql" else "blank_sqlite")
    database: Database = blank(tmp_path)
    with redis_server() if kind == "redis" else _no_server() as redis_url:
        url = redis_url
        if kind == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgresql_server")
            url = server.url(server.create())
        settings = settings_for(database, queue_url=url, secret=SECRET, job_lease=LEASE)
        database.dispose()
        context = open_context(settings)
        installation = Installation(settings, context, open_accounts(context)[0])
        try:
            yield installation
        finally:
            installation.end()
            context.queue.close()
        context.database.dispose()


@contextmanager
def _no_server() -> Iterator[str]:
    yield ""


def test_any_number_of_kills_at_any_moment_leave_every_row_once(installation: Installation) -> None:
    at = installation
    chance = random.Random(7)
    for _ in range(2):
        at.start()
    texts = [rows(f"c{n}-", ROWS) for n in range(3)]
    ids = [lifecycle.submit(at.context, batch(at.context, at.demo, text)).batch_id for text in texts]
    pause = threading.Event()
    for _ in range(KILLS):
        if all(at.status(batch_id) == "imported" for batch_id in ids):
            break
        pause.wait(chance.uniform(0.05, 0.8))
        at.kill(chance.choice(at.workers))
        at.start()
    eventually(lambda: all(at.status(batch_id) == "imported" for batch_id in ids))
    total = len(ids) * ROWS
    assert holds(at.context, at.demo) == Held(total, total * 2500, total)


def test_a_dead_workers_job_is_taken_over_within_its_lease(installation: Installation) -> None:
    at = installation
    first = at.start()
    batch_id = lifecycle.submit(at.context, batch(at.context, at.demo, rows("c", ROWS))).batch_id
    eventually(lambda: at.processed(batch_id) > 0)
    at.start()
    at.kill(first)
    eventually(lambda: at.status(batch_id) == "imported", TAKEN_OVER + 20)
    assert holds(at.context, at.demo) == Held(ROWS, ROWS * 2500, ROWS)


def test_a_worker_paused_past_its_lease_is_fenced_off(installation: Installation) -> None:
    at = installation
    paused = at.start()
    batch_id = lifecycle.submit(at.context, batch(at.context, at.demo, rows("c", MANY))).batch_id

    def pause_while_it_has_a_claim() -> bool:
        paused.send_signal(signal.SIGSTOP)
        # The signal is only on its way: until the last thread has stopped, one may still take a lock.
        os.waitid(os.P_PID, paused.pid, os.WSTOPPED)
        if _claimed(at, batch_id) and not _locked(at.context.database):
            return True
        paused.send_signal(signal.SIGCONT)
        return False

    eventually(pause_while_it_has_a_claim)
    assert at.status(batch_id) == "running", "it was done before it could be paused"
    at.start()
    eventually(lambda: at.status(batch_id) == "imported", TAKEN_OVER + 30)
    paused.send_signal(signal.SIGCONT)
    # It is alive and well, and does the next job; what it had in hand counts for nothing.
    for process in at.workers[1:]:
        at.kill(process)
    after = lifecycle.submit(at.context, batch(at.context, at.demo, rows("after", 10))).batch_id
    eventually(lambda: at.status(after) == "imported")
    total = MANY + 10
    assert holds(at.context, at.demo) == Held(total, total * 2500, total)


def _claimed(at: Installation, batch_id: str) -> bool:
    with at.context.database.reading() as connection:
        return bool(connection.execute(select(job.c.token).where(job.c.batch_id == batch_id)).scalar_one())


def _locked(database: Database) -> bool:
    # Who is stopped in the middle of writing holds up everybody, on PostgreSQL all of the account: nobody can help that.
    if database.kind is Kind.POSTGRESQL:
        with database.engine.connect() as connection:
            try:
                for table in ("account", "job"):
                    connection.execute(text(f"SELECT 1 FROM {table} FOR NO KEY UPDATE NOWAIT"))
            except OperationalError:
                return True
            return False
    try:
        with database.writing(0.02):
            return False
    except Busy:
        return True


def test_a_worker_that_is_stopped_ends_its_chunk_first(installation: Installation) -> None:
    at = installation
    worker = at.start()
    batch_id = lifecycle.submit(at.context, batch(at.context, at.demo, rows("c", MANY))).batch_id
    eventually(lambda: at.processed(batch_id) > 0)
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE)
    at.workers.remove(worker)
    assert worker.returncode == 0
    assert not _claimed(at, batch_id)
    at.start()
    eventually(lambda: at.status(batch_id) == "imported", TAKEN_OVER + 30)
    assert holds(at.context, at.demo).customers == MANY


def test_a_queue_that_is_down_loses_nothing(tmp_path: Path, blank_sqlite: Callable[[Path], Database]) -> None:
    database = blank_sqlite(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Nothing listens there.
    settings = settings_for(database, queue_url=f"redis://127.0.0.1:{port}/0", secret=SECRET, job_lease=LEASE)
    context = open_context(settings)
    at = Installation(settings, context, open_accounts(context)[0])
    batch_id = lifecycle.submit(context, batch(context, at.demo, rows("c", 10))).batch_id
    assert at.status(batch_id) == "queued"
    there = Installation(
        settings.model_copy(update={"queue_url": f"sqlite:///{tmp_path / 'queue.db'}"}), context, at.demo
    )
    try:
        there.start()
        eventually(lambda: there.status(batch_id) == "imported", TAKEN_OVER)
    finally:
        there.end()
        context.queue.close()
        context.database.dispose()


def test_the_servers_own_consumer_is_replaced_when_it_is_killed(
    tmp_path: Path, blank_sqlite: Callable[[Path], Database]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    database = blank_sqlite(folder)
    settings = settings_for(database, secret=SECRET, job_lease=LEASE)
    context = open_context(settings)
    at = Installation(settings, context, open_accounts(context)[0])
    with serving(tmp_path, "--workers", "1", environment=at.environment) as server:
        batch_id = lifecycle.submit(context, batch(context, at.demo, rows("c", ROWS))).batch_id
        eventually(lambda: at.processed(batch_id) > 0)
        for process in _children(server.process.pid):
            os.kill(process, signal.SIGKILL)
        eventually(lambda: at.status(batch_id) == "imported", TAKEN_OVER + 30)
        status, _, _ = server.stop()
        assert status == 0
    assert holds(context, at.demo) == Held(ROWS, ROWS * 2500, ROWS)
    context.queue.close()
    context.database.dispose()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_small_job_passes_eight_big_ones(installation: Installation) -> None:
    at = installation
    texts = [rows(f"b{n}-", ROWS) for n in range(8)]
    big = [lifecycle.submit(at.context, batch(at.context, at.demo, text)).batch_id for text in texts]
    at.start()
    eventually(lambda: all(at.processed(batch_id) for batch_id in big))
    small = lifecycle.submit(replace(at.context), batch(at.context, at.demo, rows("small", 10))).batch_id
    eventually(lambda: at.status(small) == "imported")
    chunks = [_count_chunks(at, batch_id) for batch_id in big]
    eventually(lambda: all(at.status(batch_id) == "imported" for batch_id in big))
    assert max(chunks) <= 4


def _count_chunks(at: Installation, batch_id: str) -> int:
    with at.context.database.reading() as connection:
        return int(connection.execute(select(job.c.portion).where(job.c.batch_id == batch_id)).scalar_one())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_server_that_is_stopped_leaves_no_claim_behind(
    tmp_path: Path, blank_sqlite: Callable[[Path], Database], how: signal.Signals
) -> None:
    # A claim that is left keeps everybody from the job for a whole lease, here longer than anybody waits.
    folder = tmp_path / "data"
    folder.mkdir()
    settings = settings_for(blank_sqlite(folder), secret=SECRET, job_lease=600.0)
    context = open_context(settings)
    at = Installation(settings, context, open_accounts(context)[0])
    environment = {**at.environment, "TILLGATE_JOB_LEASE": "600"}
    with serving(tmp_path, "--workers", "1", environment=environment) as server:
        batch_id = lifecycle.submit(context, batch(context, at.demo, rows("c", LONG))).batch_id
        eventually(lambda: at.processed(batch_id) > 0 and _claimed(at, batch_id))
        # As the terminal does: all of its processes are told.
        for process in (server.process.pid, *_children(server.process.pid)):
            os.kill(process, how)
        _, errors = server.process.communicate(timeout=PATIENCE)
        assert (server.process.returncode, errors) == (0, "")
    assert at.status(batch_id) == "running"
    assert not _claimed(at, batch_id)
    context.queue.close()
    context.database.dispose()


def test_recovery_outlives_whatever_it_meets(
    tmp_path: Path, blank_sqlite: Callable[[Path], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = blank_sqlite(tmp_path)
    context = open_context(settings_for(database, secret=SECRET))
    looked: list[Context] = []
    again = threading.Event()

    def recover(context: Context) -> int:
        looked.append(context)
        if len(looked) == 1:
            raise OSError("no space left")
        again.set()
        return 0

    monkeypatch.setattr(lifecycle, "recover_jobs", recover)
    monkeypatch.setattr(lifecycle, "RECOVERY_PAUSE_SECONDS", 0.01)
    deadline = time.monotonic() + PATIENCE
    JobWorker(context).run(lambda: not again.is_set() and time.monotonic() < deadline, 0.05)
    assert again.is_set()
    context.queue.close()
    context.database.dispose()
    database.dispose()


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
def test_a_queue_that_never_answers_is_not_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huey_connection, "TIMEOUT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        queue = queue_huey.HueyQueue(f"{kind}://127.0.0.1:{deaf.getsockname()[1]}/0")
        asking = threading.Thread(target=queue.put_chunk, args=("batch", 0), daemon=True)
        asking.start()
        asking.join(PATIENCE)
        assert not asking.is_alive()
