"""The calls: one function a `type`. This is the table of the served ones and of those that are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from importing.errors import ApiError
from legacy_api.calls.batch import customers_batch
from legacy_api.calls.jobs import customers_batch_cancel, customers_batch_resume
from legacy_api.calls.status import customers_batch_status, customers_batches
from legacy_api.calls.undo import customers_batch_undo
from legacy_api.envelope import Asked
from legacy_api.replies import Answer


@dataclass(frozen=True, slots=True)
class Call:
    """What answers a type; whether the sender needs the right to import for it, and whether it tells of one batch."""

    answer: Callable[[Asked], Answer]
    imports: bool
    tells: bool = False


SERVED: Mapping[str, Call] = {
    "customers_batch": Call(customers_batch, imports=True),
    "customers_batch_status": Call(customers_batch_status, imports=False, tells=True),
    "customers_batches": Call(customers_batches, imports=False),
    "customers_batch_cancel": Call(customers_batch_cancel, imports=True),
    "customers_batch_resume": Call(customers_batch_resume, imports=True),
    "customers_batch_undo": Call(customers_batch_undo, imports=True),
}

NOT_YET = frozenset(
    (
        "campaigns_list",
        "customer_balance",
        "customer_info",
        "generate_card_number",
        "manage_fields",
        "validate_customer_password",
    )
)


def find(fields: Mapping[str, str]) -> Call:
    """The call that `type` names, in any case. Raises missing_type, type_not_yet or unknown_type."""
    sent = fields.get("type", "").strip()
    name = sent.lower()
    if not name:
        raise ApiError("missing_type")
    if name in NOT_YET:
        raise ApiError("type_not_yet", value=name)
    if name not in SERVED:
        raise ApiError("unknown_type", value=sent)
    return SERVED[name]


def told_of(fields: Mapping[str, str]) -> str:
    """The batch that the call tells of, as it was sent; "" for another call. For whoever wants to read it along."""
    call = SERVED.get(fields.get("type", "").strip().lower())
    return fields.get("batch_id", "").strip() if call is not None and call.tells else ""
