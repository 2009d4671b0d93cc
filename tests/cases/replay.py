"""Sends the requests of a case of fixtures/legacy, one after another, and returns each reply as it came."""

from __future__ import annotations

from collections.abc import Iterator

from webtest import TestApp  # type: ignore[import-untyped]

from tests.cases.legacy.case_files import Case, Step, read_request
from tests.cases.legacy.placeholders import Placeholders
from tests.support.case_database import World
from tests.support.job_batches import HeldQueue
from tests.support.legacy_client import Encoding, Format, Reply, canonical_json, canonical_xml, send


def replay(
    world: World, client: TestApp, case: Case, encoding: Encoding, form: Format, placeholders: Placeholders
) -> Iterator[tuple[Step, Reply]]:
    """Begin the case anew, then send its requests. Fails where a reply is not that of the case's file.

    After each reply `placeholders` know what the codes, cards and batch ids in it are.
    """
    for step, reply in send_all(world, client, case, encoding, form, placeholders):
        if form is Format.XML:
            placeholders.compare(reply.xml, canonical_xml(step.xml))
        else:
            placeholders.compare(canonical_json(reply.tree(form)), canonical_json(step.json))
        yield step, reply


def send_all(
    world: World, client: TestApp, case: Case, encoding: Encoding, form: Format, placeholders: Placeholders
) -> Iterator[tuple[Step, Reply]]:
    """The same without a comparison. The placeholders of the batches are learned, and no others."""
    queue = world.context.queue
    assert isinstance(queue, HeldQueue)
    world.begin(case.before)
    queue.messages.clear()
    for number, step in enumerate(case.steps, 1):
        request = read_request(placeholders.filled(step.request))
        if request.later:
            queue.run(world.context)
        reply = send(client, request.fields, encoding, form, request.headers)
        if "X-Batch-Id" in reply.headers and "Idempotent-Replayed" not in reply.headers:
            placeholders.learn(f"{{batch {number}}}", reply.headers["X-Batch-Id"])
        yield step, reply
