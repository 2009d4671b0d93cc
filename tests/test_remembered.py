"""What is worked out once for all that is sent alike: it counts for as long as it is true, and no longer."""

from __future__ import annotations

import io

import pytest

from importing import account as accounts_of_batches
from importing.batch import Batch, Source
from importing.core import Core
from importing.faults import Fault
from importing.fields import Kind
from importing.spool import Spool
from importing.validate import Checked, check
from legacy_api import envelope
from legacy_api.envelope import Asked
from legacy_api.form import Form
from storage import accounts
from storage.engine import Database
from tests.asking import ACCESS, LEAST
from tests.checking import Marked
from tests.checking import batch as batch_of
from tests.demo import Demo


def _asked(core: Core, account: Demo, **fields: str) -> Batch:
    sent = {**LEAST, "campaigns_to_include": "13234545", **fields}
    form = Form(sent, Source(io.BytesIO(b"1|2\n"), "utf-8", 4), "UTF-8", b"d" * 32)
    access = ACCESS._replace(account=account.number)
    return envelope.batch(Asked(core, access, form), accounts_of_batches.load(core, account.number))


def _refused(core: Core, account: Demo, **fields: str) -> str:
    with pytest.raises(Fault) as raised:
        _asked(core, account, **fields)
    return raised.value.code


def test_a_custom_field_counts_from_the_moment_that_it_is_defined(core: Core, account: Demo) -> None:
    fields = {"profiles_header_2": "custom_field_77"}
    assert _refused(core, account, **fields) == "undefined_custom_field"
    with core.database.writing() as connection:
        accounts.create_custom_field(connection, account.number, 77, label="Size", type="Pick", choices=["S", "M"])
    header = _asked(core, account, **fields).headers[1].field
    assert header is not None
    assert (header.kind, header.choices) == (Kind.PICK, ("S", "M"))
    assert _asked(core, account, **fields).headers[1].field is header


def test_a_campaign_counts_until_it_is_closed(core: Core, account: Demo) -> None:
    assert [campaign.campaign_id for campaign in _asked(core, account).campaigns] == ["13234545"]
    with core.database.writing() as connection:
        accounts.deactivate_campaign(connection, account.number, "13234545")
    assert _refused(core, account) == "bad_campaign"


def test_items_of_a_campaign_are_those_of_the_moment(core: Core, account: Demo) -> None:
    before = accounts_of_batches.load(core, account.number)
    with core.database.writing() as connection:
        accounts.create_campaign(connection, account.number, "buy-3", "Buy three", "buyx", [("tea", "Tea")])
    after = accounts_of_batches.load(core, account.number)
    assert after.campaigns["buy-3"].items.keys() == {"tea"}
    assert "buy-3" not in before.campaigns
    assert before.version != after.version


def test_a_request_id_is_each_request_s_own(core: Core, account: Demo) -> None:
    assert [_asked(core, account, request_id=key).request_key for key in ("a", "b", "")] == ["a", "b", None]
    assert _refused(core, account, request_id="x" * 256) == "bad_request_id"


def test_long_fields_are_judged_and_not_kept(core: Core, account: Demo) -> None:
    kept = envelope._known_parameters.cache_info().currsize
    campaigns = ",".join(["13234545"] * 2000)
    assert [campaign.campaign_id for campaign in _asked(core, account, campaigns_to_include=campaigns).campaigns] == [
        "13234545"
    ]
    assert envelope._known_parameters.cache_info().currsize == kept


def test_values_are_remembered_by_a_batch_alone() -> None:
    def checked() -> Checked:
        return check(
            batch_of("code custom_date", "1|2024-02-30\n2|0000-00-00\n3|2024-02-29\n"), Marked(), Spool(), Spool()
        )

    first, second = checked(), checked()
    assert first._known is second._known
    assert first._checks["custom_date"] is not second._checks["custom_date"]
    rows = [row for chunk in first.chunks() for row in chunk]
    assert rows == [row for chunk in second.chunks() for row in chunk] == [(2, "2", ""), (3, "3", "2024-02-29")]


# Looks at the database, whose connections are kept.


def test_a_look_sees_what_was_written_since_the_last_one(database: Database) -> None:
    def names() -> list[object]:
        with database.looking() as work:
            # Not read to its end.
            work.number("SELECT a.id FROM account a, account b ORDER BY a.id")
        with database.looking() as work:
            return [name for (name,) in work.all("SELECT account_id FROM account ORDER BY id")]

    for number in range(3):
        with database.writing() as connection:
            accounts.create_account(connection, f"shop{number}", "A shop")
        assert names() == [f"shop{n}" for n in range(number + 1)]


def test_a_look_that_failed_does_no_harm_to_the_next(database: Database) -> None:
    with database.looking() as work:
        first = work._driver
    with pytest.raises(Exception, match="no_such_table"), database.looking() as work:
        assert work._driver is first
        work.all("SELECT 1 FROM no_such_table")
    with database.looking() as work:
        assert work._driver is not first
        assert work.number("SELECT 7") == 7
