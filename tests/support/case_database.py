"""The database that cases run in: emptied between them, filled with a case's customers, and read back."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, cast, delete, insert, literal, select, update

from importing.context import Context
from storage import tables
from storage.engine import Kind, now_ms
from tests.support.demo_accounts import Demo

LASTING = {"account", "api_user", "admin_user", "campaign", "campaign_item", "custom_field", "audit"}
EMPTIED = [table for table in reversed(tables.job.metadata.sorted_tables) if table.name not in LASTING]
SECRETS = {"customer_password": "password", "customer_PIN": "pin"}
PLAIN = ("code", "card_number", *tables.PROFILE_COLUMNS, "customer_username")

# The change that made the customers of a case's beginning.
BEFORE = 1

Customer = dict[str, Any]


class World:
    """The demo account's customers. A customer is as `tillgate customers --json` shows it, without what is blank.

    Besides, `customer_password` and `customer_PIN` say what the digest is of.
    """

    def __init__(self, context: Context, demo: Demo) -> None:
        self.context = context
        self.demo = demo
        with context.database.reading() as connection:
            table = tables.campaign
            rows = connection.execute(select(table.c.public_id, table.c.id).where(table.c.account_id == demo.number))
            self._campaigns: dict[str, int] = {row[0]: row[1] for row in rows}

    def begin(self, customers: list[Customer]) -> None:
        """Forget all customers and batches, and have these customers, made by no batch."""
        with self.context.database.writing() as connection:
            for table in EMPTIED:
                connection.execute(delete(table))
            connection.execute(update(tables.account).values(last_change=0, last_customer=0))
            for number, customer in enumerate(customers, 1):
                self._put(connection, number, customer)
            made = {"last_customer": len(customers), "last_change": BEFORE}
            connection.execute(update(tables.account).where(tables.account.c.id == self.demo.number).values(made))

    def customers(self, secrets: list[Customer]) -> list[Customer]:
        """The customers now, by code. `secrets`: customers whose passwords and PINs are tried on those of that code."""
        with self.context.database.reading() as connection:
            table = tables.customer
            mine = (table.c.account_id == self.demo.number) & table.c.removed.is_(None)
            rows = connection.execute(select(table).where(mine).order_by(table.c.code)).mappings().all()
            return [self._read(connection, dict(row), secrets) for row in rows]

    def count(self, table: str) -> int:
        """How many rows a table has."""
        with self.context.database.reading() as connection:
            return len(connection.execute(select(tables.metadata.tables[table])).all())

    def amounts(self) -> list[int]:
        """All entries of the ledger, in hundredths."""
        with self.context.database.reading() as connection:
            return list(connection.execute(select(tables.ledger_entry.c.amount)).scalars())

    def _put(self, connection: Connection, number: int, customer: Customer) -> None:
        account, now = self.demo.number, now_ms()
        row: dict[str, Any] = {name: customer.get(name) for name in ("code", "card_number", "customer_username")}
        row["username_key"] = customer["customer_username"].casefold() if "customer_username" in customer else None
        row |= {name: customer.get(name, "") for name in tables.PROFILE_COLUMNS}
        row |= {name: self._document(customer.get(name, {})) for name in ("custom_fields", "attributes")}
        for name, column in SECRETS.items():
            if name in customer:
                digest = self.context.digests.customer_secret(customer[name])
                row |= {f"{column}_digest": digest, f"{column}_version": BEFORE}
        row |= {"account_id": account, "id": number, "created": BEFORE, "created_at": now, "updated_at": now}
        connection.execute(insert(tables.customer).values(row))
        if badge := customer.get("custom_fields", {}).get("custom_field_5"):
            value = {"account_id": account, "number": 5, "value": badge, "customer_id": number}
            connection.execute(insert(tables.unique_value).values(value))
        for campaign, balance in customer.get("campaigns", {}).items():
            amount = int(Decimal(balance) * 100)
            self._enrol(connection, {"customer_id": number, "campaign_id": self._campaigns[campaign]}, amount)

    def _document(self, value: Customer) -> ColumnElement[Any]:
        # As the core writes it: SQLite compares documents by their text.
        text = literal(json.dumps(value, separators=(",", ":"), ensure_ascii=False), Text)
        return text if self.context.database.kind is Kind.SQLITE else cast(text, tables.JsonDocument)

    def _enrol(self, connection: Connection, who: dict[str, int], amount: int) -> None:
        who = {"account_id": self.demo.number, **who}
        connection.execute(insert(tables.enrolment).values({**who, "balance": amount, "uses": 1}))
        if amount:
            entry = {**who, "change": BEFORE, "row": who["campaign_id"], "amount": amount, "created_at": now_ms()}
            connection.execute(insert(tables.ledger_entry).values(entry))

    def _read(self, connection: Connection, row: dict[str, Any], secrets: list[Customer]) -> Customer:
        found: Customer = {name: row[name] for name in PLAIN if row[name]}
        for name, document in (("custom_fields", row["custom_fields"]), ("attributes", row["attributes"])):
            if document:
                found[name] = document
        table = tables.enrolment
        mine = (table.c.account_id == self.demo.number) & (table.c.customer_id == row["id"]) & (table.c.uses > 0)
        names = {number: name for name, number in self._campaigns.items()}
        joined = connection.execute(select(table).where(mine).order_by(table.c.campaign_id)).mappings()
        found["campaigns"] = {names[e["campaign_id"]]: f"{Decimal(e['balance']) / 100:.2f}" for e in joined}
        for name, column in SECRETS.items():
            if digest := row[f"{column}_digest"]:
                found[name] = self._secret(digest, [c[name] for c in secrets if name in c])
        return found

    def _secret(self, digest: str, candidates: list[str]) -> str:
        if digest in candidates:
            return digest
        verify = self.context.digests.verify_customer_secret
        return next((value for value in candidates if verify(value, digest)), "something else")
