"""A command loads what it uses: the modules of a start are held here, for they are nearly all of its time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

import cli
from storage import migrate
from tests.conftest import Blank
from tests.support.command_line import CommandLine, installation

ROOT = Path(cli.__file__).parent
PROGRAM = """
import sys
before = set(sys.modules)
import cli
status = cli.run(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}), file=sys.stderr)
sys.exit(status)
"""
# What `account list` needs of other people's libraries: arguments, settings, the database.
NEEDED_BY_LIST = {"click", "dotenv", "pydantic", "pydantic_settings", "sqlalchemy"}
# What it must not load: each is at least a twentieth of its time.
HEAVY = {"alembic", "argon2", "flask", "gunicorn", "huey", "limits", "lxml", "marshmallow", "psycopg", "redis", "rich"}


@pytest.fixture
def tillgate(
    tmp_path: Path, blank_sqlite: Blank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    return installation(tmp_path, blank_sqlite, capsys, monkeypatch)


def loaded_by(*arguments: str) -> set[str]:
    """The packages and top modules that a command loads, the standard library's apart."""
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM, *arguments],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ended.stderr.split()) - sys.stdlib_module_names


def test_help_loads_no_command() -> None:
    assert loaded_by("--help") == {"cli", "click"}


def test_list_of_commands_says_what_the_commands_say() -> None:
    context = click.Context(cli.tillgate)
    for name, (_, sentence) in cli.COMMANDS.items():
        command = cli.tillgate.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(1000) == click.Command(name, help=sentence).get_short_help_str(1000)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["lines", "json"])
def test_account_list_loads_settings_and_store_only(tillgate: CommandLine, form: tuple[str, ...]) -> None:
    tillgate.ok("account", "create", "greatwidgets")
    loaded = loaded_by("account", "list", *form)
    assert loaded >= NEEDED_BY_LIST
    assert not loaded & HEAVY
    assert not loaded & {"app", "legacy_api", "modern_api", "transport"}


def test_newest_revision_is_alembics_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert migrate.newest_revision() == ScriptDirectory.from_config(config).get_current_head()
