"""Times and amounts as they are written."""

from __future__ import annotations

import pytest

from importing.checking.amounts import with_decimals
from importing.times import iso_milliseconds, iso_seconds, with_space

MOMENT = 1795251600042


def test_times_are_written_in_utc_in_three_styles() -> None:
    assert iso_seconds(MOMENT) == "2026-11-21T09:00:00Z"
    assert iso_milliseconds(MOMENT) == "2026-11-21T09:00:00.042Z"
    assert with_space(MOMENT) == "2026-11-21 09:00:00"


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (2500, "25.00"), (-12345, "-123.45")]
)
def test_amounts_have_two_decimals(amount: int, text: str) -> None:
    assert with_decimals(amount) == text
