"""Every modern protocol is documented, shown by cases and tried by a client: a new one learns here what it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

import modern_api
from modern_api.routes import ModernProtocol
from tests.support.documents import HOUSE

GUIDE = HOUSE / "docs" / "modern_protocols.md"
TESTS = HOUSE / "tests" / "processes"
FIXTURES = HOUSE / "fixtures"


def lacks(protocol: ModernProtocol) -> Iterator[str]:
    """What is missing of a protocol, in words."""
    guide = GUIDE.read_text(encoding="utf-8")
    if f"<!-- table: {protocol.name} refusals -->" not in guide:
        yield f"the table '{protocol.name} refusals' in {GUIDE.name}"
    documented = {_without_names(path) for path in re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`?]*)", guide)}
    for route in protocol.routes:
        served = f"{route.method} {protocol.prefixes[0]}{route.path}"
        if _without_names(served) not in documented:
            yield f"its route `{served}` in {GUIDE.name}"
    if any(route.imports for route in protocol.routes) and not list((FIXTURES / protocol.name).glob("*/")):
        yield f"a folder of cases, fixtures/{protocol.name}"
    if protocol.name not in clients():
        yield f'a client test in tests/{TESTS.name}, marked @pytest.mark.client_of("{protocol.name}")'


def clients() -> set[str]:
    """The protocols that have a client test."""
    marks = (
        mark
        for path in TESTS.rglob("test_*.py")
        for mark in re.findall(r"^@pytest\.mark\.client_of\((.*)\)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    )
    return {name for mark in marks for name in re.findall(r'"(\w+)"', mark)}


def _without_names(path: str) -> str:
    return re.sub(r"[{<][^}>]*[}>]", "{}", path)


@pytest.mark.parametrize("protocol", modern_api.PROTOCOLS, ids=lambda protocol: protocol.name)
def test_a_protocol_is_documented_and_tried(protocol: ModernProtocol) -> None:
    missing = list(lacks(protocol))
    assert not missing, f"the protocol {protocol.name} lacks " + "; ".join(missing)


def test_what_a_new_protocol_lacks_is_said_by_name() -> None:
    [solivio] = (protocol for protocol in modern_api.PROTOCOLS if protocol.name == "solivio")
    route = replace(solivio.routes[0], path="/newcomer/<id>")
    assert list(lacks(replace(solivio, name="newcomer", routes=(route,)))) == [
        "the table 'newcomer refusals' in modern_protocols.md",
        "its route `POST /newcomer/<id>` in modern_protocols.md",
        "a folder of cases, fixtures/newcomer",
        'a client test in tests/processes, marked @pytest.mark.client_of("newcomer")',
    ]
