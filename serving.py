"""`tillgate serve`: gunicorn, embedded, with threads and several processes.

What it does that gunicorn's own gthread worker would not: a connection costs a thread only while a request is on its
way; heads and bodies that stall end; GET lines of 1 MB, unencoded characters in them and the one header with
underscores pass; what cannot be read is refused in the caller's format; a refused sender may finish sending, so that
it reads the refusal; nothing of a query string reaches a log.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker

import logs
import refusing
from connection import HEADER, HEADER_COUNT, STALL_SECONDS, Connection, Held, Reply
from importing.errors import ApiError

# A thread that waits for a slow sender costs 30 kB and nothing else; enough of them keep the neighbours served.
THREADS = 500
CONNECTIONS = 4000
# So many threads at most stay with a connection whose next request comes at once: the rest is for all the others in turn.
STAYING = 64
# Files that a process opens besides its connections: databases, spooled bodies, libraries.
OTHER_FILES = 600
KEEP_ALIVE = 15
ACCEPT_PAUSE = 0.05
LAST = b"!"
# So long a worker leaves a new connection to another one that holds fewer: seconds.
GIVE_WAY = 0.0005
# Whatever was begun may end; only then the workers do.
GRACEFUL = 600


Application = Callable[..., Any]


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
class Plan:
    """What to serve, and how. Each worker process calls `load` for the application; when all are ready, one `announce`.

    One more process calls `consume`, which works on jobs until the function that it is given, called every second or
    so, says that it shall end.
    """

    load: Callable[[], Application]
    listener: socket.socket
    announce: Callable[[], None]
    consume: Callable[[Callable[[], bool]], None] | None = None
    workers: int = 2
    http_status: bool = False
    log_format: Literal["text", "json"] = "text"


def serve(plan: Plan) -> None:
    """Serve until a signal ends it."""
    logs.configure(plan.log_format)
    _Server(plan).run()


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        # Each worker that is ready reads a byte, and who reads the last one says so: clients that come at once are not all
        # taken by the first. A worker that replaces another finds none.
        self._ready_marks, end = os.pipe()
        os.set_blocking(self._ready_marks, False)
        os.write(end, b"." * (plan.workers - 1) + LAST)
        os.close(end)
        # Who holds the lock on it is the consumer; when that process dies, the one that replaces it takes the lock.
        self.consumer_lock = os.memfd_create("tillgate-consumer", os.MFD_CLOEXEC)
        self.held = Held()
        super().__init__(prog="tillgate")

    def load_config(self) -> None:
        options = {
            # gunicorn takes it over, and closes it.
            "bind": f"fd://{self.plan.listener.detach()}",
            "workers": self.plan.workers + (self.plan.consume is not None),
            "worker_class": Worker,
            "threads": THREADS,
            "worker_connections": _connections(),
            "keepalive": KEEP_ALIVE,
            "timeout": 120,
            "graceful_timeout": GRACEFUL,
            "limit_request_line": 0,
            "limit_request_fields": HEADER_COUNT,
            "limit_request_field_size": HEADER,
            "permit_unconventional_http_method": True,
            "http_parser": "python",
            "secure_scheme_headers": {},
            "forwarder_headers": "",
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": _Log,
            "proc_name": "tillgate",
            "post_worker_init": self._ready,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def reload(self) -> None:
        # Of SIGHUP, which a terminal sends that is closed. The settings are read once: there is nothing to load again.
        raise StopIteration

    def load(self) -> Application:
        logs.configure(self.plan.log_format)
        return self.plan.load()

    def _ready(self, worker: Worker) -> None:
        if worker.consumes:
            return
        try:
            mark = os.read(self._ready_marks, 1)
        except BlockingIOError:
            return
        if mark == LAST:
            self.plan.announce()


def _locked(file: int) -> bool:
    # Such a lock is the process's, not the open file's that a fork shares.
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _connections() -> int:
    """How many connections a worker may hold: as many as the system lets it open files for, up to a bound."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(64, min(CONNECTIONS, soft - OTHER_FILES))


class _Log(Logger):  # type: ignore[misc]
    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        # By way of the root's handler, in the same form as everything else.
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Worker(ThreadWorker):  # type: ignore[misc]
    """One process: a loop that accepts and watches connections, and threads that each handle one request.

    Or the one that consumes jobs: gunicorn starts it again like any other when it dies.
    """

    consumes = False
    _staying = threading.BoundedSemaphore(STAYING)

    def load_wsgi(self) -> None:
        self.consumes = self.app.plan.consume is not None and _locked(self.app.consumer_lock)
        if self.consumes:
            logs.configure(self.app.plan.log_format)
        else:
            super().load_wsgi()

    def run(self) -> None:
        if self.consumes:
            self.app.plan.consume(self._goes_on)
            return
        try:
            super().run()
        finally:
            self.app.held.tell(self.age, None)

    def notify(self) -> None:
        super().notify()
        if not self.consumes:
            self.app.held.tell(self.age, self.nr_conns if self.alive else None)

    def init_signals(self) -> None:
        super().init_signals()
        # A terminal tells all of its processes; what it means is said by the first of them.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def handle_quit(self, sig: int, frame: object) -> None:
        """A quick end, but not in the middle of a portion: its claim would keep everybody else from the job."""
        if self.consumes:
            self.alive = False
        else:
            super().handle_quit(sig, frame)

    def _goes_on(self) -> bool:
        self.notify()
        return bool(self.alive) and bool(self.ppid == os.getppid())

    def accept(self, listener: Any) -> None:
        # A connection waits in the loop, not in a thread, until its first byte comes.
        if self.nr_conns > self.app.held.fewest():
            time.sleep(GIVE_WAY)
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self.log.error("cannot accept a connection: %s", error.strerror)
            time.sleep(ACCEPT_PAUSE)
            return
        self.nr_conns += 1
        self.app.held.tell(self.age, self.nr_conns)
        connection = Connection(self.cfg, client, address, listener.getsockname())
        connection.set_timeout()
        self.pending_conns.append(connection)
        self.poller.register(
            connection.sock, selectors.EVENT_READ, lambda ready: self.on_pending_socket_readable(connection, ready)
        )

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive and not enabled:
            # At the end: who is connected already, if not yet accepted, is served too.
            for listener in self.sockets:
                count = -1
                while count != self.nr_conns:
                    count = self.nr_conns
                    self.accept(listener)

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for connection in self.pending_conns:
            connection.timeout = min(connection.timeout, deadline)

    def handle(self, conn: Any) -> Any:
        keep = super().handle(conn)
        if keep and self._staying.acquire(blocking=False):
            try:
                while keep and self.alive and conn.goes_on():
                    keep = super().handle(conn)
            finally:
                self._staying.release()
        if not keep:
            conn.linger()
        return keep

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer one request; whether another one may follow it on its connection."""
        reply, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg, response_class=Reply)
        environ["wsgi.multithread"] = True
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            reply.force_close()
        pieces = self.wsgi(environ, reply.start_response)
        try:
            with closing(pieces) if hasattr(pieces, "close") else nullcontext():
                for piece in pieces:
                    reply.write(piece)
                reply.close()
        except OSError:
            raise
        except Exception as error:  # the outermost door of a reply that is under way
            if not reply.headers_sent:
                raise
            # Cut off, so that nobody takes it for the whole.
            self.log.error("a reply failed in its middle", exc_info=error)
            return False
        return not reply.should_close()

    def handle_error(self, req: Any, client: socket.socket, addr: object, exc: BaseException) -> None:  # noqa: ARG002
        """Refuse what cannot be read, in the format asked for by what was read so far. Never logs what was sent."""
        if isinstance(exc, ParseException):
            fault = refusing.fault_of(exc)
            self.log.info("refused a request that cannot be read: %s", fault.code)
        else:
            fault = ApiError("bug", request_id="none")
            self.log.error("a request failed outside of the application", exc_info=exc)
        read = getattr(exc, "request", req)
        place, query = (getattr(read, name, None) or "" for name in ("place", "query"))
        try:
            client.settimeout(STALL_SECONDS)
            client.sendall(refusing.refusal(place, query, fault, http_status=self.app.plan.http_status))
        except OSError:
            self.log.debug("the sender did not wait for its refusal")
