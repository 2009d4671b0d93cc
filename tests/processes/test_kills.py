"""A server that is killed while many post at once: whoever was told of success is stored, and nobody's batch is half there."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from sqlalchemy import Connection, func, select, text

from server.installation import open_context
from settings import Settings
from storage import tables
from tests.conftest import Blank
from tests.processes.test_serve import FIELDS, furnish
from tests.support.gateway_process import serving

CLIENTS = 8
ROWS = 3
SOAK = os.environ.get("TILLGATE_SOAK") == "1"
KILLS = 50 if SOAK else 3
# Seconds.
SHORTEST, LONGEST = 0.2, 1.0
PATIENCE = 30.0


class Posting:
    """Clients that post one small batch after another, each with customers of its own, until they are stopped."""

    def __init__(self, url: str, run: int) -> None:
        self._url = url
        self._run = run
        self._stopped = False
        self.acknowledged: list[str] = []
        self._threads = [threading.Thread(target=self._post, args=(client,)) for client in range(CLIENTS)]

    def __enter__(self) -> Posting:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def _post(self, client: int) -> None:
        number = 0
        while not self._stopped:
            number += 1
            name = f"{self._run}-{client}-{number}"
            data = "".join(f"{name}-{row}|Ann\n" for row in range(ROWS))
            body = urlencode({**FIELDS, "profiles_data": data}).encode()
            # The connections of a killed worker end.
            with suppress(OSError, HTTPException), urlopen(self._url, body, PATIENCE) as reply:  # noqa: S310
                if json.loads(reply.read())["status"] == "success":
                    self.acknowledged.append(name)


def test_killed_while_many_post_at_once(tmp_path: Path, blank_sqlite: Blank) -> None:
    furnish(tmp_path, blank_sqlite)
    chosen = random.Random(KILLS)
    acknowledged: list[str] = []
    with serving(tmp_path) as server:
        for run in range(KILLS):
            with Posting(server.url, run) as posting:
                _until(lambda: len(posting.acknowledged) > CLIENTS)
                time.sleep(chosen.uniform(SHORTEST, LONGEST))
                for worker in _workers(server.process.pid):
                    os.kill(worker, signal.SIGKILL)
            acknowledged += posting.acknowledged
    context = open_context(Settings(data_dir=tmp_path / "data", database_url=f"sqlite:///{tmp_path}/data/tillgate.db"))
    with context.database.reading() as connection:
        stored = dict(_customers(connection))
        assert {name: stored.get(name, 0) for name in acknowledged} == dict.fromkeys(acknowledged, ROWS)
        assert set(stored.values()) == {ROWS}
        assert connection.execute(select(func.count()).select_from(tables.batch)).scalar_one() == len(stored)
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    context.database.dispose()


def _workers(master: int) -> Iterator[int]:
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return map(int, children)


def _customers(connection: Connection) -> Iterator[tuple[str, int]]:
    """How many customers there are of each batch."""
    counts: dict[str, int] = {}
    for code in connection.execute(select(tables.customer.c.code)).scalars():
        name = code.rpartition("-")[0]
        counts[name] = counts.get(name, 0) + 1
    return iter(counts.items())


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
