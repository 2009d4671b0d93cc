"""The tables of modern_protocols.md: columns and refusals of the modern protocols, from the code that serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import modern_api
from importing.errors import ApiError
from importing.fields import Field, FieldDestination, FieldKind
from modern_api import grid, solivio, voucherify
from modern_api.routes import ModernProtocol, Refusal

TableRows = tuple[Sequence[str], Iterable[Sequence[str]]]

# Sections of decisions.toml whose decisions stand in modern_protocols.md.
SECTIONS: Mapping[int, str] = {
    21: "Files and jobs",
    22: "Voucherify",
    23: "Grid",
    24: "Solivio and signing in",
}

_VALUES: Mapping[FieldKind, str] = {
    FieldKind.KEY: "any text, compared exactly",
    FieldKind.TEXT: "any text",
    FieldKind.FULL_NAME: "a full name",
    FieldKind.EMAIL: "any text; an odd one is a warning",
    FieldKind.PHONE: "any text; an odd one is a warning",
    FieldKind.ISO_DATE: "an ISO 8601 date",
    FieldKind.DATE: "a date YYYY-MM-DD",
    FieldKind.PICK: "one of {choices}, in any case",
    FieldKind.COUNTRY: "two letters, ISO 3166-1 alpha-2",
}


def _columns(fields: Sequence[Field]) -> TableRows:
    return ("column", "value", "kept as", "remark"), (
        (f"`{field.name}`", _VALUES[field.kind].format(choices=" or ".join(field.choices)), _kept(field), field.note)
        for field in fields
    )


def _kept(field: Field) -> str:
    if field.kind is FieldKind.FULL_NAME:
        return "`first_name` and `last_name`"
    return f"attribute `{field.target}`" if field.into is FieldDestination.ATTRIBUTE else f"`{field.target}`"


def _needed() -> TableRows:
    def rows() -> Iterator[Sequence[str]]:
        for who, names in (
            ("every row", grid.OF_ALL),
            ("`INDIVIDUAL`", grid.OF_INDIVIDUALS),
            ("`BUSINESS`", grid.OF_BUSINESSES),
        ):
            yield who, ", ".join(f"`{name}`" for name in names)

    return ("row", "must give"), rows()


def _refusals(protocol: ModernProtocol, code_member: str) -> TableRows:
    """The refusals by status, with the member that holds the protocol's own code, "" where there is none."""
    rows = [(str(status), meaning) for status, meaning in sorted(protocol.refusals.items())]
    if not code_member:
        return ("status", "meaning"), rows
    codes = []
    for status in sorted(protocol.refusals):
        error = ApiError("request_id_reused" if status == 422 else "bug", request_id="", value="")
        codes.append(f"`{protocol.refused(Refusal(status, error, '', {}))[code_member]}`")
    return ("status", code_member, "meaning"), [
        (status, code, meaning) for code, (status, meaning) in zip(codes, rows, strict=True)
    ]


def _names() -> TableRows:
    def rows() -> Iterator[Sequence[str]]:
        for field, kept in (
            (solivio.NAME_FIELD, "`first_name`, `last_name` and, folded, `code`"),
            (solivio.SOURCE_FIELD, "attribute `source`"),
        ):
            yield ", ".join(f"`{name}`" for name, of_name in solivio.COLUMNS.items() if of_name is field), kept

    return ("column", "kept as"), rows()


# The member of a refusal that holds the protocol's own code.
_CODE_MEMBERS = {"voucherify": "key", "grid": "code"}

TABLES: Mapping[str, Callable[[], TableRows]] = {
    "voucherify columns": lambda: _columns(voucherify.STANDARD),
    "grid columns": lambda: _columns(grid.COLUMNS),
    "grid required": _needed,
    "solivio columns": _names,
    **{
        f"{protocol.name} refusals": partial(_refusals, protocol, _CODE_MEMBERS.get(protocol.name, ""))
        for protocol in modern_api.PROTOCOLS
    },
}
