"""What the README says is done as it says: `make demo`, `make run`, the account, and a batch by PHP, curl and JSONP."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from lxml import html

from tests.support.documents import ADDRESS, HOUSE, Block, Shell, blocks, comparable
from tests.support.gateway_process import PATIENCE

README = HOUSE / "README.md"
READY = "Tillgate is ready at "


def block(language: str, beginning: str = "") -> Block:
    """The one block of the README in a language that begins so."""
    [found] = [found for found in blocks(README) if found.language == language and found.text.startswith(beginning)]
    return found


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that has followed the README so far: a server is running, and has its account."""

    shell: Shell
    url: str


@contextmanager
def run_in_background(shell: Shell, command: str) -> Iterator[str]:
    """Run a command that stays, until it has said its first line."""
    process = subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", command],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One for all examples, as for the README's reader; each is of customers of its own."""
    shell = Shell.prepared(tmp_path_factory.mktemp("shop"))
    with run_in_background(shell, block("sh", "make run").text) as line:
        assert line.startswith(READY)
        url = line.removeprefix(READY).strip()
        [key] = shell.run([block("sh", ".venv/bin/tillgate").text], url)
        assert key.strip() in block("php").text
        yield Shop(shell, url)


def test_make_demo(tmp_path: Path) -> None:
    [shown] = Shell.prepared(tmp_path).run([block("sh", "make demo").text])
    assert "<new>2</new>" in shown
    assert '<batch status="undone">' in shown


def test_make_run_serves_where_the_readme_says() -> None:
    makefile = (HOUSE / "Makefile").read_text(encoding="utf-8")
    assert f"serve on {ADDRESS}" in makefile
    assert ADDRESS in README.read_text(encoding="utf-8")


def test_make_soak_runs_what_has_a_long_form() -> None:
    asked = ["make", "--dry-run", "--no-print-directory", "soak"]
    shown = subprocess.run(asked, cwd=HOUSE, check=True, capture_output=True, text=True).stdout  # noqa: S603
    for name in (
        "processes/test_kills.py",
        "properties/test_undo.py",
        "processes/test_workers.py",
        "cases/modern/test_schemathesis.py",
    ):
        assert f"tests/{name}" in shown
    assert "tests/processes/test_readme.py" not in shown


@pytest.mark.skipif(shutil.which("php") is None, reason="the PHP command line is not installed")
def test_the_php_example(shop: Shop) -> None:
    script = shop.shell.folder / "import.php"
    script.write_text(block("php").text.replace(ADDRESS, shop.url), encoding="utf-8")
    [printed] = shop.shell.run(["php -d display_errors=stderr import.php"], shop.url)
    assert printed == block("text").text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_example(shop: Shop) -> None:
    [printed] = shop.shell.run([block("sh", "printf 'Jane").text], shop.url)
    assert comparable(printed) == comparable(block("xml").text)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_example_of_a_newer_client(shop: Shop) -> None:
    [printed] = shop.shell.run([block("sh", "printf 'Source_id").text], shop.url)
    expected = json.loads(block("json").text)
    assert {name: re.sub("[0-9a-f]{20}", "", value) for name, value in json.loads(printed).items()} == {
        name: re.sub("[0-9a-f]{20}", "", value) for name, value in expected.items()
    }


def test_the_jsonp_example(shop: Shop) -> None:
    # As a browser does: the address is what the page's parser makes of the attribute.
    page, script = html.fragments_fromstring(block("html").text)
    source = str(script.get("src"))
    with urlopen(source.replace(ADDRESS, shop.url), timeout=PATIENCE) as response:  # noqa: S310 - our own server's
        assert response.headers.get_content_type() == "text/javascript"
        reply = response.read().decode()
    assert reply.strip() == block("js").text.strip()
    function, _, rest = reply.removeprefix("/**/").partition("(")
    assert f"function {function}(reply)" in (page.text or "")
    assert json.loads(rest.removesuffix(");"))["batch"]["customers"]["new"] == "1"
