"""Imports over HTTP beside the yardstick, and the memory that they take."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import form, stores
from bench.form import MULTIPART, URLENCODED
from bench.gateway import Gateway, Posted
from bench.results import COSTS, Pairs, Section
from bench.setting import MANY, Setting
from bench.stores import Store, measured

# A megabyte more than any file of the benchmarks.
LIMIT = {"TILLGATE_MAX_BODY": "1g"}
MOST_MEMORY = 96
LONG_LINE = 100_000_000
QUICK_LINE = 5_000_000


@dataclass(frozen=True, slots=True)
class Way:
    """One way of posting a batch, measured beside the yardstick. `most` is the ratio that it may reach."""

    name: str
    post: Callable[[Gateway, Path], Posted]
    limit: Callable[[int], float]


def import_most(rows: int) -> float:
    """The most that an import may take, in times of the yardstick."""
    return 3.0 if rows <= 1_000 else 1.6 if rows <= 10_000 else 1.5


WAYS = (
    Way(URLENCODED, lambda gateway, file: gateway.import_file(file, URLENCODED), import_most),
    Way(MULTIPART, lambda gateway, file: gateway.import_file(file, MULTIPART), import_most),
    Way("dry run", lambda gateway, file: gateway.import_file(file, URLENCODED, dry_run="yes"), lambda _: 0.7),
)


def measure(setting: Setting) -> Iterator[Section]:
    """The imports, then what is read of them and what they hold in memory."""
    yield _costs(setting)
    yield _memory(setting)


def _costs(setting: Setting) -> Section:
    section = Section(
        "Imports",
        "Undo state on, one campaign, `auto_add` 25 on every row, half of the rows updates; a fresh copy of the same "
        "customers and a fresh server for every post. `form to cells` is reading the form alone, from the body's bytes "
        "to cut rows, against the import of the same body. `a row, against 100,000` is the cost of a row.",
        COSTS,
    )
    section.start()
    for name in setting.databases:
        with stores.opened(name, setting.folder) as store:
            seconds = {rows: _size(setting, store, rows, section) for rows in setting.rows}
            if MANY in seconds and 100_000 in seconds:
                row, usual = seconds[MANY] / MANY, seconds[100_000] / 100_000
                ratio = f"**{row / usual:.2f}**"
                section.add(store.name, MANY, "a row, against 100,000", None, None, ratio, "1.6", None, None, None)
    return section


def _size(setting: Setting, store: Store, rows: int, section: Section) -> float:
    """The rows of one size; returns the median of its urlencoded import."""
    first, second = stores.files(rows, setting.folder)
    store.preload(first)
    found = {way.name: Pairs() for way in WAYS}
    for _ in range(setting.pairs):
        floor = 0.0
        for way in WAYS:
            # At this size a run of the yardstick takes so long that the ways of a round share one.
            if rows < MANY or not floor:
                floor = store.yardstick(rows, setting.folder)
            with store.fresh() as settings, Gateway.started({**settings, **LIMIT}) as gateway:
                gateway.warm()
                posted = way.post(gateway, second)
            found[way.name].add(floor, posted.seconds, posted.memory, posted.processor)
    for way in WAYS:
        section.add(store.name, rows, way.name, *found[way.name].cells(way.limit(rows)))
    for encoding in (URLENCODED, MULTIPART):
        whole = statistics.median(found[encoding].ours)
        alone = measured("-m", "bench.reading", encoding, str(second))
        ratio = f"**{alone['seconds'] / whole:.3f}**"
        cells = (whole, alone["seconds"], ratio, "0.1", round(alone["memory"]), alone["processor"], alone["runs"])
        section.add(store.name, rows, f"{encoding} form to cells", *cells)
    return statistics.median(found[URLENCODED].ours)


def _memory(setting: Setting) -> Section:
    section = Section(
        "Memory",
        "Posts that could make a server hold everything at once. `made codes`: every row is new and comes without code "
        "and card, so the reply lists a made code for each.",
        ("database", "rows", "what", "MB sent", "seconds", "memory MB", "at most", "CPU s"),
    )
    section.start()
    rows = setting.largest
    first, second = stores.files(rows, setting.folder)
    line = setting.folder / "line.psv"
    line.write_bytes(b"1|2|" + b"x" * (QUICK_LINE if setting.quick else LONG_LINE) + b"\n")
    columns = form.COLUMNS[2:]
    posts = {
        "made codes in the reply": (
            rows,
            form.with_data(MULTIPART, form.batch_fields(columns), form.without_keys(second)),
        ),
        "one line, urlencoded": (1, form.with_data(URLENCODED, form.batch_fields(), line)),
        "one line, multipart": (1, form.with_data(MULTIPART, form.batch_fields(), line)),
    }
    for name in setting.databases:
        with stores.opened(name, setting.folder) as store:
            store.preload(first)
            for what, (count, body) in posts.items():
                with store.fresh() as settings, Gateway.started({**settings, **LIMIT}) as gateway:
                    gateway.warm()
                    posted = gateway.post(body, succeeds=count > 1)
                assert count == 1 or _listed(posted) == count
                sent = round(body.length / 1e6)
                cells = (round(posted.memory), MOST_MEMORY, posted.processor)
                section.add(store.name, count, what, sent, posted.seconds, *cells)
    return section


def _listed(posted: Posted) -> int:
    """How many customers a reply lists."""
    batch = posted.reply["batch"]
    assert isinstance(batch, dict)
    return len(batch["customers"]["customer"])
