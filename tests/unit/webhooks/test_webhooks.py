"""Webhooks: what is told, how it is signed, what happens when nobody takes it, and where nothing is ever posted."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import RowMapping, select, text, update

from crypto.digests import Digests
from importing.batch import Header, OnError
from importing.context import Context
from importing.errors import ApiError
from importing.fields import USERNAME
from importing.import_batch import run
from importing.jobs import chunk, lifecycle
from importing.undo import undo_batch
from server import maintenance
from storage.queries import webhooks as stored
from storage.tables import delivery, webhook
from tests.support.demo_accounts import Demo, open_accounts
from tests.support.job_batches import HeldQueue, batch, rows
from tests.support.webhook_receiver import DRIP, FLOOD, NONSENSE, SILENCE, Receiver, receiving
from webhooks import deliveries
from webhooks.deliveries import NewWebhook
from webhooks.safe_http import PostOptions

# Short, for what does not answer; what does answers at once.
WAY = PostOptions(allow_private=True, connect_timeout=5.0, total_timeout=5.0)
HURRIED = PostOptions(allow_private=True, connect_timeout=0.5, total_timeout=0.5)


@dataclass
class Queue(HeldQueue):
    """Holds deliveries too."""

    deliveries: list[str] = field(default_factory=list)

    def put_deliveries(self, delivery_ids: Iterable[str]) -> None:
        self.deliveries.extend(delivery_ids)


@dataclass(frozen=True, slots=True)
class World:
    """An account whose webhook leads to a receiver."""

    context: Context
    queue: Queue
    demo: Demo
    receiver: Receiver
    hook: NewWebhook

    def deliver(self, way: PostOptions = WAY) -> None:
        """Do what the queue was asked for."""
        asked, self.queue.deliveries = self.queue.deliveries, []
        for delivery_id in asked:
            deliveries.deliver(self.context, delivery_id, way)

    def again(self, way: PostOptions = WAY) -> int:
        """Let the time pass until all that waits is due, and let recovery ask for it."""
        self.pass_time(2 * maintenance.DAY)
        found = deliveries.recover_deliveries(self.context)
        self.deliver(way)
        return found

    def pass_time(self, milliseconds: int) -> None:
        """Put all deliveries back by so much."""
        with self.context.database.writing() as connection:
            times = {name: delivery.c[name] - milliseconds for name in ("due_at", "created_at", "updated_at")}
            connection.execute(update(delivery).values(times))

    def found(self) -> list[RowMapping]:
        """All deliveries."""
        with self.context.database.reading() as connection:
            return list(connection.execute(select(delivery).order_by(delivery.c.created_at)).mappings())

    def one(self) -> RowMapping:
        """The one delivery."""
        [row] = self.found()
        return row

    def import_rows(self, count: int = 2) -> str:
        """Import rows at once; the batch's id."""
        return run(self.context, batch(self.context, self.demo, rows("c", count))).batch_id


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def world(context: Context, receiver: Receiver) -> World:
    queue = Queue()
    context = replace(context, queue=queue, webhook_private=True)
    demo, _ = open_accounts(context)
    return World(context, queue, demo, receiver, deliveries.register_webhook(context, demo.number, receiver.url))


def verified(hook: NewWebhook, headers: Any, body: bytes) -> bool:
    """Whether the signature is the one that docs/webhooks.md describes."""
    parts = dict(part.split("=", 1) for part in headers["X-Tillgate-Signature"].split(","))
    expected = hmac.new(hook.secret.encode(), f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
    return bool(parts["v1"] == expected and parts["t"] == headers["X-Tillgate-Timestamp"])


# What is told


def test_an_import_is_told_by_a_signed_post(world: World) -> None:
    began = int(time.time())
    batch_id = world.import_rows()
    assert world.receiver.posts == []
    world.deliver()
    [post] = world.receiver.posts
    told = json.loads(post.body)
    row = world.one()
    assert (row["state"], row["attempts"], row["status"], row["error"]) == ("delivered", 1, 204, "")
    assert (told["id"], told["event"], told["account_id"]) == (row["id"], "batch.imported", "greatwidgets")
    expected = {"id": batch_id, "kind": "import", "status": "imported", "face": "legacy", "rows": 2, "processed": 2}
    expected |= {"new": 2, "updated": 0, "unchanged": 0, "ignored": 0, "failed": 0}
    times = {name: told["batch"][name] for name in ("created_at", "started_at", "ended_at")}
    assert told["batch"] == {**expected, **times}
    assert all(time.strptime(at, "%Y-%m-%dT%H:%M:%SZ") for at in (told["created_at"], *times.values()))
    assert post.path == "/hook?shop=7"
    assert post.headers["Host"] == f"127.0.0.1:{world.receiver.port}"
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["User-Agent"].startswith("Tillgate/")
    assert (post.headers["X-Tillgate-Event"], post.headers["X-Tillgate-Delivery"]) == (told["event"], told["id"])
    assert began <= int(post.headers["X-Tillgate-Timestamp"]) <= time.time()
    assert verified(world.hook, post.headers, post.body)
    assert not verified(world.hook, post.headers, post.body.replace(b'"new":2', b'"new":3'))


def events(world: World) -> list[tuple[str, str]]:
    """Deliver what is asked for; what the receiver was told: (event, batch id), in order."""
    world.deliver()
    told = [json.loads(post.body) for post in world.receiver.posts]
    world.receiver.posts.clear()
    return [(message["event"], message["batch"]["id"]) for message in told]


def test_a_job_is_told_once_at_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "FIRST_CHUNK_ROWS", 2_000)
    queued = lifecycle.submit(world.context, batch(world.context, world.demo, rows("c", 6_000, bad=(7,))))
    world.queue.run(world.context, 1)
    assert events(world) == []
    assert world.queue.run(world.context) > 0
    world.deliver()
    [post] = world.receiver.posts
    told = json.loads(post.body)["batch"]
    counts = {name: told[name] for name in ("rows", "processed", "new", "failed")}
    assert (told["id"], counts) == (queued.batch_id, {"rows": 6_000, "processed": 6_000, "new": 5_999, "failed": 1})


def test_a_job_that_fails_is_told_with_the_code_only(world: World) -> None:
    queued = lifecycle.submit(
        world.context, batch(world.context, world.demo, rows("c", 3, bad=(2,)), on_error=OnError.REJECT)
    )
    world.queue.run(world.context)
    world.deliver()
    [post] = world.receiver.posts
    told = json.loads(post.body)
    assert (told["event"], told["batch"]["status"]) == ("batch.failed", "failed")
    assert (told["batch"]["id"], told["batch"]["reason"]) == (queued.batch_id, "bad_rows")
    assert b"never" not in post.body


def test_a_job_that_fails_while_it_is_written_is_told(world: World) -> None:
    # No row is bad by itself, but two customers ask for one user name.
    made = batch(
        world.context, world.demo, "a|Ann|2001-02-03|1|same\nb|Bob|2001-02-03|1|Same\n", on_error=OnError.REJECT
    )
    queued = lifecycle.submit(world.context, made._replace(headers=(*made.headers, Header(5, USERNAME))))
    world.queue.run(world.context)
    assert events(world) == [("batch.failed", queued.batch_id)]


def test_a_job_that_failed_before_it_began_is_told(world: World) -> None:
    failed = lifecycle.submit_failed(world.context, batch(world.context, world.demo, ""), ApiError("no_data"))
    assert events(world) == [("batch.failed", failed.batch_id)]


def test_a_cancelled_job_is_told_and_told_again_when_it_was_resumed(world: World) -> None:
    queued = lifecycle.submit(world.context, batch(world.context, world.demo, rows("c", 10)))
    lifecycle.cancel(world.context, world.demo.number, queued.batch_id)
    assert events(world) == [("batch.cancelled", queued.batch_id)]
    lifecycle.resume(world.context, world.demo.number, queued.batch_id)
    world.queue.run(world.context)
    assert events(world) == [("batch.imported", queued.batch_id)]


def test_an_undo_is_told_with_what_it_took_back(world: World) -> None:
    batch_id = world.import_rows(3)
    events(world)
    undone = undo_batch.undo(world.context, world.demo.number, batch_id, "u", "legacy")
    world.deliver()
    [post] = world.receiver.posts
    told = json.loads(post.body)
    assert told["event"] == "batch.undone"
    expected = {"id": undone.batch_id, "kind": "undo", "undoes": batch_id, "restored": 0, "removed": 3, "kept": 0}
    assert {name: told["batch"][name] for name in expected} == expected


def test_every_webhook_of_the_account_is_told_and_no_other(world: World, context: Context) -> None:
    with context.database.reading() as connection:
        other = connection.execute(text("SELECT id FROM account WHERE public_id = 'smallshop'")).scalar_one()
    second = deliveries.register_webhook(world.context, world.demo.number, world.receiver.url)
    deliveries.register_webhook(world.context, other, world.receiver.url)
    world.import_rows()
    assert {row["webhook_id"] for row in world.found()} == {world.hook.id, second.id}
    world.deliver()
    for post in world.receiver.posts:
        assert verified(world.hook, post.headers, post.body) != verified(second, post.headers, post.body)
    assert len(world.receiver.posts) == len({json.loads(post.body)["id"] for post in world.receiver.posts}) == 2


def test_what_did_not_happen_is_not_told(world: World) -> None:
    with (
        pytest.raises(RuntimeError),
        world.context.database.batch_transaction() as work,
        work.writing(world.demo.number, 1.0),
    ):
        assert stored.add_deliveries(work, world.demo.number, "b", stored.WebhookEvent.IMPORTED, 0)
        raise RuntimeError
    with pytest.raises(ApiError, match="bad_rows"):
        run(world.context, batch(world.context, world.demo, rows("c", 2, bad=(1,)), on_error=OnError.REJECT))
    assert world.found() == []


# What is not taken


def test_a_delivery_that_is_not_taken_is_tried_again_with_the_same_id(world: World) -> None:
    world.receiver.answers.extend([500, 410, FLOOD])
    world.import_rows()
    world.deliver()
    row = world.one()
    assert (row["state"], row["status"], row["error"]) == ("waiting", 500, "answered with status 500")
    assert 10_000 <= row["due_at"] - row["updated_at"] <= 12_000
    assert deliveries.recover_deliveries(world.context) == 0
    assert world.again() == 1
    row = world.one()
    assert (row["state"], row["attempts"], row["status"]) == ("waiting", 2, 410)
    assert 60_000 <= row["due_at"] - row["updated_at"] <= 72_000
    assert world.again() == 1
    assert (world.one()["state"], world.one()["attempts"], world.one()["error"]) == ("delivered", 3, "")
    assert world.again() == 0
    assert len(world.receiver.posts) == 3
    assert {post.headers["X-Tillgate-Delivery"] for post in world.receiver.posts} == {row["id"]}
    assert all(verified(world.hook, post.headers, post.body) for post in world.receiver.posts)


@pytest.mark.parametrize(
    ("answer", "error"), [(SILENCE, "timed out"), (DRIP, "timed out"), (NONSENSE, "no HTTP answer")]
)
def test_a_receiver_that_does_not_answer_is_left_at_the_deadline(world: World, answer: str, error: str) -> None:
    world.receiver.answers.append(answer)
    world.import_rows()
    began = time.monotonic()
    world.deliver(HURRIED)
    assert time.monotonic() - began < 10 * HURRIED.total_timeout
    assert (world.one()["state"], world.one()["status"], world.one()["error"]) == ("waiting", 0, error)
    world.again()
    assert world.one()["state"] == "delivered"


def test_a_redirect_is_not_followed(world: World) -> None:
    with receiving() as elsewhere:
        world.receiver.answers.append(302)
        world.receiver.location = elsewhere.url
        world.import_rows()
        world.deliver()
        assert elsewhere.posts == []
    assert (world.one()["state"], world.one()["status"]) == ("waiting", 302)


def test_a_receiver_that_cannot_be_reached_rests_and_holds_nobody_up(context: Context) -> None:
    queue = Queue()
    context = replace(context, queue=queue, webhook_private=True)
    demo, _ = open_accounts(context)
    with socket.socket() as taken, receiving() as there:
        taken.bind(("127.0.0.1", 0))  # not listening: who connects is refused
        down = deliveries.register_webhook(context, demo.number, f"http://127.0.0.1:{taken.getsockname()[1]}/")
        world = World(context, queue, demo, there, deliveries.register_webhook(context, demo.number, there.url))
        for n in range(3):
            run(context, batch(context, demo, rows(f"b{n}", 1)))
        world.deliver()
        assert len(there.posts) == 3
        waiting = [row for row in world.found() if row["webhook_id"] == down.id]
        assert [row["state"] for row in waiting] == ["waiting"] * 3
        assert sorted((row["attempts"], row["error"]) for row in waiting) == [
            (0, ""),
            (0, ""),
            (1, "connection refused"),
        ]
        taken.listen()
        with context.database.writing() as connection:
            connection.execute(update(webhook).where(webhook.c.id == down.id).values(url=there.url))
        assert world.again() == 3
        assert {row["state"] for row in world.found()} == {"delivered"}


def test_a_delivery_is_given_up_at_last_and_dropped_after_30_days(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = len(deliveries.BACKOFF_SECONDS) + 1
    world.receiver.answers.extend([503] * attempts)
    world.import_rows()
    world.deliver()
    for _ in range(attempts - 1):
        assert world.again() == 1
    assert (world.one()["state"], world.one()["attempts"]) == ("failed", attempts)
    assert world.again() == 0
    assert f"webhook {world.hook.id}: delivery {world.one()['id']} is given up" in caplog.text
    world.pass_time(27 * maintenance.DAY)
    maintenance.run_once(world.context)
    assert world.found()
    world.pass_time(3 * maintenance.DAY)
    maintenance.run_once(world.context)
    assert world.found() == []


# Workers and messages that come and go


def test_a_message_that_comes_twice_posts_once(world: World) -> None:
    world.import_rows()
    world.queue.deliveries *= 2
    world.deliver()
    assert len(world.receiver.posts) == 1


def test_a_lost_message_is_made_up_for(world: World) -> None:
    world.import_rows()
    world.queue.deliveries.clear()
    assert deliveries.recover_deliveries(world.context) == 0
    world.pass_time(stored.MESSAGE_WAIT_MS + 1)
    assert deliveries.recover_deliveries(world.context) == 1
    assert deliveries.recover_deliveries(world.context) == 0
    world.deliver()
    assert len(world.receiver.posts) == 1


def test_a_worker_that_is_killed_between_claim_and_post_loses_nothing(world: World) -> None:
    world.import_rows()
    [delivery_id] = world.queue.deliveries
    with world.context.database.writing() as connection:
        dead = stored.claim_delivery(connection, delivery_id, deliveries.LEASE_MS, deliveries.REST_MS)
    assert dead is not None
    # Its message is gone, or comes again: within its lease, nobody else posts.
    world.deliver()
    assert deliveries.recover_deliveries(world.context) == 0
    assert world.receiver.posts == []
    world.pass_time(deliveries.LEASE_MS + 1)
    assert deliveries.recover_deliveries(world.context) == 1
    # It was only paused, and wakes up now: what it says counts no more.
    with world.context.database.writing() as connection:
        stored.finish_attempt(connection, dead, "failed", deliveries.DELIVERIES_KEPT_MS, 500, "late")
    world.deliver()
    assert len(world.receiver.posts) == 1
    assert (world.one()["state"], world.one()["attempts"]) == ("delivered", 2)


def test_what_the_gateway_itself_does_wrong_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise LookupError(world.receiver.url)

    world.import_rows()
    with monkeypatch.context() as patched:
        patched.setattr("webhooks.safe_http.post", broken)
        world.deliver()
    assert (world.one()["state"], world.one()["error"]) == ("waiting", "internal error: LookupError")
    assert world.receiver.url not in caplog.text
    world.again()
    assert world.one()["state"] == "delivered"


def test_a_deleted_webhook_is_told_nothing_more(world: World) -> None:
    world.import_rows()
    with world.context.database.writing() as connection:
        assert stored.remove_webhook(connection, world.demo.number, world.hook.id)
    world.deliver()
    world.import_rows()
    world.deliver()
    assert (world.found(), world.receiver.posts) == ([], [])


# Where nothing is posted


def test_a_name_that_has_moved_to_a_private_address_is_not_posted_to(world: World) -> None:
    def resolver(address: str) -> Callable[[str, int], Sequence[str]]:
        return lambda _host, _port: [address]

    url = f"http://hooks.example.com:{world.receiver.port}/"
    with world.context.database.writing() as connection:
        stored.remove_webhook(connection, world.demo.number, world.hook.id)
    deliveries.register_webhook(world.context, world.demo.number, url, PostOptions(resolve=resolver("93.184.215.14")))
    world.import_rows()
    world.deliver(PostOptions(resolve=resolver("127.0.0.1")))
    row = world.one()
    assert (row["state"], row["status"], row["attempts"]) == ("waiting", 0, 1)
    assert row["error"] == "The host has a private, loopback or otherwise reserved address."
    assert world.receiver.posts == []
    # The same way to the same place, with the setting on: it is the address that was refused.
    world.again(replace(WAY, resolve=resolver("127.0.0.1")))
    assert len(world.receiver.posts) == 1
    assert world.receiver.posts[0].headers["Host"] == f"hooks.example.com:{world.receiver.port}"


# Nothing secret, nothing personal


def test_no_secret_and_nothing_personal_is_stored_told_or_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    data = "".join(f"canary{n}|Canaria|{'canaryday' if n == 2 else '2001-02-03'}|25\n" for n in range(3))
    world.receiver.answers.extend([500, 200])
    run(world.context, batch(world.context, world.demo, data))
    lifecycle.submit(world.context, batch(world.context, world.demo, data, on_error=OnError.REJECT))
    world.queue.run(world.context)
    world.deliver()
    world.again()
    posts = world.receiver.posts
    assert {post.headers["X-Tillgate-Event"] for post in posts} == {"batch.imported", "batch.failed"}
    with world.context.database.reading() as connection:
        kept = repr(connection.execute(select(delivery)).all()) + repr(connection.execute(select(webhook)).all())
    seen = kept + caplog.text + "".join(f"{post.headers} {post.body!r}" for post in posts)
    assert "canar" not in seen.lower()
    assert world.demo.user_id not in seen
    assert world.hook.secret not in seen
    assert world.hook.secret.removeprefix(deliveries.SECRET_PREFIX) not in seen
    assert world.receiver.url not in caplog.text


def test_under_another_secret_of_the_installation_nothing_is_signed(world: World) -> None:
    moved = replace(world.context, digests=Digests(b"y" * 32))
    world.import_rows()
    deliveries.deliver(moved, world.queue.deliveries[0], WAY)
    assert world.receiver.posts == []
    assert world.one()["error"] == "the webhook was made under another TILLGATE_SECRET"
