"""`tillgate webhook`, and what docs/webhooks.md shows to receivers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import cli
from tests.conftest import Blank
from tests.support.command_line import CommandLine, installation
from tests.support.documents import HOUSE, blocks
from tests.support.webhook_receiver import Receiver, receiving
from webhooks import deliveries

DOCUMENT = HOUSE / "docs" / "webhooks.md"


@pytest.fixture
def tillgate(
    tmp_path: Path, blank_sqlite: Blank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    command = installation(tmp_path, blank_sqlite, capsys, monkeypatch)
    for account in ("greatwidgets", "smallshop"):
        command.ok("account", "create", account)
    monkeypatch.setenv("TILLGATE_WEBHOOK_PRIVATE", "on")
    return command


def created(tillgate: CommandLine, receiver: Receiver) -> tuple[str, str]:
    """A webhook of greatwidgets: its id and its secret."""
    made = tillgate.ok("webhook", "create", "greatwidgets", receiver.url, "--json").json
    return made["id"], made["secret"]


def test_a_webhook_is_made_listed_tried_and_deleted(tillgate: CommandLine) -> None:
    with receiving() as receiver:
        shown = tillgate.ok("webhook", "create", "greatwidgets", receiver.url)
        secret = shown.out.strip()
        assert secret.startswith("whsec_")
        assert secret not in shown.err
        [row] = tillgate.ok("webhook", "list", "greatwidgets", "--json").json
        assert (row["url"], row["waiting"], row["failed"], row["last_attempt"]) == (receiver.url, 0, 0, "")
        listed = tillgate.ok("webhook", "list", "greatwidgets")
        assert secret not in listed.out + listed.err
        answered = tillgate.ok("webhook", "test", "greatwidgets", row["id"])
        assert answered.err == "The webhook answered with status 204.\n"
        [post] = receiver.posts
        told = json.loads(post.body)
        assert (told["event"], told["account_id"], told["batch"]) == ("webhook.test", "greatwidgets", None)
        timestamp = int(post.headers["X-Tillgate-Timestamp"])
        assert post.headers["X-Tillgate-Signature"] == deliveries.sign(secret.encode(), timestamp, post.body)
        tillgate.ok("webhook", "delete", "greatwidgets", row["id"])
    assert tillgate.ok("webhook", "list", "greatwidgets").err == "The account has no webhook yet.\n"


def test_the_list_shows_what_waits_and_why(tillgate: CommandLine) -> None:
    with receiving() as receiver:
        receiver.answers.append(500)
        created(tillgate, receiver)
        Path("rows.csv").write_text("code,first_name\na,Ann\n")
        tillgate.ok("import", "greatwidgets", "rows.csv")
        [row] = tillgate.ok("webhook", "list", "greatwidgets", "--json").json
        assert (row["waiting"], row["failed"], row["last_attempt"]) == (1, 0, "")


def test_a_webhook_that_does_not_take_it_is_reported(tillgate: CommandLine) -> None:
    with receiving() as receiver:
        receiver.answers.append(404)
        hook, _ = created(tillgate, receiver)
        sentence = tillgate.refused("webhook", "test", "greatwidgets", hook)
    assert sentence == "The webhook did not take it: answered with status 404."


def test_another_accounts_webhook_is_unknown(tillgate: CommandLine) -> None:
    with receiving() as receiver:
        hook, _ = created(tillgate, receiver)
        for command in ("test", "delete"):
            sentence = tillgate.refused("webhook", command, "smallshop", hook)
            assert sentence == f"There is no webhook {hook!r} in this account."
        assert receiver.posts == []
    assert tillgate.refused("webhook", "list", "nobody") == "There is no account 'nobody'."


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "[::1]", "169.254.169.254"])
def test_a_private_address_is_refused_unless_the_setting_allows_it(
    tillgate: CommandLine, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.delenv("TILLGATE_WEBHOOK_PRIVATE")
    sentence = tillgate.refused("webhook", "create", "greatwidgets", f"https://{host}/hook")
    assert sentence == "The host has a private, loopback or otherwise reserved address."
    assert tillgate.ok("webhook", "list", "greatwidgets").out == ""


def test_a_url_that_cannot_be_posted_to_is_refused(tillgate: CommandLine) -> None:
    sentence = tillgate.refused("webhook", "create", "greatwidgets", "https://u:p@shop.example.com/")
    assert sentence == "Leave the user and the password out of the URL."
    assert "cannot be found" in tillgate.refused("webhook", "create", "greatwidgets", "https://nobody.invalid/")


def test_the_printed_version_is_the_programs() -> None:
    project = tomllib.loads((Path(cli.__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == deliveries.USER_AGENT_VERSION


# The examples of the document. Each reads a secret and a signature from its arguments, a body from its input.
ENDS = {
    "python": "\nimport sys\nprint(is_from_tillgate(sys.argv[2], sys.stdin.buffer.read(), sys.argv[1]))\n",
    "php": "\necho is_from_tillgate($argv[2], file_get_contents('php://stdin'), $argv[1]) ? 'True' : 'False';\n",
    "js": (
        "\nconst yes = isFromTillgate(process.argv[3], require('node:fs').readFileSync(0), process.argv[2])"
        "\nconsole.log(yes ? 'True' : 'False')\n"
    ),
}
PROGRAMS = {"python": sys.executable, "php": shutil.which("php"), "js": shutil.which("node")}


@pytest.mark.parametrize("language", ENDS)
def test_the_examples_verify_signatures(tmp_path: Path, language: str) -> None:
    program = PROGRAMS[language]
    if program is None:
        pytest.skip(f"nothing on this machine runs {language}")
    [block] = [block for block in blocks(DOCUMENT) if block.language == language]
    file = tmp_path / f"verify.{language}"
    file.write_text(("<?php\n" if language == "php" else "") + block.text + ENDS[language], encoding="utf-8")
    body, timestamp = '{"name":"Zoë"}'.encode(), int(time.time())
    right = deliveries.sign(b"whsec_1", timestamp, body)
    cases = [
        (right, body, "True"),
        (right, body + b" ", "False"),
        (deliveries.sign(b"whsec_2", timestamp, body), body, "False"),
        (deliveries.sign(b"whsec_1", timestamp - 301, body), body, "False"),
        (right.replace(f"t={timestamp}", f"t={timestamp - 1}"), body, "False"),
        ("", body, "False"),
        ("t=,v1=", body, "False"),
    ]
    for signature, sent, expected in cases:
        done = subprocess.run(  # noqa: S603 - our own example
            [program, str(file), "whsec_1", signature], input=sent, capture_output=True, timeout=60, check=False
        )
        assert (done.stdout.decode().strip(), done.stderr) == (expected, b""), signature
