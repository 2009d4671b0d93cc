"""Digests of the replies to the cases of fixtures/legacy, byte for byte, in every format.

`python -m tests.cases digests` writes them anew. What differs between two runs is replaced before: codes, cards and
batch ids by their placeholders, times and durations by `{stamp}` and `{seconds}`.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from webtest import TestApp  # type: ignore[import-untyped]

from app import create_app
from crypto.digests import Digests
from importing.context import Context
from storage import migrate
from storage.engine import open_database
from tests.cases.legacy.case_files import Case
from tests.cases.legacy.placeholders import Placeholders
from tests.cases.replay import replay
from tests.conftest import SECRET, settings_for
from tests.support.case_database import World
from tests.support.demo_accounts import open_accounts
from tests.support.job_batches import HeldQueue
from tests.support.legacy_client import Encoding, Format, Reply

FILE = Path(__file__).with_name("reply_digests.json")

_SECONDS = re.compile(r'(<seconds>|"seconds": ?")[0-9]+\.[0-9]{3}(?=[<"])')
_STAMP = re.compile(
    r'(<created_stamp>|"created_stamp": ?")[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?=[<"])'
)


def digest(reply: Reply, placeholders: Placeholders) -> str:
    """The SHA-256 of a reply's status, content type and body."""
    text = without_times(placeholders.emptied(reply.text))
    return hashlib.sha256(f"{reply.status}\n{reply.headers['Content-Type']}\n{text}".encode()).hexdigest()


def without_times(text: str) -> str:
    """A reply with `{seconds}` and `{stamp}` in the place of durations and times."""
    return _STAMP.sub(r"\1{stamp}", _SECONDS.sub(r"\1{seconds}", text))


def place(form: Format, number: int) -> str:
    """Where the digest of a reply stands within its case: the format, and the number of the request."""
    return f"{form} {number}"


def stored() -> dict[str, dict[str, str]]:
    """The digests by case and place."""
    digests: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return digests


def store(digests: dict[str, dict[str, str]]) -> None:
    """Write the file, the cases by their names."""
    FILE.write_text(json.dumps(dict(sorted(digests.items())), indent=1) + "\n", encoding="utf-8")


def compute(world: World, client: TestApp, case: Case) -> dict[str, str]:
    """The digests of a case's replies, by place."""
    digests = {}
    for form in Format:
        placeholders = Placeholders()
        played = replay(world, client, case, Encoding.URLENCODED, form, placeholders)
        for number, (_, reply) in enumerate(played, 1):
            digests[place(form, number)] = digest(reply, placeholders)
    return digests


@contextmanager
def opened_world() -> Iterator[tuple[World, TestApp]]:
    """A new SQLite database with the demo accounts, and the application on it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = open_database(f"sqlite:///{folder / 'tillgate.db'}", folder)
        migrate.upgrade(database)
        context = Context(database=database, digests=Digests(SECRET), queue=HeldQueue())
        world = World(context, open_accounts(context)[0])
        yield world, TestApp(create_app(settings_for(database), context))
        database.dispose()
