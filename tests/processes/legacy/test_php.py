"""Real PHP clients against a real server: the vendor's example in every way that PHP sends a form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.case_database import World
from tests.support.gateway_process import Server

PHP = shutil.which("php")
SCRIPTS = Path(__file__).parents[2] / "support" / "php"
WAYS = ("curl_multipart", "curl_urlencoded", "curl_file", "stream", "stream_without_content_type", "get")
FORMATS = ("xml", "json")
KNOWN = {"code": "22334455", "card_number": "22334455", "first_name": "James"}

pytestmark = pytest.mark.skipif(PHP is None, reason="the PHP command line is not installed")


def php(server: Server, way: str, form: str, *fields: str, rows: Path | None = None) -> Any:
    """What a PHP client read of the reply."""
    assert PHP is not None
    environment = {**os.environ, **({"ROWS": str(rows)} if rows else {})}
    command = [PHP, "-d", "display_errors=stderr", str(SCRIPTS / "import.php")]
    done = subprocess.run(  # noqa: S603
        [*command, f"{server.url}/api.php", way, form, *fields],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_vendors_example_word_for_word(served: tuple[Server, World]) -> None:
    server, world = served
    for way in WAYS:
        for form in FORMATS:
            world.begin([KNOWN])
            read = php(server, way, form)
            wanted = {"status": "success", "error": "", "batch": "imported", "new": 2, "updated": 1, "codes": {}}
            assert read == wanted, (way, form)
            names = [customer["first_name"] for customer in world.customers([])]
            assert names == ["jane", "jim", "larry"], (way, form)
            campaigns = world.customers([])[0]["campaigns"]
            assert list(campaigns) == ["898989889", "13234545", "34534554"]


def test_the_vendors_example_with_cards_made(served: tuple[Server, World]) -> None:
    # The page's other line 8: `$data['card_number_generate'] = 10;`, a number.
    server, world = served
    fields = ("card_number_generate=10", "profiles_header_1=first_name", "profiles_header_2=custom_field_1")
    for form in FORMATS:
        world.begin([])
        read = php(server, "curl_multipart", form, *fields, "profiles_header_3=city", "API=1.5")
        assert (read["new"], list(read["codes"])) == (3, ["1", "2", "3"])
        customers = {customer["code"]: customer for customer in world.customers([])}
        assert set(read["codes"].values()) == set(customers)
        assert all(len(customer["card_number"]) == 10 for customer in customers.values())


def test_errors_are_read_by_php_too(served: tuple[Server, World]) -> None:
    server, world = served
    world.begin([])
    for way in WAYS:
        for form in FORMATS:
            read = php(server, way, form, "user_api_key=wrong")
            assert read == {"status": "error", "error": "Invalid user, API key or account."}
            read = php(server, way, form, "profiles_header_6=custom_date", "profiles_header_5=phone")
            assert read["error"].startswith("Nothing was imported: 3 of 3 rows cannot be imported. Row 1, custom_date:")
    assert world.customers([]) == []


def test_curl_expects_100_continue_for_large_bodies(served: tuple[Server, World], tmp_path: Path) -> None:
    server, world = served
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"{n}|{n}|jane|doe|1970-07-14|555-5555\r\n" for n in range(40_000)))
    assert rows.stat().st_size > 1024 * 1024
    for way in ("curl_multipart", "curl_urlencoded", "curl_file"):
        world.begin([])
        assert php(server, way, "xml", rows=rows)["new"] == 40_000
