"""The benchmarks measure what they say: the floor does its work, the load counts replies, results are kept apart."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from bench import form, imports, load, raw, results
from bench.gateway import RAW, Server
from bench.jobs import as_csv
from bench.reading import read
from bench.run import main
from tests.support.postgres_server import PostgresServer

ROWS = [[f"c{n}", f"k{n}", "Ann", "Lee", "2000-01-02", "1", "a@x", "s", "t", "u", "v", "gold"] for n in range(9)]
LINES = "".join("|".join(row) + "\n" for row in ROWS)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'raw.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgresql_server")
    name = server.create()
    yield server.url(name)
    server.drop(name)


def answers(url: str, *queries: str) -> list[object]:
    """The first value of each query."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            return [file.execute(query).fetchone()[0] for query in queries]
    with psycopg.connect(url) as server:
        return [(server.execute(query.encode()).fetchone() or [None])[0] for query in queries]


def test_the_floor_of_small_posts_does_all_of_the_work(database: str, tmp_path: Path) -> None:
    raw.preload(database, ROWS[:6])
    changed = [[*row[:5], "2", *row[6:]] for row in ROWS]
    request = load.as_request("".join("|".join(row) + "\n" for row in changed[5:8]).encode(), "text/plain")
    requests = tmp_path / "requests.json"
    requests.write_text(json.dumps({"requests": [request], "good": '"success"'}))
    with Server.started({}, "--workers", "1", "--database", database, program=RAW) as server:
        found = load.run(server.port, 2, 0.2, requests)
        assert server.used() > 0
    assert (found.bad, found.good > 0) == (0, True)
    assert 0 < found.p50 <= found.p99 <= found.longest
    customers, changes, batches, points = answers(
        database,
        "SELECT count(*) FROM customer WHERE phone = '2'",
        "SELECT count(*) FROM snapshot WHERE phone = '1'",
        "SELECT count(*) FROM batch",
        "SELECT sum(balance) FROM enrolment",
    )
    assert (customers, changes) == (3, 1)
    assert points == answers(database, "SELECT sum(amount) FROM ledger")[0]
    assert int(str(points)) == int(str(batches)) * 3 * raw.POINTS


def test_a_load_that_ends_with_what_it_watches(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'raw.db'}"
    requests = tmp_path / "requests.json"
    requests.write_text(json.dumps({"requests": [load.as_request(b"", "")], "good": "no reply says this"}))
    with Server.started({}, "--workers", "1", "--database", url, program=RAW) as server:
        with load.Running(server.port, 3, requests) as running:
            assert running.result is None
        assert running.result is not None
    assert running.result.good == 0
    assert running.result.bad >= 3


def test_percentiles() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [load.percentile(values, share) for share in (0.5, 0.99)] == [51.0, 100.0]
    assert load.percentile([], 0.5) == 0.0


def test_a_part_measured_alone_replaces_its_own_section_only(tmp_path: Path) -> None:
    output = tmp_path / "RESULTS.md"
    sections = [results.Section(title, "A note.", ("what", "s")) for title in ("One", "Two")]
    for section in sections:
        section.add("old", 1.0)
    results.write(output, sections)
    again = results.Section("One", "A note.", ("what", "s"))
    again.add("new", 1_000_000)
    results.write(output, [again], "17.0")
    text = output.read_text()
    assert "PostgreSQL 17.0" in text
    assert [line for line in text.splitlines() if line.startswith(("## ", "| new", "| old"))] == [
        "## One",
        "| new | 1,000,000 |",
        "## Two",
        "| old | 1.000 |",
    ]


def test_a_ratio_is_the_median_of_the_pairs() -> None:
    pairs = results.Pairs()
    for floor, ours in ((1.0, 2.0), (2.0, 2.0), (1.0, 9.0)):
        pairs.add(floor, ours, 5.0, 1.0)
    assert pairs.cells(imports.import_most(100_000)) == (1.0, 2.0, "**2.00**", "1.5", 5, 1.0, 3)


def test_both_encodings_of_a_file_hold_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.psv"
    file.write_text(LINES)
    points = form.with_points(file)
    assert points.read_text().splitlines()[0].endswith("|gold|25")
    for encoding in (form.URLENCODED, form.MULTIPART):
        body = form.with_data(encoding, form.batch_fields(), points)
        assert body.length == sum(map(len, body.pieces()))
        assert read(body) == len(ROWS)
    assert form.without_keys(file).read_text().startswith("Ann|Lee|")
    assert as_csv(file, tmp_path / "rows.csv", limit=1).read_text().splitlines()[1].startswith("c0,k0,Ann Lee,")


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--rows", "many"], ["--databases", "oracle"]])
def test_what_it_does_not_know_is_told(arguments: list[str]) -> None:
    found = CliRunner().invoke(main, [*arguments, "--quick"])
    assert found.exit_code == 2
    assert "Invalid value" in found.output


@pytest.mark.slow
def test_a_quick_run_writes_a_table(tmp_path: Path) -> None:
    output = tmp_path / "RESULTS.md"
    arguments = ["--quick", "--only", "small", "--databases", "sqlite", "--output", str(output)]
    found = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert found.exit_code == 0
    text = output.read_text()
    assert "| SQLite | 3-row posts | 1 | 8 |" in text
