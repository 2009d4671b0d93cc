"""Fair locks: first come, first served, so many at once, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.fair_locks import Busy, FairLocks

PATIENCE = 10.0


def test_first_come_first_served() -> None:
    locks = FairLocks()
    served: list[int] = []

    def wait(number: int) -> None:
        with locks.held("key", PATIENCE):
            served.append(number)

    with ThreadPoolExecutor(20) as pool, locks.held("key", PATIENCE):
        for number in range(20):
            pool.submit(wait, number)
            _until(locks, number + 1)
        assert served == []
    assert served == list(range(20))


@pytest.mark.parametrize("holders", [1, 3])
def test_so_many_hold_a_key_and_no_more(holders: int) -> None:
    locks = FairLocks(holders)
    guard, inside, limit = threading.Lock(), 0, 0

    def hold() -> None:
        nonlocal inside, limit
        with locks.held("key", PATIENCE):
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


def test_who_waits_too_long_is_told_and_costs_nobody_a_turn() -> None:
    locks = FairLocks()
    with locks.held("key", PATIENCE), pytest.raises(Busy), locks.held("key", 0.01):
        pass
    with locks.held("key", 0.01):
        pass


def test_keys_are_apart() -> None:
    locks = FairLocks()
    with locks.held(1, 0.01), locks.held(2, 0.01):
        pass


def _until(locks: FairLocks, waiting: int) -> None:
    while len(locks._waiting["key"]) != waiting:
        time.sleep(0.0005)
