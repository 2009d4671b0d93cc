"""A thread stays with a connection whose requests follow each other, but never so that others get none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gunicorn.workers.gthread import ThreadWorker

from serving import STAYING, THREADS, Worker


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
