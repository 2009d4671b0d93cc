"""One after another: the few rows of a batch that meet each other, taken in row order as if each were a batch of its own.

Pure: it knows keys only. What the rows write is folded afterwards (importing/fold.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from importing.batch import Mode
from importing.faults import Problem
from importing.spool import Spool
from storage import uniques
from storage.reconcile import Claim, Follow, Owner

Key = tuple[str | int, str]


@dataclass(slots=True)
class Holder:
    """A customer as the rows see it: `id` where it is stored, else the row that made it; its first row; its keys."""

    id: int | None
    first_row: int
    keys: dict[str | int, str]
    stored: dict[str | int, str]
    card_made: bool = False


@dataclass(slots=True)
class Settled:
    """What became of the careful rows.

    `renaming` are the rows that changed a code or card of their customer, `cards` those that got one made. `stored`
    (customer, new code or None, new card or None) and `made` (row, code, card) are what keys customers end with.
    """

    hits: Spool[tuple[int, int]] = field(default_factory=Spool)
    follows: Spool[Follow] = field(default_factory=Spool)
    renaming: set[int] = field(default_factory=set)
    cards: list[int] = field(default_factory=list)
    stored: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    made: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    problems: Spool[Problem] = field(default_factory=Spool)
    bad_rows: list[int] = field(default_factory=list)


def settle(claims: Iterable[Claim], owners: Iterable[Owner], mode: Mode, makes_cards: bool = False) -> Settled:
    """Take the rows in order. `makes_cards`: a customer without a card gets one made by the first row that acts on it."""
    world = _World(owners, mode, makes_cards)
    for claim in claims:
        world.take(claim)
    return world.finished()


def exists(row: int, code: str | None, card_number: str | None, by_code: bool) -> Problem:
    """The problem of a row that matches, in a batch that only creates."""
    field, value = ("code", code) if by_code else ("card_number", card_number)
    return Problem(row, field, "exists", value or "", ref=code or "")


class _World:
    def __init__(self, owners: Iterable[Owner], mode: Mode, makes_cards: bool) -> None:
        self.makes_cards = makes_cards
        self.mode = mode
        self.settled = Settled()
        self.holders: list[Holder] = []
        self.by_key: dict[Key, Holder] = {}
        for owner in owners:
            keys: dict[str | int, str] = dict(owner.unique)
            if owner.code is not None:
                keys["code"] = owner.code
            if owner.card_number is not None:
                keys["card_number"] = owner.card_number
            holder = Holder(owner.id, 0, keys, dict(keys))
            self.holders.append(holder)
            for key in keys.items():
                self.by_key[key] = holder

    def take(self, claim: Claim) -> None:
        by_code = self.by_key.get(("code", claim.code)) if claim.code is not None else None
        by_card = self.by_key.get(("card_number", claim.card_number)) if claim.card_number is not None else None
        if by_code is not None and by_card is not None and by_code is not by_card:
            problem = Problem(claim.row, "card_number", "key_conflict", claim.card_number or "", ref=claim.code or "")
            return self.refuse(claim.row, [problem])
        holder = by_code or by_card
        problems = [
            Problem(claim.row, "customer_username", "username_in_use", claim.username, ref=claim.code or "")
            if kind == "username"
            else Problem(claim.row, uniques.key(int(kind)), "value_in_use", value, ref=claim.code or "")
            for kind, value in claim.unique.items()
            if value and self.by_key.get((kind, value), holder) is not holder
        ]
        if self.mode is Mode.CREATE and holder is not None:
            problems.insert(0, exists(claim.row, claim.code, claim.card_number, by_code is not None))
        if problems:
            return self.refuse(claim.row, problems)
        if holder is None:
            holder = Holder(None, claim.row, {}, {})
            self.holders.append(holder)
            self.write(claim, holder)
            return None
        ignored = self.mode is Mode.IGNORE
        if holder.id is not None:
            self.settled.hits.append((claim.row, holder.id))
        if holder.first_row:
            self.settled.follows.append((claim.row, holder.first_row, holder.id, int(ignored)))
        else:
            holder.first_row = claim.row
        if not ignored:
            self.write(claim, holder)
        return None

    def refuse(self, row: int, problems: list[Problem]) -> None:
        self.settled.bad_rows.append(row)
        for problem in problems:
            self.settled.problems.append(problem)

    def write(self, claim: Claim, holder: Holder) -> None:
        if self.makes_cards and claim.card_number is None and "card_number" not in holder.keys and not holder.card_made:
            self.settled.cards.append(claim.row)
            holder.card_made = True
        for key, given in (("code", claim.code), ("card_number", claim.card_number)):
            if given is not None and holder.keys.get(key) != given:
                self.settled.renaming.add(claim.row)
                self.give(holder, key, given)
        if self.mode is Mode.REPLACE:
            for kind in [kind for kind in holder.keys if kind not in ("code", "card_number")]:
                if kind not in claim.unique and kind != uniques.UMA_ADDRESS:  # attributes are merged in every mode
                    self.give(holder, kind, "")
        for kind, value in claim.unique.items():
            if holder.keys.get(kind, "") != value:
                self.give(holder, kind, value)

    def give(self, holder: Holder, kind: str | int, value: str) -> None:
        before = holder.keys.pop(kind, None)
        if before is not None:
            del self.by_key[kind, before]
        if value:
            holder.keys[kind] = value
            self.by_key[kind, value] = holder

    def finished(self) -> Settled:
        for holder in self.holders:
            code, card = holder.keys.get("code"), holder.keys.get("card_number")
            if holder.id is None:
                self.settled.made.append((holder.first_row, code, card))
            elif holder.first_row:
                self.settled.stored.append(
                    (
                        holder.id,
                        code if code != holder.stored.get("code") else None,
                        card if card != holder.stored.get("card_number") else None,
                    )
                )
        return self.settled
