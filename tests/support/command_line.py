"""Runs the `tillgate` command in the tests' own process, in a folder of its own."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cli
from tests.conftest import Blank


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """An installation in `folder`, with an empty SQLite database that is up to date."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def __call__(self, *arguments: str, stdin: str = "") -> Result:
        """Run a command, whatever comes of it."""
        self.capture.readouterr()
        self.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = cli.run(arguments)
        return Result(status, *self.capture.readouterr())

    def ok(self, *arguments: str, stdin: str = "") -> Result:
        """Run a command that must succeed."""
        result = self(*arguments, stdin=stdin)
        assert result.status == 0, result
        return result

    def refused(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must fail: nothing on standard output, one line on standard error, which is returned."""
        result = self(*arguments, stdin=stdin)
        assert result.status != 0, result
        assert result.out == ""
        assert result.err.endswith("\n")
        assert result.err.count("\n") == 1, result
        return result.err.strip()


def installation(
    folder: Path, blank: Blank, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> CommandLine:
    """A fresh installation, which is the current folder from now on."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    blank(data).dispose()
    (data / "tillgate.db").chmod(0o600)
    patch.chdir(folder)
    return CommandLine(folder, capture, patch)
