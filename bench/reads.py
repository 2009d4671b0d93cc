"""The first byte of what people look at when there are very many customers."""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from unittest.mock import patch

from pydantic import SecretStr

from bench import form, stores
from bench.gateway import Gateway
from bench.load import percentile
from bench.results import Section
from bench.setting import Setting
from commands import customers as command
from importing import batch_status
from importing.context import Context
from legacy_api import calls
from server.installation import open_context
from settings import Settings
from storage.queries import accounts, batches, customers

MOST = 50
BATCHES = 60
TIMES = 50
# Reads over HTTP, by the `type` that serves them; those that are not served yet are left out.
CALLS: Mapping[str, Mapping[str, str]] = {
    "customers_batches": {},
    "customers_batch_status": {"batch_id": "{batch}"},
    "customer_info": {"code": "{code}"},
    "customer_balance": {"code": "{code}", "campaign_id": form.CAMPAIGN},
}


def measure(setting: Setting) -> Iterator[Section]:
    """One section."""
    rows = setting.largest
    section = Section(
        "First byte",
        f"So many customers, and {BATCHES} small batches after the one that made them; milliseconds, {TIMES} times "
        "each. The first is on a new connection.",
        ("database", "customers", "what", "first", "median", "p99", "at most"),
    )
    section.start()
    first, _ = stores.files(rows, setting.folder)
    with first.open(encoding="utf-8") as lines:
        code, card = next(islice(lines, rows // 2, None)).split("|")[:2]
    for name in setting.databases:
        with stores.opened(name, setting.folder) as store:
            store.preload(first)
            with store.fresh() as settings:
                with Gateway.started(settings) as gateway:
                    gateway.warm()
                    batch = _small_batches(gateway)
                    asked = {"batch": batch, "code": code}
                    for what, times in _over_http(gateway, asked):
                        _add(section, store.name, rows, what, times)
                for what, times in _in_process(settings, code, card, batch):
                    _add(section, store.name, rows, what, times)
    yield section


def _small_batches(gateway: Gateway) -> str:
    for number in range(BATCHES):
        fields = form.batch_fields(details="yes", profiles_data=f"new-{number}|\n")
        posted = gateway.post(form.of_fields(fields))
    return posted.batch_id


def _over_http(gateway: Gateway, asked: Mapping[str, str]) -> Iterator[tuple[str, list[float]]]:
    for name, fields in CALLS.items():
        if calls.CALLS.get(name) is not None:
            values = {field: value.format(**asked) for field, value in fields.items()}
            yield f"HTTP: {name}", [gateway.call(name, **values).seconds for _ in range(TIMES)]


def _in_process(settings: Mapping[str, str], code: str, card: str, batch: str) -> Iterator[tuple[str, list[float]]]:
    url = settings.get("TILLGATE_DATABASE_URL", "")
    folder = Path(settings["TILLGATE_DATA_DIR"])
    given = Settings(data_dir=folder, secret=SecretStr(settings["TILLGATE_SECRET"]), database_url=url)
    context = open_context(given)
    with context.database.reading() as connection:
        found = accounts.find_account(connection, form.ACCOUNT)
        assert found is not None
        account = found["id"]
    context.database.dispose()

    def reading(read: Callable[..., object]) -> Callable[[Context], None]:
        def once(context: Context) -> None:
            with context.database.reading() as connection:
                assert read(connection)

        return once

    things = {
        "newest batches": lambda context: batch_status.list_batches(context, account),
        "one batch": reading(lambda connection: batches.find_anywhere(connection, batch)),
        "one customer, by code": reading(lambda connection: customers.find_customer(connection, account, code=code)),
        "one customer, by card": reading(
            lambda connection: customers.find_customer(connection, account, card_number=card)
        ),
        "first customer of all": reading(lambda connection: next(customers.stream_customers(connection, account))),
    }
    for what, read in things.items():
        context = open_context(given)
        yield what, [_timed(lambda read=read, context=context: read(context)) for _ in range(TIMES)]  # type: ignore[misc]
        context.database.dispose()
    yield "start of `tillgate export`", [_export(settings) for _ in range(TIMES)]


def _timed(what: Callable[[], None]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


class _FirstByteCame(Exception):
    """Nothing more is wanted of the export."""


class _Output(io.StringIO):
    def write(self, text: str) -> int:
        # The header line is there at once; a customer is what one waits for.
        if "@" in text:
            raise _FirstByteCame
        return len(text)


def _export(settings: Mapping[str, str]) -> float:
    """Seconds to the first customer of the command, in this process: what a server's route would need."""
    start = time.perf_counter()
    with patch.dict(os.environ, settings), redirect_stdout(_Output()):
        try:
            command.export.main([form.ACCOUNT], standalone_mode=False)
        except _FirstByteCame:
            return time.perf_counter() - start
    raise AssertionError("the export held no customer")


def _add(section: Section, database: str, rows: int, what: str, seconds: list[float]) -> None:
    times = [second * 1000 for second in seconds]
    last = percentile(sorted(times), 0.99)
    section.add(database, rows, what, times[0], f"**{statistics.median(times):.2f}**", last, MOST)
