"""Who serves a connection: all workers from the beginning, and a thread that stays with it while others are served too."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker

from serving import STAYING, THREADS, Plan, Worker, _Server, listen


class Connection:
    """One whose sender has so many requests more; after the last it waits, or with `leaves` goes."""

    def __init__(self, more: int, *, leaves: bool = False) -> None:
        self.more = more
        self.leaves = leaves
        self.handled = 0
        self.lingered = False

    def goes_on(self) -> bool:
        self.more -= 1
        return self.more >= 0

    def linger(self) -> None:
        self.lingered = True


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    def handle(_worker: ThreadWorker, connection: Connection) -> bool:
        connection.handled += 1
        return connection.more > 0 or not connection.leaves

    monkeypatch.setattr(ThreadWorker, "handle", handle)
    worker: Worker = Worker.__new__(Worker)
    worker.alive = True
    yield worker
    # All that were taken were given back.
    assert all(worker._staying.acquire(blocking=False) for _ in range(STAYING))
    worker._staying.release(STAYING)


def test_requests_that_follow_each_other_stay_with_their_thread(worker: Worker) -> None:
    waiting, leaving = Connection(3), Connection(3, leaves=True)
    assert worker.handle(waiting)
    assert not worker.handle(leaving)
    assert (waiting.handled, waiting.lingered) == (4, False)
    assert (leaving.handled, leaving.lingered) == (4, True)


def test_most_threads_are_for_all_in_turn(worker: Worker) -> None:
    assert STAYING < THREADS / 2
    for _ in range(STAYING):
        worker._staying.acquire()
    connection = Connection(3)
    assert worker.handle(connection)
    worker._staying.release(STAYING)
    assert connection.handled == 1


def test_a_worker_that_ends_keeps_nobody(worker: Worker) -> None:
    worker.alive = False
    connection = Connection(3)
    assert worker.handle(connection)
    assert connection.handled == 1


def test_a_server_says_that_it_is_ready_when_its_last_worker_is() -> None:
    told: list[str] = []
    listener = listen("127.0.0.1", 0)
    server = _Server(Plan(load=lambda: None, listener=listener, announce=lambda: told.append("ready"), workers=3))  # type: ignore[arg-type, return-value]
    with contextlib.closing(socket.socket(fileno=int(server.cfg.settings["bind"].value[0].removeprefix("fd://")))):
        seen = []
        # The one that works on jobs says nothing, nor one that replaces another later on.
        for consumes in (False, True, False, False, False):
            server._ready(SimpleNamespace(consumes=consumes))  # type: ignore[arg-type]
            seen.append(len(told))
    assert seen == [0, 0, 0, 1, 1]
