"""Credentials to an account and rights. Every refusal is the same, so that nothing can be enumerated."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from importing.core import Core
from importing.faults import Fault
from importing.lockout import Lockout
from importing.secrets import same_digest
from storage import senders
from storage.batches import Known
from storage.engine import now


class Access(NamedTuple):
    """Who is asking. `account` is the store's number, `account_id` what the protocols call it.

    `newest` is the number of the account's newest change when it was asked; None where that was not looked up. `batch`
    is the batch of the account that was asked for at the same time, with its job (`storage.batches.followed`); None where
    there was none.
    """

    account: int
    account_id: str
    user_id: str
    may_import: bool
    newest: int | None = None
    batch: Known | None = None


def authenticate(core: Core, user_id: str, key: str, account: str, address: str, batch_id: str = "") -> Access:
    """The access that the credentials give, from an address. Raises bad_credentials, for whatever cause.

    `account` is what the protocols call it; the user must belong to it. `batch_id`: a batch of theirs that is asked for.

    After 20 failures of a user from an address within 10 minutes, or 200 of an address, it is refused without a look
    for a minute, then two, up to 15. While locked out, the same refusal (docs/protocol.md, Transport).
    """
    return _authenticated(core, user_id, key, account, address, batch_id)


def authenticate_user(core: Core, user_id: str, key: str, address: str) -> Access:
    """The same for protocols that name no account: the user, who belongs to one, selects it."""
    return _authenticated(core, user_id, key, None, address)


def _authenticated(core: Core, user_id: str, key: str, account: str | None, address: str, batch_id: str = "") -> Access:
    lockout = lockout_of(core)
    moment = now()
    locked = lockout.locked(user_id, address, moment)
    user, batch = _looked_up(core, user_id, batch_id) if _storable(user_id) else (None, None)
    digest, old_digest = (user["key_digest"], user["old_key_digest"]) if user else ("", "")
    # Both are always compared, with nothing where there is no user: the time tells nothing either.
    sent = core.digests.api_key(key)
    right = same_digest(sent, digest)
    right_before = same_digest(sent, old_digest)
    if not locked and user is not None and (right or (right_before and user["old_key_until"] > moment)):
        access = Access(
            user["account_id"],
            user["account_name_id"],
            user["user_id"],
            bool(user["may_import"]),
            user.get("newest"),
            batch,
        )
        if account in (None, access.account_id) and not user["disabled"]:
            return access
    if not locked:
        lockout.failed(user_id, address, moment)
    raise Fault("bad_credentials")


def _looked_up(core: Core, user_id: str, batch_id: str) -> tuple[senders.Row | None, Known | None]:
    with core.database.looking() as work:
        if batch_id and _storable(batch_id):
            return senders.user_and_batch(work, user_id, batch_id)
        return senders.user(work, user_id), None


def _storable(text: str) -> bool:
    # What no user can be called, the databases refuse in their own words: NUL and lone surrogates.
    return "\0" not in text and (text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text))


def lockout_of(core: Core) -> Lockout:
    """The failures to log in that this machine has seen."""
    return _lockout(core.database.data_dir)


@lru_cache(maxsize=8)
def _lockout(data_dir: Path) -> Lockout:
    return Lockout(data_dir / "lockout.db")
