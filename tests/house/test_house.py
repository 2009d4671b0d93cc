"""The house is in order: style, types and floors. What DESIGN calls rules is run here, so that none is only a wish."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

HOUSE = Path(__file__).parents[2]
CODE = (
    "auth",
    "commands",
    "crypto",
    "importing",
    "legacy_api",
    "modern_api",
    "server",
    "storage",
    "transport",
    "webhooks",
)
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}

LONGEST_FUNCTION = 60


def settings() -> dict[str, Any]:
    with (HOUSE / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def sources() -> list[Path]:
    """The program's own source files; tests, migrations and benchmarks apart."""
    files = [path for folder in CODE for path in sorted((HOUSE / folder).rglob("*.py"))]
    return [*sorted(HOUSE.glob("*.py")), *(path for path in files if "versions" not in path.parts)]


def run(*arguments: str) -> None:
    """Run a tool of the interpreter's own environment. Fails with all that it said."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", *arguments], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", "--no-cache", ".")


def test_mypy_strict_finds_nothing() -> None:
    # Without a cache: an old one knows modules that are gone, and not those that are new.
    run("mypy", f"--cache-dir={os.devnull}")


def test_imports_only_point_down() -> None:
    # import-linter has no `-m`.
    run_linter = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", run_linter, "--no-cache"], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_modules_are_packaged() -> None:
    # What is not listed is missing from a wheel, and only there.
    listed = settings()["tool"]["setuptools"]
    assert sorted(listed["py-modules"]) == sorted(path.stem for path in HOUSE.glob("*.py"))
    found = {path.parent.relative_to(HOUSE) for folder in CODE for path in (HOUSE / folder).rglob("*.py")}
    assert sorted(listed["packages"]) == sorted(str(path).replace("/", ".") for path in found)


def test_types_are_checked_everywhere() -> None:
    checked = set(settings()["tool"]["mypy"]["files"])
    assert {*CODE, "tests", *(path.name for path in HOUSE.glob("*.py"))} <= checked


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_file_is_one_thought(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.stem not in VAGUE
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a file says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno
            assert length < LONGEST_FUNCTION, f"{node.name} does not fit a screen"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_whoever_catches_all_exceptions_raises_again_or_says_why(path: Path) -> None:
    handlers = re.findall(r"except (?:Exception|BaseException)\b.*|except:.*", path.read_text(encoding="utf-8"))
    assert all("  # " in handler for handler in handlers) or _raises_again(path), handlers


def _raises_again(path: Path) -> bool:
    """Whether every handler of all exceptions ends by raising: that catches nothing, it only looks."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name):
            everything = node.type.id in ("Exception", "BaseException")
            if everything and not isinstance(node.body[-1], ast.Raise):
                return False
    return True
