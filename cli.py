"""The `tillgate` command: the commands of the package `commands`, and one sentence for each of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

# Command -> the module and the name in it, and its sentence in the list of commands. A module is loaded when its command
# is used, so that `tillgate --help` does not load all of them.
COMMANDS = {
    "demo": ("demo:demo", "Show everything at once, over HTTP, in a scratch folder."),
    "serve": ("server:serve", "Serve the protocols over HTTP, and work on jobs, until SIGTERM."),
    "worker": ("server:worker", "Work on jobs until SIGTERM, beside `tillgate serve` or on other hosts."),
    "migrate": ("server:migrate", "Bring the database up to this release, or to a revision."),
    "doctor": ("doctor:doctor", "Check this installation, and say what to mend."),
    "account": ("accounts:account", "Accounts, which share nothing with each other."),
    "user": ("users:user", "API users: who may send batches."),
    "campaign": ("campaigns:campaign", "Campaigns: what customers are enrolled in."),
    "field": ("campaigns:field", "Custom fields, beside the standard ones."),
    "admin": ("users:admin", "Administrators: who may use the console."),
    "webhook": ("webhooks:webhook", "Webhooks: URLs of an account that are told of finished batches."),
    "import": ("imports:import_", "Import a file of customers."),
    "batches": ("batches:batches", "List the batches of an account, the newest first."),
    "batch": ("batches:batch", "Show a batch with its problems, or an undo with its conflicts."),
    "undo": ("batches:undo", "Take a batch back."),
    "cancel": ("jobs:cancel", "End a batch that is queued or running."),
    "resume": (
        "jobs:resume",
        "Go on with a batch that was cancelled, or that failed for a reason from outside, where it stood.",
    ),
    "failed": (
        "jobs:failed",
        "Write the failed rows of a batch as CSV, with what is wrong in front, to be mended and imported again.",
    ),
    "customers": ("customers:customers", "List the customers of an account, or one of them."),
    "export": ("customers:export", "Write all customers of an account to standard output."),
}


class Commands(click.Group):
    """The commands, in the order of their table."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is the library's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(f"commands.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, as click writes it, from their sentences in the table."""
        width = formatter.width - 6 - max(map(len, COMMANDS))
        commands = [click.Command(name, help=sentence) for name, (_, sentence) in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl([(str(command.name), command.get_short_help_str(width)) for command in commands])


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
    except click.Abort:
        return _failed("Interrupted.", 130)
    except BrokenPipeError:
        # The reader of the output has closed the pipe: nothing may be flushed into it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _failed(f"{error.filename or 'The system'}: {error.strerror or error}.")
    except Exception as error:  # the command's error boundary
        # Imported where it is used: the classes of these errors come with large libraries.
        from commands.failures import sentence_of

        sentence = sentence_of(error)
        if sentence is None:
            raise
        return _failed(sentence)


def _failed(sentence: str, status: int = 1) -> int:
    click.echo(sentence, err=True)
    return status


if __name__ == "__main__":
    main()
