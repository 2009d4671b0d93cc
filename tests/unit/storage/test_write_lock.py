"""Waiting lines: first come, first served, so many at once, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import make_url

from storage.engine import _is_near
from storage.turn import CROWD, Busy, Lines

PATIENCE = 10.0


def test_first_come_first_served() -> None:
    lines = Lines()
    served: list[int] = []

    def wait(number: int) -> None:
        with lines.held("key", PATIENCE):
            served.append(number)

    with ThreadPoolExecutor(20) as pool, lines.held("key", PATIENCE):
        for number in range(20):
            pool.submit(wait, number)
            _until(lines, number + 1)
        assert served == []
    assert served == list(range(20))


@pytest.mark.parametrize("holders", [1, 3])
def test_so_many_hold_a_key_and_no_more(holders: int) -> None:
    lines = Lines(holders)
    guard, inside, limit = threading.Lock(), 0, 0

    def hold() -> None:
        nonlocal inside, limit
        with lines.held("key", PATIENCE):
            with guard:
                inside += 1
                limit = max(limit, inside)
            time.sleep(0.001)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(12) as pool:
        for _ in range(120):
            pool.submit(hold)
    assert limit == holders


def test_where_many_wait_some_more_hold_a_key() -> None:
    lines = Lines(1, 3)
    served: list[int] = []
    ends = threading.Event()

    def hold(number: int) -> None:
        with lines.held("key", PATIENCE):
            served.append(number)
            assert ends.wait(PATIENCE)

    with ThreadPoolExecutor(40) as pool:
        with lines.held("key", PATIENCE):
            for number in range(CROWD - 1):
                pool.submit(hold, number)
            _until(lines, CROWD - 1)
            assert served == []
            for number in range(CROWD - 1, 30):
                pool.submit(hold, number)
            _until(lines, 28)
            while len(served) < 2:
                time.sleep(0.0005)
            assert served == [0, 1]
        # There are as many as may be, and the next one has come in for the one that left.
        _until(lines, 27)
        assert lines._held["key"] == 3
        ends.set()
    assert sorted(served) == list(range(30))
    assert not lines._held


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("sqlite:///x.db", True),
        ("postgresql://u@localhost/x", True),
        ("postgresql://u@127.0.0.1:5433/x", True),
        ("postgresql://u@[::1]/x", True),
        ("postgresql:///x", True),
        ("postgresql://u@/x?host=/var/run/postgresql", True),
        ("postgresql://u@db.example/x", False),
        ("postgresql://u@/x?host=localhost,10.0.0.7", False),
        ("postgresql://u@/x?host=/run&host=db.example", False),
    ],
)
def test_a_database_on_another_host_is_known(url: str, near: bool) -> None:
    assert _is_near(make_url(url)) is near


def test_who_waits_too_long_is_told_and_costs_nobody_a_turn() -> None:
    lines = Lines()
    with lines.held("key", PATIENCE), pytest.raises(Busy), lines.held("key", 0.01):
        pass
    with lines.held("key", 0.01):
        pass


def test_keys_are_apart() -> None:
    lines = Lines()
    with lines.held(1, 0.01), lines.held(2, 0.01):
        pass


def _until(lines: Lines, waiting: int) -> None:
    while len(lines._waiting["key"]) != waiting:
        time.sleep(0.0005)
