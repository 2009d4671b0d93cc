"""Unique values beside codes, cards and user names: which document of a customer holds each, by its number.

The numbers are those of the account's unique custom fields, and one of our own for the attribute that one of the modern
protocols requires to be unique (docs/modern_protocols.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from storage.batch_transaction import BatchTransaction

UMA_ADDRESS = -1
_ATTRIBUTES = {UMA_ADDRESS: "umaAddress"}


def list_numbers(work: BatchTransaction, account: int) -> tuple[int, ...]:
    """The account's unique custom fields in order, behind the unique attributes of which it has values."""
    rows = work.all(
        "SELECT number FROM custom_field WHERE account_id = :account AND is_unique "
        "UNION SELECT number FROM unique_value WHERE account_id = :account AND number = :attribute ORDER BY number",
        account=account,
        attribute=UMA_ADDRESS,
    )
    return tuple(number for (number,) in rows)


def select_given(account_numbers: Iterable[int], fields: Iterable[tuple[str, str, bool]]) -> tuple[int, ...]:
    """The unique ones among a batch's fields (document, key, whether it must be unique), in order."""
    keys = {(document, key): unique for document, key, unique in fields}
    attributes = {number for number in _ATTRIBUTES if keys.get(json_path(number))}
    return tuple(sorted(attributes | {number for number in account_numbers if json_path(number) in keys}))


def json_path(number: int) -> tuple[str, str]:
    """The document of a customer and the key in it."""
    if number in _ATTRIBUTES:
        return "attributes", _ATTRIBUTES[number]
    return "custom_fields", f"custom_field_{number}"


def field_name(number: int) -> str:
    """The key in the document."""
    return json_path(number)[1]


def document_of(name: str) -> str:
    """The document that holds a unique field, by the field's name."""
    return "attributes" if name in _ATTRIBUTES.values() else "custom_fields"


def value_sql(number: int, side: str) -> str:
    """SQL: the value in the documents of `side` (a table's alias), NULL where there is none."""
    document, name = json_path(number)
    return f"({side}.{document} ->> '{name}')"


def is_present_sql(number: int, side: str) -> str:
    """SQL: whether the documents of `side` have the value, even as a null."""
    document, name = json_path(number)
    return f"({side}.{document} -> '{name}') IS NOT NULL"
