"""What the tests of parameters and of headers share: the fields of a batch, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import cast

import pytest

from auth.authenticate import Access
from importing.account_settings import AccountSettings
from importing.batch import Batch, Campaign, CampaignType, Source
from importing.context import Context
from importing.errors import ApiError
from importing.fields import FieldKind, make_custom_field
from legacy_api import parameters
from legacy_api.form import Form
from legacy_api.parameters import CallContext

ACCESS = Access(7, "greatwidgets", "john1970", may_import=True)
NO_CORE = cast(Context, None)  # an envelope looks at nothing that is stored
ACCOUNT = AccountSettings(
    fields={f"custom_field_{n}": make_custom_field(n, f"Label {n}", FieldKind.TEXT) for n in (1, 7, 999)},
    campaigns={
        name: Campaign(number, name, name.title(), CampaignType.POINTS)
        for number, name in enumerate(["898989889", "13234545", "34534554", "Spring"], 1)
    },
)
LEAST = {"delimiter": "pipe", "campaigns_to_include": "Spring", "profiles_header_1": "code"}
DATA = b"1|2\n"


def batch(
    fields: Mapping[str, str] = {},
    without: str = "",
    data: bytes | None = DATA,
    key: str = "",
) -> Batch:
    sent = {name: value for name, value in {**LEAST, **fields}.items() if name != without}
    source = None if data is None else Source(BytesIO(data), "utf-8", len(data))
    return parameters.read_batch(CallContext(NO_CORE, ACCESS, Form(sent, source, "UTF-8", b"d" * 32), key), ACCOUNT)


def refusal(fields: Mapping[str, str], without: str = "", data: bytes | None = DATA, key: str = "") -> ApiError:
    with pytest.raises(ApiError) as raised:
        batch(fields, without, data, key)
    return raised.value
