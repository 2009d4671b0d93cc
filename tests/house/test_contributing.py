"""The diffs of contributing.md apply to the tree as it is."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from docs import generate
from tests.support.documents import HOUSE, Block, blocks

PAGE = HOUSE / "docs" / "contributing.md"
DIFFS = [block for block in blocks(PAGE) if block.language == "diff"]


def first_file(block: Block) -> str:
    names: list[str] = re.findall(r"^\+\+\+ b/(.+)$", block.text, re.MULTILINE)
    return names[0]


def test_there_is_a_diff_in_every_section() -> None:
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    assert [section.count("```diff") for section in sections] == [1] * 5


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("block", DIFFS, ids=first_file)
def test_a_diff_applies(block: Block, tmp_path: Path) -> None:
    # In a folder outside of any repository, because in one git leaves out what lies elsewhere.
    for name in re.findall(r"^--- a/(.+)$", block.text, re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOUSE / name, tmp_path / name)
    for name in re.findall(r"^--- /dev/null\n\+\+\+ b/(.+)$", block.text, re.MULTILINE):
        assert not (HOUSE / name).exists(), f"{name} is there already: the page needs another example"
    done = subprocess.run(
        ["git", "apply", "--check", "-"],  # noqa: S607
        cwd=tmp_path,
        env={"GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        input=block.text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"the diff no longer applies to the tree; make it anew:\n{done.stderr}"


@pytest.mark.parametrize("block", DIFFS, ids=first_file)
def test_what_a_diff_imports_exists(block: Block) -> None:
    imports = re.findall(r"^\+from ((?!legacy_api\.calls)[\w.]+) import (\w+(?:, \w+)*)$", block.text, re.MULTILINE)
    for module, names in imports:
        for name in names.split(", "):
            assert hasattr(import_module(module), name) or name == "crm", f"{module} has no {name}"


def test_the_migration_follows_the_newest_one() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == generate.renumbered(text), "run: python -m docs.generate"
