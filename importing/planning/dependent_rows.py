"""One after another: the few rows of a batch that meet each other, taken in row order as if each were a batch of its own.

Pure: it knows keys only. What the rows write is folded afterwards (importing/planning/merge_rows.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from importing.batch import Mode
from importing.disk_list import DiskList
from importing.errors import Problem
from storage import unique_values
from storage.match import DependentRow, KeyOwner, LaterRow

HeldKey = tuple[str | int, str]


@dataclass(slots=True)
class KeyHolder:
    """A customer as the rows see it: `id` where it is stored, else the row that made it; its first row; its keys."""

    id: int | None
    first_row: int
    keys: dict[str | int, str]
    stored: dict[str | int, str]
    card_made: bool = False


@dataclass(slots=True)
class ResolvedRows:
    """What became of the careful rows.

    `renaming` are the rows that changed a code or card of their customer, `cards` those that got one made. `stored`
    (customer, new code or None, new card or None) and `made` (row, code, card) are what keys customers end with.
    """

    matches: DiskList[tuple[int, int]] = field(default_factory=DiskList)
    later_rows: DiskList[LaterRow] = field(default_factory=DiskList)
    renaming_rows: set[int] = field(default_factory=set)
    cards: list[int] = field(default_factory=list)
    stored: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    made: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    problems: DiskList[Problem] = field(default_factory=DiskList)
    bad_rows: list[int] = field(default_factory=list)


def resolve(
    dependent_rows: Iterable[DependentRow], owners: Iterable[KeyOwner], mode: Mode, makes_cards: bool = False
) -> ResolvedRows:
    """Take the rows in order. `makes_cards`: a customer without a card gets one made by the first row that acts on it."""
    resolver = _Resolver(owners, mode, makes_cards)
    for dependent_row in dependent_rows:
        resolver.take(dependent_row)
    return resolver.finished()


def exists_problem(row: int, code: str | None, card_number: str | None, by_code: bool) -> Problem:
    """The problem of a row that matches, in a batch that only creates."""
    field, value = ("code", code) if by_code else ("card_number", card_number)
    return Problem(row, field, "exists", value or "", ref=code or "")


class _Resolver:
    def __init__(self, owners: Iterable[KeyOwner], mode: Mode, makes_cards: bool) -> None:
        self.makes_cards = makes_cards
        self.mode = mode
        self.resolution = ResolvedRows()
        self.holders: list[KeyHolder] = []
        self.by_key: dict[HeldKey, KeyHolder] = {}
        for owner in owners:
            keys: dict[str | int, str] = dict(owner.unique)
            if owner.code is not None:
                keys["code"] = owner.code
            if owner.card_number is not None:
                keys["card_number"] = owner.card_number
            holder = KeyHolder(owner.id, 0, keys, dict(keys))
            self.holders.append(holder)
            for key in keys.items():
                self.by_key[key] = holder

    def take(self, dependent_row: DependentRow) -> None:
        by_code = self.by_key.get(("code", dependent_row.code)) if dependent_row.code is not None else None
        by_card = (
            self.by_key.get(("card_number", dependent_row.card_number))
            if dependent_row.card_number is not None
            else None
        )
        if by_code is not None and by_card is not None and by_code is not by_card:
            problem = Problem(
                dependent_row.row,
                "card_number",
                "key_conflict",
                dependent_row.card_number or "",
                ref=dependent_row.code or "",
            )
            return self.refuse(dependent_row.row, [problem])
        holder = by_code or by_card
        problems = [
            Problem(
                dependent_row.row,
                "customer_username",
                "username_in_use",
                dependent_row.username,
                ref=dependent_row.code or "",
            )
            if kind == "username"
            else Problem(
                dependent_row.row,
                unique_values.field_name(int(kind)),
                "value_in_use",
                value,
                ref=dependent_row.code or "",
            )
            for kind, value in dependent_row.unique.items()
            if value and self.by_key.get((kind, value), holder) is not holder
        ]
        if self.mode is Mode.CREATE and holder is not None:
            problems.insert(
                0, exists_problem(dependent_row.row, dependent_row.code, dependent_row.card_number, by_code is not None)
            )
        if problems:
            return self.refuse(dependent_row.row, problems)
        if holder is None:
            holder = KeyHolder(None, dependent_row.row, {}, {})
            self.holders.append(holder)
            self.write(dependent_row, holder)
            return None
        is_ignored = self.mode is Mode.IGNORE
        if holder.id is not None:
            self.resolution.matches.append((dependent_row.row, holder.id))
        if holder.first_row:
            self.resolution.later_rows.append((dependent_row.row, holder.first_row, holder.id, int(is_ignored)))
        else:
            holder.first_row = dependent_row.row
        if not is_ignored:
            self.write(dependent_row, holder)
        return None

    def refuse(self, row: int, problems: list[Problem]) -> None:
        self.resolution.bad_rows.append(row)
        for problem in problems:
            self.resolution.problems.append(problem)

    def write(self, dependent_row: DependentRow, holder: KeyHolder) -> None:
        if (
            self.makes_cards
            and dependent_row.card_number is None
            and "card_number" not in holder.keys
            and not holder.card_made
        ):
            self.resolution.cards.append(dependent_row.row)
            holder.card_made = True
        for key, given_key in (("code", dependent_row.code), ("card_number", dependent_row.card_number)):
            if given_key is not None and holder.keys.get(key) != given_key:
                self.resolution.renaming_rows.add(dependent_row.row)
                self.give(holder, key, given_key)
        if self.mode is Mode.REPLACE:
            for kind in [kind for kind in holder.keys if kind not in ("code", "card_number")]:
                if (
                    kind not in dependent_row.unique and kind != unique_values.UMA_ADDRESS
                ):  # attributes are merged in every mode
                    self.give(holder, kind, "")
        for kind, value in dependent_row.unique.items():
            if holder.keys.get(kind, "") != value:
                self.give(holder, kind, value)

    def give(self, holder: KeyHolder, kind: str | int, value: str) -> None:
        before = holder.keys.pop(kind, None)
        if before is not None:
            del self.by_key[kind, before]
        if value:
            holder.keys[kind] = value
            self.by_key[kind, value] = holder

    def finished(self) -> ResolvedRows:
        for holder in self.holders:
            code, card = holder.keys.get("code"), holder.keys.get("card_number")
            if holder.id is None:
                self.resolution.made.append((holder.first_row, code, card))
            elif holder.first_row:
                self.resolution.stored.append(
                    (
                        holder.id,
                        code if code != holder.stored.get("code") else None,
                        card if card != holder.stored.get("card_number") else None,
                    )
                )
        return self.resolution
