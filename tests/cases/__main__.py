"""`python -m tests.cases generate NAME …`: writes the replies of cases of fixtures/legacy, and shows what has changed.

A case needs a folder with a request. A file that says the same as today's reply stays as it is. `python -m tests.cases
digests` writes the digests of all cases.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
from webtest import TestApp  # type: ignore[import-untyped]

from tests.cases import reply_digests
from tests.cases.legacy.case_files import FOLDER, Case, Step, cases, read_case
from tests.cases.legacy.placeholders import Placeholders
from tests.cases.replay import send_all
from tests.support.case_database import World
from tests.support.legacy_client import Encoding, Format, canonical_json, canonical_xml

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

_KEY = re.compile(r'(code|card_number)(?:>|": ")([0-9]+)(?=[<"])')


def generate(world: World, client: TestApp, folder: Path) -> Iterator[str]:
    """Write the files of a case that do not say what is replied today. Yields what has changed, as diffs."""
    case = read_case(folder)
    sent = "".join(step.request for step in case.steps) + json.dumps(case.before)
    for form in (Format.XML, Format.JSON):
        placeholders = Placeholders()
        for step, reply in send_all(world, client, case, Encoding.URLENCODED, form, placeholders):
            file = step.xml_file if form is Format.XML else step.json_file
            text = reply.xml if form is Format.XML else canonical_json(reply.tree(form))
            if not _is_same(placeholders, text, step, form):
                yield from _write(file, _reply_text(placeholders, text, sent, form))
    yield from _write_after(world, case, folder, placeholders, sent)


def _is_same(placeholders: Placeholders, text: str, step: Step, form: Format) -> bool:
    try:
        expected = canonical_xml(step.xml) if form is Format.XML else canonical_json(step.json)
        placeholders.compare(text, expected)
    except (AssertionError, ValueError):
        return False
    return True


def _reply_text(placeholders: Placeholders, text: str, sent: str, form: Format) -> str:
    _learn_keys(placeholders, text, sent)
    text = reply_digests.without_times(placeholders.emptied(text))
    return DECLARATION + text if form is Format.XML else text


def _learn_keys(placeholders: Placeholders, text: str, sent: str) -> None:
    """Learn the codes and cards that the sender did not send."""
    for name, value in _KEY.findall(text):
        if not re.search(rf"\b{value}\b", sent):
            placeholders.learn_next("code" if name == "code" else f"card of {len(value)} digits", value)


def _write_after(world: World, case: Case, folder: Path, placeholders: Placeholders, sent: str) -> Iterator[str]:
    customers = world.customers([*case.before, *case.after])
    expected = sorted(case.after, key=lambda customer: placeholders.filled(customer["code"]))
    for customer in chain(customers, expected):
        customer.setdefault("campaigns", {})
    actual, wanted = (canonical_json([dict(sorted(c.items())) for c in group]) for group in (customers, expected))
    try:
        placeholders.compare(actual, wanted)
    except AssertionError:
        _learn_keys(placeholders, actual, sent)
        text = placeholders.emptied(json.dumps([{k: v for k, v in c.items() if v} for c in customers]))
        after = sorted(json.loads(text), key=lambda customer: str(customer["code"]))
        yield from _write(folder / "after.json", json.dumps(after, indent=2, ensure_ascii=False) + "\n")
        if "something else" in text:
            yield 'after.json: a password or PIN is not known here; write its clear text instead of "something else".\n'


def _write(file: Path, text: str) -> Iterator[str]:
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    file.write_text(text, encoding="utf-8")
    names = (f"{file.parent.name}/{file.name}" if old else "/dev/null", f"{file.parent.name}/{file.name}")
    yield from difflib.unified_diff(old.splitlines(True), text.splitlines(True), *names)


@click.group()
def main() -> None:
    """The cases of fixtures/legacy."""


@main.command(name="generate")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def generate_command(names: tuple[str, ...]) -> None:
    """Write the replies of cases and their digests, and show what has changed."""
    digests = reply_digests.stored()
    with reply_digests.opened_world() as (world, client):
        for name in names:
            if not (FOLDER / name).is_dir():
                raise click.ClickException(f"There is no folder fixtures/legacy/{name}.")
            changes = "".join(generate(world, client, FOLDER / name))
            computed = reply_digests.compute(world, client, read_case(FOLDER / name))
            if computed != digests.get(name):
                changes += f"{reply_digests.FILE.name}: {name}\n"
            digests[name] = computed
            click.echo(changes or f"{name}: nothing has changed.")
    reply_digests.store(digests)


@main.command(name="digests")
def digests_command() -> None:
    """Write the digests of all cases."""
    with reply_digests.opened_world() as (world, client):
        reply_digests.store({case.name: reply_digests.compute(world, client, case) for case in cases()})


if __name__ == "__main__":
    main()
