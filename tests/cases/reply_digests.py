"""Digests of the replies to the cases of fixtures/legacy, byte for byte, in every format.

`python -m tests.cases.reply_digests` writes them anew. What two runs never have in common is replaced before: codes,
cards and batch ids by their placeholders, times and durations by `{stamp}` and `{seconds}`.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path

from webtest import TestApp  # type: ignore[import-untyped]

from app import create_app
from crypto.digests import Digests
from importing.context import Context
from storage import migrate
from storage.engine import open_database
from tests.cases.legacy.case_files import cases
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
    text = _STAMP.sub(r"\1{stamp}", _SECONDS.sub(r"\1{seconds}", placeholders.emptied(reply.text)))
    return hashlib.sha256(f"{reply.status}\n{reply.headers['Content-Type']}\n{text}".encode()).hexdigest()


def place(form: Format, number: int) -> str:
    """Where the digest of a reply stands within its case: the format, and the number of the request."""
    return f"{form} {number}"


def stored() -> dict[str, dict[str, str]]:
    """The digests by case and place."""
    found: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def compute(world: World, client: TestApp) -> dict[str, dict[str, str]]:
    """The digests of today's replies."""
    found: dict[str, dict[str, str]] = {}
    for case in cases():
        found[case.name] = {}
        for form in Format:
            placeholders = Placeholders()
            played = replay(world, client, case, Encoding.URLENCODED, form, placeholders)
            for number, (_, reply) in enumerate(played, 1):
                found[case.name][place(form, number)] = digest(reply, placeholders)
    return found


def main() -> None:
    """Write the digests of today's replies down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = open_database(f"sqlite:///{folder / 'tillgate.db'}", folder)
        migrate.upgrade(database)
        context = Context(database=database, digests=Digests(SECRET), queue=HeldQueue())
        world = World(context, open_accounts(context)[0])
        found = compute(world, TestApp(create_app(settings_for(database), context)))
        database.dispose()
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
