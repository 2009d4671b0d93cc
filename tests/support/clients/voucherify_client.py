"""Drives the vendor's client for Python: sends a file, waits for it, lists, and meets refusals. Prints what it got as JSON.

Run by tests/processes/modern/test_clients.py, with the client on the path; it is no part of the test environment.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import voucherify  # type: ignore[import-not-found]

PATIENCE = 60.0


def client(url: str, app_id: str, token: str) -> Any:
    configuration = voucherify.Configuration(host=url, api_key={"X-App-Id": app_id, "X-App-Token": token})
    return voucherify.ApiClient(configuration)


def refusal(call: Any, *arguments: object) -> dict[str, Any]:
    try:
        call(*arguments)
    except voucherify.ApiException as error:
        return {"status": error.status, "body": json.loads(error.body)}
    raise AssertionError("was not refused")


def main(url: str, app_id: str, token: str, file: str) -> None:
    """Do all that, and print it."""
    actions = voucherify.AsyncActionsApi(client(url, app_id, token))
    sent = voucherify.CustomersApi(client(url, app_id, token)).import_customers_using_csv(file=file)
    deadline = time.monotonic() + PATIENCE
    action = actions.get_async_action(sent.async_action_id)
    while action.status not in ("DONE", "FAILED") and time.monotonic() < deadline:
        time.sleep(0.05)
        action = actions.get_async_action(sent.async_action_id)
    listed = actions.list_async_actions(limit=1, end_date=datetime(2099, 1, 1, 0, 0, 0, 123456, UTC))
    earlier = actions.list_async_actions(end_date=action.created_at)
    wrong = voucherify.CustomersApi(client(url, app_id, "wrong"))
    told = {
        "sent": sent.to_dict(),
        "action": action.to_dict(),
        "listed": listed.to_dict(),
        "earlier": earlier.to_dict(),
        "unknown": refusal(actions.get_async_action, "aa_none"),
        "unauthorized": refusal(wrong.import_customers_using_csv, file),
    }
    print(json.dumps(told, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
