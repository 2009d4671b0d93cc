"""The few rows of a batch that share or hand over a key, taken in row order as if each were a batch of its own.

Pure, and about keys only: what the rows write is merged afterwards (merge_rows.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from importing.batch import Mode
from importing.disk_list import DiskList
from importing.errors import Problem
from storage import unique_values
from storage.match import DependentRow, KeyOwner, LaterRow


@dataclass(slots=True)
class KeyHolder:
    """A customer: its number (None: a row of the batch creates it), its first row (0: none yet), its keys now and before."""

    id: int | None
    first_row: int
    keys: dict[str | int, str]
    stored_keys: dict[str | int, str]
    has_new_card: bool = False


@dataclass(slots=True)
class ResolvedRows:
    """What became of the dependent rows.

    `matches` are (row, customer). `renaming_rows` changed a code or card of their customer; for `card_rows` a card number
    is drawn. The last keys of customers: `stored` (customer, new code or None, new card or None) and `created` (first row,
    code, card).
    """

    matches: DiskList[tuple[int, int]] = field(default_factory=DiskList)
    later_rows: DiskList[LaterRow] = field(default_factory=DiskList)
    renaming_rows: set[int] = field(default_factory=set)
    card_rows: list[int] = field(default_factory=list)
    stored: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    created: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    problems: DiskList[Problem] = field(default_factory=DiskList)
    bad_rows: list[int] = field(default_factory=list)


def resolve(
    dependent_rows: Iterable[DependentRow], owners: Iterable[KeyOwner], mode: Mode, makes_cards: bool = False
) -> ResolvedRows:
    """Take the rows in order. `makes_cards`: the first row that writes to a customer without a card gives it one."""
    resolver = _Resolver(owners, mode, makes_cards)
    for row in dependent_rows:
        resolver.take(row)
    return resolver.finish()


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
        self.by_key: dict[tuple[str | int, str | None], KeyHolder] = {}
        for owner in owners:
            code_and_card = {"code": owner.code, "card_number": owner.card_number}
            keys = owner.unique | {kind: value for kind, value in code_and_card.items() if value is not None}
            holder = KeyHolder(owner.id, 0, keys, dict(keys))
            self.holders.append(holder)
            for key in keys.items():
                self.by_key[key] = holder

    def take(self, row: DependentRow) -> None:
        by_code = self.by_key.get(("code", row.code))
        by_card = self.by_key.get(("card_number", row.card_number))
        holder = by_code or by_card
        if by_code and by_card and by_code is not by_card:
            problems = [Problem(row.row, "card_number", "key_conflict", row.card_number or "", ref=row.code or "")]
        else:
            problems = self._list_taken(row, holder)
            if self.mode is Mode.CREATE and holder:
                problems.insert(0, exists_problem(row.row, row.code, row.card_number, by_code is not None))
        if problems:
            self.resolution.bad_rows.append(row.row)
            for problem in problems:
                self.resolution.problems.append(problem)
        elif holder is None:
            holder = KeyHolder(None, row.row, {}, {})
            self.holders.append(holder)
            self._write(row, holder)
        else:
            self._act_on(row, holder)

    def _list_taken(self, row: DependentRow, holder: KeyHolder | None) -> list[Problem]:
        """A problem for each unique value of the row that another customer has."""
        problems = []
        for kind, value in row.unique.items():
            if value and self.by_key.get((kind, value), holder) is not holder:
                if kind == "username":
                    details = ("customer_username", "username_in_use", row.username)
                else:
                    details = (unique_values.field_name(int(kind)), "value_in_use", value)
                problems.append(Problem(row.row, *details, ref=row.code or ""))
        return problems

    def _act_on(self, row: DependentRow, holder: KeyHolder) -> None:
        is_ignored = self.mode is Mode.IGNORE
        if holder.id is not None:
            self.resolution.matches.append((row.row, holder.id))
        if holder.first_row:
            self.resolution.later_rows.append((row.row, holder.first_row, holder.id, int(is_ignored)))
        else:
            holder.first_row = row.row
        if not is_ignored:
            self._write(row, holder)

    def _write(self, row: DependentRow, holder: KeyHolder) -> None:
        has_card = row.card_number is not None or "card_number" in holder.keys or holder.has_new_card
        if self.makes_cards and not has_card:
            self.resolution.card_rows.append(row.row)
            holder.has_new_card = True
        for key, value in (("code", row.code), ("card_number", row.card_number)):
            if value is not None and holder.keys.get(key) != value:
                self.resolution.renaming_rows.add(row.row)
                self._give(holder, key, value)
        if self.mode is Mode.REPLACE:
            # UMA addresses are attributes, which are merged in every mode.
            kept = {"code", "card_number", unique_values.UMA_ADDRESS, *row.unique}
            for kind in [kind for kind in holder.keys if kind not in kept]:
                self._give(holder, kind, "")
        for kind, value in row.unique.items():
            if holder.keys.get(kind, "") != value:
                self._give(holder, kind, value)

    def _give(self, holder: KeyHolder, kind: str | int, value: str) -> None:
        before = holder.keys.pop(kind, None)
        if before is not None:
            del self.by_key[kind, before]
        if value:
            holder.keys[kind] = value
            self.by_key[kind, value] = holder

    def finish(self) -> ResolvedRows:
        for holder in self.holders:
            code, card = holder.keys.get("code"), holder.keys.get("card_number")
            if holder.id is None:
                self.resolution.created.append((holder.first_row, code, card))
            elif holder.first_row:
                new_code = code if code != holder.stored_keys.get("code") else None
                new_card = card if card != holder.stored_keys.get("card_number") else None
                self.resolution.stored.append((holder.id, new_code, new_card))
        return self.resolution
