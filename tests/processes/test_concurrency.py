"""Two batches at once end as if one had come first; writers queue, and none fails before its wait is over."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing.context import Context
from tests.support.model import Done, Import, Model
from tests.support.real_core import Actual, Result, compare, customers_of, expected
from tests.support.strategies import imports, profile, resolved

Answer = TypeVar("Answer")


@pytest.fixture
def actual(context: Context) -> Actual:
    return Actual(context)


def at_once(*tasks: Callable[[], Answer]) -> list[Answer]:
    """Run all tasks in threads that start together."""
    start = threading.Barrier(len(tasks))

    def run(task: Callable[[], Answer]) -> Answer:
        start.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def one_after_another(actual: Actual, truth: Model, pairs: list[tuple[Import, Result]]) -> None:
    """Fails unless the answers and the state are what the batches give in this order."""
    for batch, result in pairs:
        done: Done = truth.apply(batch)
        compare(truth, done, result, batch)
    assert actual.state() == expected(truth)


@profile(40, 1500)
@given(first=imports(6), pair=st.tuples(imports(8), imports(8)))
def test_two_batches_at_once_end_as_if_one_had_come_first(
    actual: Actual, first: Import, pair: tuple[Import, Import]
) -> None:
    actual.reset()
    truth = Model()
    first = resolved(first, [])
    compare(truth, truth.apply(first), actual.apply(first), first)
    batches = [resolved(batch, customers_of(truth)) for batch in pair]
    results = at_once(*(lambda batch=batch: actual.apply(batch) for batch in batches))
    pairs = list(zip(batches, results, strict=True))
    actual.check()
    try:
        one_after_another(actual, copy.deepcopy(truth), pairs)
    except AssertionError:
        one_after_another(actual, truth, pairs[::-1])


def rows(name: str, count: int = 50) -> Import:
    """New customers, and one whom all such batches share."""
    cells = [{"code": f"{name}-{n}", "auto_add": "1"} for n in range(count)]
    return Import(("code", "auto_add"), (*cells, {"code": "shared", "auto_add": "1"}), "update", "reject", ("club",))


def test_many_writers_queue_and_none_fails(actual: Actual) -> None:
    actual.reset()
    patient = Actual(replace(actual.context, write_wait=60.0))
    writers = 12
    results = at_once(*(lambda n=n: patient.apply(rows(f"w{n}")) for n in range(writers)))
    assert [result.fault for result in results] == [""] * writers
    assert sum(result.counts["new"] for result in results) == 50 * writers + 1
    assert actual.state()["shared"]["balances"] == {"club": 100 * writers}
    actual.check()


def test_an_import_and_its_neighbours_undo_at_once(actual: Actual) -> None:
    actual.reset()
    first, second = actual.apply(rows("a")), actual.apply(rows("b"))
    at_once(lambda: actual.undo(first.id), lambda: actual.undo(second.id), lambda: actual.apply(rows("c")))
    state = actual.state()
    assert state["shared"]["balances"] == {"club": 100}
    assert set(state) == {"shared", *(f"c-{n}" for n in range(50))}
    actual.check()


@pytest.mark.parametrize("wait", [0.05, 0.3])
def test_a_sender_who_waits_too_long_gets_busy(actual: Actual, wait: float) -> None:
    actual.reset()
    hasty = Actual(replace(actual.context, write_wait=wait))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with actual.context.database.writing() as connection:
            actual.lock(connection)
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    start = time.monotonic()
    try:
        result = hasty.apply(rows("late"))
    finally:
        done.set()
        holder.join()
    assert result.fault == "busy"
    assert wait <= time.monotonic() - start < wait + 2
    assert actual.state() == {}
    assert actual.apply(rows("later", 1)).counts["new"] == 2
