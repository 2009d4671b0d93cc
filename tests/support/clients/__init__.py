"""The vendors' own clients, in the versions that the lock files name, in a folder of their own outside of git."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.documents import HOUSE

FOLDER = Path(__file__).parent
CACHE = HOUSE / ".cache" / "clients"
PATIENCE = 300
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def javascript() -> Path:
    """A folder with `node_modules`. Skips the test where node or the registry is missing."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")

    def install(folder: Path) -> list[str]:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(FOLDER / name, folder)
        return [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]

    return _installed("javascript", FOLDER / "package-lock.json", install)


def python() -> Path:
    """A folder of packages. Skips the test where the registry is missing."""
    locked = FOLDER / "requirements.txt"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    return _installed(
        "python", locked, lambda folder: [*pip, "--require-hashes", "-r", str(locked), "--target", str(folder)]
    )


def _installed(kind: str, locked: Path, command: Callable[[Path], list[str]]) -> Path:
    """The folder of what a lock file names, installed once: of tests that run at the same time, by one."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = hashlib.sha256(f"{version} {locked.read_text(encoding='utf-8')}".encode()).hexdigest()[:16]
    folder = CACHE / f"{kind}-{name}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            draft = Path(tempfile.mkdtemp(dir=CACHE))
            try:
                done = subprocess.run(  # noqa: S603
                    command(draft),
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                    env=_plain(os.environ),
                )
                if done.returncode != 0:
                    pytest.skip(f"the vendor's {kind} client cannot be installed: {done.stderr.strip()[-300:]}")
                draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return folder


def _plain(environment: os._Environ[str]) -> dict[str, str]:
    plain = {name: value for name, value in environment.items() if not name.startswith("TILLGATE_")}
    # Node has certificates of its own; a registry behind a mirror may have one that only the system knows.
    if SYSTEM_CERTIFICATES.is_file():
        plain.setdefault("NODE_EXTRA_CA_CERTS", str(SYSTEM_CERTIFICATES))
    return plain
