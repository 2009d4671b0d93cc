"""`tillgate batches`, `tillgate batch` and `tillgate undo`: what was imported, and how to take it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import click
from sqlalchemy import RowMapping

from commands.context import account_row, batch_row, opened, writing
from commands.output import (
    LISTED,
    conflict_objects,
    examples,
    json_option,
    plural,
    print_json,
    print_more,
    print_table,
    problem_objects,
)
from importing.batch import Conflict, UndoOutcome
from importing.batch_status import UNDO_COUNT_NAMES, make_status
from importing.errors import ApiError, Problem
from importing.times import iso_seconds
from importing.undo import undo_batch as undoing
from storage.queries import accounts
from storage.queries import batches as stored

COUNTS = ("rows", "new", "updated", "unchanged", "ignored", "failed")


@click.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.option("--length", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@json_option
@examples("tillgate batches greatwidgets --length 5")
def batches(account_id: str, length: int, as_json: bool) -> None:
    """List the batches of an account, the newest first.

    An undo is a batch too.
    """
    with opened() as context, context.database.reading() as connection, context.database.read_connection() as work:
        account = account_row(connection, account_id)["id"]
        documents = [_as_json(row) for row in stored.list_with_job(work, account, None, None, 0, length)]
    if as_json:
        print_json(documents)
        return
    names = ("id", "kind", "status", "face", "user_id", "created_at")
    columns = ("batch", "kind", "status", "by", "user", "at", "result")
    rows = [[*(document[name] for name in names), _result(document)] for document in documents]
    print_table(columns, rows, "The account has no batch yet.")


@click.command()
@click.argument("batch_id", metavar="BATCH")
@json_option
@examples("tillgate batch 3f0c1a52c7b94f1f")
def batch(batch_id: str, as_json: bool) -> None:
    """Show a batch with its problems, or an undo with its conflicts."""
    with opened() as context, context.database.reading() as connection, context.database.read_connection() as work:
        account = batch_row(connection, batch_id)["account_id"]
        row = stored.find_with_job(work, account, batch_id)
        if row is None:
            raise ApiError("unknown_batch", value=batch_id)
        document = _as_json(row)
        problems = map(_problem, stored.stream_problems(connection, account, batch_id))
        conflicts = map(_conflict, stored.stream_problems(connection, account, batch_id, stored.CONFLICT))
        if as_json:
            is_undo = row["kind"] == "undo"
            items = {"conflicts": conflict_objects(conflicts)} if is_undo else {"problems": problem_objects(problems)}
            print_json(document | items)
            return
        reason = document["reason"]
        texts = {"progress": _progress(document), "reason": f"{reason['code']}: {reason['message']}" if reason else ""}
        for name, value in {**document, **texts}.items():
            click.echo(f"{name:<12} {value}".rstrip())
        for problem in islice(problems, LISTED):
            click.echo(problem.message)
        print_more(LISTED + len(list(islice(problems, 1))), "problems")
        _show_conflicts(conflicts)


@click.command()
@click.argument("batch_id", metavar="BATCH")
@click.option("--preview", is_flag=True, help="Say what it would do; nothing is written.")
@json_option
@examples("tillgate undo 3f0c1a52c7b94f1f --preview", "tillgate undo 3f0c1a52c7b94f1f")
def undo(batch_id: str, preview: bool, as_json: bool) -> None:
    """Take a batch back. What was changed since is kept and reported; an undo can itself be undone."""
    with opened() as context:
        with context.database.reading() as connection:
            account = batch_row(connection, batch_id)["account_id"]
        if preview:
            outcome = undoing.preview(context, account, batch_id)
        else:
            outcome = undoing.undo(context, account, batch_id, "cli", "cli")
            with writing(context) as connection:
                accounts.add_audit_line(connection, account, "cli", "undo", batch_id)
        _show_undo(outcome, as_json)


def _as_json(row: stored.BatchRow) -> dict[str, Any]:
    status = make_status(row)
    texts = ("id", "kind", "status", "face", "user_id", "mode", "on_error", "charset")
    return {
        **{name: row[name] for name in texts},
        "keep_undo": bool(row["keep_undo"]),
        "undoes": row["undoes"] or "",
        **{name: row[name] for name in _count_names(row["kind"])},
        "created_at": iso_seconds(row["created_at"]),
        "progress": {n: getattr(status.progress, n) for n in ("total", "processed", "successful", "failed", "percent")},
        "reason": {"code": status.reason.code, "message": status.reason.message} if status.reason else None,
    }


def _progress(document: Mapping[str, Any]) -> str:
    progress = document["progress"]
    if not progress["total"]:
        return "not begun yet"
    return f"{progress['processed']:,} of {progress['total']:,} ({progress['percent']} %)"


def _count_names(kind: str) -> tuple[str, ...]:
    return UNDO_COUNT_NAMES if kind == "undo" else COUNTS


def _result(document: Mapping[str, Any]) -> str:
    if document["status"] in ("queued", "running"):
        return _progress(document)
    if document["reason"]:
        return str(document["reason"]["code"])
    names = (name for name in _count_names(document["kind"]) if name != "rows" and document[name])
    return ", ".join(f"{name} {document[name]}" for name in names) or "nothing"


def _problem(row: RowMapping) -> Problem:
    return Problem(row["row"], row["field"], row["code"], row["value"], int(row["written"] or 0))


def _conflict(row: RowMapping) -> Conflict:
    return Conflict(row["code"], row["field"], row["written"], row["value"])


def _show_undo(outcome: UndoOutcome, as_json: bool) -> None:
    counts = {name: getattr(outcome, name) for name in UNDO_COUNT_NAMES}
    if as_json:
        status = "undone" if outcome.batch_id else "checked"
        document: dict[str, object] = {
            "batch_id": outcome.batch_id,
            "status": status,
            "undoes": outcome.undoes,
            **counts,
        }
        print_json(dict(document, conflicts=conflict_objects(outcome.conflicts)))
        return
    title = f"Undone as batch {outcome.batch_id}" if outcome.batch_id else "Checked, nothing written"
    texts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    click.echo(f"{title}: {texts} of {plural(sum(counts.values()), 'customer')}.")
    _show_conflicts(outcome.conflicts)


def _show_conflicts(conflicts: Iterable[Conflict]) -> None:
    rows = [(c.code, c.field, c.written, c.current) for c in islice(conflicts, LISTED + 1)]
    if rows:
        print_table(("code", "field", "written", "kept"), rows[:LISTED])
    print_more(len(rows), "conflicts")
