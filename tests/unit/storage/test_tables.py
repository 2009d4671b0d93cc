"""The tables agree with what is declared elsewhere."""

from __future__ import annotations

from importing.fields import PROFILE_FIELDS
from storage.tables import PROFILE_COLUMNS


def test_profile_columns_are_the_profile_fields() -> None:
    # Reading and checking rows must not import storage, so that both list them.
    assert PROFILE_COLUMNS == PROFILE_FIELDS
