"""The commands that make and change what an account has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

import cli
from crypto import digests
from server.installation import open_context
from settings import load_settings
from storage import tables
from storage.queries import admins
from tests.conftest import Blank
from tests.support.command_line import CommandLine, installation


@pytest.fixture
def tillgate(
    tmp_path: Path, blank_sqlite: Blank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    command = installation(tmp_path, blank_sqlite, capsys, monkeypatch)
    command.ok("account", "create", "greatwidgets", "--name", "Great Widgets Inc.")
    return command


def _every_command() -> list[tuple[str, ...]]:
    context = click.Context(cli.tillgate)
    found: list[tuple[str, ...]] = [()]
    for name in cli.tillgate.list_commands(context):
        command = cli.tillgate.get_command(context, name)
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, part) for part in command.commands]
    return found


class TestAnyCommand:
    @pytest.mark.parametrize("command", _every_command(), ids=" ".join)
    def test_has_help_with_an_example(self, tillgate: CommandLine, command: tuple[str, ...]) -> None:
        shown = tillgate.ok(*command, "--help").out
        assert "Example" in shown
        assert " ".join(("tillgate", *command)) in shown.partition("Example")[2]

    def test_unknown_is_reported_in_one_sentence(self, tillgate: CommandLine) -> None:
        assert tillgate.refused("bogus") == "No such command 'bogus'. See: tillgate --help"
        assert tillgate.refused("account", "list", "--bogus").endswith("See: tillgate account list --help")

    def test_setting_that_cannot_be_used_is_reported(
        self, tillgate: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TILLGATE_MAX_BODY", "much")
        assert tillgate.refused("account", "list") == "TILLGATE_MAX_BODY: use a size such as 128 MB."

    def test_module_runs_as_a_program(self, tmp_path: Path) -> None:
        root = str(Path(cli.__file__).parent)
        program = f"import sys; sys.path.insert(0, {root!r}); from cli import main; main()"
        ended = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", program, "account", "list"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stderr == "There is no account yet.\n"
        files = list((tmp_path / "data").iterdir())
        assert {file.stat().st_mode & 0o077 for file in files} == {0}


class TestAccount:
    def test_is_listed(self, tillgate: CommandLine) -> None:
        [row] = tillgate.ok("account", "list", "--json").json
        assert (row["account_id"], row["name"]) == ("greatwidgets", "Great Widgets Inc.")
        assert row["created_at"].endswith("Z")
        assert tillgate.ok("account", "list").out.startswith("account\tname\tcreated\ngreatwidgets\tGreat")

    def test_exists_once(self, tillgate: CommandLine) -> None:
        assert tillgate.refused("account", "create", "greatwidgets") == "There is an account 'greatwidgets' already."

    @pytest.mark.parametrize("account_id", ["", " a", "a\n", "x" * 256])
    def test_id_is_checked(self, tillgate: CommandLine, account_id: str) -> None:
        assert tillgate.refused("account", "create", account_id).startswith("Invalid account id")


class TestUser:
    def test_key_is_all_of_standard_output_and_works(self, tillgate: CommandLine) -> None:
        key = tillgate.ok("user", "create", "john1970", "--account", "greatwidgets").out.strip()
        assert len(key) == 40
        assert _opens(key)
        assert key not in tillgate.ok("user", "list", "greatwidgets", "--json").out

    def test_key_of_a_terminal_in_the_field_is_kept(self, tillgate: CommandLine) -> None:
        key = "clé & <1> %2B+"
        made = tillgate.ok("user", "create", "john1970", "--account", "greatwidgets", "--key", key, "--json").json
        assert made == {"user_id": "john1970", "account_id": "greatwidgets", "api_key": key, "may_import": True}
        assert _opens(key)

    def test_key_is_stored_as_a_digest_only(self, tillgate: CommandLine) -> None:
        tillgate.ok("user", "create", "john1970", "--account", "greatwidgets", "--key", "a-known-key")
        assert all(b"a-known-key" not in file.read_bytes() for file in (tillgate.folder / "data").iterdir())

    def test_id_is_unique_in_the_installation(self, tillgate: CommandLine) -> None:
        tillgate.ok("account", "create", "other")
        tillgate.ok("user", "create", "john1970", "--account", "greatwidgets")
        assert "already" in tillgate.refused("user", "create", "john1970", "--account", "other")

    def test_account_must_exist(self, tillgate: CommandLine) -> None:
        assert tillgate.refused("user", "create", "j", "--account", "x") == "There is no account 'x'."

    def test_rotation_overlaps(self, tillgate: CommandLine) -> None:
        old = tillgate.ok("user", "create", "john1970", "--account", "greatwidgets").out.strip()
        new = tillgate.ok("user", "rotate", "john1970", "--overlap", "30m").out.strip()
        assert _opens(old)
        assert _opens(new)
        assert tillgate.ok("user", "list", "greatwidgets", "--json").json[0]["old_key_until"].endswith("Z")

    def test_rotation_without_overlap_ends_the_old_key(self, tillgate: CommandLine) -> None:
        old = tillgate.ok("user", "create", "john1970", "--account", "greatwidgets").out.strip()
        tillgate.ok("user", "rotate", "john1970", "--overlap", "0h")
        assert not _opens(old)

    @pytest.mark.parametrize("span", ["24", "h", "1w", "-1h"])
    def test_overlap_is_checked(self, tillgate: CommandLine, span: str) -> None:
        tillgate.ok("user", "create", "john1970", "--account", "greatwidgets")
        assert "30m, 24h or 7d" in tillgate.refused("user", "rotate", "john1970", f"--overlap={span}")

    def test_disabled_is_refused(self, tillgate: CommandLine) -> None:
        key = tillgate.ok("user", "create", "john1970", "--account", "greatwidgets").out.strip()
        tillgate.ok("user", "disable", "john1970")
        assert not _opens(key)
        assert tillgate.refused("user", "disable", "nobody") == "There is no API user 'nobody'."

    def test_may_lack_the_right_to_import(self, tillgate: CommandLine) -> None:
        tillgate.ok("user", "create", "reader", "--account", "greatwidgets", "--no-import")
        assert tillgate.ok("user", "list", "greatwidgets", "--json").json[0]["may_import"] is False


class TestCampaign:
    def test_is_listed_until_and_after_it_is_deactivated(self, tillgate: CommandLine) -> None:
        tillgate.ok("campaign", "create", "greatwidgets", "898989889", "--name", "Summer", "--type", "points")
        tillgate.ok("campaign", "deactivate", "greatwidgets", "898989889")
        [row] = tillgate.ok("campaign", "list", "greatwidgets", "--json").json
        assert (row["id"], row["name"], row["type"], row["active"]) == ("898989889", "Summer", "points", False)

    def test_buyx_has_items(self, tillgate: CommandLine) -> None:
        create = ("campaign", "create", "greatwidgets", "coffee", "--name", "Coffee", "--type", "buyx")
        assert "items" in tillgate.refused(*create)
        tillgate.ok(*create, "--item", "1=Espresso", "--item", "2=Latte = big")
        [row] = tillgate.ok("campaign", "list", "greatwidgets", "--json").json
        assert row["items"] == [{"id": "1", "name": "Espresso"}, {"id": "2", "name": "Latte = big"}]

    @pytest.mark.parametrize(
        ("campaign_id", "options"),
        [("a,b", ()), ("a|b", ()), (" a", ()), ("a", ("--item", "1=x")), ("a", ("--type", "lottery"))],
    )
    def test_is_checked(self, tillgate: CommandLine, campaign_id: str, options: tuple[str, ...]) -> None:
        tillgate.refused("campaign", "create", "greatwidgets", campaign_id, "--name", "A", "--type", "points", *options)

    def test_exists_once_and_only_what_exists_is_deactivated(self, tillgate: CommandLine) -> None:
        create = ("campaign", "create", "greatwidgets", "a", "--name", "A", "--type", "events")
        tillgate.ok(*create)
        assert "already" in tillgate.refused(*create)
        assert tillgate.refused("campaign", "deactivate", "greatwidgets", "b") == "The account has no campaign 'b'."


class TestField:
    def test_is_listed(self, tillgate: CommandLine) -> None:
        create = ("field", "create", "greatwidgets", "custom_field_2", "--label", "Size", "--type", "pick")
        tillgate.ok(*create, "--choice", "Small", "--choice", "Large", "--unique", "--searchable")
        [row] = tillgate.ok("field", "list", "greatwidgets", "--json").json
        assert row.pop("created_at").endswith("Z")
        assert row == {
            "name": "custom_field_2",
            "label": "Size",
            "type": "Pick",
            "choices": ["Small", "Large"],
            "unique": True,
            "searchable": True,
        }

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("custom_field_0", ()),
            ("custom_field_1000", ()),
            ("custom_field_01", ()),
            ("shoe_size", ()),
            ("custom_field_1", ("--type", "Pick")),
            ("custom_field_1", ("--type", "List")),
            ("custom_field_1", ("--choice", "x")),
            ("custom_field_1", ("--type", "List", "--choice", "a,b")),
            ("custom_field_1", ("--type", "Pick", "--choice", 'a"b')),
            ("custom_field_1", ("--type", "Pick", "--choice", "a", "--choice", "A")),
            ("custom_field_1", ("--type", "Number")),
        ],
    )
    def test_is_checked(self, tillgate: CommandLine, name: str, options: tuple[str, ...]) -> None:
        tillgate.refused("field", "create", "greatwidgets", name, "--label", "X", *options)

    def test_exists_once(self, tillgate: CommandLine) -> None:
        create = ("field", "create", "greatwidgets", "custom_field_999", "--label", "X")
        tillgate.ok(*create)
        assert tillgate.refused(*create) == "The account has a custom_field_999 already."


class TestAdmin:
    def test_password_is_read_from_a_line(self, tillgate: CommandLine) -> None:
        tillgate.ok("admin", "create", "Ann@Example.com", "--password-stdin", stdin="correct horse\nnot this\n")
        context = open_context(load_settings())
        with context.database.reading() as connection:
            row = admins.find_admin(connection, "ann@example.com")
        context.database.dispose()
        assert row is not None
        assert (row["role"], row["account_id"]) == ("admin", None)
        assert digests.verify_password("correct horse", row["password_digest"])

    @pytest.mark.parametrize("email", ["ann", "ann@", "a b@c", ""])
    def test_address_is_checked(self, tillgate: CommandLine, email: str) -> None:
        assert tillgate.refused("admin", "create", email, "--password-stdin", stdin="x\n").startswith("Invalid e-mail")

    def test_is_refused_without_a_password_or_twice(self, tillgate: CommandLine) -> None:
        create = ("admin", "create", "a@b", "--account", "greatwidgets", "--password-stdin")
        assert tillgate.refused(*create) == "The password is empty."
        tillgate.ok(*create, stdin="x\n")
        assert "already" in tillgate.refused(*create, stdin="x\n")


def test_every_change_is_in_the_audit(tillgate: CommandLine) -> None:
    tillgate.ok("user", "create", "john1970", "--account", "greatwidgets")
    tillgate.ok("user", "rotate", "john1970")
    tillgate.ok("user", "disable", "john1970")
    tillgate.ok("campaign", "create", "greatwidgets", "a", "--name", "A", "--type", "points")
    tillgate.ok("campaign", "deactivate", "greatwidgets", "a")
    tillgate.ok("field", "create", "greatwidgets", "custom_field_1", "--label", "X")
    tillgate.ok("admin", "create", "a@b", "--password-stdin", stdin="x\n")
    context = open_context(load_settings())
    with context.database.reading() as connection:
        rows = connection.execute(tables.audit.select().order_by(tables.audit.c.id)).mappings().all()
    context.database.dispose()
    assert {row["actor"] for row in rows} == {"cli"}
    assert [(row["action"], row["subject"]) for row in rows] == [
        ("account create", "greatwidgets"),
        ("user create", "john1970"),
        ("user rotate", "john1970"),
        ("user disable", "john1970"),
        ("campaign create", "a"),
        ("campaign deactivate", "a"),
        ("field create", "custom_field_1"),
        ("admin create", "a@b"),
    ]


def _opens(key: str) -> bool:
    from auth.authenticate import authenticate
    from importing.errors import ApiError

    context = open_context(load_settings())
    try:
        return authenticate(context, "john1970", key, "greatwidgets", "192.0.2.1").public_id == "greatwidgets"
    except ApiError:
        return False
    finally:
        context.database.dispose()
