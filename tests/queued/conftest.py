"""A store whose jobs are worked on by hand, in small portions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from importing import portions
from importing.core import Core
from tests.jobs import HeldQueue


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions of about 3,000 rows, so that a job of some thousand has several."""
    monkeypatch.setattr(portions, "FIRST_ROWS", 2_000)
    monkeypatch.setattr(portions, "MOST_ROWS", 3_000)
    monkeypatch.setattr(portions, "CHECKED_ROWS", 3_000)


@pytest.fixture
def queue() -> HeldQueue:
    return HeldQueue()


@pytest.fixture
def working(core: Core, queue: HeldQueue) -> Core:
    return replace(core, queue=queue)
