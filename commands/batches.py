"""`tillgate batches`, `tillgate batch` and `tillgate undo`: what was imported, and how to take it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import click
from sqlalchemy import RowMapping

from commands.context import account_row, opened, writing
from commands.output import json_option, plural, print_json, print_table, say
from importing.batch import Conflict, UndoOutcome
from importing.batch_status import UNDO_COUNT_NAMES, BatchProgress, make_status
from importing.errors import ApiError, Problem
from importing.times import iso_seconds
from importing.undo import undo_batch as undoing
from storage.queries import accounts
from storage.queries import batches as stored

COUNTS = ("rows", "new", "updated", "unchanged", "ignored", "failed")
LISTED = 20


@click.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.option("--length", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@json_option
def batches(account_id: str, length: int, as_json: bool) -> None:
    """List the batches of an account, the newest first.

    An undo is a batch too.

    \b
    Example:
      tillgate batches greatwidgets --length 5
    """
    with opened() as context, context.database.reading() as connection, context.database.read_connection() as work:
        account = account_row(connection, account_id)["id"]
        found = [_as_json(row) for row in stored.list_with_job(work, account, None, None, 0, length)]
    if as_json:
        print_json(found)
        return
    names = ("id", "kind", "status", "face", "user_id", "created_at")
    columns = ("batch", "kind", "status", "by", "user", "at", "result")
    rows = [[*(row[name] for name in names), _result(row)] for row in found]
    print_table(columns, rows, "The account has no batch yet.")


@click.command()
@click.argument("batch_id", metavar="BATCH")
@json_option
def batch(batch_id: str, as_json: bool) -> None:
    """Show a batch with its problems, or an undo with its conflicts.

    \b
    Example:
      tillgate batch 3f0c1a52c7b94f1f
    """
    with opened() as context, context.database.reading() as connection, context.database.read_connection() as work:
        known = stored.find_anywhere(connection, batch_id)
        row = stored.find_with_job(work, known["account_id"], batch_id) if known is not None else None
        if row is None:
            raise ApiError("unknown_batch", value=batch_id)
        problems = (_problem(found) for found in stored.stream_problems(connection, row["account_id"], batch_id))
        found = stored.stream_problems(connection, row["account_id"], batch_id, stored.CONFLICT)
        conflicts = (_conflict(conflict) for conflict in found)
        if as_json:
            listed: dict[str, object] = {"problems": map(_problem_object, problems)}
            if row["kind"] == "undo":
                listed = {"conflicts": _conflict_objects(conflicts)}
            print_json(_as_json(row) | listed)
            return
        for name, value in {**_as_json(row), **_told(row)}.items():
            click.echo(f"{name:<12} {value}".rstrip())
        for problem in islice(problems, LISTED):
            click.echo(problem.message)
        if next(problems, None) is not None:
            say(f"There are more problems than these {LISTED}: --json has all.")
        _show_conflicts(conflicts)


@click.command()
@click.argument("batch_id", metavar="BATCH")
@click.option("--preview", is_flag=True, help="Say what it would do; nothing is written.")
@json_option
def undo(batch_id: str, preview: bool, as_json: bool) -> None:
    """Take a batch back. What was changed since is kept and reported; an undo can itself be undone.

    \b
    Examples:
      tillgate undo 3f0c1a52c7b94f1f --preview
      tillgate undo 3f0c1a52c7b94f1f
    """
    with opened() as context:
        with context.database.reading() as connection:
            row = stored.find_anywhere(connection, batch_id)
        if row is None:
            raise ApiError("unknown_batch", value=batch_id)
        if preview:
            done = undoing.preview(context, row["account_id"], batch_id)
        else:
            done = undoing.undo(context, row["account_id"], batch_id, "cli", "cli")
            with writing(context) as connection:
                accounts.add_audit_line(connection, row["account_id"], "cli", "undo", batch_id)
        _show_undone(done, as_json)


def _as_json(row: stored.BatchRow) -> dict[str, Any]:
    reason = make_status(row).reason
    texts = ("id", "kind", "status", "face", "user_id", "mode", "on_error", "charset")
    return {
        **{name: row[name] for name in texts},
        "keep_undo": bool(row["keep_undo"]),
        "undoes": row["undoes"] or "",
        **{name: row[name] for name in _count_names(row["kind"])},
        "created_at": iso_seconds(row["created_at"]),
        "progress": _progress_object(make_status(row).progress),
        "reason": {"code": reason.code, "message": reason.message} if reason else None,
    }


def _progress_object(progress: BatchProgress) -> dict[str, int]:
    names = ("total", "processed", "successful", "failed", "percent")
    return {name: getattr(progress, name) for name in names}


def _told(row: stored.BatchRow) -> dict[str, str]:
    """Progress and reason for people."""
    found = make_status(row)
    told = {"progress": _come_so_far(_progress_object(found.progress)), "reason": ""}
    if found.reason is not None:
        told["reason"] = f"{found.reason.code}: {found.reason.message}"
    return told


def _come_so_far(progress: Mapping[str, int]) -> str:
    if not progress["total"]:
        return "not begun yet"
    return f"{progress['processed']:,} of {progress['total']:,} ({progress['percent']} %)"


def _count_names(kind: str) -> tuple[str, ...]:
    return UNDO_COUNT_NAMES if kind == "undo" else COUNTS


def _result(row: Mapping[str, Any]) -> str:
    if row["status"] in ("queued", "running"):
        return _come_so_far(row["progress"])
    if row["reason"]:
        return str(row["reason"]["code"])
    told = (f"{name} {row[name]}" for name in _count_names(str(row["kind"])) if name != "rows" and row[name])
    return ", ".join(told) or "nothing"


def _problem(row: RowMapping) -> Problem:
    return Problem(row["row"], row["field"], row["code"], row["value"], int(row["written"] or 0))


def _conflict(row: RowMapping) -> Conflict:
    return Conflict(row["code"], row["field"], row["written"], row["value"])


def _problem_object(problem: Problem) -> dict[str, object]:
    return {"row": problem.row, "field": problem.field, "code": problem.code, "message": problem.message}


def _show_undone(done: UndoOutcome, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "batch_id": done.batch_id,
                "status": "undone" if done.batch_id else "checked",
                "undoes": done.undoes,
                **{name: getattr(done, name) for name in UNDO_COUNT_NAMES},
                "conflicts": _conflict_objects(done.conflicts),
            }
        )
        return
    what = f"Undone as batch {done.batch_id}" if done.batch_id else "Checked, nothing written"
    counts = f"{done.restored:,} restored, {done.removed:,} removed, {done.kept:,} kept"
    click.echo(f"{what}: {counts} of {plural(done.restored + done.removed + done.kept, 'customer')}.")
    _show_conflicts(done.conflicts)


def _show_conflicts(conflicts: Iterable[Conflict]) -> None:
    first = list(islice(conflicts, LISTED + 1))
    if first:
        rows = [(c.code, c.field, c.written, c.current) for c in first[:LISTED]]
        print_table(("code", "field", "written", "kept"), rows)
    if len(first) > LISTED:
        say(f"There are more conflicts than these {LISTED}: --json has all.")


def _conflict_objects(conflicts: Iterable[Conflict]) -> Iterable[dict[str, str]]:
    return ({"code": c.code, "field": c.field, "written": c.written, "current": c.current} for c in conflicts)
