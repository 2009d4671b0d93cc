"""The `tillgate` command: its parts, which are in `commands`, put together, and their errors told in a sentence."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from importlib import import_module

import click
import psycopg
import sqlalchemy.exc

from importing.errors import ApiError
from settings import BadSettings
from storage.engine import Busy

# Command -> the module and the name in it. Loaded when used, so that none waits for what it does not need.
COMMANDS = {
    "demo": "demo:demo",
    "serve": "server:serve",
    "worker": "server:worker",
    "migrate": "server:migrate",
    "doctor": "doctor:doctor",
    "account": "accounts:account",
    "user": "users:user",
    "campaign": "campaigns:campaign",
    "field": "campaigns:field",
    "admin": "users:admin",
    "webhook": "webhooks:webhook",
    "import": "imports:import_",
    "batches": "batches:batches",
    "batch": "batches:batch",
    "undo": "batches:undo",
    "cancel": "jobs:cancel",
    "resume": "jobs:resume",
    "failed": "jobs:failed",
    "customers": "customers:customers",
    "export": "customers:export",
}


class Commands(click.Group):
    """The commands, in the order of their table."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is the library's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"commands.{module}"), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option("0.1.0", prog_name="tillgate")
def tillgate() -> None:
    """A gateway for customer imports: previewed, followed, undone and explained.

    \b
    Examples:
      tillgate demo
      tillgate serve
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry of the command line: runs a command and ends the process, with status 0 only on success."""
    # Databases, spooled files and copies of files hold personal data: they are for their owner only.
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. Errors are one plain sentence on standard error."""
    try:
        result = tillgate.main(arguments, prog_name="tillgate", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        return _failed(error.format_message(), 2)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "tillgate"
        return _failed(f"{error.format_message()} See: {where} --help", 2)
    except click.ClickException as error:
        return _failed(error.format_message())
    except ApiError as fault:
        return _failed(fault.message)
    except BadSettings as error:
        return _failed(str(error))
    except click.Abort:
        return _failed("Interrupted.", 130)
    except BrokenPipeError:
        # Who read the output has enough. Nothing is left to be flushed into a closed pipe at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _failed(f"{error.filename or 'The system'}: {error.strerror or error}.")
    except Busy:
        return _failed("The database is busy with another import; nothing was changed.")
    except sqlalchemy.exc.DBAPIError as error:
        return _failed(f"The database cannot be used: {_first_line(error.orig)}.")
    except (sqlite3.Error, psycopg.Error) as error:
        return _failed(f"The database cannot be used: {_first_line(error)}.")


def _failed(sentence: str, status: int = 1) -> int:
    click.echo(sentence, err=True)
    return status


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


if __name__ == "__main__":
    main()
