"""`python -m docs.generate`: writes the tables of the documents, from the code and from the `.toml` files beside this one.

A table stands between `<!-- table: name -->` and `<!-- end of table -->`. tests/house/test_docs.py fails while one of them is
not what this program would write.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from auth import lockout
from cli import tillgate
from docs import modern_tables
from importing.account_settings import KIND_OF_TYPE
from importing.errors import API_ERRORS, PROBLEMS, WARNINGS, ErrorSpec
from importing.fields import HEADER_ALIASES, STANDARD_FIELDS, Field, FieldDestination, FieldKind, make_custom_field
from importing.reading import row_reader
from legacy_api import calls, form_collector
from legacy_api.endpoint import error_status
from legacy_api.form import FormLimits
from legacy_api.parameters import LONGEST_REQUEST_ID
from server import early_refusals, gthread_worker, maintenance, process
from settings import PREFIX, Settings
from storage import migrate

FOLDER = Path(__file__).parent
DOCUMENTS = (FOLDER / "protocol.md", FOLDER / "operations.md", FOLDER / "modern_protocols.md")
CONTRIBUTING = FOLDER / "contributing.md"

MARKED = re.compile(r"(<!-- table: ([a-z ]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

VALUES: Mapping[FieldKind, str] = {
    FieldKind.KEY: "any text, compared exactly; blank counts as not given",
    FieldKind.TEXT: "any text",
    FieldKind.DATE: "`YYYY-MM-DD`, a real date; `0000-00-00` and blank are no date",
    FieldKind.DATE_TIME: "`YYYY-MM-DD` or `YYYY-MM-DD HH:MM:SS`; `0000-00-00` and blank are no date",
    FieldKind.PICK: "one of its choices, in any case; kept as defined",
    FieldKind.LIST: "several of its choices, separated by commas, in any case; kept as defined",
    FieldKind.EMAIL: "any text",
    FieldKind.PHONE: "any text",
    FieldKind.USERNAME: "any text",
    FieldKind.SECRET: "any text, or a hash of the kinds `$argon2id$`, `$2y$`, `$2b$`, which is kept as given",
    FieldKind.AMOUNT: "a number, or a name or id of an item; see [auto_add](#auto_add)",
}
KEPT: Mapping[FieldDestination, str] = {
    FieldDestination.COLUMN: "as given",
    FieldDestination.CUSTOM: "as given",
    FieldDestination.ATTRIBUTE: "as given",
    FieldDestination.DIGEST: "a salted, keyed digest",
    FieldDestination.LEDGER: "an entry of the ledger",
}
SECTIONS: Mapping[int, str] = {
    1: "Transport",
    2: "Parameters",
    3: "Headers",
    4: "Rows",
    5: "Matching and writing",
    6: "Replies",
    7: "Undo",
    8: "Jobs",
}
# Raised by the command line only.
COMMAND_LINE_ONLY = frozenset({"no_failed_rows"})
# Raised where a file has a first line that names its columns.
FILES_ONLY = frozenset({"bad_header_line"})
# Raised by the modern protocols: what they read are files.
MODERN_ONLY = frozenset(
    {"unknown_path", "method_not_served", "oauth_not_served", "missing_file", "unreadable_file", "bad_column"}
    | {"too_many_columns", "column_twice", "missing_column", "bad_limit", "bad_end_date"}
    | {"foreign_origin", "not_signed_in", "not_admin", "no_account", "bad_json", "bad_body"}
)
# Raised where the console's users sign in (auth/admin_sessions.py).
SIGN_IN_ONLY = frozenset({"bad_password", "locked_out", "bad_email", "bad_callback_url"})


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision about a protocol. `shown_by` are folders of fixtures/legacy, or `protocol/folder`, or names of tests."""

    id: str
    section: int
    decision: str
    why: str
    shown_by: tuple[str, ...]


def decisions() -> list[Decision]:
    """The decisions of decisions.toml, in its order."""
    return [Decision(**{**entry, "shown_by": tuple(entry["shown_by"])}) for entry in _entries("decisions")]


def parameters() -> list[Mapping[str, str]]:
    """The parameters of parameters.toml: name, call, need, values, meaning."""
    return _entries("parameters")


def _entries(name: str) -> list[Any]:
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    entries: list[Any] = document[name.removesuffix("s")]
    return entries


# The tables


def field_table() -> Iterator[str]:
    rows = ((f"`{f.name}`", VALUES[f.kind], _limit(f), KEPT[f.into], _remark(f)) for f in STANDARD_FIELDS)
    yield from _table(("header", "value", "characters", "kept", "remark"), rows)


def custom_field_table() -> Iterator[str]:
    rows = []
    for name, kind in KIND_OF_TYPE.items():
        length = _limit(make_custom_field(1, "", kind))
        if kind is FieldKind.TEXT:
            length += f"; {_limit(make_custom_field(1, '', kind, unique=True))} where unique or searchable"
        rows.append((name, VALUES[kind], length))
    yield from _table(("type", "value", "characters"), rows)


def alias_table() -> Iterator[str]:
    yield from _table(("sent", "read as"), ((f"`{sent}`", f"`{name}`") for sent, name in HEADER_ALIASES.items()))


def parameter_table(call: str) -> Iterator[str]:
    rows = ((f"`{p['name']}`", p["need"], p["values"], p["meaning"]) for p in parameters() if p["call"] == call)
    yield from _table(("field", "needed", "values", "meaning"), rows)


def later_parameters() -> Iterator[str]:
    names = sorted(p["name"] for p in parameters() if p["call"] == "later")
    yield "Known, but read by no call that is served yet: " + ", ".join(f"`{name}`" for name in names) + "."


def call_table() -> Iterator[str]:
    rows = [
        (f"`{name}`", "yes", "needed" if call.imports else "")
        if call
        else (f"`{name}`", "not yet: refused by name", "")
        for name, call in calls.CALLS.items()
    ]
    yield from _table(("type", "served", "right to import"), rows)


def error_table() -> Iterator[str]:
    rows = (
        (
            f"`{error.code}`",
            _template(error) + _where(error.code),
            str(error_status(error.category, http_status=False).value),
            str(error_status(error.category, http_status=True).value),
        )
        for error in API_ERRORS.values()
    )
    yield from _table(("code", "text", "`always-200`", "`http`"), rows)


def _where(code: str) -> str:
    if code in COMMAND_LINE_ONLY:
        return " (command line only)"
    if code in FILES_ONLY:
        return " (files only)"
    if code in MODERN_ONLY:
        return " (modern protocols only)"
    return " (signing in only)" if code in SIGN_IN_ONLY else ""


def row_table(specs: Mapping[str, ErrorSpec]) -> Iterator[str]:
    rows = ((f"`{spec.code}`", _template(spec)) for spec in specs.values())
    yield from _table(("code", "text"), rows)


def decision_tables(sections: Mapping[int, str]) -> Iterator[str]:
    found = decisions()
    for number, title in sections.items():
        yield f"### {title}"
        yield ""
        rows = (
            (f'<a id="{d.id}"></a>{d.decision}', d.why, "<br>".join(map(_shown_by, d.shown_by)))
            for d in found
            if d.section == number
        )
        yield from _table(("decision", "why", "shown by"), rows)
        yield ""


def modern_table(rows: Callable[[], modern_tables.TableRows]) -> Iterator[str]:
    yield from _table(*rows())


def limit_table() -> Iterator[str]:
    rows = (
        ("one request, as sent and unpacked", f"{_size(Settings.model_fields['max_body'].default)} (a setting)"),
        ("the address line of a GET", _size(early_refusals.REQUEST_LINE_SIZE)),
        ("one HTTP header · all of them", f"{_size(process.HEADER_SIZE)} · {_size(early_refusals.HEADERS_SIZE)}"),
        ("fields of a form", f"{form_collector.MAX_FIELDS:,}"),
        (
            "one known field, `profiles_data` apart · all of them",
            f"{_size(form_collector.MAX_FIELD_SIZE)} · {_size(form_collector.MAX_FIELDS_SIZE)}",
        ),
        (
            "data of all requests that have not shown valid credentials yet, a process",
            _size(FormLimits(max_body=0).spool_budget),
        ),
        ("one row", f"{row_reader.MIN_ROW_LIMIT:,} characters, or what its columns allow if that is more"),
        ("`request_id`", f"{LONGEST_REQUEST_ID} characters"),
        (
            "failures of a user from an address, within "
            f"{lockout.WINDOW_MS // lockout.MINUTE_MS} minutes · of an address · the lock",
            f"{lockout.PAIR_LIMIT} · {lockout.ADDRESS_LIMIT} · {lockout.FIRST_LOCK_MS // lockout.MINUTE_MS} minute, "
            f"doubling up to {lockout.LONGEST_LOCK_MS // lockout.MINUTE_MS}",
        ),
        ("a head that does not come to its end", f"{gthread_worker.HEAD_SECONDS:.0f} s"),
        ("a body that stalls", f"{gthread_worker.STALL_SECONDS:.0f} s"),
        ("stored replies are kept for", f"at least {maintenance.REPLY_DAYS} days"),
    )
    yield from _table(("what", "limit"), rows)


def setting_table() -> Iterator[str]:
    rows = (
        (f"`{PREFIX}{name.upper()}`", _default(field.default), str(field.description))
        for name, field in Settings.model_fields.items()
    )
    yield from _table(("name", "default", "meaning"), rows)


def command_table() -> Iterator[str]:
    rows = (
        (f"`{usage(path, command)}`", command.get_short_help_str(300), " ".join(f"`{o}`" for o in options(command)))
        for path, command in commands()
    )
    yield from _table(("command", "does", "options"), rows)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, groups apart, with its path: `tillgate account create`."""
    yield from _commands("tillgate", tillgate, click.Context(tillgate))


def _commands(path: str, command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _commands(f"{path} {name}", found, context)


def usage(path: str, command: click.Command) -> str:
    """A command with what it needs: `tillgate user create USER --account ACCOUNT`."""
    arguments = (str(p.metavar) for p in command.params if isinstance(p, click.Argument))
    needed = (_option(p) for p in command.params if isinstance(p, click.Option) and p.required)
    return " ".join((path, *arguments, *needed))


def options(command: click.Command) -> Iterator[str]:
    """The options that a command can do without: `--length N`."""
    return (_option(p) for p in command.params if isinstance(p, click.Option) and not p.required)


def _option(option: click.Option) -> str:
    name = option.opts[0]
    if option.is_flag:
        return name
    if isinstance(option.type, click.Choice):
        value = "|".join(map(str, option.type.choices))
    else:
        value = option.metavar or ("N" if isinstance(option.type, click.IntRange) else name.lstrip("-").upper())
    return f"{name} {value}" + (" …" if option.multiple else "")


TABLES: Mapping[str, Callable[[], Iterable[str]]] = {
    "fields": field_table,
    "custom fields": custom_field_table,
    "aliases": alias_table,
    "parameters of every call": lambda: parameter_table("every"),
    "parameters of a batch": lambda: parameter_table("customers_batch"),
    "parameters of an undo": lambda: parameter_table("customers_batch_undo"),
    "parameters of a history": lambda: parameter_table("customers_batches"),
    "later parameters": later_parameters,
    "calls": call_table,
    "faults": error_table,
    "problems": lambda: row_table(PROBLEMS),
    "warnings": lambda: row_table(WARNINGS),
    "decisions": lambda: decision_tables(SECTIONS),
    "decisions about the modern protocols": lambda: decision_tables(modern_tables.SECTIONS),
    "limits": limit_table,
    "settings": setting_table,
    "commands": command_table,
    **{name: partial(modern_table, rows) for name, rows in modern_tables.TABLES.items()},
}


# Writing


def rendered(document: str) -> str:
    """The document with its tables as they should be. Raises KeyError for a table that nothing makes."""

    def table(match: re.Match[str]) -> str:
        lines = "\n".join(TABLES[match[2]]()).strip("\n")
        return f"{match[1]}\n{lines}\n\n{match[3]}"

    return MARKED.sub(table, document)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _line(columns)
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield _line(row)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _template(spec: ErrorSpec) -> str:
    return spec.template.replace("<", "&lt;").replace("{rows_text}", "{the first 10 problems}")


def _limit(field: Field) -> str:
    return f"{field.limit:,}"


def _remark(field: Field) -> str:
    # What the other columns say already is not said twice.
    return "" if field.note in VALUES[field.kind] or field.into is FieldDestination.DIGEST else field.note


def _shown_by(name: str) -> str:
    if "/" in name:
        return f"[{name}](../fixtures/{name})"
    return f"[{name}](../fixtures/legacy/{name})" if not name.startswith("test_") else f"`{name}`"


def _size(number: int) -> str:
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if number % unit == 0:
            return f"{number // unit} {name}"
    return f"{number:,} bytes"


def _default(value: object) -> str:
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    if isinstance(value, int) and value >= 1 << 20:
        return f"`{_size(value)}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return "" if value in (None, "") else f"`{value}`"


def renumbered(document: str) -> str:
    """The document with the number of its example of a migration behind the newest one."""
    newest = migrate.newest_revision()
    number = f"{int(newest) + 1:04}"
    document = re.sub(r"\b\d{4}_company\.py", f"{number}_company.py", document)
    document = re.sub(r'^\+revision = "\d{4}"$', f'+revision = "{number}"', document, flags=re.MULTILINE)
    return re.sub(r'^\+down_revision = "\d{4}"$', f'+down_revision = "{newest}"', document, flags=re.MULTILINE)


def main() -> None:
    """Write every document whose tables, or whose example of a migration, have changed."""
    for path, write in (*((path, rendered) for path in DOCUMENTS), (CONTRIBUTING, renumbered)):
        text = path.read_text(encoding="utf-8")
        if (new := write(text)) != text:
            path.write_text(new, encoding="utf-8")
            click.echo(f"{path.name} is up to date now.")


if __name__ == "__main__":
    main()
