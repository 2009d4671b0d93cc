"""`tillgate demo`: the vendor's documented batch, word for word, sent over HTTP to a server in a scratch folder."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import click
from lxml import etree
from rich.console import Console
from rich.syntax import Syntax

from commands.context import opened, writing
from commands.output import examples, rich_table
from importing import import_batch
from importing.account_settings import load
from importing.batch import Batch, CampaignType, Delimited, Source
from importing.context import Context
from legacy_api.headers import headers
from settings import PREFIX, Settings
from storage.queries import accounts
from storage.queries.customers import stream_customers

ACCOUNT = "greatwidgets"
USER = "john1970"
KEY = "1959caadac9b13dcb3"
CAMPAIGNS = ("898989889", "13234545", "34534554")
# One of the three customers of the documented batch is stored already, with another phone number.
EARLIER = b"33445566|33445566|larry|smith|1980-02-05|555-0100\n"
COLUMNS = ("code", "card_number", "first_name", "last_name", "custom_date", "phone")

# The vendor's example PHP request, as it stands on the page (and as PHP's http_build_query would send it).
DOCUMENTED: Mapping[str, str] = {
    "API": "1.5",
    "user_id": USER,
    "user_api_key": KEY,
    "account_id": ACCOUNT,
    "type": "customers_batch",
    "delimiter": "pipe",
    "overwrite_duplicates": "update",
    "card_number_generate": "10",
    "campaigns_to_include": "898989889|,|13234545|,|34534554",
    "profiles_header_1": "code",
    "profiles_header_2": "card_number",
    "profiles_header_3": "first_name",
    "profiles_header_4": "last_name",
    "profiles_header_5": "custome_date",
    "profiles_header_6": "phone",
    "Profiles_Data": (
        "\n"
        "11223344|11223344|jane|doe|1970-07-14|555-5555\n"
        "22334455|22334455|jim|mcdoe|1966-07-28|555-5556\n"
        "33445566|33445566|larry|smith|1980-02-05|555-5557\n"
    ),
}
EXPECTED = {"new": "2", "updated": "1"}

WIDTH = 110
PATIENCE = 30.0
PR_SET_PDEATHSIG = 1


@click.command()
@click.option("--exit", "leave", is_flag=True, help="Stop at the end instead of staying up.")
@examples("tillgate demo", "tillgate demo --exit")
def demo(leave: bool) -> None:
    """Show everything at once, over HTTP, in a scratch folder.

    The documented batch is previewed, sent and undone; its replies and its customers are shown. Works in a scratch
    folder, which is removed at the end, on a free port of this machine.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    # A process that a test or a shell starts in the background may ignore Ctrl-C.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _interrupt)
    with tempfile.TemporaryDirectory(prefix="tillgate-demo-") as scratch:
        settings = Settings(data_dir=Path(scratch), database_url=f"sqlite:///{scratch}/tillgate.db", secret=None)
        with opened(settings) as context:
            _store_example(context)
            with _server(Path(scratch)) as url:
                DemoShow(console, context, f"{url}/api.php").run()
                if not leave:
                    _stay(console, url, scratch)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _store_example(context: Context) -> None:
    with writing(context) as connection:
        account = accounts.create_account(connection, ACCOUNT, "Great Widgets Inc.")
        accounts.create_user(connection, account, USER, context.digests.api_key(KEY), may_import=True)
        for campaign_id in CAMPAIGNS:
            name = f"Points {campaign_id}"
            accounts.create_campaign(connection, account, campaign_id, name, CampaignType.POINTS.value)
    columns = headers({f"profiles_header_{number}": name for number, name in enumerate(COLUMNS, 1)}, {})
    source = Source(io.BytesIO(EARLIER), "utf-8", len(EARLIER))
    campaign = load(context, account).campaigns[CAMPAIGNS[0]]
    import_batch.run(context, Batch(account, "cli", "cli", columns, Delimited("|"), source, campaigns=(campaign,)))


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """`tillgate serve` on a free port in a process of its own. Yields its URL when it is ready."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {f"{PREFIX}DATA_DIR": str(folder), "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", "from cli import main; main()", "serve", "--port", "0"],
        # No .env or tillgate.toml of the caller's folder, and no Ctrl-C of the caller's terminal.
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http" not in line:
            raise click.ClickException("The server did not start.")
        yield line[line.index("http") :].strip()
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stay(console: Console, url: str, scratch: str) -> None:
    with suppress(KeyboardInterrupt):
        console.print(f"\nThe server stays up, with its data in {scratch} until then. Press Ctrl-C to stop it.")
        console.print(f"  {url}/         the legacy protocol 1.5, by POST or GET\n  {url}/api.php  the same")
        while True:
            time.sleep(3600)


@dataclass(slots=True)
class DemoShow:
    """The steps of the demo. `url` is that of the protocol."""

    console: Console
    context: Context
    url: str

    def run(self) -> None:
        self._customers("The customers before")
        self._request()
        once = {"Idempotency-Key": "demo-1"}
        self._title("A preview first: with dry_run=yes and output=JSON nothing is written")
        self._reply(self._post({**DOCUMENTED, "output": "JSON", "dry_run": "yes"})[0], "json")
        self._title("The documented batch itself: its reply, in XML")
        text, batch_id = self._post(DOCUMENTED, once)
        self._reply(text, "xml")
        self._title("Sent once more with its idempotency key, as JSON: the stored reply, nothing is imported twice")
        self._reply(self._post({**DOCUMENTED, "output": "JSON"}, once)[0], "json")
        self._customers("The customers after")
        self._title(f"The undo of batch {batch_id}, with type=customers_batch_undo")
        credentials = {name: DOCUMENTED[name] for name in ("API", "user_id", "user_api_key", "account_id")}
        self._reply(self._post({**credentials, "type": "customers_batch_undo", "batch_id": batch_id})[0], "xml")
        self._customers("The customers once more, as they were before")
        counts = etree.fromstring(text.encode()).find("batch/customers")
        if counts is None or {count.tag: count.text for count in counts} != EXPECTED:
            raise click.ClickException("The documented batch did not give the documented reply.")

    def _post(self, fields: Mapping[str, str], headers: Mapping[str, str] | None = None) -> tuple[str, str]:
        """The text of the reply, and the id of its batch."""
        request = Request(self.url, urlencode(fields).encode(), dict(headers or {}))  # noqa: S310 - our own server's
        with urlopen(request, timeout=PATIENCE) as response:  # noqa: S310
            return response.read().decode(), response.headers.get("X-Batch-Id", "")

    def _title(self, text: str) -> None:
        self.console.print(f"\n[bold cyan]{text}[/]" if self.console.is_terminal else f"\n== {text}")

    def _request(self) -> None:
        self._title(f"The documented request: POST {self.url}")
        for name, value in DOCUMENTED.items():
            lines = value.replace("\n", "\n" + " " * 25)
            self.console.print(f"  {name:<20} = {lines.rstrip()}", markup=False, soft_wrap=True)

    def _reply(self, text: str, language: str) -> None:
        if self.console.is_terminal:
            self.console.print(Syntax(text.rstrip(), language, background_color="default"))
        else:
            self.console.print(text.rstrip(), markup=False, soft_wrap=True)

    def _customers(self, title: str) -> None:
        self._title(title)
        with self.context.database.reading() as connection:
            account = accounts.find_account(connection, ACCOUNT)
            assert account is not None
            customers = list(stream_customers(connection, account["id"]))
        rows = [
            [*(customer.row[name] or "" for name in COLUMNS), str(len(customer.balances))] for customer in customers
        ]
        self.console.print(rich_table((*COLUMNS, "campaigns"), rows))
