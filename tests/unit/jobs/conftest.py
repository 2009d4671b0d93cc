"""A store whose jobs are worked on by hand, in small chunks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from importing.context import Context
from importing.jobs import chunk
from tests.support.job_batches import HeldQueue


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of about 3,000 rows, so that a job of some thousand has several."""
    monkeypatch.setattr(chunk, "FIRST_CHUNK_ROWS", 2_000)
    monkeypatch.setattr(chunk, "MAX_CHUNK_ROWS", 3_000)
    monkeypatch.setattr(chunk, "CHECK_CHUNK_ROWS", 3_000)


@pytest.fixture
def queue() -> HeldQueue:
    return HeldQueue()


@pytest.fixture
def working(context: Context, queue: HeldQueue) -> Context:
    return replace(context, queue=queue)
