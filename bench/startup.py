"""What starting costs: processor time of short commands beside `python -c pass`, and the memory of an idle server."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.gateway import CHECKOUT, Gateway
from bench.results import Section
from bench.setting import Setting

TILLGATE = ("-P", "-c", "from cli import main; main()")
# A start takes 12 ms and more, and a machine that does something else lengthens single ones.
STARTS_PER_PAIR = 4
# The server's processes load what they load at their start; so many seconds later nothing of it goes on.
SETTLING_SECONDS = 3.0
IDLE_MEMORY_LIMIT_MB = 120


class Start(NamedTuple):
    """A command to start, and how many times the processor time of an empty Python program it may take."""

    name: str
    arguments: tuple[str, ...]
    limit: float | None


STARTS = (
    Start("python -c pass", ("-c", "pass"), None),
    Start("tillgate --help", (*TILLGATE, "--help"), 25),
    Start("tillgate account list", (*TILLGATE, "account", "list"), 60),
)


def measure(setting: Setting) -> Iterator[Section]:
    """Two sections: starts and memory."""
    data = setting.folder / "startup"
    tillgate_settings = {"TILLGATE_DATA_DIR": str(data)}
    environment = {**_clean_environment(), "PYTHONPATH": str(CHECKOUT), **tillgate_settings}
    # The compiled files and the database are there from now on.
    for start in STARTS:
        processor_seconds(start, environment)
    yield _starts(environment, setting.pairs * STARTS_PER_PAIR)
    yield _idle_memory(tillgate_settings)


def processor_seconds(start: Start, environment: Mapping[str, str]) -> float:
    """User and system time of one start, its output thrown away."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *start.arguments],
        check=True,
        cwd=CHECKOUT / "bench",
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _clean_environment() -> dict[str, str]:
    # Python's own variables too: without compiled files every start would compile all that it loads.
    return {name: value for name, value in os.environ.items() if not name.startswith(("TILLGATE_", "PYTHON"))}


def _starts(environment: Mapping[str, str], rounds: int) -> Section:
    section = Section(
        "Starts",
        "User and system time of a process from its start to its end, with an empty SQLite database, the compiled files in "
        "place; medians of interleaved starts, and how many times an empty Python program takes.",
        ("what", "CPU ms", "times", "at most", "rounds"),
    )
    section.start()
    seconds: dict[str, list[float]] = {start.name: [] for start in STARTS}
    for _ in range(rounds):
        for start in STARTS:
            seconds[start.name].append(processor_seconds(start, environment))
    floor = statistics.median(seconds[STARTS[0].name])
    for start in STARTS:
        median = statistics.median(seconds[start.name])
        section.add(start.name, median * 1000, f"**{median / floor:.1f}**", start.limit, rounds)
    return section


def _idle_memory(tillgate_settings: Mapping[str, str]) -> Section:
    section = Section(
        "Idle memory",
        "All processes of `tillgate serve` with two workers, before their first request: proportional set size (PSS), "
        "which counts memory that processes share once.",
        ("what", "processes", "PSS MB", "at most"),
    )
    section.start()
    with Gateway.started(tillgate_settings) as server:
        time.sleep(SETTLING_SECONDS)
        processes = server.processes()
        megabytes = sum(map(proportional_memory, processes))
    section.add("tillgate serve", len(processes), f"**{megabytes:.0f}**", IDLE_MEMORY_LIMIT_MB)
    return section


def proportional_memory(pid: int) -> float:
    """A process's share of the memory that it uses (PSS), in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} says no PSS")
