"""Modes are columns to write: what `yes` and `update` do to a matched customer, as SQL over `s` (staged) and `c` (stored).

`yes` writes every profile column and custom field, blank where the row does not give it; `update` writes the given ones;
`ignore` none. Codes, cards and user names are keys and are not written here. Attributes are merged in every mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from storage.sql_dialect import EMPTY_DOCUMENT, Dialect
from storage.tables import DOCUMENT_COLUMNS, PROFILE_COLUMNS

REPLACE, IGNORE = "yes", "ignore"
SECRET_COLUMNS = (("password_digest", "password_version"), ("pin_digest", "pin_version"))


class BatchShape(NamedTuple):
    """What the statements of a batch depend on.

    `columns` are the staged ones. `partial`: some row leaves out a column of the batch. `clears`: some row gives a blank
    for a member of a document, which removes it (null in the staged one). `uniques` are the numbers of the unique fields
    that the batch gives, `account_uniques` all of the account's. `makes_cards`: customers without a card number get a
    generated one. `is_preview`: nothing will be written, and of customers who get points it does not count what else
    changes.
    """

    columns: frozenset[str]
    mode: str
    partial: bool = False
    uniques: tuple[int, ...] = ()
    account_uniques: tuple[int, ...] = ()
    makes_cards: bool = False
    is_preview: bool = False
    clears: bool = True

    @property
    def replaces(self) -> bool:
        return self.mode == REPLACE

    @property
    def writes_username(self) -> bool:
        return self.replaces or "username_key" in self.columns

    @property
    def written_uniques(self) -> tuple[int, ...]:
        return self.account_uniques if self.replaces else self.uniques

    @property
    def reads_stored(self) -> bool:
        """Whether `update_values` names a column of the stored customer."""
        kept_columns = [*(PROFILE_COLUMNS if self.partial else ()), *(digest for digest, _ in SECRET_COLUMNS)]
        return not self.replaces and not self.columns.isdisjoint(kept_columns)


def change_conditions(shape: BatchShape, dialect: Dialect) -> Iterator[str]:
    """Conditions, any of which says that the staged row changes the stored customer (keys apart)."""
    for name, value in _profile_values(shape).items():
        yield f"{value} <> c.{name}"
    if "customer_username" in shape.columns:
        fallback = "''" if shape.replaces else "c.customer_username, ''"
        yield f"coalesce(s.customer_username, {fallback}) <> coalesce(c.customer_username, '')"
    elif shape.replaces:
        yield "c.customer_username IS NOT NULL"
    for digest, _version in SECRET_COLUMNS:
        # Digests are salted: a secret that is given is a change, the same again or not.
        if digest in shape.columns:
            yield f"coalesce(s.{digest}, '') <> ''"
            blank = f"coalesce(s.{digest}, '') = ''" if shape.replaces else f"s.{digest} = ''"
            yield f"({blank} AND c.{digest} <> '')"
        elif shape.replaces:
            yield f"c.{digest} <> ''"
    for name in DOCUMENT_COLUMNS:
        replaces = shape.replaces and name == "custom_fields"
        if name in shape.columns:
            yield dialect.document_differs(f"c.{name}", f"s.{name}", shape.clears, replaces=replaces)
        elif replaces:
            yield f"c.{name} <> {EMPTY_DOCUMENT}"


def update_values(shape: BatchShape) -> dict[str, str]:
    """Column → its new value for a matched customer, keys and documents apart."""
    values = _profile_values(shape)
    for digest, version in SECRET_COLUMNS:
        if digest in shape.columns:
            old_digest, old_version = ("''", "0") if shape.replaces else (f"c.{digest}", f"c.{version}")
            values[digest] = f"coalesce(s.{digest}, {old_digest})"
            values[version] = (
                f"CASE WHEN s.{digest} IS NULL THEN {old_version} WHEN s.{digest} = '' THEN 0 ELSE :change END"
            )
        elif shape.replaces:
            values[digest], values[version] = "''", "0"
    return values


def document_values(shape: BatchShape, dialect: Dialect, stored: str, staged: str) -> dict[str, str]:
    """Document → its new value for a matched customer. `stored` and `staged` name the two rows."""
    values: dict[str, str] = {}
    for name in DOCUMENT_COLUMNS:
        base = EMPTY_DOCUMENT if shape.replaces and name == "custom_fields" else f"{stored}.{name}"
        if name in shape.columns:
            values[name] = dialect.merge_document(base, f"{staged}.{name}", shape.clears)
        elif base == EMPTY_DOCUMENT:
            values[name] = base
    return values


def insert_values(shape: BatchShape, dialect: Dialect) -> dict[str, str]:
    """Column → its value for a new customer, keys apart."""
    values: dict[str, str] = {}
    for name in PROFILE_COLUMNS:
        if name in shape.columns:
            values[name] = f"coalesce(s.{name}, '')" if shape.partial else f"s.{name}"
    if "customer_username" in shape.columns:
        values["customer_username"] = "nullif(s.customer_username, '')"
        values["username_key"] = "nullif(s.username_key, '')"
    for digest, version in SECRET_COLUMNS:
        if digest in shape.columns:
            values[digest] = f"coalesce(s.{digest}, '')"
            values[version] = f"CASE WHEN coalesce(s.{digest}, '') = '' THEN 0 ELSE :change END"
    for name in DOCUMENT_COLUMNS:
        if name in shape.columns:
            values[name] = dialect.merge_document(EMPTY_DOCUMENT, f"s.{name}", shape.clears)
    return values


def _profile_values(shape: BatchShape) -> dict[str, str]:
    values: dict[str, str] = {}
    for name in PROFILE_COLUMNS:
        if name in shape.columns:
            fallback = "''" if shape.replaces else f"c.{name}"
            values[name] = f"coalesce(s.{name}, {fallback})" if shape.partial else f"s.{name}"
        elif shape.replaces:
            values[name] = "''"
    return values
