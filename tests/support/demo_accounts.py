"""The accounts that the tests work in: the vendor's example with everything an account can have, and another."""

from __future__ import annotations

from dataclasses import dataclass

from importing.context import Context
from storage.queries import accounts

CAMPAIGNS = {
    "898989889": "points",
    "13234545": "points",
    "34534554": "points",
    "gift": "giftcard",
    "visits": "events",
    "money": "earned",
    "coffee": "buyx",
    "closed": "points",
}
ITEMS = {"E1": "Espresso", "L1": "Caffe Latte", "3": "Mocha"}
FIELDS: dict[int, dict[str, object]] = {
    1: {"label": "Nickname", "type": "Text"},
    2: {"label": "Joined", "type": "Date"},
    3: {"label": "Level", "type": "Pick", "choices": ["gold", "silver", "bronze"]},
    4: {"label": "Colours", "type": "List", "choices": ["red", "green", "blue"]},
    5: {"label": "Badge", "type": "Text", "is_unique": True},
    6: {"label": "Remarks", "type": "Text"},
    7: {"label": "Club", "type": "Text", "searchable": True},
}


@dataclass(frozen=True, slots=True)
class Demo:
    """An account with the user that imports into it. `number` is the store's number of the account."""

    number: int
    account_id: str
    user_id: str
    key: str

    @property
    def credentials(self) -> dict[str, str]:
        """The credentials as the legacy protocol sends them."""
        return {"user_id": self.user_id, "user_api_key": self.key, "account_id": self.account_id}


def open_accounts(context: Context) -> tuple[Demo, Demo]:
    """Make both accounts: greatwidgets (a second user of it, `reader`, may not import), and smallshop."""
    with context.database.writing() as connection:
        great = accounts.create_account(connection, "greatwidgets", "Great Widgets Inc.")
        for campaign, kind in CAMPAIGNS.items():
            items = list(ITEMS.items()) if kind == "buyx" else []
            accounts.create_campaign(connection, great, campaign, f"The {campaign} campaign", kind, items)
        accounts.deactivate_campaign(connection, great, "closed")
        for number, values in FIELDS.items():
            accounts.create_custom_field(connection, great, number, **values)
        small = accounts.create_account(connection, "smallshop", "Small Shop")
        accounts.create_campaign(connection, small, "shop", "The shop campaign", "points")
        for account, user, key, may_import in (
            (great, "john1970", "1959caadac9b13dcb3", True),
            (great, "reader", "0000aaaa1111bbbb22", False),
            (small, "mary", "7777cccc8888dddd99", True),
        ):
            digest = context.digests.api_key(key)
            accounts.create_user(connection, account, user, digest, may_import=may_import)
    return (
        Demo(great, "greatwidgets", "john1970", "1959caadac9b13dcb3"),
        Demo(small, "smallshop", "mary", "7777cccc8888dddd99"),
    )
