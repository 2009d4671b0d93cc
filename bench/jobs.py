"""A background import against the synchronous post of the same rows: upload, progress, done."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import form, stores
from bench.form import BOUNDARY, MULTIPART, Body
from bench.gateway import Gateway, memory
from bench.imports import LIMIT
from bench.load import percentile
from bench.results import COSTS, Pairs, Section
from bench.setting import Setting
from bench.stores import Store

ROUTE, ACTIONS = "/v1/customers/importCSV", "/v1/async-actions/"
CREDENTIALS = {"X-App-Id": form.USER, "X-App-Token": form.KEY}
HEADER = "Source_id,card_number,Name,Birthdate,Phone,Email,Address_line_1,Address_City,Address_State,Address_Postal_Code,tier\n"
POLL = 0.02
PATIENCE = 3600
MOST_JOB = 1.3
UPLOAD_BYTES = 10_000_000
MOST_UPLOAD, MOST_PROGRESS = 300, 5


@dataclass(frozen=True, slots=True)
class Job:
    """Seconds from the first byte sent: until the upload was answered, until the job was done; and of each look at it."""

    answered: float
    done: float
    looks: list[float]
    memory: float
    processor: float


def measure(setting: Setting) -> Iterator[Section]:
    """Two sections: what a job costs, and how soon it answers."""
    costs = Section(
        "Jobs",
        "A CSV upload, from its first byte until the job is seen to be done, looked at every 20 ms; the floor is the "
        "synchronous multipart post of the same rows in the legacy protocol.",
        COSTS,
    )
    answers = Section(
        "Answers of jobs",
        "Milliseconds: the whole upload, and looks at the progress while the job runs.",
        ("database", "MB", "what", "median", "p99", "at most", "times"),
    )
    rows = min(setting.largest, 100_000)
    first, second = stores.files(rows, setting.folder)
    whole = as_csv(second, setting.folder / "job.csv")
    ten = as_csv(second, setting.folder / "upload.csv", UPLOAD_BYTES)
    found: list[tuple[Store, Pairs, list[Job]]] = []
    costs.start()
    for name in setting.databases:
        with stores.opened(name, setting.folder) as store:
            store.preload(first)
            pairs, uploads = Pairs(), []
            for _ in range(setting.pairs):
                with store.fresh() as settings, Gateway.started({**settings, **LIMIT}) as gateway:
                    gateway.warm()
                    floor = gateway.import_file(second, MULTIPART).seconds
                with store.fresh() as settings, Gateway.started({**settings, **LIMIT}) as gateway:
                    gateway.warm()
                    job = upload(gateway, whole)
                pairs.add(floor, job.done, job.memory, job.processor)
                with store.fresh() as settings, Gateway.started({**settings, **LIMIT}) as gateway:
                    gateway.warm()
                    uploads.append(upload(gateway, ten))
            costs.add(store.name, rows, "CSV job, upload to done", *pairs.cells(MOST_JOB))
            found.append((store, pairs, uploads))
    yield costs
    answers.start()
    size = ten.stat().st_size / 1e6
    for store, _, uploads in found:
        answered = [job.answered * 1000 for job in uploads]
        looks = [look * 1000 for job in uploads for look in job.looks]
        for what, times, limit in (("upload answered", answered, MOST_UPLOAD), ("progress read", looks, MOST_PROGRESS)):
            last = percentile(sorted(times), 0.99)
            answers.add(store.name, f"{size:.1f}", what, f"**{statistics.median(times):.2f}**", last, limit, len(times))
    yield answers


def as_csv(file: Path, made: Path, limit: int = 0) -> Path:
    """A yardstick file as a CSV with the columns of the face; `most`: about so many bytes of it at most."""
    with file.open(encoding="utf-8") as lines, made.open("w", encoding="utf-8", newline="") as out:
        out.write(HEADER)
        for line in lines:
            code, card, first, last, date, phone, email, street, city, state, postal, tier = line.rstrip("\n").split(
                "|"
            )
            name = f"{first} {last}"
            out.write(",".join((code, card, name, date, phone, email, street, city, state, postal, tier)) + "\n")
            if limit and out.tell() >= limit:
                break
    return made


def upload(gateway: Gateway, file: Path) -> Job:
    """Upload a file, and look at the job until it is done."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="c.csv"\r\n\r\n'
    body = Body(f"multipart/form-data; boundary={BOUNDARY}", head.encode(), file, f"\r\n--{BOUNDARY}--\r\n".encode())
    processes = gateway.processes()
    idle, used = {pid: memory(pid) for pid in processes}, gateway.used()
    for pid in processes:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    headers = {**CREDENTIALS, "Content-Type": body.content_type, "Content-Length": str(body.length)}
    start = time.perf_counter()
    connection.request("POST", ROUTE, body.pieces(), headers)
    response = connection.getresponse()
    text = response.read()
    answered = time.perf_counter() - start
    assert response.status == 202, text[:1000]
    action, looks = json.loads(text)["async_action_id"], []
    while True:
        looked = time.perf_counter()
        connection.request("GET", ACTIONS + action, headers=CREDENTIALS)
        state = json.loads(connection.getresponse().read())
        now = time.perf_counter()
        if state["status"] not in ("ENQUEUED", "IN_PROGRESS"):
            break
        looks.append(now - looked)
        assert now - start < PATIENCE, "the job does not end"
        time.sleep(POLL)
    assert (state["status"], state["result"]["failed_count"]) == ("DONE", 0), str(state)[:1000]
    above = max(memory(pid, "VmHWM") - idle[pid] for pid in processes)
    return Job(answered, now - start, looks, above, gateway.used() - used)
