"""Codes and card numbers that are drawn for customers: digits only, unique, from the operating system's secure source."""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterator

from importing.errors import ApiError
from storage import generated_keys
from storage.batch_transaction import BatchTransaction

CODE_DIGITS = 16
# Numbers of at most so many digits, 900,000, are listed when they run short. Longer ones are drawn until they are free.
LISTABLE_DIGITS = 6
MAX_DRAWS = 64


def make_codes(work: BatchTransaction, account: int) -> None:
    """Draw a code for every new customer that has none."""
    _draw_keys(work, generated_keys.CODE, CODE_DIGITS, account)
    while taken_keys := generated_keys.list_taken(work, "code", account):
        _redraw_keys(work, taken_keys, CODE_DIGITS)


def make_cards(work: BatchTransaction, digits: int, account: int) -> None:
    """Draw a card number for every new or processed customer that has none. Raises ApiError("cards_exhausted")."""
    kinds = (generated_keys.NEW_CARD, generated_keys.STORED_CARD)
    count = sum(_draw_keys(work, kind, digits, account) for kind in kinds)
    for _ in range(MAX_DRAWS):
        taken_keys = generated_keys.list_taken(work, "card_number", account)
        if not taken_keys:
            return
        if digits <= LISTABLE_DIGITS and len(taken_keys) * 4 > count:
            owners = [(kind, ref) for kind in kinds for ref in generated_keys.list_needing(work, kind, account)]
            _deal_free_numbers(work, owners, digits, account)
            return
        _redraw_keys(work, taken_keys, digits)
    raise ApiError("cards_exhausted", digits=digits)


def _draw_keys(work: BatchTransaction, kind: str, digits: int, account: int) -> int:
    refs = array("q", generated_keys.list_needing(work, kind, account))
    if refs:
        generated_keys.store_drawn(work, kind, zip(refs, _random_numbers(digits), strict=False))
    return len(refs)


def _redraw_keys(work: BatchTransaction, taken_keys: list[tuple[str, int]], digits: int) -> None:
    numbers = _random_numbers(digits)
    generated_keys.replace_drawn(work, [(kind, ref, next(numbers)) for kind, ref in taken_keys])


def _deal_free_numbers(work: BatchTransaction, owners: list[tuple[str, int]], digits: int, account: int) -> None:
    """Deal out free numbers at random, when nearly all of this length are in use."""
    first = 10 ** (digits - 1)
    is_used = bytearray(9 * first)
    for value in generated_keys.numbers_in_use(work, digits, account):
        if value.isascii() and value.isdigit() and value[0] != "0":
            is_used[int(value) - first] = 1
    free = is_used.count(0)
    if len(owners) > free:
        raise ApiError("cards_exhausted", digits=digits)
    random = secrets.SystemRandom()
    chosen = set(random.sample(range(free), len(owners)))
    free_numbers = (number for number, used in enumerate(is_used, first) if not used)
    numbers = [number for n, number in enumerate(free_numbers) if n in chosen]
    random.shuffle(numbers)
    generated_keys.replace_drawn(
        work, [(kind, ref, str(number)) for (kind, ref), number in zip(owners, numbers, strict=True)]
    )


def _random_numbers(digits: int) -> Iterator[str]:
    """Numbers of so many digits without a leading zero, each equally likely."""
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
