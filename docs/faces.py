"""The tables of faces.md: columns and refusals of the modern faces, from the code that serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from importing.errors import ApiError
from importing.fields import Field, FieldDestination, FieldKind
from modern_api import grid, people, sessions, solivio, voucherify
from modern_api.routes import Face, Refusal

Rows = tuple[Sequence[str], Iterable[Sequence[str]]]

# Sections of decisions.toml whose decisions stand in faces.md.
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


def _columns(fields: Sequence[Field]) -> Rows:
    return ("column", "value", "kept as", "remark"), (
        (f"`{field.name}`", _VALUES[field.kind].format(choices=" or ".join(field.choices)), _kept(field), field.note)
        for field in fields
    )


def _kept(field: Field) -> str:
    if field.kind is FieldKind.FULL_NAME:
        return "`first_name` and `last_name`"
    return f"attribute `{field.target}`" if field.into is FieldDestination.ATTRIBUTE else f"`{field.target}`"


def _needed() -> Rows:
    def rows() -> Iterator[Sequence[str]]:
        for who, names in (
            ("every row", grid.OF_ALL),
            ("`INDIVIDUAL`", grid.OF_INDIVIDUALS),
            ("`BUSINESS`", grid.OF_BUSINESSES),
        ):
            yield who, ", ".join(f"`{name}`" for name in names)

    return ("row", "must give"), rows()


def _refusals(face: Face, name: str) -> Rows:
    rows = []
    for status, meaning in sorted(face.errors.items()):
        code = "request_id_reused" if status == 422 else "bug"
        told = face.refused(Refusal(status, ApiError(code, request_id="", value=""), "", {}))
        rows.append((str(status), f"`{told[name]}`", meaning))
    return ("status", name, "meaning"), rows


def _names() -> Rows:
    def rows() -> Iterator[Sequence[str]]:
        for field, kept in (
            (solivio.NAME, "`first_name`, `last_name` and, folded, `code`"),
            (solivio.SOURCE, "attribute `source`"),
        ):
            yield ", ".join(f"`{name}`" for name, found in solivio.COLUMNS.items() if found is field), kept

    return ("column", "kept as"), rows()


def _meanings(face: people.Face) -> Rows:
    return ("status", "meaning"), ((str(status), meaning) for status, meaning in sorted(face.errors.items()))


TABLES: Mapping[str, Callable[[], Rows]] = {
    "voucherify columns": lambda: _columns(voucherify.STANDARD),
    "voucherify refusals": lambda: _refusals(voucherify.FACE, "field_name"),
    "grid columns": lambda: _columns(grid.COLUMNS),
    "grid required": _needed,
    "grid refusals": lambda: _refusals(grid.FACE, "code"),
    "solivio columns": _names,
    "solivio refusals": lambda: _meanings(solivio.FACE),
    "sign in refusals": lambda: _meanings(sessions.FACE),
}
