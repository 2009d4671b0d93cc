"""What most would write: a marshmallow schema and the ORM's get-or-create for each row, all in one transaction.

    python -m bench.rival_orm ROWS FOLDER

The same work as the yardstick's on the same files, in SQLite: a before-image of each customer that changes, an
enrolment and a ledger entry of 25 points for each row. Prints one line of JSON.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marshmallow import EXCLUDE, Schema, fields, validate
from sqlalchemy import ForeignKey, Index, create_engine, event, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench.form import COLUMNS as FORM_COLUMNS
from bench.gateway import memory

COLUMNS = FORM_COLUMNS[:-1]
CAMPAIGN, POINTS, BATCH = 7, 25, 1


class Base(DeclarativeBase):
    """The models of this program."""


class Profile:
    """What a customer and its before-image both have."""

    code: Mapped[str | None]
    card_number: Mapped[str | None]
    first_name: Mapped[str]
    last_name: Mapped[str]
    custom_date: Mapped[str]
    phone: Mapped[str]
    email: Mapped[str]
    street1: Mapped[str]
    city: Mapped[str]
    state: Mapped[str]
    postal_code: Mapped[str]
    custom_field_1: Mapped[str]


class Customer(Profile, Base):
    """A customer of an account."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    __table_args__ = (
        Index("customer_code", "account_id", "code", unique=True),
        Index("customer_card", "account_id", "card_number", unique=True),
    )


class Snapshot(Profile, Base):
    """A customer as it was before a batch."""

    __tablename__ = "snapshot"
    batch_id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True)


class Enrolment(Base):
    """A customer in a campaign."""

    __tablename__ = "enrolment"
    campaign_id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), primary_key=True)
    balance: Mapped[int] = mapped_column(default=0)


class Ledger(Base):
    """Points that a batch gave."""

    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int]
    customer_id: Mapped[int]
    amount: Mapped[int]
    batch_id: Mapped[int]


class Row(Schema):
    """A row of the file."""

    class Meta:
        unknown = EXCLUDE

    code = fields.String(required=True, validate=validate.Length(max=64))
    card_number = fields.String(required=True, validate=validate.Length(max=64))
    first_name = fields.String(validate=validate.Length(max=128))
    last_name = fields.String(validate=validate.Length(max=128))
    custom_date = fields.Date()
    phone = fields.String(validate=validate.Length(max=64))
    email = fields.Email(validate=validate.Length(max=255))
    street1 = fields.String(validate=validate.Length(max=255))
    city = fields.String(validate=validate.Length(max=128))
    state = fields.String(validate=validate.Length(max=128))
    postal_code = fields.String(validate=validate.Length(max=32))
    custom_field_1 = fields.String(validate=validate.Length(max=255))


def rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a file by column."""
    with file.open(encoding="utf-8", newline="") as lines:
        for cells in csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE):
            yield dict(zip(COLUMNS, cells, strict=True))


def import_row(session: Session, schema: Row, sent: dict[str, str]) -> None:
    """Get or create the customer, and everything around it."""
    row = schema.load(sent)
    row["custom_date"] = row["custom_date"].isoformat()
    found = session.scalar(select(Customer).filter_by(account_id=1, code=row["code"]))
    if found is None:
        found = session.scalar(select(Customer).filter_by(account_id=1, card_number=row["card_number"]))
    if found is None:
        found = Customer(account_id=1, **row)
        session.add(found)
        session.flush()
    else:
        before = {name: getattr(found, name) for name in COLUMNS}
        if session.get(Snapshot, (BATCH, found.id)) is None:
            session.add(Snapshot(batch_id=BATCH, customer_id=found.id, **before))
        for name, value in row.items():
            setattr(found, name, value)
    enrolment = session.get(Enrolment, (CAMPAIGN, found.id))
    if enrolment is None:
        enrolment = Enrolment(campaign_id=CAMPAIGN, customer_id=found.id, balance=0)
        session.add(enrolment)
    enrolment.balance += POINTS
    session.add(Ledger(campaign_id=CAMPAIGN, customer_id=found.id, amount=POINTS, batch_id=BATCH))


def main(count: int, folder: Path) -> None:
    """Preload the first file, then time the import of the second."""
    path = folder / "rival_orm.db"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}")

    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        first = [{"account_id": 1, **row} for row in rows(folder / f"first_{count}.psv")]
        connection.execute(insert(Customer), first)
        connection.exec_driver_sql("INSERT INTO enrolment SELECT 7, id, 0 FROM customer")
    with engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
    idle = memory(os.getpid())
    start, used = time.perf_counter(), time.process_time()
    schema = Row()
    with Session(engine) as session, session.begin():
        for row in rows(folder / f"second_{count}.psv"):
            import_row(session, schema, row)
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    above = memory(os.getpid(), "VmHWM") - idle
    with Session(engine) as session:
        counts = [len(session.scalars(select(key)).all()) for key in (Snapshot.customer_id, Customer.id, Ledger.id)]
    assert counts == [count // 2, count + count - count // 2, count], counts
    print(json.dumps({"seconds": seconds, "processor": processor, "memory": above}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
