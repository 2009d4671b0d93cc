"""Reads the headers of a batch from the `profiles_header_N` fields. Source: docs/protocol.md, Headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from importing.batch import Header
from importing.errors import ApiError
from importing.fields import FIELD_BY_NAME, HEADER_ALIASES, Field

HEADER_PREFIX = "profiles_header_"
_HEADER = re.compile(rf"{HEADER_PREFIX}([0-9]+)")
_CUSTOM = re.compile(r"custom_field_0*([1-9][0-9]{0,2})")


def headers(fields: Mapping[str, str], custom: Mapping[str, Field]) -> tuple[Header, ...]:
    """The headers by position. `custom` holds the account's custom fields by name. Raises an ApiError.

    A blank header is an unused column. This function does not decide what a gap between two positions means.
    """
    names = _names_by_position(fields)
    if not any(names.values()):
        raise ApiError("no_header")
    _check_gaps(names)
    batch_headers = tuple(Header(position, _field(names[position], position, custom)) for position in sorted(names))
    _check_unique(batch_headers)
    return batch_headers


def _names_by_position(fields: Mapping[str, str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for name, value in fields.items():
        match = _HEADER.fullmatch(name)
        if match is None:
            continue
        digits = match[1].lstrip("0")
        # Long digits are not converted: that takes quadratic time, and Python refuses more than 4,300.
        position = int(digits) if 0 < len(digits) <= 3 else 0
        if position == 0:
            raise ApiError("bad_header_number", value=name)
        if position in names:
            raise ApiError("header_number_twice", number=position)
        names[position] = value.strip()
    return names


def _check_gaps(positions: Iterable[int]) -> None:
    previous = 0
    for position in sorted(positions):
        if position - previous > 2:
            raise ApiError("header_gap", first=previous, second=position)
        previous = position


def _field(sent_name: str, position: int, custom: Mapping[str, Field]) -> Field | None:
    if not sent_name:
        return None
    name = sent_name.lower().replace("-", "_")
    name = HEADER_ALIASES.get(name, name)
    if name in FIELD_BY_NAME:
        return FIELD_BY_NAME[name]
    header = _label(position)
    match = _CUSTOM.fullmatch(name)
    if match is None:
        raise ApiError("unknown_header", header=header, value=sent_name)
    field = custom.get(f"custom_field_{match[1]}")
    if field is None:
        raise ApiError("undefined_custom_field", header=header, value=sent_name)
    return field


def _check_unique(batch_headers: Iterable[Header]) -> None:
    positions: dict[str, int] = {}
    for header in batch_headers:
        if header.field is None:
            continue
        name = header.field.name
        if name in positions:
            raise ApiError("header_twice", value=name, first=_label(positions[name]), second=_label(header.position))
        positions[name] = header.position


def _label(position: int) -> str:
    return f"{HEADER_PREFIX}{position}"
