"""What others would do with the same file: marshmallow and an ORM row by row, and django-import-export at its best."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import stores
from bench.form import MULTIPART
from bench.gateway import CHECKOUT, Gateway
from bench.results import Pairs, Section, warn
from bench.setting import Setting
from bench.stores import measured

# django-import-export is no dependency of the project: it gets an environment of its own, where git does not look.
ENVIRONMENT = CHECKOUT / ".bench" / "django"
WANTED = ("Django", "django-import-export")
# A rival's 100,000 rows take minutes; more rows would take an hour and show the same.
MOST_ROWS = 100_000
ORM, DJANGO = "marshmallow + SQLAlchemy ORM, a row at a time", "django-import-export, in bulk"
TIMES_AS_FAST = {ORM: 15, DJANGO: 25}


def measure(setting: Setting) -> Iterator[Section]:
    """One section."""
    section = Section(
        "Beside what others would write",
        "SQLite, the same files, the same work in one transaction: match, before-image, update or insert, enrol, add "
        "points. Tillgate over HTTP, the others in process, without a request. The last columns say how many times as "
        "fast Tillgate is.",
        (
            "rows",
            "what",
            "floor s",
            "seconds",
            "times the floor",
            "memory MB",
            "CPU s",
            "ours is faster",
            "at least",
            "pairs",
        ),
    )
    section.start()
    python = _django()
    with stores.opened("sqlite", setting.folder) as store:
        for rows in (count for count in setting.rows if count <= MOST_ROWS):
            first, second = stores.files(rows, setting.folder)
            store.preload(first)
            found = {what: Pairs() for what in ("Tillgate, multipart post", ORM, *([DJANGO] if python else []))}
            for _ in range(setting.pairs):
                floor = store.yardstick(rows, setting.folder)
                with store.fresh() as settings, Gateway.started(settings) as gateway:
                    gateway.warm()
                    posted = gateway.import_file(second, MULTIPART)
                found["Tillgate, multipart post"].add(floor, posted.seconds, posted.memory, posted.processor)
                for what, command, interpreter in (
                    (ORM, ("-m", "bench.rival_orm"), sys.executable),
                    (DJANGO, (str(Path(__file__).with_name("rival_django.py")),), python),
                ):
                    if interpreter:
                        took = measured(*command, str(rows), str(setting.folder), python=interpreter)
                        found[what].add(floor, took["seconds"], took["memory"], took["processor"])
            _add(section, rows, found)
    yield section


def _add(section: Section, rows: int, found: dict[str, Pairs]) -> None:
    ours = found["Tillgate, multipart post"].ours
    for what, pairs in found.items():
        floor, seconds, times, _, memory, used, count = pairs.cells(None)
        faster = statistics.median(their / our for their, our in zip(pairs.ours, ours, strict=True))
        compared = (f"**{faster:.1f}**", TIMES_AS_FAST[what]) if what in TIMES_AS_FAST else (None, None)
        section.add(rows, what, floor, seconds, times, memory, used, *compared, count)


def _django() -> str:
    """The interpreter of an environment with django-import-export, made when it is missing; "" where that fails."""
    python = ENVIRONMENT / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)  # noqa: S603
        install = (python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *WANTED)
        subprocess.run(install, check=True)  # noqa: S603
    except (subprocess.CalledProcessError, OSError) as error:
        warn(f"django-import-export cannot be installed here, so it is not measured: {error}")
        return ""
    return str(python)
