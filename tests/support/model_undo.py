"""The truth about undos, beside `model`: one customer and one field at a time. Source: docs/protocol.md, Undo."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.model import IDENTITY, SECRETS, UNIQUE, Customer, Fields, Log, Model, Value, folded, text


@dataclass
class Undone:
    """What an undo did. A conflict is (code of the customer, field, written, current)."""

    fault: str = ""
    log: int | None = None
    counts: Counter[str] = field(default_factory=Counter)
    conflicts: list[tuple[str, str, str, str]] = field(default_factory=list)


# Of several chunks' fates of a customer, what counts: nothing comes back to who is gone, and any little is something.
WINS = ("kept", "restored", "removed")


def undo(model: Model, number: int) -> Undone:
    """Take the batch back, per field, where its own value still stands: one chunk after another, the newest first."""
    first = model.history[number]
    if not first.keep_undo:
        return Undone("undo_unavailable")
    if not first.in_force:
        return Undone("already_undone")
    targets = [log for log in model.history.values() if model.batch(log.number) == number]
    fates: dict[int, str] = {}
    conflicts: dict[tuple[int, str], tuple[str, str, str]] = {}
    undone: int | None = None
    for target in reversed(targets):
        plan = _Plan(model, target)
        plan.make()
        for customer, fate in plan.fates():
            fates[customer] = max(fate, fates.get(customer, fate), key=WINS.index)
        for key, conflict in plan.conflicts():
            conflicts.setdefault(key, conflict)
        log = Log(len(model.history) + 1, undoes=number, part_of=undone)
        undone = undone or log.number
        _carry_out(model, plan, log)
    # The import is in force again, or no longer; of the undos in its chain only the newest can itself be undone.
    root = model.root(number)
    for other in model.history.values():
        if model.root(other.number) == root:
            batch = model.batch(other.number)
            other.in_force = batch == undone or (batch == root and not other.in_force)
    named = [
        (text(model.customers[customer].fields.get("code", code)), name, *values)
        for (customer, name), (code, *values) in conflicts.items()
        if fates.get(customer) != "removed"
    ]
    return Undone(log=undone, counts=Counter(fates.values()), conflicts=sorted(named))  # type: ignore[arg-type]


def _carry_out(model: Model, plan: _Plan, log: Log) -> None:
    target = plan.target
    for customer in target.before:
        here = model.customers[customer]
        was = None if here.removed else here.fields
        image = plan.images.get(customer, was)
        log.before[customer], log.written[customer] = copy.copy(was), copy.copy(image)
        here.removed, here.fields = image is None, dict(image or {})
    for points, amount in target.points.items():
        model.points[points] -= amount
        log.points[points] = -amount
    for (customer, campaign), uses in target.uses.items():
        model.customers[customer].uses[campaign] -= uses
        log.uses[customer, campaign] = -uses
    model.history[log.number] = log


class _Plan:
    """What an undo shall make of each customer that the batch touched. `images`: the fields to be, None to remove."""

    def __init__(self, model: Model, target: Log) -> None:
        self.model, self.target = model, target
        self.images: dict[int, Fields | None] = {}
        self._restored: set[tuple[int, str]] = set()
        self._revived: set[int] = set()
        self._conflicts: dict[tuple[int, str], tuple[str, str]] = {}  # written, current

    def make(self) -> None:
        for number, before in self.target.before.items():
            customer, written = self.model.customers[number], self.target.written[number]
            if before is None and written is None:
                continue
            if before is None:
                self._remove(customer)
            elif written is None:
                self.images[number] = dict(before)
                self._revived.add(number)
            elif customer.removed:
                if self.target.touches(number):
                    self._conflicts[number, "customer"] = "", ""
            else:
                self._restore(customer, before, written)
        while clash := self._clash():
            self._give_up(*clash)

    def _remove(self, customer: Customer) -> None:
        if customer.removed:
            return
        if self.model.touched(customer.number, self.model.root(self.target.number)):
            self._conflicts[customer.number, "customer"] = "", ""
        else:
            self.images[customer.number] = None

    def _restore(self, customer: Customer, before: Fields, written: Fields) -> None:
        image = self.images[customer.number] = dict(customer.fields)
        for name in sorted(before.keys() | written.keys()):
            was, wrote, now = (fields.get(name, "") for fields in (before, written, customer.fields))
            if was == wrote:
                continue
            if now == wrote:
                image[name] = was
                self._restored.add((customer.number, name))
            else:
                self._conflicts[customer.number, name] = shown(name, wrote), shown(name, now)
        self.images[customer.number] = {name: value for name, value in image.items() if value}

    def _clash(self) -> tuple[int, str] | None:
        """A value to be brought back that somebody else would have then."""
        after = {n: self.images.get(n, c.fields) for n, c in self.model.customers.items()}
        claims = self._restored | {(number, name) for number in self._revived for name in (*IDENTITY, *UNIQUE)}
        for number, name in sorted(claims, key=lambda claim: (claim[1] != "code", claim)):
            value = folded(name, (after[number] or {}).get(name, ""))
            others = (fields for other, fields in after.items() if fields and other != number)
            if value and name in (*IDENTITY, *UNIQUE) and any(folded(name, f.get(name, "")) == value for f in others):
                return number, name
        return None

    def _give_up(self, number: int, name: str) -> None:
        """Leave the value as it is. A removed customer whose code is taken stays removed."""
        now = self.model.customers[number].fields.get(name, "")
        if number in self._revived and name == "code":
            del self.images[number]
            self._revived.discard(number)
            # The one conflict of somebody who does not come back; what else is taken does not matter then.
            self._conflicts = {key: value for key, value in self._conflicts.items() if key[0] != number}
            self._conflicts[number, name] = "", ""
            return
        self._conflicts[number, name] = text(now), text(now)
        image = self.images[number]
        assert image is not None
        self._restored.discard((number, name))
        image.pop(name, None)
        if now:
            image[name] = now

    def conflicts(self) -> Iterator[tuple[tuple[int, str], tuple[str, str, str]]]:
        """Customer and field; the customer's code, what the batch wrote, what is there now."""
        for (number, name), values in self._conflicts.items():
            yield (number, name), (self._code(number), *values)

    def _code(self, number: int) -> str:
        fields = self.images.get(number) or self.model.customers[number].fields or self.target.before[number] or {}
        return text(fields.get("code", ""))

    def fates(self) -> Iterator[tuple[int, str]]:
        """restored, removed or kept: one for each customer on whom anything differed."""
        for number in self.target.before:
            if self.images.get(number, {}) is None:
                yield number, "removed"
            elif (number, "customer") not in self._conflicts and self._brought(number):
                yield number, "restored"
            elif any(customer == number for customer, _ in self._conflicts):
                yield number, "kept"

    def _brought(self, number: int) -> bool:
        """Whether a field, points or an enrolment of a customer who is there come back."""
        uses = self.model.customers[number].uses
        flips = any(
            (uses[campaign] > 0) != (uses[campaign] - used > 0)
            for (customer, campaign), used in self.target.uses.items()
            if customer == number
        )
        points = any(customer == number and amount for (customer, _, _), amount in self.target.points.items())
        here = number in self._revived or not self.model.customers[number].removed
        return here and (flips or points or number in self._revived or any(n == number for n, _ in self._restored))


def shown(name: str, value: Value) -> str:
    """A value as a conflict shows it: secrets are named only."""
    return "" if name in SECRETS else text(value)
