"""Who is refused before the data, and the budget of those who are not known yet: docs/protocol.md, Transport."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from importing.errors import ApiError
from legacy_api.form import FormLimits, UnreadableForm, read_form
from legacy_api.spool_budget import UNAUTHENTICATED_SPOOL
from tests.support.form_requests import (
    CREDENTIALS,
    LIMITS,
    MULTIPART,
    URLENCODED,
    Dribble,
    admit_all,
    admit_none,
    environ,
    multipart,
    read,
    refused,
    urlencoded,
)


class Door:
    def __init__(self, fault: ApiError | None = None) -> None:
        self.asked: list[dict[str, str]] = []
        self.fault = fault
        self.lent = 0

    def __call__(self, fields: Mapping[str, str]) -> None:
        self.asked.append(dict(fields))
        self.lent = UNAUTHENTICATED_SPOOL.lent
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize(("make", "content_type"), [(urlencoded, URLENCODED), (multipart, MULTIPART)])
def test_who_fails_by_the_fields_before_the_data_is_refused_without_reading_them(make: Any, content_type: str) -> None:
    fields = [*CREDENTIALS, ("output", "JSON"), ("profiles_data", "x" * 3_000_000), ("type", "x")]
    request = environ(make(fields), content_type)
    with pytest.raises(UnreadableForm) as caught:
        read_form(request, LIMITS, admit_none)
    assert caught.value.fault.code == "bad_credentials"
    assert caught.value.fields["output"] == "JSON"
    assert request["wsgi.input"].taken < 4_000


def test_a_sender_that_stalls_is_refused_by_half_of_what_it_sent() -> None:
    class Stalling(Dribble):
        def read(self, size: int = -1) -> bytes:
            piece = super().read(size)
            assert len(piece) == size, "waits for more"
            return piece

    body = urlencoded([*CREDENTIALS, ("profiles_data", "x" * 20_000)])
    with pytest.raises(UnreadableForm):
        read_form(environ(Stalling(body), length=2_000_000), LIMITS, admit_none)


def test_admission_is_asked_once_with_what_came_before() -> None:
    door = Door()
    body = urlencoded([*CREDENTIALS[1:], ("profiles_data", "a"), ("profiles_data", "b"), ("type", "late")])
    read_form(environ(body, query=b"output=JSON"), LIMITS, door).close()
    expected = {"output": "JSON", "user_id": "john1970", "user_api_key": "1959caadac9b13dcb3"}
    assert door.asked == [{**expected, "account_id": "greatwidgets"}]


def test_credentials_of_query_and_header_admit_too() -> None:
    door = Door()
    request = environ(b"profiles_data=x", query=b"user_id=u&account_id=a", headers={"HTTP_API_ACCESS_KEY": "k"})
    read_form(request, LIMITS, door).close()
    assert door.asked == [{"user_id": "u", "account_id": "a", "user_api_key": "k"}]


def test_the_older_name_of_the_key_admits_too() -> None:
    door = Door()
    read_form(environ(b"profiles_data=x", query=b"user_id=u&account_id=a&user_password=k"), LIMITS, door).close()
    assert door.asked == [{"user_id": "u", "account_id": "a", "user_api_key": "k"}]


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"user_id=u&account_id=a",
        b"user_id=u&account_id=+&user_password=k",
        b"user_id=%e9&account_id=a&user_api_key=k",
        b"user_id=u&account_id=a&user_api_key=%e9",
        b"user_id=u&account_id=a&user_api_key=%e9&user_password=k",
    ],
)
def test_without_all_credentials_in_plain_sight_nobody_is_refused_early(query: bytes) -> None:
    read_form(environ(b"profiles_data=x", query=query), LIMITS, admit_none).close()


def test_data_of_a_query_are_no_reason_to_ask() -> None:
    query = urlencoded([*CREDENTIALS, ("profiles_data", "x")])
    read_form(environ(b"", method="GET", query=query), LIMITS, admit_none).close()
    read_form(environ(b"type=x", query=query), LIMITS, admit_none).close()


def test_data_of_strangers_are_spooled_within_one_budget() -> None:
    limits = FormLimits(max_body=4_000_000, spool_budget=1_000_000)
    late = urlencoded([("output", "JSON"), ("profiles_data", "x" * 2_000_000), *CREDENTIALS])
    error = refused(environ(late), limits)
    assert (error.fault.code, error.fault.retry_after > 0) == ("spool_full", True)
    assert error.fields == {"output": "JSON"}
    assert UNAUTHENTICATED_SPOOL.lent == 0
    early = urlencoded([*CREDENTIALS, ("profiles_data", "x" * 2_000_000)])
    assert read(environ(early), limits)[1] == b"x" * 2_000_000
    UNAUTHENTICATED_SPOOL.lend(990_000, limits.spool_budget)
    try:
        assert refused(environ(urlencoded([("profiles_data", "x" * 20_000)])), limits).fault.code == "spool_full"
        assert UNAUTHENTICATED_SPOOL.lent == 990_000
    finally:
        UNAUTHENTICATED_SPOOL.give_back(990_000)


def test_the_budget_is_given_back_on_admission_and_repetition() -> None:
    limits = FormLimits(max_body=4_000_000, spool_budget=1_000_000)
    door = Door()
    data = ("profiles_data", "x" * 600_000)
    read_form(environ(urlencoded([data, data, *CREDENTIALS, data, data])), limits, door).close()
    assert len(door.asked) == 1
    assert UNAUTHENTICATED_SPOOL.lent == 0


def test_a_disk_that_refuses_is_no_bug(tmp_path: Path) -> None:
    limits = FormLimits(max_body=4_000_000, spool_dir=tmp_path / "gone")
    error = refused(environ(b"profiles_data=" + b"x" * 1_000_000), limits)
    assert error.fault.code == "spool_full"
    assert read(environ(b"profiles_data=" + b"x" * 1000), limits)[1] == b"x" * 1000


@pytest.mark.parametrize("room", [0, 300_000, 499_000])
@pytest.mark.parametrize("before", [b"", b"profiles_data=1&"])
def test_a_disk_that_fills_up_meanwhile_is_no_bug(tmp_path: Path, room: int, before: bytes) -> None:
    """At whatever byte: while it is read, with the last bytes of a buffer, and when the file is closed."""
    limits = FormLimits(max_body=4_000_000, spool_dir=tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        error = refused(environ(before + b"profiles_data=" + b"x" * 500_000), limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (error.fault.code, error.fault.retry_after > 0) == ("spool_full", True)


def test_big_data_leave_no_file_behind(tmp_path: Path) -> None:
    limits = FormLimits(max_body=4_000_000, spool_dir=tmp_path)
    with read_form(environ(b"profiles_data=" + b"x" * 1_000_000), limits, admit_all) as form:
        assert form.data is not None
        assert form.data.size == 1_000_000
        assert form.data.file.tell() == 0
        assert list(tmp_path.iterdir()) == []


def test_a_sender_that_stalls_at_once_is_judged_by_what_came() -> None:
    class Stalled(Dribble):
        """Gives what is there, as a socket does; there is no more after it."""

        def read(self, size: int = -1) -> bytes:
            piece = super().read(size)
            assert piece, "waits for more"
            return piece

    for make, content_type in ((urlencoded, URLENCODED), (urlencoded, None), (multipart, MULTIPART), (multipart, None)):
        body = make([*CREDENTIALS, ("profiles_data", "11223344|jane")])
        with pytest.raises(UnreadableForm) as caught:
            read_form(environ(Stalled(body), content_type, length=2_000_000), LIMITS, admit_none)
        assert caught.value.fault.code == "bad_credentials"
