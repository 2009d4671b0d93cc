"""The terminal's daily life: posts of three rows, and JSONP reads, by clients that keep their connections.

Beside them the raw server (bench/raw.py) with as many workers: the same rows written, or a constant answer.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from bench import form, load, raw, stores
from bench.gateway import RAW, Gateway, Server
from bench.load import Load
from bench.results import Section
from bench.setting import Setting
from bench.stores import Store

CUSTOMERS = 10_000
REQUESTS = 20_000
QUICK = 1_000
ROWS = 3
STATUS = "customers_batch_status"
GOOD = '"success"'
POSTS, READS, BY_FLASK = "3-row posts", "JSONP reads", "JSONP reads, of Flask's constant answer"
LEAST_RATE = {
    "SQLite": {POSTS: "0.45", READS: "–", BY_FLASK: "0.4"},
    "PostgreSQL": {POSTS: "0.6", READS: "–", BY_FLASK: "0.25"},
}
MOST_P99 = {POSTS: "4", READS: None, BY_FLASK: None}


def measure(setting: Setting) -> Iterator[Section]:
    """One section."""
    section = Section(
        "Small posts and reads",
        "Posts of 3 rows, all updates with points, everything on, `synchronous=FULL`, against the raw server writing "
        f"such rows with a before-image; JSONP GETs of `{STATUS}` against its constant answer, from the bare server and "
        "by way of Flask. Rates are replies "
        "a second, times milliseconds; the shares are medians of the pairs'.",
        (
            *("database", "what", "workers", "clients", "floor rate", "our rate", "share", "at least"),
            *("floor p50", "our p50", "floor p99", "our p99", "p99 ratio", "at most", "refused", "pairs"),
        ),
    )
    section.start()
    first, _ = stores.files(QUICK if setting.quick else CUSTOMERS, setting.folder)
    for name in setting.databases:
        with stores.opened(name, setting.folder) as store:
            store.preload(first)
            for workers in setting.workers:
                for clients in setting.clients:
                    _load(setting, store, first, (workers, clients), section)
    yield section


def requests(setting: Setting, file: Path, name: str, texts: list[str], good: str) -> Path:
    """A file of requests for `bench.load`."""
    made = setting.folder / f"{file.stem}-{name}.json"
    made.write_text(json.dumps({"requests": texts, "good": good}))
    return made


def posts(setting: Setting, file: Path, account: str = form.ACCOUNT) -> tuple[Path, Path]:
    """Requests that each change three customers of a file: for the raw server, and for Tillgate."""
    customers = [line.split("|") for line in file.read_text(encoding="utf-8").splitlines()]
    chosen = random.Random(7)
    for_raw, for_us = [], []
    fields = urlencode(form.batch_fields(account=account))
    for _ in range(QUICK if setting.quick else REQUESTS):
        rows = [list(row) for row in chosen.sample(customers, ROWS)]
        for row in rows:
            row[5] = f"555-{chosen.randrange(10**7):07d}"
        for_raw.append(load.as_request("".join("|".join(row) + "\n" for row in rows).encode(), "text/plain"))
        data = urlencode({"profiles_data": "".join("|".join((*row, "25")) + "\n" for row in rows)})
        for_us.append(load.as_request(f"{fields}&{data}".encode(), form.FORM))
    return (
        requests(setting, file, "raw", for_raw, GOOD),
        requests(setting, file, f"posts-{account}", for_us, GOOD),
    )


def reads(setting: Setting, file: Path, gateway: Gateway) -> Path:
    """Requests that each ask for the status of a batch, just made, as a widget does."""
    made = gateway.post(form.of_fields(form.batch_fields(details="yes", profiles_data="read-1|\n")))
    fields = {**form.credentials(), "type": STATUS, "batch_id": made.batch_id, "callback": "f"}
    text = load.as_request(b"", "", f"/?{urlencode(fields)}")
    return requests(setting, file, "reads", [text], GOOD)


@contextmanager
def raw_server(store: Store, file: Path, workers: int) -> Iterator[Server]:
    """The raw server with the customers of a file."""
    with store.blank() as url:
        rows = (line.split("|") for line in file.read_text(encoding="utf-8").splitlines())
        raw.preload(url, rows)
        with Server.started({}, "--workers", str(workers), "--database", url, program=RAW) as server:
            yield server


@contextmanager
def our_server(settings: Mapping[str, str], *options: str) -> Iterator[Gateway]:
    """Tillgate with these options, warm."""
    with Gateway.started(settings, *options) as gateway:
        gateway.warm()
        yield gateway


def _load(setting: Setting, store: Store, file: Path, size: tuple[int, int], section: Section) -> None:
    workers, clients = size
    raw_posts, our_posts = posts(setting, file)
    constants = {
        what: requests(setting, file, f"constant{number}", [load.as_request(b"", "", path)], "/**/f(")
        for number, (what, path) in enumerate(((READS, "/"), (BY_FLASK, raw.BY_FLASK)))
    }
    floors: dict[str, list[Load]] = {POSTS: [], READS: [], BY_FLASK: []}
    ours: dict[str, list[Load]] = {POSTS: [], READS: []}
    for _ in range(setting.pairs):
        with raw_server(store, file, workers) as server:
            floors[POSTS].append(load.run(server.port, clients, setting.seconds, raw_posts))
            for what, constant in constants.items():
                floors[what].append(load.run(server.port, clients, setting.seconds, constant))
        with store.fresh() as settings, our_server(settings, "--workers", str(workers)) as gateway:
            ours[POSTS].append(load.run(gateway.port, clients, setting.seconds, our_posts))
            asked = reads(setting, file, gateway)
            ours[READS].append(load.run(gateway.port, clients, setting.seconds, asked))
    ours[BY_FLASK] = ours[READS]
    for what in (POSTS, READS, BY_FLASK):
        pairs = list(zip(floors[what], ours[what], strict=True))
        assert not any(floor.bad for floor, _ in pairs), "the raw server refused"
        share = statistics.median(our.rate / floor.rate for floor, our in pairs)
        p99 = statistics.median(our.p99 / floor.p99 for floor, our in pairs)
        section.add(
            *(store.name, what, workers, clients, _rate(floors[what]), _rate(ours[what]), f"**{share:.2f}**"),
            *(LEAST_RATE[store.name][what], *_times(floors[what], ours[what]), f"**{p99:.1f}**", MOST_P99[what]),
            *(sum(our.bad for our in ours[what]), len(pairs)),
        )


def _rate(loads: list[Load]) -> int:
    return round(statistics.median(found.rate for found in loads))


def _times(floors: list[Load], ours: list[Load]) -> Iterator[str]:
    for share in ("p50", "p99"):
        for loads in (floors, ours):
            yield f"{statistics.median(getattr(found, share) for found in loads) * 1000:.1f}"
