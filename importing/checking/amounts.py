"""Parses and writes amounts, which are stored in hundredths. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import re

from importing.batch import Campaign, CampaignType
from importing.checking.parse_values import InvalidValue

MAX_WHOLE_DIGITS = 7  # below 10,000,000
HUNDREDTHS_IN_ONE = 100

# `1,000` has three digits after the comma and is refused: it may mean one or a thousand.
_NUMBER = re.compile(r"([0-9]+)(?:[.,]([0-9]{1,2}))?|[.,]([0-9]{1,2})")

Addition = tuple[int | None, int | None]
NO_ADDITION: Addition = (None, None)


def parse_hundredths(text: str) -> int:
    """The number in hundredths. Raises InvalidValue.

    >>> parse_hundredths("9.95"), parse_hundredths("9,5"), parse_hundredths(".75")
    (995, 950, 75)
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise InvalidValue("bad_amount")
    whole, decimals, only_decimals = match.groups()
    whole = (whole or "").lstrip("0")
    if len(whole) > MAX_WHOLE_DIGITS:
        raise InvalidValue("bad_amount")
    return int(whole or "0") * HUNDREDTHS_IN_ONE + int((decimals or only_decimals or "").ljust(2, "0"))


def with_decimals(amount: int) -> str:
    """An amount of hundredths with two decimals.

    >>> with_decimals(2500), with_decimals(-5)
    ('25.00', '-0.05')
    """
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // HUNDREDTHS_IN_ONE}.{abs(amount) % HUNDREDTHS_IN_ONE:02d}"


def parse_addition(text: str, campaign: Campaign | None) -> Addition:
    """What a value of `auto_add` adds to the campaign: hundredths and, for buyx, the item's number. Raises InvalidValue.

    `0` and blank add nothing, whatever the campaign's type, and also without a campaign.
    """
    if text in ("", "0"):
        return NO_ADDITION
    if campaign is not None and campaign.type is CampaignType.BUYX:
        return _parse_item(text, campaign)
    number = parse_hundredths(text)
    if not number:
        return NO_ADDITION
    if campaign is None:
        raise InvalidValue("no_campaign_to_add_to")
    if campaign.type is CampaignType.EVENTS and number % HUNDREDTHS_IN_ONE:
        raise InvalidValue("bad_visits")
    return number, None


def _parse_item(text: str, campaign: Campaign) -> Addition:
    item = campaign.items.get(text.casefold())
    if item is not None:
        return HUNDREDTHS_IN_ONE, item
    if text.strip("0") in (".", ",", "") and _NUMBER.fullmatch(text):
        return NO_ADDITION  # `0.00`, as some terminals write nothing to add
    raise InvalidValue("bad_item")
