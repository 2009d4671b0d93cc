"""The documents as the tests read them: their fenced blocks, and a shell that runs their examples."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cli
from tests.support.gateway_process import PROGRAM

HOUSE = Path(cli.__file__).parent
# Where the documents say that the server is.
ADDRESS = "http://127.0.0.1:8080"
PATIENCE = 120.0

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What no two runs have in common, each as it is written in an example and in a reply.
_MADE_UP = (
    (re.compile(r"\b[0-9a-f]{20}\b"), "<batch>"),
    (re.compile(r"\b[1-9][0-9]{15}\b"), "<code>"),
    (re.compile(r"(?<=<card_number>)[1-9][0-9]{9}\b"), "<card>"),
    (re.compile(r"\b[0-9]+\.[0-9]{3}\b"), "<seconds>"),
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\b"), "<stamp>"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """A block of commands, and what it prints where the document shows that."""

    commands: str
    printed: str | None


def documents() -> list[Path]:
    """All documents of the project."""
    return [*sorted(HOUSE.glob("*.md")), *sorted((HOUSE / "docs").glob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    return [Block(match[1], match[2]) for match in _BLOCK.finditer(path.read_text(encoding="utf-8"))]


def examples(path: Path) -> Iterator[Example]:
    """The blocks of commands of a document, each with the block of output that follows it."""
    found = blocks(path)
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.language == "sh":
            shows = following is not None and following.language in ("xml", "json", "js", "text")
            yield Example(block.text, following.text if shows and following else None)


def comparable(text: str) -> str:
    """A reply, or what a document shows of one, without what no two runs have in common."""
    for pattern, name in _MADE_UP:
        text = pattern.sub(name, text)
    return text.strip()


@dataclass(frozen=True, slots=True)
class Shell:
    """A shell in a folder where `tillgate`, `.venv/bin/tillgate` and `make` are there, as after `make setup`."""

    folder: Path

    @classmethod
    def prepared(cls, folder: Path) -> Shell:
        """The folder as a checkout in which `make setup` has been run. `tillgate serve` takes a free port."""
        command = folder / ".venv" / "bin" / "tillgate"
        command.parent.mkdir(parents=True)
        program = shlex.join([sys.executable, "-P", "-c", PROGRAM])
        command.write_text(f'#!/bin/sh\n[ "$1" != serve ] || set -- "$@" --port 0\nexec {program} "$@"\n')
        command.chmod(0o700)
        for name in ("Makefile", "requirements.lock"):
            (folder / name).symlink_to(HOUSE / name)
        (folder / ".venv" / "setup.stamp").touch()
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """With the command in the path, and the checkout in the interpreter's."""
        path = f"{self.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(HOUSE)}

    def run(self, blocks: Sequence[str], url: str = ADDRESS) -> list[str]:
        """Run blocks of commands in one shell against a server; what each prints on standard output."""
        script = "\n".join(f"{block}\nprintf '\\0'" for block in blocks).replace(ADDRESS, url)
        done = subprocess.run(  # noqa: S603
            ["/bin/sh", "-e", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split("\0")[:-1]
