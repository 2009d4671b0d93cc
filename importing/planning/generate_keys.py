"""Codes and card numbers made up for customers: random, unique, all digits, from the operating system's secure source."""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterator

from importing.errors import ApiError
from storage import generated_keys
from storage.batch_transaction import BatchTransaction

CODE_DIGITS = 16
# So many digits and fewer can be listed when they run short: 900,000 numbers. More of them are drawn until free.
LISTABLE_DIGITS = 6
MAX_DRAWS = 64


def make_codes(work: BatchTransaction, account: int) -> None:
    """Draw a code for every new customer that has none."""
    _draw_keys(work, generated_keys.CODE, CODE_DIGITS, account)
    while taken_keys := generated_keys.list_taken(work, "code", account):
        generated_keys.replace_drawn(
            work, [(kind, ref, next(_random_numbers(CODE_DIGITS))) for kind, ref in taken_keys]
        )


def make_cards(work: BatchTransaction, digits: int, account: int) -> None:
    """Draw a card number for every new or processed customer that has none. Raises ApiError("cards_exhausted")."""
    count = sum(
        _draw_keys(work, kind, digits, account) for kind in (generated_keys.NEW_CARD, generated_keys.STORED_CARD)
    )
    for _ in range(MAX_DRAWS):
        taken_keys = generated_keys.list_taken(work, "card_number", account)
        if not taken_keys:
            return
        if digits <= LISTABLE_DIGITS and len(taken_keys) * 4 > count:
            _deal_free_numbers(work, digits, account)
            return
        generated_keys.replace_drawn(work, [(kind, ref, next(_random_numbers(digits))) for kind, ref in taken_keys])
    raise ApiError("cards_exhausted", digits=digits)


def _draw_keys(work: BatchTransaction, kind: str, digits: int, account: int) -> int:
    refs = array("q", generated_keys.list_needing(work, kind, account))
    if refs:
        generated_keys.store_drawn(work, kind, zip(refs, _random_numbers(digits), strict=False))
    return len(refs)


def _deal_free_numbers(work: BatchTransaction, digits: int, account: int) -> None:
    # Nearly all numbers of this length are in use: list the free ones and deal them out.
    used_bits = bytearray(9 * 10 ** (digits - 1) // 8 + 1)
    first = 10 ** (digits - 1)
    total = 9 * first
    free = total
    for value in generated_keys.numbers_in_use(work, digits, account):
        if value.isascii() and value.isdigit() and value[0] != "0":
            index = int(value) - first
            if not used_bits[index >> 3] >> (index & 7) & 1:
                used_bits[index >> 3] |= 1 << (index & 7)
                free -= 1
    owners = [
        (kind, ref)
        for kind in (generated_keys.NEW_CARD, generated_keys.STORED_CARD)
        for ref in generated_keys.list_needing(work, kind, account)
    ]
    if len(owners) > free:
        raise ApiError("cards_exhausted", digits=digits)
    places = sorted(secrets.SystemRandom().sample(range(free), len(owners)))
    drawn_numbers = list(_free_numbers_at(used_bits, total, first, places))
    secrets.SystemRandom().shuffle(drawn_numbers)
    generated_keys.replace_drawn(
        work, [(kind, ref, str(number)) for (kind, ref), number in zip(owners, drawn_numbers, strict=True)]
    )


def _free_numbers_at(used_bits: bytearray, total: int, first: int, places: list[int]) -> Iterator[int]:
    """The free numbers at the given places among all free ones, both in growing order."""
    places_left = iter(places)
    place = next(places_left, None)
    seen = 0
    for index in range(total):
        if place is None:
            return
        if used_bits[index >> 3] >> (index & 7) & 1:
            continue
        if seen == place:
            yield first + index
            place = next(places_left, None)
        seen += 1


def _random_numbers(digits: int) -> Iterator[str]:
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
