"""`python -m tests.cases generate`, and what a case without a reply's file says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from webtest import TestApp  # type: ignore[import-untyped]

from tests.cases.__main__ import generate
from tests.cases.legacy.case_files import FOLDER, MissingReply, read_case
from tests.cases.legacy.placeholders import Placeholders
from tests.cases.replay import replay
from tests.cases.reply_digests import opened_world
from tests.support.case_database import World
from tests.support.legacy_client import Encoding, Format, canonical_xml


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[World, TestApp]]:
    with opened_world() as world_and_client:
        yield world_and_client


def comparable(file: Path) -> str:
    """The text of a case's file, without the blanks that mean nothing."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".xml":
        return canonical_xml(text)
    return json.dumps(json.loads(text), indent=1, sort_keys=file.stem == "after") if file.suffix == ".json" else text


@pytest.mark.parametrize(
    "name", ["created-with-a-card-made", "match-by-card-replaces-the-code", "status-of-an-undone-batch-and-of-its-undo"]
)
def test_the_files_of_a_case_are_written_from_its_requests(
    stage: tuple[World, TestApp], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    shutil.copytree(FOLDER / name, folder)
    assert list(generate(*stage, folder)) == []
    for file in folder.glob("*"):
        if file.name.startswith(("reply", "after")):
            file.unlink()
    changes = "".join(generate(*stage, folder))
    for file in (FOLDER / name).iterdir():
        assert comparable(folder / file.name) == comparable(file)
    assert changes.startswith("--- /dev/null\n+++ ")


def test_only_what_has_changed_is_shown(stage: tuple[World, TestApp], tmp_path: Path) -> None:
    folder = tmp_path / "created-with-a-card-made"
    shutil.copytree(FOLDER / folder.name, folder)
    xml = folder / "reply.xml"
    xml.write_text(xml.read_text().replace("<new>4</new>", "<new>5</new>"))
    lines = [line.strip() for line in generate(*stage, folder)]
    assert [line for line in lines if line.startswith(("-", "+"))] == [
        f"--- {folder.name}/reply.xml",
        f"+++ {folder.name}/reply.xml",
        "-      <new>5</new>",
        "+      <new>4</new>",
    ]


def test_a_missing_reply_is_named(stage: tuple[World, TestApp], tmp_path: Path) -> None:
    folder = tmp_path / "a-new-case"
    shutil.copytree(FOLDER / "reply-with-details", folder)
    (folder / "reply.json").unlink()
    message = "a-new-case/reply.json is missing; to write it: python -m tests.cases generate a-new-case"
    with pytest.raises(MissingReply, match=message):
        list(replay(*stage, read_case(folder), Encoding.URLENCODED, Format.JSON, Placeholders()))
