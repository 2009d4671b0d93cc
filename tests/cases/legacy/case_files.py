r"""The cases of fixtures/legacy: folders that a person can read. Their README says how they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "fixtures" / "legacy"
SCHEMA = FOLDER / "reply.xsd"
INDENT = "    "
LATER = "..."

Fields = tuple[tuple[bytes, bytes], ...]

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_PLAIN = {b"t": b"\t", b"r": b"\r", b"n": b"\n", b"s": b" ", b"\\": b"\\"}


class MissingReply(AssertionError):
    """A case has no file for a reply. Only this case fails."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, as bytes, in order; and HTTP headers besides. `later`: when the jobs that wait are done."""

    fields: Fields
    headers: dict[str, str] = field(default_factory=dict)
    later: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a case, and the files of the replies that it must get."""

    request: str
    xml_file: Path
    json_file: Path

    @property
    def xml(self) -> str:
        """The text of the file. Raises MissingReply."""
        return _read_reply(self.xml_file)

    @property
    def json(self) -> Any:
        """The tree in the file. Raises MissingReply."""
        return json.loads(_read_reply(self.json_file))


@dataclass(frozen=True, slots=True)
class Case:
    """A folder of fixtures/legacy. Customers are as `tillgate customers --json` shows them, without what is blank."""

    name: str
    before: list[dict[str, Any]]
    steps: tuple[Step, ...]
    after: list[dict[str, Any]]


def cases() -> list[Case]:
    """All cases, by name."""
    return [read_case(folder) for folder in sorted(FOLDER.iterdir()) if folder.is_dir()]


def read_request(text: str) -> Request:
    """A request file with the usual fields in front."""
    usual = dict(_lines(FOLDER / "usual.txt"))
    own = list(_parsed(text))
    removed = {name for name, value in own if value is None}
    named = {name for name, _ in own}
    fields = [(name, value) for name, value in usual.items() if name not in named | removed]
    fields += [(name, value) for name, value in own if value is not None and not name.startswith("@")]
    headers = {name[1:]: value for name, value in own if value is not None and name.startswith("@")}
    sent = ((n, v) for name, value in fields if value is not None for n, v in _expanded(name, value))
    return Request(tuple((_bytes(name), _bytes(value)) for name, value in sent), headers, LATER in text.split("\n"))


def read_case(folder: Path) -> Case:
    """The case in a folder."""
    names = sorted(path.stem.removeprefix("request") for path in folder.glob("request*.txt"))
    before = _json(folder / "before.json", [])
    return Case(folder.name, before, tuple(_step(folder, name) for name in names), _json(folder / "after.json", before))


def _step(folder: Path, name: str) -> Step:
    request = (folder / f"request{name}.txt").read_text(encoding="utf-8")
    return Step(request, folder / f"reply{name}.xml", folder / f"reply{name}.json")


def _read_reply(file: Path) -> str:
    if not file.exists():
        name = file.parent.name
        raise MissingReply(f"{name}/{file.name} is missing; to write it: python -m tests.cases generate {name}")
    return file.read_text(encoding="utf-8")


def _json(path: Path, absent: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else absent


def _lines(path: Path) -> Iterator[tuple[str, str | None]]:
    return _parsed(path.read_text(encoding="utf-8"))


def _parsed(text: str) -> Iterator[tuple[str, str | None]]:
    lines = text.split("\n")
    while lines:
        line = lines.pop(0)
        if not line.strip() or line.startswith("#") or line == LATER:
            continue
        if line.startswith("!"):
            yield line[1:], None
        elif line.endswith(":") and "=" not in line:
            block = []
            while lines and (lines[0].startswith(INDENT) or (not lines[0] and any(map(str.strip, lines)))):
                block.append(lines.pop(0).removeprefix(INDENT))
            yield line[:-1], "".join(f"{row}\n" for row in block)
        else:
            name, equals, value = line.partition("=")
            assert equals, f"neither a field nor a block: {line!r}"
            yield name, value


def _expanded(name: str, value: str) -> Iterator[tuple[str, str]]:
    if name == "profiles_header_*":
        yield from ((f"profiles_header_{number}", header) for number, header in enumerate(value.split(), 1))
    else:
        yield name, value


def _bytes(text: str) -> bytes:
    def character(found: re.Match[bytes]) -> bytes:
        if found[1]:
            return bytes.fromhex(found[1].decode())
        return chr(int(found[2], 16)).encode() if found[2] else _PLAIN[found[3]]

    return _ESCAPE.sub(character, text.encode())
