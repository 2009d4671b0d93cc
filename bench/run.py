"""`make bench`: all measurements, one part after another, into bench/RESULTS.md.

    python -m bench.run [--only imports,undo,servers,small,during,reads,rivals,jobs,startup] [--rows …] [--pairs 5] [--quick]

A pair is one run of the floor and one of Tillgate, back to back, on fresh copies of the same customers, with default
settings. Measure on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench import during, imports, jobs, reads, results, rivals, servers, small, startup, stores, undos
from bench.results import Section
from bench.setting import Setting

PARTS: Mapping[str, Callable[[Setting], Iterator[Section]]] = {
    "imports": imports.measure,
    "undo": undos.measure,
    "servers": servers.measure,
    "small": small.measure,
    "during": during.measure,
    "reads": reads.measure,
    "rivals": rivals.measure,
    "jobs": jobs.measure,
    "startup": startup.measure,
}
OUTPUT = Path(__file__).with_name("RESULTS.md")
DATABASES = ("sqlite", "postgresql")


def _numbers(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(number.replace("_", "")) for number in value.split(","))
    except ValueError:
        raise click.BadParameter("numbers with commas between them") from None


def _names(*known: str) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    def names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
        found = tuple(value.split(","))
        if unknown := set(found) - set(known):
            raise click.BadParameter(f"not {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return found

    return names


@click.command()
@click.option("--only", default=",".join(PARTS), show_default=True, callback=_names(*PARTS), help="The parts.")
@click.option("--rows", default="1000,10000,100000,1000000", show_default=True, callback=_numbers, help="Sizes.")
@click.option("--pairs", default=5, show_default=True, type=click.IntRange(1), help="The median counts.")
@click.option("--databases", default=",".join(DATABASES), show_default=True, callback=_names(*DATABASES))
@click.option("--workers", default="1,2,4", show_default=True, callback=_numbers, help="Server processes under load.")
@click.option("--clients", default="8,64", show_default=True, callback=_numbers, help="Keep-alive clients.")
@click.option("--seconds", default=5.0, show_default=True, help="How long each load lasts.")
@click.option("--quick", is_flag=True, help="Tiny sizes and one pair: shows that it works, measures nothing.")
@click.option("--output", type=click.Path(path_type=Path), help="bench/RESULTS.md; with --quick nowhere.")
def main(
    only: tuple[str, ...],
    rows: tuple[int, ...],
    pairs: int,
    databases: tuple[str, ...],
    workers: tuple[int, ...],
    clients: tuple[int, ...],
    seconds: float,
    quick: bool,
    output: Path | None,
) -> None:
    """Measure, print tables and write them. A part that was not measured now keeps its section."""
    if quick:
        rows, pairs, workers, clients, seconds = (1_000, 3_000), 1, workers[:1], clients[:1], 1.0
    with TemporaryDirectory(prefix="tillgate-bench-") as folder:
        setting = Setting(Path(folder), databases, rows, pairs, seconds, workers, clients, quick)
        found: list[Section] = []
        server = _server(setting)
        for part in only:
            for section in PARTS[part](setting):
                found.append(section)
                # After each, so that what took hours is not lost to a failure in the next.
                if output is not None or not quick:
                    results.write(output or OUTPUT, found, server)


def _server(setting: Setting) -> str:
    if "postgresql" not in setting.databases:
        return ""
    with stores.opened("postgresql", setting.folder) as store:
        return store.version()


if __name__ == "__main__":
    main()
