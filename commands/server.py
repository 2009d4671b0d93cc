"""`tillgate serve` and `tillgate migrate`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import storage
from commands.context import opened
from commands.output import examples, json_option, print_json, say
from server.installation import open_context
from settings import Settings, load_settings
from storage import migrate as migrations
from storage.engine import Database, open_database


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 is all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 is any free one.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="How many processes.")
@examples("tillgate serve --host 0.0.0.0 --port 8080 --workers 4")
def serve(host: str, port: int, workers: int) -> None:
    """Serve the protocols over HTTP, and work on jobs, until SIGTERM.

    Beside the processes that answer, one works on the jobs. SIGTERM lets what is under way finish. An SQLite database is
    migrated first. When the server is ready, it prints one line with its URL.
    """
    from server import process

    settings = load_settings()
    try:
        listener = process.listen(host, port)
    except process.CannotListen as error:
        raise click.ClickException(str(error)) from None
    with listener:
        # Opened once before the fork: this migrates the database, makes the secret and reports errors.
        with opened(settings):
            pass
        url = process.url_of(listener)
        process.serve(
            process.ServerPlan(
                load=lambda: _application(settings),
                listener=listener,
                announce=lambda: click.echo(f"Tillgate is ready at {url}"),
                work_on_jobs=lambda may_continue: _work_on_jobs(settings, may_continue, maintain=True),
                workers=workers,
                http_status=settings.legacy_status == "http",
                log_format=settings.log_format,
            )
        )


@click.command()
@examples("TILLGATE_QUEUE_URL=redis://queue.internal tillgate worker")
def worker() -> None:
    """Work on jobs until SIGTERM, beside `tillgate serve` or on other hosts.

    As many as wanted may run. All need the same database, queue and secret. SIGTERM lets the chunk under way finish.
    """
    from server import logs

    settings = load_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    logs.configure(settings.log_format)
    with opened(settings):
        pass
    click.echo("Tillgate works on jobs")
    _work_on_jobs(settings, lambda: not stop.is_set())


def _work_on_jobs(settings: Settings, may_continue: Callable[[], bool], *, maintain: bool = False) -> None:
    from server import maintenance
    from server.job_worker import JobWorker

    context = open_context(settings)
    stop = threading.Event()
    if maintain:
        threading.Thread(target=maintenance.run_until, args=(stop, context), daemon=True).start()
    try:
        JobWorker(context).run(may_continue)
    finally:
        stop.set()
        context.queue.close()
        context.database.dispose()


def _application(settings: Settings) -> Callable[..., Any]:
    """The application. What the worker on jobs needs is imported too, so that all processes share its memory."""
    from app import create_app
    from server import job_worker, maintenance  # noqa: F401

    return create_app(settings)


@click.command()
@click.option(
    "--to", "revision", metavar="REVISION", help="Bring it to this revision instead: up, or down (base: empty)."
)
@json_option
@examples("tillgate migrate")
def migrate(revision: str | None, as_json: bool) -> None:
    """Bring the database up to this release, or to a revision."""

    settings = load_settings()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = open_database(settings.database_url, settings.data_dir)
    try:
        before = migrations.current_revision(database)
        if revision is None:
            migrations.upgrade(database)
        else:
            _move(database, revision)
        after = migrations.current_revision(database)
    finally:
        database.dispose()
    if as_json:
        print_json({"before": before or "", "after": after or "", "head": migrations.newest_revision()})
    else:
        say(f"The database is at revision {after or 'base'}{'; nothing was to do' if after == before else ''}.")


def _move(database: Database, revision: str) -> None:
    from alembic.util.exc import CommandError

    try:
        if _is_older(revision, migrations.current_revision(database)):
            migrations.downgrade(database, revision)
        else:
            migrations.upgrade(database, revision)
    except CommandError as error:
        raise click.ClickException(f"Cannot migrate to {revision!r}: {error}.") from None


def _is_older(revision: str, current: str | None) -> bool:
    from alembic.script import ScriptDirectory

    if revision == "base" or revision.startswith("-"):
        return True
    script = ScriptDirectory(str(Path(storage.__file__).parent / "migrations"))
    target = script.get_revision(revision)
    before = {step.revision for step in script.iterate_revisions(current, "base")} - {current} if current else set()
    return target is not None and target.revision in before
