"""`tillgate cancel`, `tillgate resume` and `tillgate failed`: what can be done about an import in the background."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from commands.context import batch_row, opened
from commands.output import examples, json_option, print_json, say
from importing import batch_status, failed_rows
from importing.context import Context
from importing.jobs import lifecycle


@click.command()
@click.argument("batch_id", metavar="BATCH")
@json_option
@examples("tillgate cancel 3f0c1a52c7b94f1f")
def cancel(batch_id: str, as_json: bool) -> None:
    """End a batch that is queued or running. The rows that it has written stay, and can be undone."""
    _change(lifecycle.cancel, batch_id, as_json)


@click.command()
@click.argument("batch_id", metavar="BATCH")
@json_option
@examples("tillgate resume 3f0c1a52c7b94f1f")
def resume(batch_id: str, as_json: bool) -> None:
    """Go on with a batch that was cancelled, or that failed for a reason from outside, where it stood."""
    _change(lifecycle.resume, batch_id, as_json)


@click.command()
@click.argument("batch_id", metavar="BATCH")
@click.argument("file", metavar="[FILE]", default="-", type=click.Path(dir_okay=False, allow_dash=True))
@examples(
    "tillgate failed 3f0c1a52c7b94f1f > failed.csv",
    "tillgate failed 3f0c1a52c7b94f1f failed.csv && tillgate import greatwidgets failed.csv",
)
def failed(batch_id: str, file: str) -> None:
    """Write the failed rows of a batch as CSV, with what is wrong in front, to be mended and imported again.

    FILE must not be there yet; without it the rows go to standard output. Passwords and PINs are masked: what stays
    masked is not imported.
    """
    with opened() as context:
        lines = failed_rows.export_csv(context, _account_of(context, batch_id), batch_id)
        if file == "-":
            sys.stdout.writelines(lines)
        else:
            _write(Path(file), lines)
            say(f"Written to {file}.")


def _account_of(context: Context, batch_id: str) -> int:
    with context.database.reading() as connection:
        return int(batch_row(connection, batch_id)["account_id"])


def _change(change: Callable[[Context, int, str, str], object], batch_id: str, as_json: bool) -> None:
    with opened() as context:
        account = _account_of(context, batch_id)
        change(context, account, batch_id, "cli")
        batch = batch_status.find_batch(context, account, batch_id)
    assert batch is not None
    if as_json:
        print_json({"id": batch.id, "status": batch.status})
    else:
        click.echo(f"The batch {batch.id} is {batch.status}.")


def _write(path: Path, lines: Iterator[str]) -> None:
    # Never overwrites: somebody may be correcting the rows of an earlier file.
    with path.open("x", encoding="utf-8", newline="") as file:
        try:
            file.writelines(lines)
        except BaseException:
            path.unlink()
            raise
