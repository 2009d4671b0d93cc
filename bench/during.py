"""What everybody else notices while a big batch is being imported: reads, and small posts to another account."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import form, load, small, stores
from bench.form import MULTIPART
from bench.gateway import machine_busy
from bench.imports import LIMIT
from bench.load import Load
from bench.results import Section
from bench.setting import Setting
from bench.stores import Store

CLIENTS = 8
TINY = 0.001
NO_CORE = 0.1
READ = "reads: p99, ms"
RATE = "3-row posts to another account: a second"
FREE = "3-row posts to another account: a second for each free core"
LONGEST = "3-row posts to another account: longest wait, s"
REFUSED = "3-row posts to another account: refused as busy"
# Where a bar is for one database only, the other one's line is there to be known. A post waits 4 s for its turn.
BARS = {
    (READ, "SQLite"): "at most 5 times",
    (READ, "PostgreSQL"): "at most 5 times",
    (FREE, "PostgreSQL"): "at least 0.7",
    (LONGEST, "SQLite"): "the limit of 4 s, and its own time",
}


@dataclass(frozen=True, slots=True)
class Round:
    """One round: loads while idle and during an import, and the cores that an import alone keeps busy."""

    read_idle: Load
    read_during: Load
    post_idle: Load
    post_during: Load
    busy_cores: float


def measure(setting: Setting) -> Iterator[Section]:
    """One section."""
    rows = setting.largest
    section = Section(
        "While a big batch is being imported",
        f"{CLIENTS} keep-alive clients, and as many workers as `tillgate serve` has by default. Reads are JSONP GETs of "
        f"`{small.STATUS}`. A free core is one that the import alone, PostgreSQL's part included, leaves idle.",
        ("database", "rows of the batch", "what", "idle", "during", "ratio", "bar", "rounds"),
    )
    section.start()
    first, second = stores.files(rows, setting.folder)
    for name in setting.databases:
        with stores.opened(name, setting.folder) as store:
            store.preload(first, neighbour=True)
            rounds = [_round(setting, store, first, second) for _ in range(setting.pairs)]
            _add(section, store, rows, rounds)
    yield section


def _round(setting: Setting, store: Store, first: Path, second: Path) -> Round:
    _, posts = small.posts(setting, first.with_name("neighbours.psv"), form.NEIGHBOUR)
    with store.fresh() as settings, small.our_server({**settings, **LIMIT}) as gateway:
        reads = small.reads(setting, first, gateway)
        read_idle = load.run(gateway.port, CLIENTS, setting.seconds, reads)
        with load.Running(gateway.port, CLIENTS, reads) as reading:
            gateway.import_file(second, MULTIPART)
        post_idle = load.run(gateway.port, CLIENTS, setting.seconds, posts)
    with (
        store.fresh() as settings,
        small.our_server({**settings, **LIMIT}) as gateway,
        load.Running(gateway.port, CLIENTS, posts) as posting,
    ):
        gateway.import_file(second, MULTIPART)
    with store.fresh() as settings, small.our_server({**settings, **LIMIT}) as gateway:
        used, start = machine_busy(), time.perf_counter()
        gateway.import_file(second, MULTIPART)
        busy = (machine_busy() - used) / (time.perf_counter() - start)
    assert reading.result is not None
    assert posting.result is not None
    return Round(read_idle, reading.result, post_idle, posting.result, busy)


def _add(section: Section, store: Store, rows: int, rounds: list[Round]) -> None:
    cores = len(os.sched_getaffinity(0))

    def line(what: str, idle: list[float], during: list[float], ratio: list[float] | None) -> None:
        section.add(
            *(store.name, rows, what, statistics.median(idle), statistics.median(during)),
            f"**{statistics.median(ratio):.2f}**" if ratio else None,
            *(BARS.get((what, store.name)), len(rounds)),
        )

    def compared(what: str, idle: list[float], during: list[float]) -> None:
        line(what, idle, during, [now / max(before, TINY) for before, now in zip(idle, during, strict=True)])

    compared(READ, [r.read_idle.p99 * 1000 for r in rounds], [r.read_during.p99 * 1000 for r in rounds])
    compared(RATE, [r.post_idle.rate for r in rounds], [r.post_during.rate for r in rounds])
    # Without a free core there is nothing to share out.
    roomy = [(r, cores - r.busy_cores) for r in rounds if cores - r.busy_cores > NO_CORE]
    if roomy:
        compared(FREE, [r.post_idle.rate / cores for r, _ in roomy], [r.post_during.rate / left for r, left in roomy])
    else:
        section.add(store.name, rows, FREE, None, None, "no core was free", BARS.get((FREE, store.name)), len(rounds))
    line(LONGEST, [r.post_idle.longest for r in rounds], [r.post_during.longest for r in rounds], None)
    line(REFUSED, [float(r.post_idle.bad) for r in rounds], [float(r.post_during.bad) for r in rounds], None)
