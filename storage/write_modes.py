"""Modes are columns to write: what `yes` and `update` do to a matched customer, as SQL over `s` (staged) and `c` (stored).

`yes` writes every profile column and custom field, what is not given being blank; `update` the given ones; `ignore`
none. Codes, cards and user names are keys and are not written here. Free attributes are merged in every mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from storage.tables import PROFILE_COLUMNS

EMPTY_DOCUMENT = "'{}'"
REPLACE, UPDATE, IGNORE = "yes", "update", "ignore"
SECRET_COLUMNS = (("password_digest", "password_version"), ("pin_digest", "pin_version"))


class BatchShape(NamedTuple):
    """What the statements of a batch depend on.

    `columns` are the staged ones. `partial`: some row leaves out a column of the batch. `clears`: some row gives a blank
    for a member of a document, which takes it away (null in the staged one). `uniques` are the numbers of
    the unique custom fields that the batch gives, `account_uniques` all of the account's. `makes_cards`: who has no
    card number gets one made. `foreseen`: nothing will be written; of customers who get points it does not count what
    else changes.
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


def change_conditions(shape: BatchShape, sqlite: bool) -> Iterator[str]:
    """Conditions, any of which says that the staged row changes the stored customer (keys apart)."""
    for name in PROFILE_COLUMNS:
        if name in shape.columns:
            fallback = "''" if shape.replaces else f"c.{name}"
            yield f"coalesce(s.{name}, {fallback}) <> c.{name}" if shape.partial else f"s.{name} <> c.{name}"
        elif shape.replaces:
            yield f"c.{name} <> ''"
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
    if "custom_fields" in shape.columns:
        yield _document_differs("custom_fields", shape.replaces, shape.clears, sqlite)
    elif shape.replaces:
        yield "c.custom_fields <> '{}'"
    if "attributes" in shape.columns:
        yield _document_differs("attributes", False, shape.clears, sqlite)


def update_values(shape: BatchShape, sqlite: bool) -> dict[str, str]:
    """Column → its new value for a matched customer. An expression that needs the stored one says `c.`."""
    values: dict[str, str] = {}
    for name in PROFILE_COLUMNS:
        if name in shape.columns:
            fallback = "''" if shape.replaces else f"c.{name}"
            values[name] = f"coalesce(s.{name}, {fallback})" if shape.partial else f"s.{name}"
        elif shape.replaces:
            values[name] = "''"
    for digest, version in SECRET_COLUMNS:
        if digest in shape.columns:
            old_digest, old_version = ("''", "0") if shape.replaces else (f"c.{digest}", f"c.{version}")
            values[digest] = f"coalesce(s.{digest}, {old_digest})"
            values[version] = (
                f"CASE WHEN s.{digest} IS NULL THEN {old_version} WHEN s.{digest} = '' THEN 0 ELSE :change END"
            )
        elif shape.replaces:
            values[digest], values[version] = "''", "0"
    if "custom_fields" in shape.columns:
        base = EMPTY_DOCUMENT if shape.replaces else "c.custom_fields"
        values["custom_fields"] = _merge_document(base, "custom_fields", shape.clears, sqlite)
    elif shape.replaces:
        values["custom_fields"] = "'{}'"
    if "attributes" in shape.columns:
        values["attributes"] = _merge_document("c.attributes", "attributes", shape.clears, sqlite)
    return values


def insert_values(shape: BatchShape, sqlite: bool) -> dict[str, str]:
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
    for document in ("custom_fields", "attributes"):
        if document in shape.columns:
            values[document] = _merge_document(EMPTY_DOCUMENT, document, shape.clears, sqlite)
    return values


def _merge_document(before: str, document: str, clears: bool, sqlite: bool) -> str:
    # A null in the staged document clears the field.
    if not sqlite:
        base = f"{before}::jsonb" if before.startswith("'") else before
        return f"jsonb_strip_nulls({base} || coalesce(s.{document}, '{{}}'::jsonb))"
    if before == EMPTY_DOCUMENT and not clears:
        return f"coalesce(s.{document}, '{{}}')"
    if before == EMPTY_DOCUMENT:
        # Most documents have no null: only those are taken apart.
        cleared = f"json_patch('{{}}', s.{document})"
        return f"CASE WHEN instr(s.{document}, ':null') THEN {cleared} ELSE coalesce(s.{document}, '{{}}') END"
    return (
        f"CASE WHEN s.{document} = {before} THEN {before} WHEN {_nothing_stored(before, document, clears)} "
        f"THEN coalesce(s.{document}, '{{}}') ELSE json_patch({before}, coalesce(s.{document}, '{{}}')) END"
    )


def _nothing_stored(stored: str, document: str, clears: bool) -> str:
    """Whether nothing is stored and nothing is cleared: then the staged document is what comes out (SQLite)."""
    return f"{stored} = {EMPTY_DOCUMENT}" + (f" AND NOT instr(s.{document}, ':null')" if clears else "")


def _document_differs(document: str, replaces: bool, clears: bool, sqlite: bool) -> str:
    stored = f"c.{document}"
    if not sqlite:
        return f"{_merge_document(EMPTY_DOCUMENT if replaces else stored, document, clears, sqlite)} <> {stored}"
    staged = f"coalesce(s.{document}, '{{}}')"
    differs = f"({_nothing_stored(stored, document, clears)} OR json_patch({stored}, {staged}) <> {stored})"
    if replaces:
        # The order of the keys may differ: every given one is stored already, and none besides.
        keys = "(SELECT count(*) FROM json_each({}))"
        own = f"json_patch('{{}}', {staged})"
        differs = f"({differs} OR {keys.format(own)} <> {keys.format(stored)})"
    return f"({staged} <> {stored} AND {differs})"
