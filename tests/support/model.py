"""The truth about imports: plain Python that takes rows one by one. Source: docs/protocol.md, Rows and 5.

A customer's fields are one dict, name -> value, without the blank ones. A secret's value is (text, version): two
secrets are the same only where the version is. A code or card that is made is a symbol (`?code 3.1`) until `settle`
says what it was. A row is a dict, column -> text; a column that it lacks was not given. Amounts are hundredths.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

Row = Mapping[str, str]
Value = str | tuple[str, int]
Fields = dict[str, Value]
Points = tuple[int, str, str]  # customer, campaign, item ("" but for buyx)

IDENTITY = ("code", "card_number")
SECRETS = ("customer_password", "customer_PIN")
UNIQUE = ("customer_username", "custom_field_1")
IN_USE = {"customer_username": "username_in_use", "custom_field_1": "value_in_use"}
BAD_DATE = "2020-02-30"

# Whether a batch on whose customer all rows were unchanged uses that customer's enrolments too, and so keeps them, and
# a customer that somebody else made, from being taken back. The protocol's words allow both.
UNCHANGED_IS_A_USE = False


@dataclass(frozen=True)
class Import:
    """A batch: `campaigns` are names, the first takes auto_add; `kind` is the type of that first one.

    `has_absent`: rows may lack any column, not only their last ones, and rows of blanks only are rows.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    mode: str = "ignore"
    on_error: str = "reject"
    campaigns: tuple[str, ...] = ()
    kind: str = "points"
    card_digits: int | None = None
    keep_undo: bool = True
    has_absent: bool = False


@dataclass
class Customer:
    """One customer; a removed one has no fields. `uses`: campaign -> batches in force that joined it."""

    number: int
    fields: Fields = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)
    removed: bool = False


@dataclass
class Log:
    """What one batch in the history did, or a chunk of it. An image of None: there was no such customer.

    `part_of` is the first chunk of the same batch, None in that itself; batches go by the number of their first chunk.
    """

    number: int
    undoes: int | None = None
    part_of: int | None = None
    in_force: bool = True
    keep_undo: bool = True
    before: dict[int, Fields | None] = field(default_factory=dict)
    written: dict[int, Fields | None] = field(default_factory=dict)
    points: Counter[Points] = field(default_factory=Counter)
    uses: Counter[tuple[int, str]] = field(default_factory=Counter)

    def touches(self, customer: int) -> bool:
        """Whether it did anything to the customer: a field, secret, enrolment or points."""
        did = any(key[0] == customer for key in (*self.points, *self.uses))
        return customer in self.before and (did or self.before[customer] != self.written[customer])


@dataclass
class Done:
    """What an import did. `log` is its number in the history, None where a fault refused it."""

    fault: str = ""
    log: int | None = None
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str, str]] = field(default_factory=list)  # row, field, code
    made: list[tuple[int, str, str]] = field(default_factory=list)  # row, code, card


@dataclass
class Model:
    """One account. `apply` (and `model_undo.undo`) change it; work on a deep copy to preview."""

    customers: dict[int, Customer] = field(default_factory=dict)
    points: Counter[Points] = field(default_factory=Counter)
    history: dict[int, Log] = field(default_factory=dict)
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def apply(self, batch: Import, part_of: int | None = None) -> Done:
        """Import row by row. A fault leaves everything as it was. `part_of`: the first chunk of the same batch."""
        was = copy.deepcopy((self.customers, self.points))
        log, done = Log(len(self.history) + 1, part_of=part_of, keep_undo=batch.keep_undo), Done()
        made: list[tuple[int, Customer]] = []
        moved: set[int] = set()
        for number, row in enumerate(batch.rows, 1):
            problems = self._problems(row)
            if problems:
                done.counts["failed"] += 1
                done.problems += [(number, name, code) for name, code in problems]
                continue
            customer, done_as, card_made = self._take(number, row, batch, log)
            done.counts.update(done_as)
            if "unchanged" not in done_as:
                moved.add(customer.number)
            if not row.get("code") or card_made:
                made.append((number, customer))
        failed = done.counts["failed"]
        if failed and (batch.on_error == "reject" or failed == len(batch.rows)):
            self.customers, self.points = was
            return Done("bad_rows" if batch.on_error == "reject" else "no_good_rows", problems=done.problems)
        if not UNCHANGED_IS_A_USE:
            self._forget(log, log.before.keys() - moved)
        log.written = {number: dict(self.customers[number].fields) for number in log.before}
        self.history[log.number] = log
        done.log = log.number
        done.made = [(number, *(text(c.fields.get(key, "")) for key in IDENTITY)) for number, c in made]  # type: ignore[misc]
        return done

    def _forget(self, log: Log, idle: set[int]) -> None:
        for customer, campaign in [key for key in log.uses if key[0] in idle]:
            del log.uses[customer, campaign]
            self.customers[customer].uses[campaign] -= 1
        for customer in idle:
            del log.before[customer]

    def settle(self, known: Mapping[str, str]) -> None:
        """Put the real codes and cards in place of the symbols of the made ones."""
        images: Iterable[Fields | None] = itertools.chain(
            (customer.fields for customer in self.customers.values()),
            *((*log.before.values(), *log.written.values()) for log in self.history.values()),
        )
        for fields in images:
            for key in IDENTITY if fields else ():
                assert fields is not None
                if key in fields:
                    fields[key] = known.get(text(fields[key]), fields[key])

    def _problems(self, row: Row) -> list[tuple[str, str]]:
        """What makes the row a bad one: its own text first, then whom it means, then what others have."""
        if row.get("custom_date") == BAD_DATE:
            return [("custom_date", "bad_date")]
        holders = [h for h in (self.holder(key, row.get(key, "")) for key in IDENTITY) if h is not None]
        if len(holders) == 2 and holders[0] is not holders[1]:
            return [("", "key_conflict")]
        target = holders[0] if holders else None
        taken = (name for name in UNIQUE if self.holder(name, row.get(name, "")) not in (None, target))
        return [(name, IN_USE[name]) for name in taken]

    def _take(self, number: int, row: Row, batch: Import, log: Log) -> tuple[Customer, tuple[str, ...], bool]:
        """Do what a good row says: its customer, how it counts, and whether a card was made for it."""
        customer = self.holder("code", row.get("code", "")) or self.holder("card_number", row.get("card_number", ""))
        matched = customer is not None
        if customer is not None and batch.mode == "ignore":
            return customer, ("ignored",), False
        if customer is None:
            customer = Customer(len(self.customers) + 1)
            self.customers[customer.number] = customer
        was = dict(customer.fields)
        log.before.setdefault(customer.number, was if matched else None)
        fields = {name: value for name, value in was.items() if batch.mode == "update" or name in IDENTITY}
        for name, value in row.items():
            if name != "auto_add" and (value or name not in IDENTITY):
                fields[name] = (value, next(self.versions)) if value and name in SECRETS else value
        fields.setdefault("code", f"?code {log.number}.{number}")
        card_made = batch.card_digits is not None and "card_number" not in fields
        if card_made:
            fields["card_number"] = f"?card {log.number}.{number}"
        customer.fields = {name: value for name, value in fields.items() if value}
        joined, added = self._join(customer, batch, log), self._add(customer, row, batch, log)
        if not matched:
            return customer, ("new",), card_made
        changed = customer.fields != was or joined or added
        return customer, ("updated",) if changed else ("updated", "unchanged"), card_made

    def _join(self, customer: Customer, batch: Import, log: Log) -> bool:
        """Enrol in all campaigns of the batch, which uses each once. Whether one of them is new to the customer."""
        new = any(not customer.uses[campaign] for campaign in batch.campaigns)
        for campaign in batch.campaigns:
            if (customer.number, campaign) not in log.uses:
                log.uses[customer.number, campaign] = 1
                customer.uses[campaign] += 1
        return new

    def _add(self, customer: Customer, row: Row, batch: Import, log: Log) -> bool:
        """Add the row's auto_add to the first campaign."""
        given = row.get("auto_add", "")
        if given in ("", "0"):
            return False
        item, amount = (given, 100) if batch.kind == "buyx" else ("", int(Decimal(given.replace(",", ".")) * 100))
        for points in (self.points, log.points):
            points[customer.number, batch.campaigns[0], item] += amount
        return True

    def holder(self, name: str, value: Value) -> Customer | None:
        """Who has this code, card, user name (in any case) or unique value."""
        wanted = folded(name, value)
        holders = (c for c in self.customers.values() if wanted and folded(name, c.fields.get(name, "")) == wanted)
        return next(holders, None)

    def root(self, number: int) -> int:
        """The import at the beginning of a chain of undos."""
        undoes = self.history[number].undoes
        return self.batch(number) if undoes is None else self.root(undoes)

    def batch(self, number: int) -> int:
        """The batch that a chunk belongs to."""
        first = self.history[number].part_of
        return number if first is None else first

    def touched(self, customer: int, root: int) -> bool:
        """Whether another import that is in force did something to the customer."""
        logs = (log for log in self.history.values() if log.undoes is None and log.in_force)
        return any(log.touches(customer) for log in logs if self.batch(log.number) != root)


def text(value: Value) -> str:
    """A value without its version."""
    return value if isinstance(value, str) else value[0]


def folded(name: str, value: Value) -> str:
    """A value as it is compared with other customers'."""
    return text(value).casefold() if name == "customer_username" else text(value)
