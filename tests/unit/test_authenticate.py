"""Credentials, their digests, and the lockout."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import bcrypt
import pytest
from argon2 import PasswordHasher

from auth.authenticate import authenticate
from auth.lockout import (
    ADDRESS_LIMIT,
    FIRST_LOCK_MS,
    FORGET_MS,
    LONGEST_LOCK_MS,
    MINUTE_MS,
    PAIR_LIMIT,
    WINDOW_MS,
    Lockout,
)
from crypto.digests import Digests, hash_password, is_same_digest, new_api_key, verify_password
from importing.context import Context
from importing.errors import ApiError
from storage.engine import now_ms
from storage.queries import accounts
from tests.support.demo_accounts import Demo

HERE = "192.0.2.1"
DIGESTS = Digests(b"k" * 32)


def refused(context: Context, user: str, key: str, account: str, address: str = HERE) -> bool:
    """Whether the credentials are refused, always with the same words."""
    try:
        authenticate(context, user, key, account, address)
    except ApiError as fault:
        assert fault.message == "Invalid user, API key or account."
        return True
    return False


class TestAuthenticate:
    def test_gives_the_account_and_the_rights(self, context: Context, account: Demo) -> None:
        access = authenticate(context, account.user_id, account.key, account.account_id, HERE)
        assert (access.account, access.public_id, access.user_id) == (account.number, "greatwidgets", "john1970")
        assert access.may_import

    @pytest.mark.parametrize(
        ("user", "key", "account_id"),
        [
            ("john1970", "wrong", "greatwidgets"),
            ("john1970", "", "greatwidgets"),
            ("john1970", "1959CAADAC9B13DCB3", "greatwidgets"),
            ("John1970", "1959caadac9b13dcb3", "greatwidgets"),
            ("nobody", "1959caadac9b13dcb3", "greatwidgets"),
            ("john1970", "1959caadac9b13dcb3", "smallshop"),
            ("john1970", "1959caadac9b13dcb3", "nothing"),
            ("john1970", "1959caadac9b13dcb3", ""),
            ("", "", ""),
            ("a\0b", "\ud800", "x"),
            ("\ud800", "x", "x"),
            ("a\udfff", "x", "x"),
        ],
    )
    def test_refuses_everything_else(
        self, context: Context, account: Demo, user: str, key: str, account_id: str
    ) -> None:
        assert account.user_id == "john1970"
        assert refused(context, user, key, account_id)

    def test_users_are_named_in_any_script(self, context: Context, account: Demo) -> None:
        with context.database.writing() as connection:
            accounts.create_user(
                connection, account.number, "jürgen", context.digests.api_key("a key"), may_import=True
            )
        assert not refused(context, "jürgen", "a key", account.account_id)

    def test_refuses_a_disabled_user(self, context: Context, account: Demo) -> None:
        with context.database.writing() as connection:
            accounts.disable_user(connection, account.user_id)
        assert refused(context, account.user_id, account.key, account.account_id)

    def test_takes_the_old_key_while_it_overlaps(self, context: Context, account: Demo) -> None:
        for until, gone in ((now_ms() + MINUTE_MS, False), (now_ms() - 1, True)):
            with context.database.writing() as connection:
                accounts.rotate_user(connection, account.user_id, context.digests.api_key("new"), until)
            assert not refused(context, account.user_id, "new", account.account_id)
            assert refused(context, account.user_id, account.key, account.account_id) is gone
            assert refused(context, account.user_id, "wrong", account.account_id)

    def test_locks_a_user_out_at_one_address(self, context: Context, account: Demo) -> None:
        for _ in range(PAIR_LIMIT):
            assert refused(context, account.user_id, "wrong", account.account_id)
        assert refused(context, account.user_id, account.key, account.account_id)
        assert not refused(context, account.user_id, account.key, account.account_id, "192.0.2.2")
        assert not refused(context, "reader", _key_of_reader(context), account.account_id)

    def test_success_between_failures_does_not_lock(self, context: Context, account: Demo) -> None:
        for _ in range(PAIR_LIMIT - 1):
            assert refused(context, account.user_id, "wrong", account.account_id)
        assert not refused(context, account.user_id, account.key, account.account_id)


class TestAuthenticateUser:
    """Where no account is named: the user's own."""

    def test_gives_the_users_account(self, context: Context, account: Demo) -> None:
        access = authenticate(context, "mary", "7777cccc8888dddd99", None, HERE)
        assert (access.public_id, access.user_id, access.may_import) == ("smallshop", "mary", True)
        access = authenticate(context, "reader", "0000aaaa1111bbbb22", None, HERE)
        assert (access.account, access.may_import) == (account.number, False)

    def test_counts_failures_by_user_and_address(self, context: Context, account: Demo) -> None:
        for _ in range(PAIR_LIMIT):
            with pytest.raises(ApiError, match="bad_credentials"):
                authenticate(context, account.user_id, "wrong", None, HERE)
        assert refused(context, account.user_id, account.key, account.account_id)
        assert not refused(context, account.user_id, account.key, account.account_id, "192.0.2.2")


class TestLockout:
    @pytest.fixture
    def lockout(self, tmp_path: Path) -> Lockout:
        return Lockout(tmp_path / "lockout.db")

    def test_twenty_failures_lock_for_a_minute_and_then_ever_longer(self, lockout: Lockout) -> None:
        now, spans = 1_000_000_000, []
        for _ in range(6):
            for _ in range(PAIR_LIMIT):
                assert not lockout.wait("u", HERE, now)
                lockout.count_failure("u", HERE, now)
            spans.append(next(m for m in range(1, 17) if not lockout.wait("u", HERE, now + m * MINUTE_MS)))
            now += spans[-1] * MINUTE_MS
        assert spans == [1, 2, 4, 8, 15, 15]

    @pytest.mark.parametrize(
        ("pause", "span"),
        [(1, 2), (FORGET_MS // MINUTE_MS, 2), (FORGET_MS // MINUTE_MS + 1, 1)],
        ids=["soon", "in time", "later"],
    )
    def test_a_lock_within_an_hour_of_the_last_one_is_longer(self, lockout: Lockout, pause: int, span: int) -> None:
        now = 1_000_000_000
        for _ in range(PAIR_LIMIT):
            lockout.count_failure("u", HERE, now)
        assert lockout.wait("u", HERE, now) == FIRST_LOCK_MS
        now += FIRST_LOCK_MS + pause * MINUTE_MS
        for _ in range(PAIR_LIMIT):
            lockout.count_failure("u", HERE, now)
        assert lockout.wait("u", HERE, now) == span * MINUTE_MS

    def test_failures_are_counted_over_ten_minutes(self, lockout: Lockout) -> None:
        now = 1_000_000_000
        for number in range(60):
            lockout.count_failure("u", HERE, now + number * MINUTE_MS * 11 // PAIR_LIMIT)
            assert not lockout.wait("u", HERE, now + number * MINUTE_MS * 11 // PAIR_LIMIT)

    def test_tells_how_long_to_wait_to_the_last_millisecond(self, lockout: Lockout) -> None:
        for _ in range(PAIR_LIMIT):
            lockout.count_failure("u", HERE, 1_000_000_000)
        waits = [lockout.wait("u", HERE, 1_000_000_000 + passed) for passed in (0, 10_000, MINUTE_MS - 1, MINUTE_MS)]
        assert waits == [MINUTE_MS, MINUTE_MS - 10_000, 1, 0]
        assert lockout.wait("u", HERE, 1_000_000_000 + MINUTE_MS - 1)

    def test_who_failed_long_ago_is_dropped_from_the_file(self, lockout: Lockout, tmp_path: Path) -> None:
        def kept() -> int:
            with closing(sqlite3.connect(tmp_path / "lockout.db")) as connection:
                return int(connection.execute("SELECT count(*) FROM failure").fetchone()[0])

        lockout.count_failure("u", HERE, 1_000_000_000)
        later = 1_000_000_000 + FORGET_MS + LONGEST_LOCK_MS
        lockout.count_failure("v", "192.0.2.2", later)
        assert kept() == 4, "two pairs, two addresses"
        lockout.count_failure("v", "192.0.2.2", later + 1)
        assert kept() == 2

    def test_a_failure_of_ten_minutes_ago_counts_no_more(self, lockout: Lockout) -> None:
        for age, locked in ((WINDOW_MS - 1, True), (WINDOW_MS, False)):
            user, now = f"u{age}", 1_000_000_000
            for _ in range(PAIR_LIMIT - 1):
                lockout.count_failure(user, HERE, now)
            lockout.count_failure(user, HERE, now + age)
            assert (lockout.wait(user, HERE, now + age) > 0) is locked

    def test_many_failures_lock_an_address(self, lockout: Lockout) -> None:
        for number in range(ADDRESS_LIMIT):
            assert not lockout.wait("v", HERE, 1_000_000_000)
            lockout.count_failure(f"u{number}", HERE, 1_000_000_000)
        assert lockout.wait("v", HERE, 1_000_000_000)
        assert not lockout.wait("v", "192.0.2.2", 1_000_000_000)

    def test_is_forgotten_in_time(self, lockout: Lockout, tmp_path: Path) -> None:
        lockout.count_failure("u", HERE, 1_000_000_000)
        lockout.count_failure("v", "192.0.2.2", 1_000_000_000 + 2 * 60 * MINUTE_MS + LONGEST_LOCK_MS)
        assert not Lockout(tmp_path / "lockout.db").wait("u", HERE, 1_000_000_000)

    def test_is_shared_by_processes_and_survives_them(self, lockout: Lockout, tmp_path: Path) -> None:
        for _ in range(PAIR_LIMIT):
            lockout.count_failure("u", HERE, 1_000_000_000)
        assert Lockout(tmp_path / "lockout.db").wait("u", HERE, 1_000_000_000)

    def test_what_another_process_counts_is_seen_at_once(self, lockout: Lockout, tmp_path: Path) -> None:
        lockout.count_failure("another", HERE, 1_000_000_000)
        script = (
            "import sys; from pathlib import Path; from auth.lockout import Lockout\n"
            f"lockout = Lockout(Path({str(tmp_path / 'lockout.db')!r}))\n"
            "for line in sys.stdin: lockout.count_failure('u', line.strip(), 1_000_000_000); print(flush=True)"
        )
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:  # noqa: S603
            assert other.stdin is not None
            assert other.stdout is not None
            for number in range(3):
                address = f"192.0.2.{number}"
                assert not lockout.wait("u", address, 1_000_000_000)
                for count in range(PAIR_LIMIT):
                    assert not lockout.wait("u", address, 1_000_000_000), count
                    other.stdin.write(f"{address}\n")
                    other.stdin.flush()
                    other.stdout.readline()
                assert lockout.wait("u", address, 1_000_000_000)
                assert lockout.wait("u", address, 1_000_000_000) == MINUTE_MS
            other.stdin.close()

    def test_a_lock_is_of_one_user_only(self, lockout: Lockout) -> None:
        for _ in range(PAIR_LIMIT):
            lockout.count_failure("u", HERE, 1_000_000_000)
        for _ in range(2):
            assert not lockout.wait("v", HERE, 1_000_000_000)
            assert lockout.wait("u", HERE, 1_000_000_000)

    def test_names_nobody_in_its_file(self, lockout: Lockout, tmp_path: Path) -> None:
        lockout.count_failure("a-key-in-the-wrong-field", HERE, 1_000_000_000)
        files = [file.read_bytes() for file in tmp_path.iterdir()]
        assert all(b"a-key-in" not in content for content in files)

    def test_broken_file_lets_the_gateway_serve(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "lockout.db").write_bytes(b"not a database" * 100)
        lockout = Lockout(tmp_path / "lockout.db")
        lockout.count_failure("u", HERE, 1_000_000_000)
        assert not lockout.wait("u", HERE, 1_000_000_000)
        assert caplog.messages == [
            "the lockout file cannot be written: file is not a database",
            "the lockout file cannot be read: file is not a database",
        ]


class TestDigests:
    def test_keys_are_keyed_by_the_installation(self) -> None:
        assert is_same_digest(DIGESTS.api_key("a"), DIGESTS.api_key("a"))
        assert not is_same_digest(DIGESTS.api_key("b"), DIGESTS.api_key("a"))
        assert Digests(b"x" * 32).api_key("a") != DIGESTS.api_key("a")
        assert len({new_api_key() for _ in range(100)}) == 100

    @pytest.mark.parametrize("secret", ["1234", "pässwörd", "", "x" * 300, "$2y$not a hash", "$argon2id$neither"])
    def test_customers_secrets_are_salted_and_verified(self, secret: str) -> None:
        digest = DIGESTS.customer_secret(secret)
        assert digest.startswith("$tg1$")
        assert digest != DIGESTS.customer_secret(secret)
        assert secret == "" or secret not in digest
        assert DIGESTS.verify_customer_secret(secret, digest)
        assert not DIGESTS.verify_customer_secret(secret + "x", digest)
        assert not Digests(b"x" * 32).verify_customer_secret(secret, digest)

    @pytest.mark.parametrize("prefix", ["2b", "2y"])
    def test_bcrypt_hash_is_kept_and_verified_as_php_does(self, prefix: str) -> None:
        digest = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode().replace("$2b$", f"${prefix}$")
        assert DIGESTS.customer_secret(digest) == digest
        assert DIGESTS.verify_customer_secret("x" * 80, digest)
        assert not DIGESTS.verify_customer_secret("y", digest)

    def test_argon2id_hash_is_kept_and_verified(self) -> None:
        digest = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("hush")
        assert DIGESTS.customer_secret(digest) == digest
        assert DIGESTS.verify_customer_secret("hush", digest)
        assert not DIGESTS.verify_customer_secret("hash", digest)

    @pytest.mark.parametrize(
        "digest",
        [
            "",
            "$2y$31$" + "a" * 53,
            "$argon2id$v=19$m=4194304,t=1,p=1$" + "a" * 22 + "$" + "a" * 43,
            "$argon2id$v=19$m=64,t=999999,p=1$" + "a" * 22 + "$" + "a" * 43,
        ],
    )
    def test_hash_that_would_stop_the_server_is_not_computed(self, digest: str) -> None:
        assert not DIGESTS.verify_customer_secret("x", digest)

    def test_administrators_passwords_are_argon2id(self) -> None:
        digest = hash_password("correct horse")
        assert digest.startswith("$argon2id$")
        assert verify_password("correct horse", digest)
        assert not verify_password("wrong", digest)
        assert not verify_password("wrong", "nonsense")


def _key_of_reader(context: Context) -> str:
    with context.database.writing() as connection:
        accounts.rotate_user(connection, "reader", context.digests.api_key("readers"), 0)
    return "readers"
