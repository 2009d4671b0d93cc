"""Parses single values: returns what is stored for a value, or raises what is wrong with it. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, time
from json.encoder import encode_basestring

from importing.fields import Field, FieldKind
from importing.reading.split_rows import BLANKS

Parser = Callable[[str], object]


class InvalidValue(Exception):
    """A value that its field does not accept; `code` is the problem's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def find_parser(field: Field) -> Parser | None:
    """The parser of the field's values: returns what is stored, raises InvalidValue. None: any text is valid."""
    if field.kind is FieldKind.PICK:
        return Choices(field.choices).parse_one
    if field.kind is FieldKind.LIST:
        return Choices(field.choices).parse_list
    return _PARSERS.get(field.kind)


# Fast, because a batch may have a million of each. The first e-mail alternative is the second one for ASCII only, in
# half the time. Blank is plausible.
PLAUSIBLE_PATTERNS = {
    FieldKind.EMAIL: re.compile(r"[!-?A-~]++@(?:[!-\-/-?A-~]++\.)+[!-\-/-?A-~]++|[^\s@]+@(?:[^\s@.]+\.)+[^\s@.]+|"),
    FieldKind.PHONE: re.compile(
        r"(?:[+(]{0,2}[0-9][0-9 ()./-]{3,30}[0-9](?: ?(?:[xX]|[eE][xX][tT])\.? ?[0-9]{1,6})?)?"
    ),
}

_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]")
_ISO_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)((?:\.[0-9]+)?)((?:[eE][+-]?[0-9]+)?)")
EXACT_DIGITS = 15  # of a number that every program reads exactly
_BASIC_DATE = re.compile(r"[0-9]{8}(?![0-9])")
_NO_DATE = "0000-00-00"  # how MySQL and the vendor's own replies write a missing date
_NO_TIME = "00:00:00"


def parse_date(text: str) -> str:
    """A real date YYYY-MM-DD, as given; "" for none. Raises InvalidValue."""
    if text in ("", _NO_DATE):
        return ""
    if not _is_real_date(text):
        raise InvalidValue("bad_date")
    return text


def parse_date_time(text: str) -> str:
    """A real date YYYY-MM-DD, or YYYY-MM-DD HH:MM:SS, as given; "" for none. Raises InvalidValue."""
    day, blank, time = text.partition(" ")
    if text == "" or (day == _NO_DATE and time in ("", _NO_TIME)):
        return ""
    if not _is_real_date(day) or (blank and not _TIME.fullmatch(time)):
        raise InvalidValue("bad_date_time")
    return text


def parse_iso_date(text: str) -> str:
    """The date YYYY-MM-DD of an ISO 8601 date, or date and time with or without an offset; "" for none. Raises InvalidValue.

    The basic form (19700517) is valid too.

    >>> parse_iso_date("2020-02-29T23:59:59.5+02:00")
    '2020-02-29'
    """
    if not text:
        return ""
    if text[4:5] != "-" and _BASIC_DATE.match(text):
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    day, time_of_day = text[:10], text[11:]
    if not _is_real_date(day) or (len(text) > 10 and (text[10] not in "Tt " or not _is_real_time(time_of_day))):
        raise InvalidValue("bad_date")
    return day


# PLAIN_DATE matches what each of them stores as given: a real date YYYY-MM-DD, or blank.
DATE_PARSERS = (parse_date, parse_date_time, parse_iso_date)
PLAIN_DATE = re.compile(
    r"(?!0000)(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)|"
)


def parse_country(text: str) -> str:
    """An ISO 3166-1 alpha-2 code in upper case; "" for none. Raises InvalidValue."""
    if text and not (len(text) == 2 and text.isascii() and text.isalpha()):
        raise InvalidValue("bad_country")
    return text.upper()


_PARSERS: Mapping[FieldKind, Parser] = {
    FieldKind.DATE: parse_date,
    FieldKind.DATE_TIME: parse_date_time,
    FieldKind.ISO_DATE: parse_iso_date,
    FieldKind.COUNTRY: parse_country,
}


def parse_json_value(text: str) -> str:
    """A free attribute as JSON: a list where the text has commas, "null" for none.

    >>> parse_json_value("TRUE"), parse_json_value("007"), parse_json_value("a, 1.50")
    ('true', '"007"', '["a",1.5]')
    """
    if text.isdecimal() and text.isascii():
        # Most numbers, and ids that look like numbers, in a third of the time.
        return text if len(text) <= EXACT_DIGITS and (text[0] != "0" or text == "0") else f'"{text}"'
    if "," not in text:
        return _json_literal(text)
    items = [item for part in text.split(",") if (item := _json_literal(part.strip(BLANKS))) != "null"]
    return f"[{','.join(items)}]" if items else "null"


def _json_literal(text: str) -> str:
    lower = text.lower()
    if lower in ("", "null"):
        return "null"
    if lower in ("true", "false"):
        return lower
    number = _NUMBER.fullmatch(text)
    # Longer ones are ids and phone numbers, which programs would round differently.
    if number is None or len((number[1] + number[2]).replace(".", "").lstrip("0")) > EXACT_DIGITS:
        return encode_basestring(text)
    if not number[2] and not number[3]:
        return "0" if text == "-0" else text
    value = float(text)
    if value and not 10**-EXACT_DIGITS <= abs(value) < 10**EXACT_DIGITS:
        return encode_basestring(text)
    return repr(value or 0.0)


def _is_real_time(text: str) -> bool:
    return _ISO_TIME.fullmatch(text) is not None and _is_iso(time.fromisoformat, text.upper())


def _is_real_date(text: str) -> bool:
    # fromisoformat alone would also accept 20240131 and 2024-W05-3. It accepts ASCII digits only.
    return len(text) == 10 and text[4] == text[7] == "-" and _is_iso(date.fromisoformat, text)


def _is_iso(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


class Choices:
    """The choices of a custom field. An exact match comes before one that differs in case."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._exact = frozenset(choices)
        self._folded = {choice.casefold(): choice for choice in reversed(choices)}

    def parse_one(self, text: str) -> str:
        """The choice as defined, in whatever case it is given; "" for none. Raises InvalidValue."""
        if not text or text in self._exact:
            return text
        if (choice := self._folded.get(text.casefold())) is None:
            raise InvalidValue("bad_choice")
        return choice

    def parse_list(self, text: str) -> str:
        """The choices as defined, in the order given, none twice, joined by commas; "" for none. Raises InvalidValue."""
        items = filter(None, (part.strip(BLANKS) for part in text.split(",")))
        return ",".join(dict.fromkeys(map(self.parse_one, items)))
