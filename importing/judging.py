"""Single values and their fields: what is stored for a value, or what is wrong with it. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from importing.fields import Field, Kind

Judge = Callable[[str], object]


class Wrong(Exception):
    """A value that its field cannot take; `code` is the problem's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def judge_of(field: Field) -> Judge | None:
    """How values of the field are judged: a function to what is stored, which raises Wrong. None: any text will do."""
    match field.kind:
        case Kind.DATE:
            return stored_date
        case Kind.DATE_TIME:
            return stored_date_time
        case Kind.PICK:
            return Choices(field.choices).pick
        case Kind.LIST:
            return Choices(field.choices).several
        case _:
            return None


def odd(kind: Kind, text: str) -> str:
    """The code of the warning that a value deserves, or "": an odd e-mail or phone is stored as given all the same."""
    if not text:
        return ""
    if kind is Kind.EMAIL and not PLAUSIBLE[kind].fullmatch(text):
        return "odd_email"
    if kind is Kind.PHONE and not PLAUSIBLE[kind].fullmatch(text):
        return "odd_phone"
    return ""


# Cheap on purpose: a batch may bring a million of each. The first e-mail alternative is the second one for ASCII only,
# in half the time. Blank is plausible.
PLAUSIBLE = {
    Kind.EMAIL: re.compile(r"[!-?A-~]++@(?:[!-\-/-?A-~]++\.)+[!-\-/-?A-~]++|[^\s@]+@(?:[^\s@.]+\.)+[^\s@.]+|"),
    Kind.PHONE: re.compile(r"(?:[+(]{0,2}[0-9][0-9 ()./-]{3,30}[0-9](?: ?(?:[xX]|[eE][xX][tT])\.? ?[0-9]{1,6})?)?"),
}

_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]")
_NO_DATE = "0000-00-00"  # what MySQL and the vendor's own replies write where there is none
_NO_TIME = "00:00:00"


def stored_date(text: str) -> str:
    """A real date YYYY-MM-DD, as given; "" for none. Raises Wrong."""
    if text in ("", _NO_DATE):
        return ""
    if not _real(text):
        raise Wrong("bad_date")
    return text


def stored_date_time(text: str) -> str:
    """A real date YYYY-MM-DD, or YYYY-MM-DD HH:MM:SS, as given; "" for none. Raises Wrong."""
    day, blank, time = text.partition(" ")
    if text == "" or (day == _NO_DATE and time in ("", _NO_TIME)):
        return ""
    if not _real(day) or (blank and not _TIME.fullmatch(time)):
        raise Wrong("bad_date_time")
    return text


def _real(text: str) -> bool:
    # fromisoformat alone would also take 20240131 and 2024-W05-3. It sees to it that digits are ASCII ones.
    if len(text) != 10 or text[4] != "-" or text[7] != "-":
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


class Choices:
    """The choices of a custom field. One that is written exactly so comes before one that differs in case."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._exact = frozenset(choices)
        self._folded = {choice.casefold(): choice for choice in reversed(choices)}

    def pick(self, text: str) -> str:
        """The choice as defined, in whatever case it is given; "" for none. Raises Wrong."""
        if not text or text in self._exact:
            return text
        if (choice := self._folded.get(text.casefold())) is None:
            raise Wrong("bad_choice")
        return choice

    def several(self, text: str) -> str:
        """The choices as defined, in the order given, none twice, joined by commas; "" for none. Raises Wrong."""
        return ",".join(dict.fromkeys(self.pick(item) for part in text.split(",") if (item := part.strip(" \t\xa0"))))
