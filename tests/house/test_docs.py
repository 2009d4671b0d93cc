"""The documents are true: tables are what the code says, names exist, links lead somewhere, examples do what they show."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from cli import COMMANDS
from docs import generate, modern_tables
from importing.account_settings import KIND_OF_TYPE
from importing.errors import API_ERRORS, PROBLEMS, WARNINGS
from importing.fields import STANDARD_FIELDS
from legacy_api.calls import CALLS
from legacy_api.parameters import BatchParameters
from legacy_api.request_digest import DIGESTED_FIELDS, UNDIGESTED_FIELDS
from settings import PREFIX, Settings
from tests.support.documents import HOUSE, Shell, comparable, documents, examples
from tests.support.gateway_process import serving

DOCS = HOUSE / "docs"
PROTOCOL, OPERATIONS, DEPENDENCIES = (DOCS / f"{name}.md" for name in ("protocol", "operations", "dependencies"))
MODERN = DOCS / "modern_protocols.md"
FIXTURES = HOUSE / "fixtures" / "legacy"


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def table(path: Path, name: str) -> str:
    """The generated table of a document."""
    [found] = [match[0] for match in generate.MARKED.finditer(text_of(path)) if match[2] == name]
    return found


# Tables


@pytest.mark.parametrize("path", generate.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_up_to_date(path: Path) -> None:
    assert text_of(path) == generate.rendered(text_of(path)), "run: python -m docs.generate"


def test_every_table_stands_in_one_document() -> None:
    found = [match[2] for path in documents() for match in generate.MARKED.finditer(text_of(path))]
    assert sorted(found) == sorted(generate.TABLES)


@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        (PROTOCOL, "fields", [field.name for field in STANDARD_FIELDS]),
        (PROTOCOL, "calls", CALLS),
        (PROTOCOL, "faults", API_ERRORS),
        (PROTOCOL, "problems", PROBLEMS),
        (PROTOCOL, "warnings", WARNINGS),
        (OPERATIONS, "settings", [PREFIX + name.upper() for name in Settings.model_fields]),
    ],
)
def test_everything_is_in_its_table(path: Path, name: str, expected: Any) -> None:
    rows = table(path, name)
    assert [entry for entry in expected if f"| `{entry}` |" not in rows] == []


def test_every_custom_field_type_is_in_its_table() -> None:
    assert [name for name in KIND_OF_TYPE if f"| {name} |" not in table(PROTOCOL, "custom fields")] == []


def test_every_command_is_in_its_table() -> None:
    rows = table(OPERATIONS, "commands")
    assert [name for name in COMMANDS if f"| `tillgate {name}" not in rows] == []
    assert all(command.get_short_help_str() for _, command in generate.commands())


def test_every_parameter_is_described() -> None:
    entries = generate.parameters()
    names = [entry["name"].lower() for entry in entries]
    assert sorted(names) == sorted(DIGESTED_FIELDS | UNDIGESTED_FIELDS | {"profiles_header_n", "profiles_data"})
    assert all(entry["meaning"] for entry in entries if entry["call"] != "later")


def test_parameters_of_a_batch_are_in_the_order_in_which_they_are_judged() -> None:
    judged = [field.data_key or name for name, field in BatchParameters._declared_fields.items()]
    listed = [entry["name"] for entry in generate.parameters() if entry["call"] == "customers_batch"]
    assert listed == [*judged, "profiles_header_N", "profiles_data"]


# Decisions


def test_every_decision_is_shown_by_something_that_exists() -> None:
    defined = {
        name
        for path in (HOUSE / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", text_of(path), re.MULTILINE)
    }
    cases = {path.name for path in FIXTURES.iterdir() if path.is_dir()}
    cases |= {f"{path.parent.name}/{path.name}" for path in FIXTURES.parent.glob("*/*") if path.is_dir()}
    missing = {d.id: name for d in generate.decisions() for name in d.shown_by if name not in defined | cases}
    assert missing == {}


def test_decisions_are_complete() -> None:
    found = generate.decisions()
    assert len({decision.id for decision in found}) == len(found)
    assert {decision.section for decision in found} == {*generate.SECTIONS, *modern_tables.SECTIONS}
    for decision in found:
        assert decision.decision, decision.id
        assert decision.why, decision.id
        assert decision.shown_by, decision.id


def test_every_decision_is_in_its_table() -> None:
    rows = table(PROTOCOL, "decisions") + table(MODERN, "decisions about the modern protocols")
    assert [d.id for d in generate.decisions() if f'<a id="{d.id}"></a>' not in rows] == []


# Dependencies


def test_every_direct_dependency_has_its_reason() -> None:
    project = tomllib.loads(text_of(HOUSE / "pyproject.toml"))["project"]
    _, to_run, to_test, _ = text_of(DEPENDENCIES).split("\n## ")
    for part, named in ((to_run, project["dependencies"]), (to_test, project["optional-dependencies"]["dev"])):
        reasons = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", part, re.MULTILINE))
        assert sorted(reasons) == sorted(re.split("[<>=]", name)[0] for name in named)
        assert all(reasons.values())


# Names and links


def links(path: Path) -> Iterator[str]:
    """Where a document's links lead, inside the project."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if "://" not in target:
            yield target


def anchors(path: Path) -> set[str]:
    """What a link can lead to in a document."""
    text = text_of(path)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# contributing.md shows how to add a command and a setting that are not there.
@pytest.mark.parametrize("path", [p for p in documents() if p.name != "contributing.md"], ids=lambda path: path.name)
def test_commands_and_targets_that_are_named_exist(path: Path) -> None:
    text = text_of(path)
    paths = {name for name, _ in generate.commands()} | {f"tillgate {name}" for name in COMMANDS}
    for words in re.findall(r"`tillgate ([a-z]+)\b", text):
        assert f"tillgate {words}" in paths
    targets = set(re.findall(r"^([a-z-]+):", text_of(HOUSE / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= targets
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", text)) <= known


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", text_of(path))
    packages = {file.name for file in HOUSE.glob("*/**/*.py")} | {file.name for file in HOUSE.glob("*.py")}
    exists = (
        name.startswith("gunicorn/") or ((HOUSE / name).exists() if "/" in name else name in packages) for name in named
    )
    assert [name for name, is_there in zip(named, exists, strict=True) if not is_there] == []


def test_the_picture_names_what_exists() -> None:
    root = etree.parse(DOCS / "architecture.svg").getroot()
    words = [word for text in root.iter("{*}text") for word in (text.text or "").split()]
    files = {file.name for file in HOUSE.glob("*.py")}
    files |= {file.name for folder in ("legacy_api", "importing", "storage") for file in (HOUSE / folder).rglob("*.py")}
    assert {word for word in words if word.endswith(".py")} <= files
    assert {"legacy_api", "importing", "storage"} <= set(words)


# Examples


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_of_the_protocol_do_what_they_show(tmp_path: Path) -> None:
    found = list(examples(PROTOCOL))
    assert len(found) >= 8
    shell = Shell.prepared(tmp_path)
    with serving(tmp_path, "--workers", "1") as server:
        printed = shell.run([example.commands for example in found], server.url)
    for example, output in zip(found, printed, strict=True):
        if example.printed is not None:
            assert comparable(output) == comparable(example.printed), example.commands
