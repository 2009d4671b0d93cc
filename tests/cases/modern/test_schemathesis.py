"""The modern protocols do what their OpenAPI document says, whatever is sent to them.

TILLGATE_SOAK=1: the long form.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
import schemathesis
from schemathesis.engine import Status, events, from_schema
from werkzeug.serving import WSGIRequestHandler, make_server

import modern_api
from app import create_app
from auth import admin_sessions
from crypto.digests import Digests
from importing.context import Context
from tests.conftest import SECRET, Blank, settings_for
from tests.support.admin_sign_in import EMAIL, PASSWORD, administrator
from tests.support.demo_accounts import Demo, open_accounts
from tests.support.job_batches import HeldQueue
from tests.support.modern_client import APIS

EXAMPLES_TRIED = 200 if os.environ.get("TILLGATE_SOAK") == "1" else 10
# What the schema allows and the server must refuse all the same: a used key for another file; a text that is no CSV.
ACCEPTED = ["2xx", "400", "401", "403", "404", "422", "429"]
PROTOCOLS = [protocol.name for protocol in modern_api.PROTOCOLS]
WITH_JOBS = list(APIS)
SERVED_TO_ALL = frozenset(("POST /api/auth/sign-out", "GET /api/auth/get-session"))


class Crowd:
    """The application, each of whose requests comes from an address of its own: nobody pays for another's wrong keys.

    After each request the jobs are worked on.
    """

    def __init__(self, context: Context, queue: HeldQueue) -> None:
        self._app = create_app(settings_for(context.database, rate_limit="none"), context)
        self._core = context
        self._queue = queue
        self._numbers = count(1)
        self._one_by_one = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._one_by_one:
            environ["REMOTE_ADDR"] = f"2001:db8::{next(self._numbers):x}"
            body = self._app(environ, start_response)
            self._queue.run(self._core)
        return body


@dataclass(frozen=True, slots=True)
class Place:
    """Where the protocols are served, to whom."""

    url: str
    context: Context
    demo: Demo


@dataclass(slots=True)
class Found:
    """What a run has seen: the statuses of each operation's replies, and what was wrong with them."""

    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    wrong: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def place(blank_sqlite: Blank, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The protocols over HTTP, with the demo accounts and an administrator."""
    database = blank_sqlite(tmp_path_factory.mktemp("protocols"))
    queue = HeldQueue()
    context = Context(database=database, digests=Digests(SECRET), queue=queue)
    demo = open_accounts(context)[0]
    administrator(context, demo)
    with served(Crowd(context, queue)) as url:
        yield Place(url, context, demo)
    database.dispose()


class Silent(WSGIRequestHandler):
    """Writes no line of each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def served(application: Any) -> Iterator[str]:
    """An application over HTTP, in this process."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(url: str, protocol: str, credentials: Mapping[str, Mapping[str, str]]) -> Found:
    """All checks on a protocol: of the examples, at the borders of every schema, with made-up data."""
    options: dict[str, Any] = {
        "generation": {"max-examples": EXAMPLES_TRIED, "database": "none", "deterministic": True},
        "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
        # Calls that follow others: where one reply names what another call asks for.
        "phases": {"stateful": {"enabled": protocol in WITH_JOBS}},
        "continue-on-failure": True,
    }
    if credentials:
        options["auth"] = {"openapi": credentials}
    config = schemathesis.Config.from_dict(options)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config).include(tag=protocol)
    if credentials:
        # Signing in takes none, and every attempt costs a tenth of a second: once is enough.
        schema = schema.exclude(operation_id="signInEmail")
    found = Found()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.wrong.append(str(event))
        elif isinstance(event, events.ScenarioFinished):
            take(event, found)
    return found


def take(event: events.ScenarioFinished, found: Found) -> None:
    """What one scenario has seen."""
    recorder = event.recorder
    for case_id, interaction in recorder.interactions.items():
        case = recorder.cases[case_id].value
        if interaction.response is not None and case.method == case.operation.method.upper():
            found.statuses[case.operation.label].add(interaction.response.status_code)
    for case_id, checks in recorder.checks.items():
        interaction = recorder.interactions[case_id]
        for check in checks:
            if check.status is not Status.SUCCESS:
                said = check.failure_info.failure.message if check.failure_info else ""
                sent = check.failure_info.code_sample if check.failure_info else ""
                got = (interaction.response.status_code, interaction.response.content) if interaction.response else None
                found.wrong.append(
                    f"{recorder.cases[case_id].value.operation.label}: {check.name}: {said}\n{sent}\n{got}"
                )


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_keeps_to_its_document(place: Place, protocol: str) -> None:
    session = admin_sessions.sign_in(place.context, EMAIL, PASSWORD, "192.0.2.1", "")
    credentials = {
        "voucherifyId": {"api_key": place.demo.user_id},
        "voucherifyToken": {"api_key": place.demo.key},
        "gridBasic": {"username": place.demo.user_id, "password": place.demo.key},
        "session": {"api_key": session.cookie_value},
    }
    found = run(place.url, protocol, credentials)
    assert found.wrong == []
    never_served = {name for name, statuses in found.statuses.items() if not statuses & {200, 202}}
    assert never_served == set(), found.statuses


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_keeps_to_its_document_without_credentials(place: Place, protocol: str) -> None:
    found = run(place.url, protocol, {})
    assert found.wrong == []
    served_to_strangers = {name for name, statuses in found.statuses.items() if statuses & {200, 202}}
    assert found.statuses
    assert served_to_strangers <= SERVED_TO_ALL, found.statuses
