"""The tables of mutants fit the code: every text that a mutant changes, every test and every file exists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.mutants.__main__ import CHECKOUT, load_table

MUTANTS = load_table("statements.toml")["mutant"]
GROUPS = load_table("groups.toml")["group"]
CASES = CHECKOUT / "fixtures" / "legacy"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant['file']}-{mutant['old'][:30]}")
def test_a_mutant_changes_one_place_and_names_a_test(mutant: dict[str, str]) -> None:
    path = CHECKOUT / mutant["file"]
    assert path.is_file(), f"{path} does not exist"
    occurrences = path.read_text(encoding="utf-8").count(mutant["old"])
    assert occurrences == 1, f"{mutant['file']} must hold this text once, not {occurrences} times: {mutant['old']!r}"
    assert mutant["old"] != mutant["new"], f"this mutant changes nothing: {mutant['old']!r}"
    if "case" in mutant:
        assert (CASES / mutant["case"]).is_dir(), f"fixtures/legacy has no case {mutant['case']}"
    else:
        assert mutant["test"] in names_of_tests(mutant["test"].split("::")[0]), f"no such test: {mutant['test']}"


def test_no_mutant_is_listed_twice() -> None:
    keys = [(mutant["file"], mutant["old"], mutant["new"]) for mutant in MUTANTS]
    assert [key for key in keys if keys.count(key) > 1] == []


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group["name"])
def test_a_group_names_files_that_exist(group: dict[str, Any]) -> None:
    missing = [path for path in (*group["modules"], *group["tests"]) if not (CHECKOUT / path).exists()]
    assert missing == [], f"tests/mutants/groups.toml: group {group['name']} names files that do not exist"


@cache
def names_of_tests(file: str) -> frozenset[str]:
    """A file of tests and all tests in it, as pytest names them, without parameters."""
    path = CHECKOUT / file
    if not path.is_file():
        return frozenset()
    return frozenset({file, *_functions(file, ast.parse(path.read_text(encoding="utf-8")).body)})


def _functions(prefix: str, statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.ClassDef):
            yield from _functions(f"{prefix}::{statement.name}", statement.body)
        elif isinstance(statement, ast.FunctionDef):
            yield f"{prefix}::{statement.name}"
