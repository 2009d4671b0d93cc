"""`tillgate doctor`: checks whether this installation can work, and says what to correct."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import sqlalchemy.exc
from pydantic import SecretStr
from sqlalchemy import make_url, text

from commands.output import examples, json_option, print_json, print_table
from importing.jobs.huey_connection import UNREACHABLE
from importing.jobs.queue_huey import HueyQueue
from settings import PREFIX, BadSettings, Settings, load_settings, origins, unknown_names
from storage import migrate
from storage.engine import Database, Kind, open_database

# Clocks that differ by more would give undo states and keys wrong ages.
CLOCK_SECONDS = 5.0
# Seconds since the epoch. An earlier time comes from a clock that was never set.
EARLIEST = 1_750_000_000
SHORT_SECRET = 32
LITTLE_SPACE = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `mend` says what to do if something is wrong."""

    check: str
    ok: bool
    message: str
    mend: str = ""


@click.command()
@json_option
@click.pass_context
@examples("tillgate doctor")
def doctor(context: click.Context, as_json: bool) -> None:
    """Check this installation, and say what to mend.

    Looks at settings, database, queue, file permissions and the clock. Prints the settings with their source, secrets
    masked. Exit status 1 when something is wrong.
    """
    try:
        settings = load_settings()
    except BadSettings as error:
        shown: list[dict[str, str]] = []
        findings = [Finding("settings", False, str(error), "Correct the setting.")]
    else:
        shown = list(_shown(settings))
        findings = [finding for check in CHECKS for finding in check(settings)]
    right = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": right, "settings": shown, "checks": [asdict(finding) for finding in findings]})
    else:
        print_table(("setting", "value", "source"), [tuple(row.values()) for row in shown])
        click.echo()
        for finding in findings:
            click.echo(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check}: {finding.message}")
            if finding.mend:
                click.echo(f"      {finding.mend}")
    context.exit(0 if right else 1)


def _shown(settings: Settings) -> Iterator[dict[str, str]]:
    sources = origins()
    for name in type(settings).model_fields:
        yield {"name": PREFIX + name.upper(), "value": _masked(getattr(settings, name)), "source": sources[name]}


def _masked(value: object) -> str:
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str) and "://" in value:
        return make_url(value).render_as_string(hide_password=True)
    return "" if value is None else str(value)


def _check_names(_settings: Settings) -> Iterator[Finding]:
    unknown = unknown_names()
    if unknown:
        yield Finding("settings", False, f"Nothing reads {', '.join(unknown)}.", "Correct the name, or remove it.")
    else:
        yield Finding("settings", True, "All names are known and all values can be used.")


def _check_files(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    if not folder.is_dir():
        yield Finding("data folder", False, f"{folder} does not exist yet.", "Run: tillgate migrate")
        return
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding(
            "data folder", False, f"{folder} cannot be written: {error.strerror}.", f"chown or chmod {folder}"
        )
        return
    # Files in the folder are readable for their owner only, so others may read the folder itself.
    if _mode(folder) & 0o002:
        yield Finding("data folder", False, f"{folder} can be written by every user.", f"chmod o-w {folder}")
    else:
        yield Finding("data folder", True, f"{folder} can be written.")
    yield _space(folder)
    yield _secret(settings)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _space(folder: Path) -> Finding:
    system = os.statvfs(folder)
    free = system.f_bavail * system.f_frsize
    if free < LITTLE_SPACE:
        return Finding("disk", False, f"Only {free // 1024**2} MB are free in {folder}.", "Make room.")
    return Finding("disk", True, f"{free // 1024**2:,} MB are free.")


def _secret(settings: Settings) -> Finding:
    file = settings.data_dir / "secret"
    if settings.secret is not None:
        if len(settings.secret.get_secret_value()) < SHORT_SECRET:
            mend = f"Keys depend on it: set {SHORT_SECRET} random characters or more before there are users."
            return Finding("secret", False, "TILLGATE_SECRET is short.", mend)
        return Finding("secret", True, "TILLGATE_SECRET is set.")
    if not file.exists():
        return Finding("secret", True, "None yet; it is generated when it is needed.")
    if _mode(file) & 0o077:
        return Finding("secret", False, f"{file} can be read by others.", f"chmod 600 {file}")
    return Finding("secret", True, f"{file} is there, for its owner only.")


def _check_database(settings: Settings) -> Iterator[Finding]:
    shown = _masked(settings.database_url)
    try:
        database = open_database(settings.database_url, settings.data_dir)
    except OSError as error:
        yield Finding("database", False, f"{shown} cannot be opened: {error.strerror}.", "Mend the path or its folder.")
        return
    try:
        if database.kind is Kind.SQLITE and not database.path.exists():
            yield Finding("database", False, f"{database.path} does not exist yet.", "Run: tillgate migrate")
            return
        yield from _check_schema(database, shown)
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        yield Finding("database", False, f"{shown} cannot be used: {reason}.", "Mend the URL, or start the database.")
    finally:
        database.dispose()


def _check_schema(database: Database, shown: str) -> Iterator[Finding]:
    current, head = migrate.current_revision(database), migrate.newest_revision()
    if current == head:
        yield Finding("database", True, f"{shown} is reachable and at revision {head}.")
    else:
        message = f"{shown} is at revision {current or 'base'}, this release needs {head}."
        yield Finding("database", False, message, "Run: tillgate migrate")
    if database.kind is Kind.POSTGRESQL:
        with database.reading() as connection:
            database_time = float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        yield _clock(abs(database_time - time.time()) <= CLOCK_SECONDS, "the database's")
    else:
        if _mode(database.path) & 0o007:
            mend = f"chmod o-rwx {database.path}*"
            yield Finding("database", False, f"{database.path} can be read by every user.", mend)
        with database.reading() as connection:
            integrity = str(connection.execute(text("PRAGMA quick_check(1)")).scalar_one())
        if integrity != "ok":
            yield Finding("database", False, f"The file is damaged: {integrity}.", "Restore a backup.")


def _check_queue(settings: Settings) -> Iterator[Finding]:
    url = make_url(settings.queue_url)
    if url.get_backend_name() == "sqlite":
        folder = Path(url.database or ".").parent
        if folder.is_dir() and not os.access(folder, os.W_OK):
            yield Finding("queue", False, f"{folder} cannot be written.", f"chown or chmod {folder}")
            return
        if not Path(url.database or "").exists():
            yield Finding("queue", True, "None yet; it is made when it is needed.")
            return
    elif not (url.host or url.query):
        yield Finding("queue", False, "The queue's URL names no host.", f"Correct {PREFIX}QUEUE_URL.")
        return
    queue = HueyQueue(settings.queue_url)
    try:
        waiting = queue.count_waiting()
    except UNREACHABLE as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__qualname__
        mend = f"Start the queue's server, or correct {PREFIX}QUEUE_URL."
        yield Finding("queue", False, f"{_masked(settings.queue_url)} cannot be used: {reason}.", mend)
        return
    finally:
        queue.close()
    yield Finding("queue", True, f"{_masked(settings.queue_url)} is reachable; {waiting} messages wait.")


def _check_machine(_settings: Settings) -> Iterator[Finding]:
    yield _clock(time.time() > EARLIEST, "real")
    yield Finding("python", True, f"Python {sys.version.split()[0]}.")


def _clock(right: bool, what: str) -> Finding:
    if right:
        return Finding("clock", True, f"This machine's clock agrees with {what} time.")
    return Finding("clock", False, f"This machine's clock does not agree with {what} time.", "Set it, best by NTP.")


Check = Callable[[Settings], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (_check_names, _check_files, _check_database, _check_queue, _check_machine)
