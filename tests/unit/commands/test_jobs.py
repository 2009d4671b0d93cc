"""The commands about imports in the background, and about the rows that failed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from importing.batch import OnError
from importing.context import Context
from importing.jobs import chunk, lifecycle
from server.installation import open_context
from settings import load_settings
from storage import tables
from tests.conftest import Blank
from tests.support import job_batches as held
from tests.support.command_line import CommandLine, installation
from tests.support.demo_accounts import Demo, open_accounts
from tests.support.job_batches import HeldQueue

BAD = """code,custom_date,first_name,customer_PIN
1,tomorrow,=1+1,1234
2,2020-01-01,Bob,5678
3,never,"Zoë ""O'Neil"", jr.",
"""


@dataclass
class Background:
    """The installation's own store, with jobs that run when the test says so."""

    context: Context
    demo: Demo
    queue: HeldQueue

    def submit(self, text: str, on_error: OnError = OnError.SKIP) -> str:
        return lifecycle.submit(self.context, held.batch(self.context, self.demo, text, on_error=on_error)).batch_id

    def work(self, limit: int = 1000) -> None:
        self.queue.run(self.context, limit)


@pytest.fixture
def tillgate(
    tmp_path: Path, blank_sqlite: Blank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    return installation(tmp_path, blank_sqlite, capsys, monkeypatch)


@pytest.fixture
def background(tillgate: CommandLine) -> Iterator[Background]:  # noqa: ARG001 - it says where the store is
    queue = HeldQueue()
    context = replace(open_context(load_settings()), queue=queue)
    yield Background(context, open_accounts(context)[0], queue)
    context.database.dispose()


def imported(tillgate: CommandLine, text: str) -> str:
    """The batch that a file with bad rows became."""
    Path("customers.csv").write_text(text, encoding="utf-8")
    options = ("--mode", "update", "--on-error", "skip", "--json")
    return str(tillgate.ok("import", "greatwidgets", "customers.csv", *options).json["batch_id"])


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


class TestStatus:
    def test_of_a_queued_a_running_and_a_finished_job(
        self, tillgate: CommandLine, background: Background, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunk, "FIRST_CHUNK_ROWS", 1000)
        monkeypatch.setattr(chunk, "MAX_CHUNK_ROWS", 1000)
        batch = background.submit(held.rows("c", 6000))
        waiting = tillgate.ok("batch", batch, "--json").json
        assert (waiting["status"], waiting["progress"]["total"], waiting["reason"]) == ("queued", 0, None)
        assert "not begun yet" in tillgate.ok("batches", "greatwidgets").out
        background.work(1)
        running = tillgate.ok("batch", batch, "--json").json
        progress = running["progress"]
        assert (running["status"], progress["total"], progress["failed"]) == ("running", 6000, 0)
        assert 0 < progress["processed"] == progress["successful"] < 6000
        assert progress["percent"] == progress["processed"] // 60
        told = f"{progress['processed']:,} of 6,000 ({progress['percent']} %)"
        assert told in tillgate.ok("batch", batch).out
        assert told in tillgate.ok("batches", "greatwidgets").out
        background.work()
        [row] = tillgate.ok("batches", "greatwidgets", "--json").json
        assert (row["status"], row["new"], row["progress"]["percent"]) == ("imported", 6000, 100)

    def test_of_a_failed_job_says_why(self, tillgate: CommandLine, background: Background) -> None:
        batch = background.submit(held.rows("c", 3, bad=[2]), OnError.REJECT)
        background.work()
        found = tillgate.ok("batch", batch, "--json").json
        assert (found["status"], found["reason"]["code"]) == ("failed", "bad_rows")
        assert found["reason"]["message"] in tillgate.ok("batch", batch).out
        assert "bad_rows" in tillgate.ok("batches", "greatwidgets").out

    def test_of_an_undo_counts_customers(self, tillgate: CommandLine, background: Background) -> None:  # noqa: ARG002
        batch = imported(tillgate, "code\n1\n2\n")
        undo = tillgate.ok("undo", batch, "--json").json["batch_id"]
        progress = tillgate.ok("batch", undo, "--json").json["progress"]
        assert progress == {"total": 2, "processed": 2, "successful": 2, "failed": 0, "percent": 100}


class TestCancelAndResume:
    def test_ends_a_job_and_goes_on_with_it(self, tillgate: CommandLine, background: Background) -> None:
        batch = background.submit(held.rows("c", 5))
        assert tillgate.ok("cancel", batch).out == f"The batch {batch} is cancelled.\n"
        background.work()
        assert held.holds(background.context, background.demo).customers == 0
        assert tillgate.refused("cancel", batch) == f"The batch {batch} is not queued or running."
        assert tillgate.ok("resume", batch, "--json").json == {"id": batch, "status": "queued"}
        # The command asked the installation's own queue; recovery would ask here.
        chunk.run_chunk(background.context, batch, 0)
        background.work()
        assert held.holds(background.context, background.demo).customers == 5
        assert "cannot be resumed" in tillgate.refused("resume", batch)

    def test_is_in_the_audit(self, tillgate: CommandLine, background: Background) -> None:
        batch = background.submit(held.rows("c", 1))
        tillgate.ok("cancel", batch)
        tillgate.ok("resume", batch)
        with background.context.database.reading() as connection:
            rows = connection.execute(select(tables.audit).order_by(tables.audit.c.at)).mappings().all()
        found = [(row["actor"], row["action"]) for row in rows if row["subject"] == batch]
        assert found == [("cli", "cancel"), ("cli", "resume")]

    @pytest.mark.parametrize("command", ["cancel", "resume", "failed"])
    def test_unknown_batch_is_refused(self, tillgate: CommandLine, command: str) -> None:
        assert tillgate.refused(command, "nope") == "Unknown batch: nope"


@pytest.mark.usefixtures("background")
class TestFailed:
    def test_what_is_wrong_stands_in_front_and_no_cell_is_a_formula(self, tillgate: CommandLine) -> None:
        batch = imported(tillgate, BAD)
        found = cells(tillgate.ok("failed", batch).out)
        assert found[0] == ["row", "field", "code", "message", "code", "custom_date", "first_name", "customer_PIN"]
        wrong = 'Row 1, custom_date: "tomorrow" is not a date (YYYY-MM-DD).'
        assert found[1] == ["1", "custom_date", "bad_date", wrong, "1", "tomorrow", "'=1+1", "********"]
        assert found[2][:3] == ["3", "custom_date", "bad_date"]
        assert found[2][4:] == ["3", "never", 'Zoë "O\'Neil", jr.', ""]
        assert len(found) == 3

    def test_a_mended_file_is_imported_as_it_is(self, tillgate: CommandLine) -> None:
        batch = imported(tillgate, BAD)
        tillgate.ok("failed", batch, "failed.csv")
        mended = (
            Path("failed.csv").read_text(encoding="utf-8").replace("tomorrow,", "2020-02-29,").replace("never,", ",")
        )
        again = imported(tillgate, mended)
        assert tillgate.ok("batch", again, "--json").json["new"] == 2
        found = {c["code"]: c for c in tillgate.ok("customers", "greatwidgets", "--json").json}
        assert (found["1"]["first_name"], found["1"]["custom_date"], found["1"]["has_pin"]) == (
            "=1+1",
            "2020-02-29",
            False,
        )
        assert found["3"]["first_name"] == 'Zoë "O\'Neil", jr.'

    def test_what_was_mended_badly_fails_once_more_with_one_front(self, tillgate: CommandLine) -> None:
        batch = imported(tillgate, BAD)
        first = tillgate.ok("failed", batch).out
        again = imported(tillgate, first.replace("never,", "2020-01-01,"))
        found = cells(tillgate.ok("failed", again).out)
        # The second of the two is the first row of its own file; both say the same of it.
        assert found == cells(first)[:2]

    def test_a_file_that_is_there_is_left_alone(self, tillgate: CommandLine) -> None:
        batch = imported(tillgate, BAD)
        Path("failed.csv").write_text("half mended", encoding="utf-8")
        assert tillgate.refused("failed", batch, "failed.csv").startswith("failed.csv: File exists")
        assert Path("failed.csv").read_text(encoding="utf-8") == "half mended"

    def test_without_failed_rows_there_is_no_file(self, tillgate: CommandLine) -> None:
        batch = imported(tillgate, "code\n1\n")
        assert tillgate.refused("failed", batch, "failed.csv") == f"The batch {batch} has no failed rows."
        assert not Path("failed.csv").exists()

    def test_rows_of_a_job_are_kept_too(self, tillgate: CommandLine, background: Background) -> None:
        batch = background.submit(held.rows("c", 4, bad=[2, 4]), OnError.REJECT)
        background.work()
        found = cells(tillgate.ok("failed", batch).out)
        assert found[0] == ["row", "field", "code", "message", *held.NAMES]
        assert [row[0] for row in found[1:]] == ["2", "4"]
        assert [row[4] for row in found[1:]] == ["c2", "c4"]

    def test_a_row_with_several_problems_stands_there_once(self, tillgate: CommandLine) -> None:
        batch = imported(tillgate, f"code,custom_date,city\n1,x,{'y' * 300}\n2,,\n")
        [_, row] = cells(tillgate.ok("failed", batch).out)
        assert row[1:3] == ["custom_date; city", "bad_date; too_long"]
        assert row[6] == "y" * 300
