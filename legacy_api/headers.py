"""The `profiles_header_N` fields -> the headers of a batch. Source: docs/protocol.md, Headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from importing.batch import Header
from importing.errors import ApiError
from importing.fields import FIELD_BY_NAME, HEADER_ALIASES, Field

HIGHEST = 999

NUMBERED = "profiles_header_"
_NUMBERED = re.compile(rf"{NUMBERED}([0-9]+)")
_CUSTOM = re.compile(r"custom_field_0*([1-9][0-9]{0,2})")


def headers(fields: Mapping[str, str], custom: Mapping[str, Field]) -> tuple[Header, ...]:
    """The headers in growing position; `custom` are the account's custom fields by name. Raises a ApiError.

    A header sent blank is an unused column. What a gap between two positions means is not decided here.
    """
    sent = _numbered(fields)
    if not any(sent.values()):
        raise ApiError("no_header")
    _check_gaps(sent)
    found = tuple(Header(number, _field(sent[number], number, custom)) for number in sorted(sent))
    _check_names(found)
    return found


def _numbered(fields: Mapping[str, str]) -> dict[int, str]:
    sent: dict[int, str] = {}
    for name, value in fields.items():
        match = _NUMBERED.fullmatch(name)
        if match is None:
            continue
        digits = match[1].lstrip("0")
        # Long ones are never made a number: that takes quadratic time, and fails beyond 4,300 digits.
        number = int(digits) if 0 < len(digits) <= 3 else 0
        if number == 0:
            raise ApiError("bad_header_number", value=name)
        if number in sent:
            raise ApiError("header_number_twice", number=number)
        sent[number] = value.strip()
    return sent


def _check_gaps(numbers: Iterable[int]) -> None:
    before = 0
    for number in sorted(numbers):
        if number - before > 2:
            raise ApiError("header_gap", first=before, second=number)
        before = number


def _field(sent: str, number: int, custom: Mapping[str, Field]) -> Field | None:
    if not sent:
        return None
    name = sent.lower().replace("-", "_")
    name = HEADER_ALIASES.get(name, name)
    if name in FIELD_BY_NAME:
        return FIELD_BY_NAME[name]
    header = _label(number)
    match = _CUSTOM.fullmatch(name)
    if match is None:
        raise ApiError("unknown_header", header=header, value=sent)
    field = custom.get(f"custom_field_{match[1]}")
    if field is None:
        raise ApiError("undefined_custom_field", header=header, value=sent)
    return field


def _check_names(found: Iterable[Header]) -> None:
    first: dict[str, int] = {}
    for header in found:
        if header.field is None:
            continue
        name = header.field.name
        if name in first:
            raise ApiError("header_twice", value=name, first=_label(first[name]), second=_label(header.position))
        first[name] = header.position


def _label(position: int) -> str:
    return f"profiles_header_{position}"
