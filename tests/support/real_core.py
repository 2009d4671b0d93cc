"""The real core as the property tests drive it: the model's batches in, what it did and what it then holds out."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Table, delete, select, update

from importing import account_settings as accounts_of_batches
from importing import import_batch
from importing.batch import Batch, Delimited, Mode, OnError, Outcome, Source, UndoOutcome
from importing.context import Context
from importing.errors import ApiError
from importing.fields import FIELD_BY_NAME
from importing.row_writer import WRITTEN_ROWS, headers_of, write_rows
from importing.undo import undo_batch
from storage import tables
from storage.queries import accounts
from tests.support import chunked_batches, model, strategies
from tests.support.model import Done, Import, Model

LASTING = {"account", "api_user", "admin_user", "campaign", "campaign_item", "custom_field", "audit"}
RESET = [t for t in tables.metadata.sorted_tables if t.name not in LASTING and "account_id" in t.c]
SECRETS = {"customer_password": "password_digest", "customer_PIN": "pin_digest"}
State = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """What the real core answered, in the model's terms. `id` is the batch's, "" in a preview or after a fault."""

    id: str
    fault: str
    counts: dict[str, int]
    problems: list[tuple[int, str, str]]
    made: list[tuple[int, str, str]]


class Actual:
    """One account in the real core, empty after `reset`."""

    def __init__(self, context: Context, account_id: str = "properties") -> None:
        self.context = context
        with context.database.writing() as connection:
            found = accounts.find_account(connection, account_id)
            self.number = int(found["id"]) if found else self._create(connection, account_id)
        self.account = accounts_of_batches.load(context, self.number)
        self._names = {campaign.id: name for name, campaign in self.account.campaigns.items()}

    @staticmethod
    def _create(connection: Connection, account_id: str) -> int:
        number = accounts.create_account(connection, account_id, "")
        for name, kind in strategies.CAMPAIGNS.items():
            items = list(strategies.ITEMS.items()) if kind == "buyx" else []
            accounts.create_campaign(connection, number, name, name, kind, items)
        for field, unique in ((1, True), (2, False)):
            values = {"label": f"Field {field}", "type": "Text", "is_unique": unique}
            accounts.create_custom_field(connection, number, field, **values)
        return number

    def reset(self) -> None:
        """Forget all customers and batches."""
        with self.context.database.writing() as connection:
            for table in RESET:
                connection.execute(delete(table).where(table.c.account_id == self.number))
            table = tables.account
            connection.execute(update(table).where(table.c.id == self.number).values(last_change=0, last_customer=0))

    def lock(self, connection: Connection) -> None:
        """Hold the account's turn to write for as long as the transaction lasts (SQLite has one turn for all)."""
        connection.execute(select(tables.account).where(tables.account.c.id == self.number).with_for_update())

    def batch(self, batch: Import) -> Batch:
        """The batch as the protocols hand it over: text with pipes, every cell of a row up to its width, or written rows."""
        known = {**FIELD_BY_NAME, **self.account.fields}
        fields = [known[name.lower()] for name in batch.columns]
        if batch.has_absent:
            delimited, source = WRITTEN_ROWS, write_rows(io.BytesIO(), fields, batch.rows)
        else:
            lines = ("|".join(row[name] for name in batch.columns[: len(row)]) for row in batch.rows)
            data = "\n".join(lines).encode()
            delimited, source = Delimited("|"), Source(io.BytesIO(data), "utf-8", len(data))
        return Batch(
            self.number,
            "tester",
            "legacy",
            headers_of(fields),
            delimited,
            source,
            Mode(batch.mode),
            OnError(batch.on_error),
            batch.keep_undo,
            batch.card_digits,
            tuple(self.account.campaigns[name] for name in batch.campaigns),
        )

    def apply(self, batch: Import) -> Result:
        return self._answer(import_batch.run, batch)

    def write_chunk(self, batch: Import, batch_id: str) -> Result:
        """Write the batch as one chunk of a job under way (tests/support/chunked_batches.py)."""
        return self._answer(lambda context, rows: chunked_batches.write(context, rows, batch_id), batch)

    def preview(self, batch: Import) -> Result:
        return self._answer(import_batch.preview, batch)

    def _answer(self, how: Callable[[Context, Batch], Outcome], batch: Import) -> Result:
        try:
            outcome = how(self.context, self.batch(batch))
        except ApiError as fault:
            return Result("", fault.code, {}, [(p.row, p.field, p.code) for p in fault.problems], [])
        counts = {name: getattr(outcome.counts, name) for name in ("new", "updated", "unchanged", "ignored", "failed")}
        problems = [(p.row, p.field, p.code) for p in outcome.problems]
        made = [(m.row, m.code, m.card_number) for m in outcome.assigned_keys]
        return Result(outcome.batch_id, "", counts, problems, made)

    def undo(self, batch_id: str) -> UndoOutcome:
        return undo_batch.undo(self.context, self.number, batch_id, "tester", "legacy")

    def preview_undo(self, batch_id: str) -> UndoOutcome:
        return undo_batch.preview(self.context, self.number, batch_id)

    def state(self) -> State:
        """The live customers by code, as `expected` describes the model's."""
        with self.context.database.reading() as connection:
            customers = self._rows(connection, tables.customer)
            enrolments = self._rows(connection, tables.enrolment)
            entries = self._rows(connection, tables.ledger_entry)
        points: Counter[model.Points] = Counter()
        for entry in entries:
            item = {None: "", 1: "espresso", 2: "2"}[entry["item_id"]]
            points[entry["customer_id"], self._names[entry["campaign_id"]], item] += entry["amount"]
        found: State = {}
        for customer in customers:
            if customer["removed"] is None:
                mine = [e for e in enrolments if e["customer_id"] == customer["id"] and e["uses"]]
                found[customer["code"]] = {
                    "fields": dict(self._fields(customer)),
                    "uses": {self._names[e["campaign_id"]]: e["uses"] for e in mine},
                    "balances": {self._names[e["campaign_id"]]: e["balance"] for e in mine},
                    "points": {key[1:]: n for key, n in points.items() if n and key[0] == customer["id"]},
                }
        return found

    def _fields(self, customer: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for name in ("code", "card_number", "customer_username", *tables.PROFILE_COLUMNS):
            if customer[name]:
                yield name, customer[name]
        yield from customer["custom_fields"].items()
        for name, column in SECRETS.items():
            if customer[column]:
                verify = self.context.digests.verify_customer_secret
                yield name, next((v for v in strategies.VALUES[name] if v and verify(v, customer[column])), "?")

    def raw(self) -> str:
        """Everything about live customers that an undo must bring back, in the store's own terms."""
        with self.context.database.reading() as connection:
            customers = [row for row in self._rows(connection, tables.customer) if row["removed"] is None]
            live = {row["id"] for row in customers}
            others = [
                row
                for table in (tables.unique_value, tables.enrolment)
                for row in self._rows(connection, table)
                if row["customer_id"] in live and row.get("uses", 1)
            ]
        rows = [{k: v for k, v in row.items() if k not in ("updated_at", "created")} for row in customers]
        return "\n".join(sorted(json.dumps(row, sort_keys=True) for row in [*rows, *others]))

    def everything(self) -> str:
        """Every row of the account in every table: what a preview must leave as it is."""
        with self.context.database.reading() as connection:
            tables = {table.name: self._rows(connection, table) for table in RESET}
        return json.dumps(tables, sort_keys=True, default=str)

    def check(self) -> None:
        """What always holds in the store."""
        with self.context.database.reading() as connection:
            customers = {row["id"]: row for row in self._rows(connection, tables.customer)}
            values = self._rows(connection, tables.unique_value)
            enrolments = self._rows(connection, tables.enrolment)
            entries = self._rows(connection, tables.ledger_entry)
        balances: Counter[tuple[int, int]] = Counter()
        for entry in entries:
            balances[entry["customer_id"], entry["campaign_id"]] += entry["amount"]
        kept = {(row["customer_id"], row["campaign_id"]): row["balance"] for row in enrolments}
        assert {key: n for key, n in balances.items() if n} == {key: n for key, n in kept.items() if n}
        assert all(row["uses"] >= 0 for row in enrolments)
        has = {(row["customer_id"], f"custom_field_{row['number']}", row["value"]) for row in values}
        shall = {
            (number, "custom_field_1", row["custom_fields"]["custom_field_1"])
            for number, row in customers.items()
            if row["removed"] is None and "custom_field_1" in row["custom_fields"]
        }
        assert has == shall
        for row in customers.values():
            assert row["username_key"] == (row["customer_username"].casefold() if row["customer_username"] else None)
            assert (row["code"] is None) == (row["removed"] is not None)
            assert row["removed"] is None or row["card_number"] is row["username_key"] is None
            assert all(row["custom_fields"].values())
            assert bool(row["password_digest"]) == bool(row["password_version"])
            assert bool(row["pin_digest"]) == bool(row["pin_version"])

    def _rows(self, connection: Connection, table: Table) -> list[dict[str, Any]]:
        found = connection.execute(select(table).where(table.c.account_id == self.number)).mappings()
        return sorted((dict(row) for row in found), key=str)


def expected(truth: Model) -> State:
    """What the model holds, in the terms of `Actual.state`."""
    found: State = {}
    for number, customer in truth.customers.items():
        if not customer.removed:
            points = {key[1:]: n for key, n in truth.points.items() if n and key[0] == number}
            uses = {name: n for name, n in customer.uses.items() if n}
            balances = {name: sum(n for (c, _), n in points.items() if c == name) for name in uses}
            fields = {name: model.text(value) for name, value in customer.fields.items()}
            found[fields["code"]] = {"fields": fields, "uses": uses, "balances": balances, "points": points}
    return found


def compare(truth: Model, done: Done, result: Result, batch: Import) -> None:
    """Hold what the real core answered against the model, and tell the model which codes and cards were made."""
    assert result.fault == done.fault
    assert named(result.problems) == named(done.problems)
    assert [row for row, _, _ in result.problems] == sorted(row for row, _, _ in result.problems)
    assert {name: n for name, n in result.counts.items() if n} == (dict(done.counts) if not done.fault else {})
    assert [row for row, _, _ in result.made] == [row for row, _, _ in done.made]
    known: dict[str, str] = {}
    for (row, *said), (_, *was) in zip(done.made, result.made, strict=True):
        for symbol, value, digits in zip(said, was, (16, batch.card_digits), strict=True):
            if symbol.startswith("?"):
                assert value.isdecimal() and value.isascii() and len(value) == digits, (row, value)
                assert symbol.startswith("?code") or value[0] != "0"
                assert known.setdefault(symbol, value) == value
            else:
                assert value == symbol, (row, value, symbol)
    assert len(set(known.values())) == len(known)
    truth.settle(known)


def named(problems: Iterable[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """Problems without the field of a key conflict, which is of two fields."""
    return sorted((row, "" if code == "key_conflict" else field, code) for row, field, code in problems)


def customers_of(truth: Model) -> list[dict[str, str]]:
    """Codes and cards of the live customers, oldest first: what `@n` means."""
    live = (c.fields for c in truth.customers.values() if not c.removed)
    return [{name: model.text(fields.get(name, "")) for name in model.IDENTITY} for fields in live]


def foretold(batch: Import, result: Result, done: Done) -> Result:
    """The real result as its preview shows it: no batch id, only rows whose code is known, no card that is made up."""
    made = [
        (row, code, "" if card.startswith("?") else card)
        for row, code, card in done.made
        if not batch.rows[row - 1].get("code") and not code.startswith("?")
    ]
    return replace(result, id="", made=made)
