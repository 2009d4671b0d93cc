"""One constant answer by one application from several servers: what a server itself takes of a short request.

    python -m bench.servers --port 8080 --workers 2

serves it by Tillgate's own worker.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bench import load, small
from bench.gateway import CHECKOUT
from bench.raw import CONSTANT
from bench.results import Section
from bench.setting import Setting
from server import process

OURS = "Tillgate's worker"
APPLICATION = "bench.servers:constant"
# As many as the clients of the largest load, so that none waits for another one's connection.
THREADS = "64"
PATIENCE = 30.0


def constant(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI: always the same."""
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(CONSTANT)))])
    return [CONSTANT]


def commands(port: str, workers: str) -> dict[str, tuple[str, ...]]:
    """How each server is started, by the name that the table gives it."""
    at = f"127.0.0.1:{port}"
    gunicorn = ("-m", "gunicorn", "--bind", at, "--workers", workers, "--keep-alive", "15")
    return {
        OURS: ("-m", "bench.servers", "--port", port, "--workers", workers),
        "gunicorn's gthread": (*gunicorn, "--worker-class", "gthread", "--threads", THREADS, APPLICATION),
        "waitress, one process": ("-m", "waitress", "--listen", at, "--threads", THREADS, APPLICATION),
    }


def measure(setting: Setting) -> Iterator[Section]:
    """One section."""
    section = Section(
        "Servers",
        "One constant answer of the same application to keep-alive clients, from the worker that `tillgate serve` has and "
        f"from others with as many processes and {THREADS} threads in each. Rates are replies a second, times milliseconds.",
        ("server", "workers", "clients", "rate", "p50", "p99", "times ours", "rounds"),
    )
    section.start()
    requests = small.requests(setting, Path("servers"), "constant", [load.as_request(b"", "")], "/**/f(")
    for clients in setting.clients:
        workers = max(setting.workers[:2])
        found: dict[str, list[load.Load]] = {}
        for _ in range(setting.pairs):
            port = _free_port()
            for name, command in commands(str(port), str(workers)).items():
                with _started(command, port):
                    found.setdefault(name, []).append(load.run(port, clients, setting.seconds, requests))
        for name, loads in found.items():
            share = statistics.median(one.rate / ours.rate for one, ours in zip(loads, found[OURS], strict=True))
            times = (f"{statistics.median(getattr(one, what) for one in loads) * 1000:.1f}" for what in ("p50", "p99"))
            rate = round(statistics.median(one.rate for one in loads))
            section.add(name, workers, clients, rate, *times, f"**{share:.2f}**", len(loads))
    yield section


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _started(command: tuple[str, ...], port: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, *command], cwd=CHECKOUT, stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, f"{command[1]} did not start"
                assert time.monotonic() < end, f"{command[1]} does not listen"
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.communicate()


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--workers", type=int, default=2, show_default=True)
def main(port: int, workers: int) -> None:
    """Serve the constant answer until SIGTERM."""
    with process.listen("127.0.0.1", port) as listener:
        plan = process.ServerPlan(load=lambda: constant, listener=listener, announce=lambda: None, workers=workers)
        process.serve(plan)


if __name__ == "__main__":
    main()
