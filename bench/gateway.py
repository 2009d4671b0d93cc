"""A real `tillgate serve` (or the raw server) and a client that posts to it, with the server's memory and processor time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench import form
from bench.form import Body

CHECKOUT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
TILLGATE = ("-c", "from cli import main; main()", "serve", "--port", "0")
RAW = ("-m", "bench.raw", "--port", "0")
PATIENCE = 3600


@dataclass(frozen=True, slots=True)
class Posted:
    """One post: seconds from the first byte sent to the last one read, MB above idle, processor seconds of the server."""

    seconds: float
    memory: float
    processor: float
    reply: dict[str, object]

    @property
    def batch_id(self) -> str:
        batch = self.reply["batch"]
        assert isinstance(batch, dict)
        return str(batch["id"])


class Server:
    """A running server process with its workers."""

    def __init__(self, port: int, process: int) -> None:
        self.port = port
        self._process = process

    @classmethod
    @contextmanager
    def started(cls, settings: Mapping[str, str], *options: str, program: tuple[str, ...] = TILLGATE) -> Iterator[Self]:
        """A server with these settings, ready. It prints one line with its URL, as `tillgate serve` does."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TILLGATE_")}
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, *program, *options],
            # Elsewhere a tillgate.toml or .env of whoever measures would be read.
            cwd=CHECKOUT / "bench",
            env={**inherited, "PYTHONPATH": str(CHECKOUT), **settings},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the server did not start"
            yield cls(int(line.rsplit(":", 1)[1]), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()

    def processes(self) -> list[int]:
        """The process ids of the server and of all that it started."""
        found = [self._process]
        for pid in found:
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def used(self) -> float:
        """Processor seconds of all its processes so far."""
        return sum(map(processor, self.processes()))


class Gateway(Server):
    """Tillgate itself, asked over HTTP."""

    def warm(self) -> None:
        """Let every worker load what it loads at its first request."""
        for _ in range(8):
            fields = form.batch_fields(dry_run="yes", profiles_data="warm-up\n")
            self.post(form.of_fields(fields))

    def import_file(self, file: Path, encoding: str, **more: str) -> Posted:
        """Post a file of the yardstick's, with auto_add 25 on every row."""
        return self.post(form.with_data(encoding, form.batch_fields(**more), form.with_points(file)))

    def undo(self, batch_id: str, **more: str) -> Posted:
        """Undo a batch."""
        return self.call("customers_batch_undo", batch_id=batch_id, **more)

    def call(self, name: str, **more: str) -> Posted:
        """Any other call."""
        return self.post(form.of_fields({**form.credentials(), "type": name, **more}))

    def post(self, body: Body, *, succeeds: bool = True) -> Posted:
        """Post a body and measure. `succeeds`: whether anything but success is a mistake of the benchmark's."""
        processes = self.processes()
        idle, used = {pid: memory(pid) for pid in processes}, sum(map(processor, processes))
        for pid in processes:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted from now on
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Content-Type": body.content_type, "Content-Length": str(body.length)}
        start = time.perf_counter()
        connection.request("POST", "/", body.pieces(), headers)
        text = connection.getresponse().read()
        seconds = time.perf_counter() - start
        connection.close()
        reply = json.loads(text)
        assert reply["status"] == "success" or not succeeds, text[:1000]
        above = max(memory(pid, "VmHWM") - idle[pid] for pid in processes)
        return Posted(seconds, above, sum(map(processor, processes)) - used, reply)


def memory(pid: int, what: str = "VmRSS") -> float:
    """A process's memory in MB: VmRSS now, VmHWM at its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return 0.0


def processor(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def machine_busy() -> float:
    """Processor seconds that the whole machine has worked, PostgreSQL's included."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _waiting, interrupts, soft, _stolen = map(int, first)
    return (user + nice + system + interrupts + soft) / TICKS
