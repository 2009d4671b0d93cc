"""The commands around the data: migrate, doctor, and the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from settings import Settings
from storage import migrate
from tests.conftest import Blank
from tests.support.command_line import CommandLine, installation
from tests.support.gateway_process import PATIENCE, PROGRAM


@pytest.fixture
def tillgate(
    tmp_path: Path, blank_sqlite: Blank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    return installation(tmp_path, blank_sqlite, capsys, monkeypatch)


def checks(tillgate: CommandLine) -> dict[str, dict[str, object]]:
    """The doctor's findings that are not all right, by check."""
    result = tillgate("doctor", "--json")
    wrong = {check["check"]: check for check in result.json["checks"] if not check["ok"]}
    assert result.json["ok"] is not wrong
    assert result.status == (1 if wrong else 0)
    assert all(check["mend"] for check in wrong.values())
    return wrong


class TestMigrate:
    def test_goes_up_and_down(self, tillgate: CommandLine) -> None:
        head = migrate.newest_revision()
        assert tillgate.ok("migrate", "--json").json == {"before": head, "after": head, "head": head}
        assert tillgate.ok("migrate", "--to", "base", "--json").json["after"] == ""
        assert tillgate.ok("migrate", "--to", head).err == f"The database is at revision {head}.\n"
        assert tillgate.ok("migrate").err == f"The database is at revision {head}; nothing was to do.\n"

    def test_unknown_revision_is_reported(self, tillgate: CommandLine) -> None:
        assert tillgate.refused("migrate", "--to", "nope").startswith("Cannot migrate to 'nope'")

    def test_every_command_brings_sqlite_up(self, tillgate: CommandLine) -> None:
        (tillgate.folder / "data" / "tillgate.db").unlink()
        tillgate.ok("account", "create", "greatwidgets")
        assert tillgate.ok("migrate", "--json").json["before"] == migrate.newest_revision()


class TestDoctor:
    def test_finds_nothing_wrong(self, tillgate: CommandLine) -> None:
        assert checks(tillgate) == {}
        shown = tillgate.ok("doctor").out
        assert "WRONG" not in shown
        assert "TILLGATE_WRITE_WAIT\t4.0\tdefault" in shown

    def test_shows_every_setting_with_its_source_and_no_secret(
        self, tillgate: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TILLGATE_SECRET", "hush" * 10)
        monkeypatch.setenv("TILLGATE_QUEUE_URL", "redis://user:sesame@127.0.0.1:1/0")
        # Nobody is at that host, which the doctor says without the password.
        result = tillgate("doctor", "--json")
        shown = {setting["name"]: setting for setting in result.json["settings"]}
        assert set(shown) == {f"TILLGATE_{name.upper()}" for name in Settings.model_fields}
        assert shown["TILLGATE_SECRET"] == {"name": "TILLGATE_SECRET", "value": "********", "source": "environment"}
        assert "hush" not in result.out
        assert "sesame" not in result.out

    @pytest.mark.parametrize(
        ("name", "value", "check"),
        [
            ("TILLGATE_MAX_BODDY", "1 MB", "settings"),
            ("TILLGATE_MAX_BODY", "much", "settings"),
            ("TILLGATE_SECRET", "short", "secret"),
            ("TILLGATE_QUEUE_URL", "redis:///0", "queue"),
            ("TILLGATE_DATABASE_URL", "postgresql://127.0.0.1:1/nothing", "database"),
            ("TILLGATE_DATABASE_URL", "sqlite:////proc/nothing/x.db", "database"),
        ],
    )
    def test_finds_a_setting_that_is_wrong(
        self, tillgate: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str, value: str, check: str
    ) -> None:
        monkeypatch.setenv(name, value)
        assert list(checks(tillgate)) == [check]

    def test_finds_a_database_that_is_not_there_or_not_up(self, tillgate: CommandLine) -> None:
        tillgate.ok("migrate", "--to", "base")
        assert checks(tillgate)["database"]["mend"] == "Run: tillgate migrate"
        (tillgate.folder / "data" / "tillgate.db").unlink()
        assert checks(tillgate)["database"]["mend"] == "Run: tillgate migrate"

    def test_finds_files_that_others_can_read(self, tillgate: CommandLine) -> None:
        tillgate.ok("account", "list")
        (tillgate.folder / "data" / "secret").chmod(0o644)
        (tillgate.folder / "data" / "tillgate.db").chmod(0o644)
        (tillgate.folder / "data").chmod(0o777)
        assert set(checks(tillgate)) == {"secret", "database", "data folder"}

    def test_finds_a_damaged_database(self, tillgate: CommandLine) -> None:
        file = tillgate.folder / "data" / "tillgate.db"
        file.write_bytes(file.read_bytes()[:4096] + b"\xff" * 40_000)
        assert "database" in checks(tillgate)


class TestDemo:
    def test_shows_the_documented_batch_and_its_undo(self, tmp_path: Path) -> None:
        ended = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", PROGRAM, "demo", "--exit"],
            cwd=tmp_path,
            env=_environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        shown = ended.stdout
        assert "Profiles_Data        = \n" in shown
        assert "campaigns_to_include = 898989889|,|13234545|,|34534554\n" in shown
        assert "      <new>2</new>\n      <updated>1</updated>\n" in shown
        assert shown.count('"new": "2"') == 2
        assert "<restored>1</restored>" in shown
        assert "<removed>2</removed>" in shown
        before, _, after = shown.partition("The customers once more")
        assert "555-0100" in before.partition("The documented request")[0]
        assert "555-0100" in after
        assert "jane" not in after
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_stays_up_until_it_is_stopped(self, tmp_path: Path, how: signal.Signals) -> None:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", PROGRAM, "demo"],
            cwd=tmp_path,
            env=_environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        while "api.php  the same" not in (line := process.stdout.readline()):
            assert line, "it ended"
        process.send_signal(how)
        _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (0, "")
        assert list(tmp_path.iterdir()) == []


def _environment(scratch: Path) -> dict[str, str]:
    # What is set for the caller's own installation is not the demo's: with this, nothing could be sent.
    ours = {"TMPDIR": str(scratch), "TILLGATE_MAX_BODY": "9", "PYTHONPATH": str(Path(__file__).parents[3])}
    return {**os.environ, **ours}
