"""A real `tillgate serve` and a client that posts files to it over HTTP, with the server's memory and processor time."""

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
from urllib.parse import quote_plus, urlencode

USER, KEY, ACCOUNT, CAMPAIGN = "bench", "bench-key-0123456789", "bench", "club"
COLUMNS = (
    "code",
    "card_number",
    "first_name",
    "last_name",
    "custom_date",
    "phone",
    "email",
    "street1",
    "city",
    "state",
    "postal_code",
    "custom_field_1",
    "auto_add",
)
BOUNDARY = "tillgate-bench-7d1f"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Posted:
    """One post: seconds from the first byte sent to the last one read, MB above idle, processor seconds of the server."""

    seconds: float
    memory: float
    processor: float
    reply: dict[str, object]


class Gateway:
    """A running server."""

    def __init__(self, port: int, process: int) -> None:
        self._port = port
        self._process = process

    @classmethod
    @contextmanager
    def started(cls, settings: Mapping[str, str], *options: str) -> Iterator[Gateway]:
        """A server with these settings, ready and warm."""
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", "from cli import main; main()", "serve", "--port", "0", *options],
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            gateway = cls(int(line.rsplit(":", 1)[1]), process.pid)
            for _ in range(8):
                gateway._ask(gateway._fields(dry_run="yes", profiles_data="warm-up\n"))
            yield gateway
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def import_file(self, file: Path, encoding: str, **more: str) -> Posted:
        """Post a file of the yardstick's, with auto_add 25 on every row."""
        data = file.read_bytes().replace(b"\n", b"|25\n")
        fields = self._fields(**more)
        if encoding == "urlencoded":
            body = (urlencode(fields) + "&profiles_data=").encode() + quote_plus(data).encode()
            return self._post(body, "application/x-www-form-urlencoded")
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"\r\n\r\n{{}}\r\n'
        parts = [part.format(name, value) for name, value in fields.items()]
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="profiles_data"\r\n\r\n'
        body = "".join(parts).encode() + head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
        return self._post(body, f"multipart/form-data; boundary={BOUNDARY}")

    def undo_after(self, file: Path, **more: str) -> Posted:
        """Import a file, then undo that: the undo's measures."""
        batch = self.import_file(file, "multipart", details="yes").reply["batch"]
        assert isinstance(batch, dict)
        fields = {**self._credentials(), "type": "customers_batch_undo", "batch_id": batch["id"], **more}
        return self._post(urlencode(fields).encode(), "application/x-www-form-urlencoded")

    def _credentials(self) -> dict[str, str]:
        return {"API": "1.5", "user_id": USER, "user_api_key": KEY, "account_id": ACCOUNT, "output": "json"}

    def _fields(self, **more: str) -> dict[str, str]:
        headers = {f"profiles_header_{number}": name for number, name in enumerate(COLUMNS, 1)}
        return {
            **self._credentials(),
            "type": "customers_batch",
            "delimiter": "pipe",
            "overwrite_duplicates": "update",
            "campaigns_to_include": CAMPAIGN,
            **headers,
            **more,
        }

    def _ask(self, fields: Mapping[str, str]) -> Posted:
        return self._post(urlencode(fields).encode(), "application/x-www-form-urlencoded")

    def _post(self, body: bytes, content_type: str) -> Posted:
        processes = self._processes()
        idle, used = {pid: memory(pid) for pid in processes}, sum(map(processor, processes))
        for pid in processes:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted from now on
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        start = time.perf_counter()
        connection.request("POST", "/", body, {"Content-Type": content_type})
        text = connection.getresponse().read()
        seconds = time.perf_counter() - start
        connection.close()
        reply = json.loads(text)
        assert reply["status"] == "success", text[:1000]
        above = max(memory(pid, "VmHWM") - idle[pid] for pid in processes)
        return Posted(seconds, above, sum(map(processor, processes)) - used, reply)

    def _processes(self) -> list[int]:
        children = Path(f"/proc/{self._process}/task/{self._process}/children").read_text().split()
        return [self._process, *map(int, children)]


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
