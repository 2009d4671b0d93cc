"""The plain queries of customers: one, or all of an account as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, select, true

from storage.tables import campaign, customer, enrolment

CUSTOMERS_PER_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer's row, and the balances in hundredths of the campaigns it is enrolled in, by campaign id."""

    row: RowMapping
    balances: dict[str, int]


def stream_customers(connection: Connection, account: int) -> Iterator[Customer]:
    """The customers of the account in the order of their creation, streamed; without removed ones."""
    last = 0
    while page := _load_page(connection, account, customer.c.id > last):
        yield from page
        last = page[-1].row["id"]


def find_customer(
    connection: Connection, account: int, *, code: str | None = None, card_number: str | None = None
) -> Customer | None:
    """The customer of that code or card number; with both given, the one that has both."""
    condition: ColumnElement[bool] = true()
    if code is not None:
        condition = condition & (customer.c.code == code)
    if card_number is not None:
        condition = condition & (customer.c.card_number == card_number)
    page = _load_page(connection, account, condition)
    return page[0] if page else None


def _load_page(connection: Connection, account: int, condition: ColumnElement[bool]) -> Sequence[Customer]:
    query = (
        select(customer)
        .where(customer.c.account_id == account, customer.c.removed.is_(None), condition)
        .order_by(customer.c.id)
        .limit(CUSTOMERS_PER_PAGE)
    )
    rows = connection.execute(query).mappings().all()
    balances = _load_balances(connection, account, rows) if rows else {}
    return [Customer(row, balances.get(row["id"], {})) for row in rows]


def _load_balances(connection: Connection, account: int, rows: Sequence[RowMapping]) -> dict[int, dict[str, int]]:
    query = (
        select(enrolment.c.customer_id, campaign.c.campaign_id, enrolment.c.balance)
        .join(
            campaign,
            (campaign.c.account_id == enrolment.c.account_id) & (campaign.c.id == enrolment.c.campaign_id),
        )
        .where(
            enrolment.c.account_id == account,
            enrolment.c.uses > 0,
            enrolment.c.customer_id.between(rows[0]["id"], rows[-1]["id"]),
        )
        .order_by(enrolment.c.customer_id, campaign.c.id)
    )
    balances: dict[int, dict[str, int]] = {}
    for customer_id, campaign_id, balance in connection.execute(query):
        balances.setdefault(customer_id, {})[campaign_id] = balance
    return balances
