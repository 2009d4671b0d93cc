"""Free attributes in the store: typed, merged by key, given back by key; and those that are unique in the account."""

from __future__ import annotations

import io
from typing import Any

import pytest
from sqlalchemy import select

from importing import import_batch
from importing.batch import Batch, Conflict, Delimited, Header, Mode, OnError, Outcome, Source
from importing.context import Context
from importing.errors import ApiError
from importing.fields import CODE, Field, FieldDestination, FieldKind
from importing.undo import undo_batch
from storage import tables
from storage.queries import customers
from storage.sql_dialect import parse_document
from tests.support.demo_accounts import Demo

FILE = Delimited(",", quotes=True, multiline=True)
UMA = Field("umaAddress", into=FieldDestination.ATTRIBUTE, unique=True)
CUSTOMER = Field("platformCustomerId", FieldKind.KEY, column="code")


def field(name: str) -> Field:
    return {"Id": CODE, "umaAddress": UMA, "platformCustomerId": CUSTOMER}.get(
        name, Field(name, FieldKind.TYPED, FieldDestination.ATTRIBUTE, limit=64_000)
    )


def batch(account: Demo, text: str, mode: Mode = Mode.UPDATE, reference: tuple[str, ...] = ()) -> Batch:
    """The first line of the text names the columns."""
    names, _, rows = text.partition("\n")
    data = rows.encode()
    columns = tuple(Header(number, field(name)) for number, name in enumerate(names.split(","), 1))
    source = Source(io.BytesIO(data), "utf-8", len(data))
    return Batch(account.number, "u", "voucherify", columns, FILE, source, mode, OnError.SKIP, reference=reference)


def sent(
    context: Context, account: Demo, text: str, mode: Mode = Mode.UPDATE, reference: tuple[str, ...] = ()
) -> Outcome:
    foretold = import_batch.preview(context, batch(account, text, mode, reference))
    outcome = import_batch.run(context, batch(account, text, mode, reference))
    assert (foretold.counts, list(foretold.problems)) == (outcome.counts, list(outcome.problems))
    return outcome


def attributes(context: Context, account: Demo, code: str) -> dict[str, Any]:
    with context.database.reading() as connection:
        found = customers.find_customer(connection, account.number, code=code)
        assert found is not None
        return dict(parse_document(found.row["attributes"]))


def unique(context: Context, account: Demo) -> dict[str, str]:
    """Value → the code of who has it."""
    table, customer = tables.unique_value, tables.customer
    query = (
        select(table.c.value, customer.c.code)
        .join(customer, (customer.c.account_id == table.c.account_id) & (customer.c.id == table.c.customer_id))
        .where(table.c.account_id == account.number, table.c.number == -1)
    )
    with context.database.reading() as connection:
        return {value: str(code) for value, code in connection.execute(query)}


def said(outcome: Outcome) -> list[tuple[int, str, str, str, str]]:
    return [(p.row, p.field, p.code, p.value, p.ref) for p in outcome.problems]


TYPED = """Id,vip,age,ratio,tags,zip,note,none
c,TRUE,42,-1.50,"a, 2,false",01234,"5 o'clock ""x"" \\ é",null
"""


def test_what_is_stored_comes_back_typed(context: Context, account: Demo) -> None:
    sent(context, account, TYPED)
    found = attributes(context, account, "c")
    assert found == {
        "vip": True,
        "age": 42,
        "ratio": -1.5,
        "tags": ["a", 2, False],
        "zip": "01234",
        "note": '5 o\'clock "x" \\ é',
    }
    assert [type(found[name]) for name in ("vip", "age", "ratio")] == [bool, int, float]


@pytest.mark.parametrize("mode", [Mode.UPDATE, Mode.REPLACE])
def test_attributes_are_merged_by_key_in_every_mode(context: Context, account: Demo, mode: Mode) -> None:
    sent(context, account, "Id,a,b,c\n1,1,true,x\n")
    outcome = sent(context, account, 'Id,a,b,d\n1,2,,"x,y"\n', mode)
    assert (outcome.counts.updated, outcome.counts.unchanged) == (1, 0)
    assert attributes(context, account, "1") == {"a": 2, "c": "x", "d": ["x", "y"]}
    again = sent(context, account, 'Id,d,a\n1,"x,y",2\n', mode)
    assert (again.counts.updated, again.counts.unchanged) == (1, 1)


def test_rows_of_one_customer_are_folded_with_their_types(context: Context, account: Demo) -> None:
    sent(context, account, "Id,a,b\n1,1,2.5\n2,x,y\n1,true,\n1,false\n")
    assert attributes(context, account, "1") == {"a": False}
    assert attributes(context, account, "1")["a"] is False


def test_undo_gives_attributes_back_by_key(context: Context, account: Demo) -> None:
    sent(context, account, "Id,a,b,c,e\n1,1,true,x,0\n")
    second = sent(context, account, 'Id,a,b,d,e\n1,2,"q,7",new,false\n')
    sent(context, account, "Id,b,e\n1,true,0\n")
    undone = undo_batch.undo(context, account.number, second.batch_id, "u", "voucherify")
    assert list(undone.conflicts) == [
        Conflict("1", "b", '["q", 7]', "true"),
        Conflict("1", "e", "false", "0"),
    ]
    found = attributes(context, account, "1")
    assert found == {"a": 1, "b": True, "c": "x", "e": 0}
    assert [type(found[name]) for name in "abe"] == [int, bool, int]
    redone = undo_batch.undo(context, account.number, undone.batch_id, "u", "voucherify")
    assert not list(redone.conflicts)
    assert attributes(context, account, "1") == {"a": 2, "b": True, "c": "x", "d": "new", "e": 0}


def test_undo_of_the_last_batch_gives_the_whole_object_back(context: Context, account: Demo) -> None:
    sent(context, account, TYPED)
    before = attributes(context, account, "c")
    second = sent(context, account, "Id,vip,age,extra\nc,,43,1\n")
    undo_batch.undo(context, account.number, second.batch_id, "u", "voucherify")
    assert attributes(context, account, "c") == before


def test_who_has_a_unique_attribute_keeps_it(context: Context, account: Demo) -> None:
    sent(context, account, "platformCustomerId,umaAddress\na,$a@x.y\nb,$b@x.y\n")
    outcome = sent(context, account, "platformCustomerId,umaAddress\nb,$a@x.y\nc,$b@x.y\nd,$d@x.y\ne,$d@x.y\n")
    assert [problem[:4] for problem in said(outcome)] == [
        (1, "umaAddress", "value_in_use", "$a@x.y"),
        (2, "umaAddress", "value_in_use", "$b@x.y"),
        (4, "umaAddress", "value_in_use", "$d@x.y"),
    ]
    assert (outcome.counts.new, outcome.counts.failed) == (1, 3)
    assert unique(context, account) == {"$a@x.y": "a", "$b@x.y": "b", "$d@x.y": "d"}


def test_a_unique_attribute_moves_where_it_was_given_up_before(context: Context, account: Demo) -> None:
    sent(context, account, "platformCustomerId,umaAddress\na,$a@x.y\n")
    outcome = sent(context, account, "platformCustomerId,umaAddress\na,$new@x.y\nb,$a@x.y\n")
    assert not said(outcome)
    assert unique(context, account) == {"$new@x.y": "a", "$a@x.y": "b"}
    # A column of the same name that nobody declared unique is the same attribute.
    outcome = sent(context, account, "Id,umaAddress\na,$a@x.y\nz,\n")
    assert [problem[2] for problem in said(outcome)] == ["value_in_use"]


@pytest.mark.parametrize("mode", [Mode.UPDATE, Mode.REPLACE])
def test_batches_without_it_leave_a_unique_attribute_alone(context: Context, account: Demo, mode: Mode) -> None:
    sent(context, account, "platformCustomerId,umaAddress\na,$a@x.y\n")
    sent(context, account, "Id,other\na,1\na,2\n", mode)
    assert unique(context, account) == {"$a@x.y": "a"}
    assert attributes(context, account, "a") == {"umaAddress": "$a@x.y", "other": 2}


def test_undo_gives_a_unique_attribute_back_but_not_from_another(context: Context, account: Demo) -> None:
    sent(context, account, "platformCustomerId,umaAddress\na,$1\nb,$2\n")
    second = sent(context, account, "platformCustomerId,umaAddress\na,$3\nb,\n")
    third = sent(context, account, "platformCustomerId,umaAddress\nc,$1\n")
    assert unique(context, account) == {"$3": "a", "$1": "c"}
    undone = undo_batch.undo(context, account.number, second.batch_id, "u", "grid")
    assert list(undone.conflicts) == [Conflict("a", "umaAddress", "$3", "$3")]
    assert unique(context, account) == {"$3": "a", "$2": "b", "$1": "c"}
    assert attributes(context, account, "a") == {"umaAddress": "$3"}
    undo_batch.undo(context, account.number, third.batch_id, "u", "grid")
    assert unique(context, account) == {"$3": "a", "$2": "b"}


def test_create_leaves_who_is_there_alone(context: Context, account: Demo) -> None:
    text = "platformCustomerId,umaAddress,n\na,$a,1\nb,$b,1\n"
    sent(context, account, text, Mode.CREATE)
    outcome = sent(
        context,
        account,
        "platformCustomerId,umaAddress,n\na,$new,2\nc,$new,2\nc,$other,3\nd,$b,4\nb,,5\nd,$d,6\n",
        Mode.CREATE,
        ("platformCustomerId",),
    )
    assert said(outcome) == [
        (1, "platformCustomerId", "exists", "a", "a"),
        (3, "platformCustomerId", "exists", "c", "c"),
        (4, "umaAddress", "value_in_use", "$b", "d"),
        (5, "platformCustomerId", "exists", "b", "b"),
    ]
    assert next(iter(outcome.problems)).message == 'Row 1, platformCustomerId: "a" exists already.'
    assert (outcome.counts.new, outcome.counts.updated, outcome.counts.failed) == (2, 0, 4)
    assert unique(context, account) == {"$a": "a", "$b": "b", "$new": "c", "$d": "d"}
    assert attributes(context, account, "a") == {"umaAddress": "$a", "n": 1}


def test_create_with_no_row_that_is_new(context: Context, account: Demo) -> None:
    sent(context, account, "Id,n\na,1\nb,2\n", Mode.CREATE)
    with pytest.raises(ApiError, match="no_good_rows"):
        import_batch.run(context, batch(account, "Id,n\nb,3\na,4\n", Mode.CREATE))
    assert attributes(context, account, "a") == {"n": 1}
