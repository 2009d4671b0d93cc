"""What the tests of jobs share: batches of plain rows, a queue that they hold in their hands, and what a store then holds."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select

from importing import account_settings
from importing.batch import Batch, Delimited, Header, Mode, OnError, Source
from importing.context import Context
from importing.fields import FIELD_BY_NAME
from importing.jobs.chunk import run_chunk
from importing.queue import Queue
from storage.tables import customer, enrolment, ledger_entry
from tests.support.demo_accounts import Demo

NAMES = ("code", "first_name", "custom_date", "auto_add")
CAMPAIGN = "898989889"


@dataclass
class HeldQueue(Queue):
    """Keeps messages in the order in which they came; `run` works on them as a consumer would."""

    messages: deque[tuple[str, int]] = field(default_factory=deque)

    def put_chunk(self, batch_id: str, chunk: int) -> None:
        self.messages.append((batch_id, chunk))

    def run(self, context: Context, limit: int = 10_000) -> int:
        """Work on so many messages, or until there is none; returns how many there were."""
        done = 0
        while self.messages and done < limit:
            run_chunk(context, *self.messages.popleft())
            done += 1
        return done


def rows(prefix: str, count: int, *, bad: Sequence[int] = (), points: str = "25") -> str:
    """Rows of NAMES, `bad` ones (by number) with a date that is none."""
    return "".join(
        f"{prefix}{n}|Name {n}|{'never' if n in bad else '2001-02-03'}|{points}\n" for n in range(1, count + 1)
    )


def batch(
    context: Context,
    demo: Demo,
    text: str,
    *,
    on_error: OnError = OnError.SKIP,
    mode: Mode = Mode.UPDATE,
    key: str | None = None,
) -> Batch:
    """A batch of such rows, into the demo account's first campaign."""
    data = text.encode()
    return Batch(
        account=demo.number,
        user=demo.user_id,
        protocol="legacy",
        headers=tuple(Header(position, FIELD_BY_NAME[name]) for position, name in enumerate(NAMES, 1)),
        delimited=Delimited("|"),
        source=Source(io.BytesIO(data), "utf-8", len(data)),
        mode=mode,
        on_error=on_error,
        campaigns=(account_settings.load(context, demo.number).campaigns[CAMPAIGN],),
        request_key=key,
        request_digest=b"d" * 32 if key else b"",
        names=NAMES,
    )


@dataclass(frozen=True, slots=True)
class Held:
    """What an account holds: customers, the sum of their balances in hundredths, and the entries behind it."""

    customers: int
    points: int
    entries: int


def holds(context: Context, demo: Demo) -> Held:
    """What the account holds now."""
    with context.database.reading() as connection:
        mine = customer.c.account_id == demo.number
        people = connection.execute(select(func.count()).where(mine, customer.c.removed.is_(None))).scalar_one()
        points = select(func.coalesce(func.sum(enrolment.c.balance), 0)).where(enrolment.c.account_id == demo.number)
        entries = select(func.count()).where(ledger_entry.c.account_id == demo.number)
        return Held(people, connection.execute(points).scalar_one(), connection.execute(entries).scalar_one())
