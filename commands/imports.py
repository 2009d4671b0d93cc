"""`tillgate import`: imports a file into an account, like every protocol."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from commands.context import account_row, opened
from commands.input_file import DataFile, charset_of, data_in, delimiter_of, named_columns, on_disk
from commands.output import (
    LISTED,
    examples,
    json_option,
    plural,
    print_json,
    print_more,
    print_table,
    problem_objects,
    say,
)
from commands.progress import reading
from importing import import_batch
from importing.account_settings import AccountSettings, load
from importing.batch import Batch, Campaign, Delimited, Mode, OnError, Origin, Outcome
from importing.context import Context
from importing.errors import ApiError
from importing.fields import AUTO_ADD


@click.command(name="import")
@click.argument("account_id", metavar="ACCOUNT")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--delimiter", help="comma (the default), semicolon, pipe, tab or any one character.")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default=Mode.IGNORE.value,
    show_default=True,
    help="What happens to customers that exist already.",
)
@click.option("--campaign", "campaigns", metavar="ID", multiple=True, help="Enrol in this campaign; repeat it.")
@click.option("--header", "names", metavar="NAME", multiple=True, help="Name a column, in order; repeat it.")
@click.option(
    "--card-digits", type=click.IntRange(4, 32), help="Make card numbers of so many digits where none is given."
)
@click.option("--dry-run", is_flag=True, help="Check and count only; nothing is written.")
@click.option(
    "--on-error",
    type=click.Choice([policy.value for policy in OnError]),
    default=OnError.REJECT.value,
    show_default=True,
    help="With a bad row: import nothing, or the good ones.",
)
@click.option("--no-undo", is_flag=True, help="Save no undo state.")
@json_option
@examples(
    "tillgate import greatwidgets customers.csv --mode update --campaign 898989889",
    "tillgate import greatwidgets till.txt --delimiter pipe --header code --header phone --dry-run",
)
def import_(account_id: str, file: str, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Import a file of customers.

    CSV is read as RFC 4180 says, in UTF-8 or else Windows-1252. The first line names the columns, as the protocol
    does (code, card_number, first_name ...), unless --header does. FILE may be - for standard input. What
    `tillgate export` wrote is taken as it is, and so is what `tillgate failed` wrote, once it is mended.
    """
    with opened() as context, on_disk(file, context.database.data_dir) as path, DataFile(path) as data:
        charset, codec = charset_of(path)
        batch = _batch(context, account_id, data, (codec, delimiter_of(options["delimiter"], path)), options)
        name = "standard input" if file == "-" else Path(file).name
        verb = "Checking" if dry_run else "Importing"
        with reading(
            f"{verb} {name}, {batch.source.size:,} bytes, for {account_id}", batch.source.size
        ) as show_position:
            data.watch = show_position
            outcome = import_batch.preview(context, batch) if dry_run else import_batch.run(context, batch)
        if as_json:
            print_json(_as_json(outcome, charset))
        else:
            _show(outcome)


def _batch(context: Context, account_id: str, data: DataFile, form: tuple[str, str], options: dict[str, Any]) -> Batch:
    codec, delimiter = form
    with context.database.reading() as connection:
        account = account_row(connection, account_id)["id"]
    settings = load(context, account)
    delimited = Delimited(delimiter, quotes=True, multiline=True, guarded=True)
    source, names = data_in(data, codec, delimited, options["names"])
    headers = named_columns(names, settings.fields)
    campaigns = _campaigns(settings, options["campaigns"])
    if not campaigns and any(header.field is AUTO_ADD for header in headers):
        raise click.ClickException("A file with auto_add needs a campaign to add to: --campaign ID.")
    return Batch(
        account=account,
        user="cli",
        protocol="cli",
        headers=headers,
        delimited=delimited,
        source=source,
        mode=Mode(options["mode"]),
        on_error=OnError(options["on_error"]),
        keep_undo=not options["no_undo"],
        card_digits=options["card_digits"],
        campaigns=campaigns,
        names=tuple(names),
        origin=Origin(delimiter=delimiter),
    )


def _campaigns(settings: AccountSettings, ids: Sequence[str]) -> tuple[Campaign, ...]:
    for campaign_id in ids:
        if campaign_id not in settings.campaigns:
            raise ApiError("bad_campaign", value=campaign_id)
    return tuple(settings.campaigns[campaign_id] for campaign_id in dict.fromkeys(ids))


def _as_json(outcome: Outcome, charset: str) -> dict[str, object]:
    counts = outcome.counts
    return {
        "batch_id": outcome.batch_id,
        "status": "imported" if outcome.batch_id else "checked",
        "charset": charset,
        "seconds": round(outcome.seconds, 3),
        **{name: getattr(counts, name) for name in ("new", "updated", "unchanged", "ignored", "failed")},
        "made": ({"row": m.row, "code": m.code, "card_number": m.card_number} for m in outcome.assigned_keys),
        "problems": problem_objects(outcome.problems),
        "warnings": problem_objects(outcome.warnings),
    }


def _show(outcome: Outcome) -> None:
    counts = outcome.counts
    what = f"Imported as batch {outcome.batch_id}" if outcome.batch_id else "Checked, nothing written"
    click.echo(
        f"{what}: {counts.new:,} new, {counts.updated:,} updated ({counts.unchanged:,} unchanged), "
        f"{counts.ignored:,} ignored, {counts.failed:,} failed, in {outcome.seconds:.2f} s."
    )
    for noun, problems in (("problem", outcome.problems), ("warning", outcome.warnings)):
        messages = [problem.message for problem in islice(problems, LISTED + 1)]
        if messages:
            say(f"With {plural(len(messages), noun)}:" if len(messages) <= LISTED else f"With {noun}s:")
        for message in messages[:LISTED]:
            say(f"  {message}")
        print_more(len(messages), f"{noun}s")
    made = list(islice(outcome.assigned_keys, LISTED + 1)) if outcome.batch_id else []
    if made:
        print_table(("row", "code", "card number"), [(m.row, m.code, m.card_number) for m in made[:LISTED]])
        print_more(len(made), "codes and cards")
