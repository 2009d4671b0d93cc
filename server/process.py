"""The processes of `tillgate serve`: gunicorn's arbiter, embedded, the workers that answer, and one that works on jobs."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from server import logs
from server.gthread_worker import GthreadWorker

# A thread that waits for a slow sender costs 30 kB and nothing else; enough of them keep the others served.
THREADS = 500
CONNECTIONS = 4000
# Files that a process opens besides its connections: databases, spooled bodies, libraries.
OTHER_FILES = 600
HEADER_SIZE = 64 * 1024
HEADER_COUNT = 500
KEEP_ALIVE_SECONDS = 15
# Whatever was begun may end before the workers do.
GRACEFUL_SECONDS = 600
# The one header that the protocols' clients may send with underscores. gunicorn drops all others, because two names that a
# proxy tells apart would be one to the application.
UNDERSCORED_HEADERS = "API_ACCESS_KEY,API_ACCESS-KEY,API-ACCESS_KEY"

WsgiApplication = Callable[..., Any]


class CannotListen(Exception):
    """The address cannot be listened on; the text is a sentence."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Port 0: any free one. Raises CannotListen."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = "something else listens there already" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise CannotListen(f"Cannot listen on {host} port {port}: {reason}.") from error


def url_of(listener: socket.socket) -> str:
    """The URL of whatever is served on the socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """What to serve, and how.

    `load` makes the application once, before the processes fork, so that they share its memory: no connection to a
    database may be open and no thread may run when it returns. `announce` is called once, when all processes are ready.
    One more process calls `work_on_jobs`, which returns soon after the function that it is given, called every second
    or so, is false.
    """

    load: Callable[[], WsgiApplication]
    listener: socket.socket
    announce: Callable[[], None]
    work_on_jobs: Callable[[Callable[[], bool]], None] | None = None
    workers: int = 2
    http_status: bool = False
    log_format: Literal["text", "json"] = "text"


def serve(plan: ServerPlan) -> None:
    """Serve until a signal ends it."""
    logs.configure(plan.log_format)
    EmbeddedGunicorn(plan).run()


class EmbeddedGunicorn(BaseApplication):  # type: ignore[misc]
    """gunicorn with our settings. The same object exists in each process after the fork."""

    def __init__(self, plan: ServerPlan) -> None:
        self.plan = plan
        self._processes = plan.workers + (plan.work_on_jobs is not None)
        # Each process that is ready reads one byte from the pipe; the one that reads the last byte announces the server.
        # A process that replaces another one finds none.
        self._ready_pipe, end = os.pipe()
        os.set_blocking(self._ready_pipe, False)
        os.write(end, b"." * (self._processes - 1) + b"!")
        os.close(end)
        # The process that holds the lock on this file works on jobs. When it dies, the one that replaces it takes the lock.
        self._job_lock = os.memfd_create("tillgate-jobs", os.MFD_CLOEXEC)
        super().__init__(prog="tillgate")

    def load_config(self) -> None:
        """gunicorn asks for its settings."""
        options = {
            # gunicorn takes the socket over, and closes it.
            "bind": f"fd://{self.plan.listener.detach()}",
            "workers": self._processes,
            "worker_class": GthreadWorker,
            "threads": THREADS,
            "worker_connections": _connection_limit(),
            "keepalive": KEEP_ALIVE_SECONDS,
            "timeout": 120,
            "graceful_timeout": GRACEFUL_SECONDS,
            "preload_app": True,
            # What is loaded by now stays in memory that all processes share: the collector does not write to it any more.
            "when_ready": lambda _arbiter: gc.freeze(),
            "post_worker_init": self._worker_is_ready,
            # The worker limits the head itself.
            "limit_request_line": 0,
            "limit_request_fields": HEADER_COUNT,
            "limit_request_field_size": HEADER_SIZE,
            "permit_unconventional_http_method": True,
            "http_parser": "python",
            "forwarder_headers": UNDERSCORED_HEADERS,
            "forwarded_allow_ips": "*",
            "secure_scheme_headers": {},
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": ServerLog,
            "proc_name": "tillgate",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> WsgiApplication:
        """gunicorn asks for the application."""
        return self.plan.load()

    def reload(self) -> None:
        """On SIGHUP, which a terminal sends that is closed, the server ends. The settings are read only once."""
        raise StopIteration

    def work_on_jobs(self, worker: GthreadWorker) -> bool:
        """Work on jobs until the process shall end. Returns False at once where another process does it."""
        if self.plan.work_on_jobs is None or not _try_lock(self._job_lock):
            return False
        stop = threading.Event()
        # SIGQUIT must not end the process inside a chunk: its lease would keep all others from the job.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: stop.set())

        def may_continue() -> bool:
            worker.notify()
            return not stop.is_set() and bool(worker.ppid == os.getppid())

        self.plan.work_on_jobs(may_continue)
        return True

    def _worker_is_ready(self, _worker: GthreadWorker) -> None:
        # A terminal signals all processes of the group; the arbiter says what it means.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            mark = os.read(self._ready_pipe, 1)
        except BlockingIOError:
            return
        if mark == b"!":
            self.plan.announce()


class ServerLog(Logger):  # type: ignore[misc]
    """gunicorn's log, written by the root's handler in the same form as everything else."""

    def setup(self, cfg: Any) -> None:
        """gunicorn has made handlers of its own."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def _try_lock(file: int) -> bool:
    # Such a lock belongs to the process, not to the open file that a fork shares.
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _connection_limit() -> int:
    """How many connections a worker may hold: as many as the system lets it open files for, up to CONNECTIONS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(64, min(CONNECTIONS, soft - OTHER_FILES))
