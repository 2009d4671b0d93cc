"""Batches for the property tests: few keys, user names and values, so that rows collide all the time."""

from __future__ import annotations

import os
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from importing.fields import PROFILE_FIELDS
from tests.support.model import BAD_DATE, Import, Row

SOAK = os.environ.get("TILLGATE_SOAK") == "1"

CAMPAIGNS = {"club": "points", "gift": "giftcard", "visits": "events", "coffee": "buyx"}
ITEMS = {"1": "espresso", "2": "mocha"}

# "@0" is the code (or card) of the first customer there is by then, "@1" the next one's: made ones come back so.
CODES = ("k1", "k2", "k3", "@0", "@1", "")
CARDS = ("c1", "c2", "c3", "@0", "@1", "")
VALUES = {
    "code": CODES,
    "card_number": CARDS,
    "first_name": ("ann", "bob", ""),
    "custom_date": ("2020-01-02", "2021-03-04", "2020-01-02", "2021-03-04", "", BAD_DATE),
    "customer_username": ("ann", "ANN", "bob", ""),
    "customer_password": ("secret", "other", ""),
    "customer_PIN": ("1234", ""),
    "custom_field_1": ("v", "w", ""),
    "custom_field_2": ("x", "y", ""),
}
AMOUNTS = {
    "points": ("25", "0.5", "0", ""),
    "giftcard": ("9,95", ".75", "0", ""),
    "events": ("1", "2.0", ""),
    "buyx": ("espresso", "2", ""),
}
TEXTS = ("one", "two", "three", "")
KEYS = ("code", "card_number")
# The rest of the profile, drawn beside the fields above, so that a batch has none of it or half.
PLAIN = tuple(name for name in PROFILE_FIELDS if name not in VALUES)
# For stories about undo: nearly every batch writes to the same two customers, and changes something of theirs.
NARROW = VALUES | {
    "code": ("k1", "k1", "k2", "k2", "@0"),
    "card_number": ("c1", "c2", "", ""),
    "first_name": ("ann", "bob", "eve", ""),
    "custom_date": ("2020-01-02", "2021-03-04", ""),
}


def load_profile() -> None:
    """Load the hypothesis profile of this run, for every test that draws.

    The everyday run draws the same examples every time, so that it fails only for what was changed. The long run (`make
    soak`) draws others each time. What it finds is pinned with @example, or becomes a test of its own.
    """
    settings.register_profile("everyday", derandomize=True, database=None, deadline=None)
    settings.register_profile("soak", derandomize=False, database=None, deadline=None, print_blob=True)
    settings.load_profile("soak" if SOAK else "everyday")


def profile(examples: int, soak: int) -> settings:
    """So many examples in the everyday run, and in the long one (TILLGATE_SOAK=1)."""
    return settings(
        max_examples=soak if SOAK else examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@st.composite
def imports(draw: st.DrawFn, max_rows: int = 12, *, narrow: bool = False, has_absent: bool = False) -> Import:
    """Any batch, or a `narrow` one. Short rows lack their last columns; a row of blanks only is none.

    `has_absent`: rows lack any columns, and a row of blanks only is one.
    """
    values = NARROW if narrow else VALUES
    campaigns = draw(st.lists(st.sampled_from(list(CAMPAIGNS)), unique=True, min_size=1, max_size=2))
    kind = CAMPAIGNS[campaigns[0]]
    amounts = st.sampled_from(AMOUNTS[kind])
    others = draw(st.lists(st.sampled_from([*list(values)[2:], "auto_add"]), unique=True, min_size=narrow, max_size=5))
    keys = draw(st.sampled_from((KEYS, ("code",)) if narrow else (KEYS, KEYS, KEYS, ("code",), ("card_number",), ())))
    plain = draw(st.one_of(st.just(set[str]()), st.sets(st.sampled_from(PLAIN), min_size=len(PLAIN) // 2)))
    columns = tuple(draw(st.permutations([*keys, *others, *sorted(plain)])))
    if not columns:
        columns = ("first_name",)
    cells = {name: amounts if name == "auto_add" else st.sampled_from(values.get(name, TEXTS)) for name in columns}
    width = st.sampled_from([len(columns)] * 4 + list(range(1, len(columns) + 1)))
    row = width.flatmap(lambda n: st.fixed_dictionaries({name: cells[name] for name in columns[:n]}))
    row = st.fixed_dictionaries({}, optional=cells) if has_absent else row.filter(lambda r: any(r.values()))
    rows = draw(st.lists(row, min_size=1, max_size=max_rows))
    return Import(
        columns,
        tuple(rows),
        draw(st.sampled_from(("yes", "update", "update" if narrow else "ignore"))),
        draw(st.sampled_from(("skip", "skip", "reject"))),
        tuple(campaigns),
        kind,
        draw(st.sampled_from((None, None, 8))),
        draw(st.sampled_from((True, True, True, False))),
        has_absent,
    )


def undoable(batch: Import) -> Import:
    """The same batch, with an undo state and its good rows imported."""
    return replace(batch, keep_undo=True, on_error="skip")


def resolved(batch: Import, customers: list[dict[str, str]]) -> Import:
    """The batch with `@n` replaced by what the n-th of these customers has."""

    def value(name: str, text: str) -> str:
        if name not in KEYS or not text.startswith("@"):
            return text
        number = int(text[1:])
        # Nobody there, or one without a card: a key of their own.
        return (customers[number].get(name) if number < len(customers) else None) or f"n{number}"

    def row(cells: Row) -> Row:
        return {name: value(name, text) for name, text in cells.items()}

    return replace(batch, rows=tuple(row(cells) for cells in batch.rows))
