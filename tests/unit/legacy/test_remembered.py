"""What is worked out once for all that is sent alike: it counts for as long as it is true, and no longer."""

from __future__ import annotations

import io

import pytest

from importing import account_settings as accounts_of_batches
from importing.batch import Batch, Source
from importing.checking.check_rows import CheckedRows
from importing.context import Context
from importing.disk_list import DiskList
from importing.errors import ApiError
from importing.fields import FieldKind
from legacy_api import parameters
from legacy_api.form import Form
from legacy_api.parameters import CallContext
from storage.queries import accounts
from tests.support.demo_accounts import Demo
from tests.support.parameter_checks import ACCESS, LEAST
from tests.support.row_checks import Marked
from tests.support.row_checks import batch as batch_of


def _asked(context: Context, account: Demo, **fields: str) -> Batch:
    sent = {**LEAST, "campaigns_to_include": "13234545", **fields}
    form = Form(sent, Source(io.BytesIO(b"1|2\n"), "utf-8", 4), "UTF-8", b"d" * 32)
    access = ACCESS._replace(account=account.number)
    return parameters.read_batch(CallContext(context, access, form), accounts_of_batches.load(context, account.number))


def _refused(context: Context, account: Demo, **fields: str) -> str:
    with pytest.raises(ApiError) as raised:
        _asked(context, account, **fields)
    return raised.value.code


def test_a_custom_field_counts_from_the_moment_that_it_is_defined(context: Context, account: Demo) -> None:
    fields = {"profiles_header_2": "custom_field_77"}
    assert _refused(context, account, **fields) == "undefined_custom_field"
    with context.database.writing() as connection:
        accounts.create_custom_field(connection, account.number, 77, label="Size", type="Pick", choices=["S", "M"])
    header = _asked(context, account, **fields).headers[1].field
    assert header is not None
    assert (header.kind, header.choices) == (FieldKind.PICK, ("S", "M"))
    assert _asked(context, account, **fields).headers[1].field == header


def test_a_campaign_counts_until_it_is_closed(context: Context, account: Demo) -> None:
    assert [campaign.public_id for campaign in _asked(context, account).campaigns] == ["13234545"]
    with context.database.writing() as connection:
        accounts.deactivate_campaign(connection, account.number, "13234545")
    assert _refused(context, account) == "bad_campaign"


def test_items_of_a_campaign_are_those_of_the_moment(context: Context, account: Demo) -> None:
    before = accounts_of_batches.load(context, account.number)
    with context.database.writing() as connection:
        accounts.create_campaign(connection, account.number, "buy-3", "Buy three", "buyx", [("tea", "Tea")])
    after = accounts_of_batches.load(context, account.number)
    assert after.campaigns["buy-3"].items.keys() == {"tea"}
    assert "buy-3" not in before.campaigns


def test_a_request_id_is_each_request_s_own(context: Context, account: Demo) -> None:
    assert [_asked(context, account, request_id=key).request_key for key in ("a", "b", "")] == ["a", "b", None]
    assert _refused(context, account, request_id="x" * 256) == "bad_request_id"


def test_values_are_remembered_by_a_batch_alone() -> None:
    def checked() -> CheckedRows:
        return CheckedRows(
            batch_of("code custom_date", "1|2024-02-30\n2|0000-00-00\n3|2024-02-29\n"), Marked(), DiskList(), DiskList()
        )

    first, second = checked(), checked()
    assert first._plan is second._plan
    assert first._checks["custom_date"] is not second._checks["custom_date"]
    rows = [row for chunk in first.chunks() for row in chunk]
    assert rows == [row for chunk in second.chunks() for row in chunk] == [(2, "2", ""), (3, "3", "2024-02-29")]
