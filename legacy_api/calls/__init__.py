"""The calls of the protocol: one module and one function a `type`, and the table of all types.

To serve another type, write its module and put its function into the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from importing.errors import ApiError
from legacy_api.calls.customers_batch import customers_batch
from legacy_api.calls.customers_batch_cancel import customers_batch_cancel
from legacy_api.calls.customers_batch_resume import customers_batch_resume
from legacy_api.calls.customers_batch_status import customers_batch_status
from legacy_api.calls.customers_batch_undo import customers_batch_undo
from legacy_api.calls.customers_batches import customers_batches
from legacy_api.parameters import CallContext
from legacy_api.replies import CallReply


@dataclass(frozen=True, slots=True)
class CallSpec:
    """The function that serves a type, and whether the sender needs the right to import."""

    serve: Callable[[CallContext], CallReply]
    imports: bool


# None: the type is known, but not served yet. It is refused by name.
CALLS: Mapping[str, CallSpec | None] = {
    "customers_batch": CallSpec(customers_batch, imports=True),
    "customers_batch_status": CallSpec(customers_batch_status, imports=False),
    "customers_batches": CallSpec(customers_batches, imports=False),
    "customers_batch_cancel": CallSpec(customers_batch_cancel, imports=True),
    "customers_batch_resume": CallSpec(customers_batch_resume, imports=True),
    "customers_batch_undo": CallSpec(customers_batch_undo, imports=True),
    "campaigns_list": None,
    "customer_balance": None,
    "customer_info": None,
    "generate_card_number": None,
    "manage_fields": None,
    "validate_customer_password": None,
}


def find_call(fields: Mapping[str, str]) -> CallSpec:
    """The call that `type` names, in any case. Raises missing_type, type_not_yet or unknown_type."""
    sent = fields.get("type", "").strip()
    name = sent.lower()
    if not name:
        raise ApiError("missing_type")
    if name not in CALLS:
        raise ApiError("unknown_type", value=sent)
    call = CALLS[name]
    if call is None:
        raise ApiError("type_not_yet", value=name)
    return call
