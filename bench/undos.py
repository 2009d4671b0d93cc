"""Undo and its preview against the import that they take back, and the import against one that cannot be undone."""

from __future__ import annotations

from collections.abc import Iterator

from bench import stores
from bench.form import MULTIPART
from bench.gateway import Gateway
from bench.imports import LIMIT
from bench.results import COSTS, Pairs, Section
from bench.setting import Setting
from bench.stores import Store

MOST = {"undo": 0.5, "undo preview": 0.25, "import, against no_undo": 1.25}


def measure(setting: Setting) -> Iterator[Section]:
    """One section."""
    section = Section(
        "Undo",
        "The floor is Tillgate's own import of the same rows: the one that is undone (previewed first, then undone), "
        "and in the last line an import with `no_undo=yes`.",
        COSTS,
    )
    section.start()
    for name in setting.databases:
        with stores.opened(name, setting.folder) as store:
            for rows in setting.rows:
                _size(setting, store, rows, section)
    yield section


def _size(setting: Setting, store: Store, rows: int, section: Section) -> None:
    first, second = stores.files(rows, setting.folder)
    store.preload(first)
    found = {what: Pairs() for what in MOST}
    for _ in range(setting.pairs):
        with store.fresh() as settings, Gateway.started({**settings, **LIMIT}) as gateway:
            gateway.warm()
            without = gateway.import_file(second, MULTIPART, no_undo="yes")
        with store.fresh() as settings, Gateway.started({**settings, **LIMIT}) as gateway:
            gateway.warm()
            imported = gateway.import_file(second, MULTIPART, details="yes")
            posts = {
                "undo preview": gateway.undo(imported.batch_id, dry_run="yes"),
                "undo": gateway.undo(imported.batch_id),
            }
        for what, posted in posts.items():
            found[what].add(imported.seconds, posted.seconds, posted.memory, posted.processor)
        found["import, against no_undo"].add(without.seconds, imported.seconds, imported.memory, imported.processor)
    for what, limit in MOST.items():
        section.add(store.name, rows, what, *found[what].cells(limit))
