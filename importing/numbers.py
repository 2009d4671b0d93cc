"""Codes and card numbers made up for customers: random, unique, all digits, from the operating system's secure source."""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterator

from importing.faults import Fault
from storage import fresh
from storage.workspace import Workspace

CODE_DIGITS = 16
# So many digits and fewer can be listed when they run short: 900,000 numbers. More of them are drawn until free.
COUNTABLE_DIGITS = 6
DRAWS = 64


def make_codes(work: Workspace, account: int) -> None:
    """Draw a code for every new customer that has none."""
    _draw(work, fresh.CODE, CODE_DIGITS, account)
    while taken := fresh.taken(work, "code", account):
        fresh.redraw(work, [(kind, ref, next(_random(CODE_DIGITS))) for kind, ref in taken])


def make_cards(work: Workspace, digits: int, account: int) -> None:
    """Draw a card number for every new or processed customer that has none. Raises Fault("cards_exhausted")."""
    count = sum(_draw(work, kind, digits, account) for kind in (fresh.MADE_CARD, fresh.STORED_CARD))
    for _ in range(DRAWS):
        taken = fresh.taken(work, "card_number", account)
        if not taken:
            return
        if digits <= COUNTABLE_DIGITS and len(taken) * 4 > count:
            _deal(work, digits, account)
            return
        fresh.redraw(work, [(kind, ref, next(_random(digits))) for kind, ref in taken])
    raise Fault("cards_exhausted", digits=digits)


def _draw(work: Workspace, kind: str, digits: int, account: int) -> int:
    wanted = array("q", fresh.wanted(work, kind, account))
    if wanted:
        fresh.draw(work, kind, zip(wanted, _random(digits), strict=False))
    return len(wanted)


def _deal(work: Workspace, digits: int, account: int) -> None:
    # Nearly all numbers of this length are in use: list the free ones and deal them out.
    used = bytearray(9 * 10 ** (digits - 1) // 8 + 1)
    first = 10 ** (digits - 1)
    total = 9 * first
    free = total
    for value in fresh.numbers_in_use(work, digits, account):
        if value.isascii() and value.isdigit() and value[0] != "0":
            at = int(value) - first
            if not used[at >> 3] >> (at & 7) & 1:
                used[at >> 3] |= 1 << (at & 7)
                free -= 1
    who = [(kind, ref) for kind in (fresh.MADE_CARD, fresh.STORED_CARD) for ref in fresh.wanted(work, kind, account)]
    if len(who) > free:
        raise Fault("cards_exhausted", digits=digits)
    places = sorted(secrets.SystemRandom().sample(range(free), len(who)))
    chosen = list(_numbers_at(used, total, first, places))
    secrets.SystemRandom().shuffle(chosen)
    fresh.redraw(work, [(kind, ref, str(number)) for (kind, ref), number in zip(who, chosen, strict=True)])


def _numbers_at(used: bytearray, total: int, first: int, places: list[int]) -> Iterator[int]:
    """The free numbers at the given places among all free ones, both in growing order."""
    waiting = iter(places)
    place = next(waiting, None)
    seen = 0
    for at in range(total):
        if place is None:
            return
        if used[at >> 3] >> (at & 7) & 1:
            continue
        if seen == place:
            yield first + at
            place = next(waiting, None)
        seen += 1


def _random(digits: int) -> Iterator[str]:
    """Numbers of so many digits, no leading zero, each equally likely."""
    first = 10 ** (digits - 1)
    span = 9 * first
    size = (span.bit_length() + 7) // 8 + 1
    limit = (1 << (8 * size)) // span * span
    while True:
        block = secrets.token_bytes(size * 256)
        for start in range(0, len(block), size):
            number = int.from_bytes(block[start : start + size], "big")
            if number < limit:
                yield str(first + number % span)
