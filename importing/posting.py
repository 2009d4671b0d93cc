"""Posts to URLs that somebody else chose, to addresses only that anybody may reach, unless a setting allows others.

A name is resolved once and every address that it has is looked at; the connection goes to one of these very addresses.
So a name server cannot give one answer to the check and another to the connection.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

LONGEST_URL = 2000
# How much of an answer's body is read, in bytes, and thrown away: enough for the receiver to end in peace.
READ = 4096
PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

# Where no stranger's server is. IANA's special-purpose registries, and multicast; said here in full, for what the
# standard library calls global differs from one release to the next. Of IPv6 all but 2000::/3 is refused: so are
# addresses that contain one of IPv4 (mapped, NAT64), and those that contain one within it (6to4, Teredo).
REFUSED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
REFUSED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


class Refused(Exception):
    """A URL that is not posted to; the text is a sentence for whoever gave it."""


class Unanswered(Exception):
    """No answer came; the text says why in a few words, with nothing of the URL but its host."""


def resolved(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@cache
def certificates() -> ssl.SSLContext:
    """Certificates are verified against those that the system trusts."""
    return ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class Way:
    """How to post: to `private` addresses too, and for how long, in seconds: to `connect`, and in all (`whole`)."""

    private: bool = False
    connect: float = 5.0
    whole: float = 10.0
    resolve: Resolve = resolved
    certificates: Callable[[], ssl.SSLContext] = certificates


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. `request` is its path and query as an HTTP request names them."""

    tls: bool
    host: str
    port: int
    request: str

    @property
    def host_header(self) -> str:
        """The host as a request names it: the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


def target(url: str) -> Target:
    """Read a URL: http or https, without credentials. Raises Refused."""
    if not 0 < len(url) <= LONGEST_URL or "\\" in url or any(c.isspace() or not c.isprintable() for c in url):
        raise Refused(f"Use a URL of at most {LONGEST_URL} printable characters, without blanks and backslashes.")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode()
    except ValueError as error:
        raise Refused("The URL cannot be read.") from error
    _check(parts, host, port)
    request = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, PORTS[parts.scheme] if port is None else port, request)


def _check(parts: SplitResult, host: str, port: int | None) -> None:
    if parts.scheme not in PORTS:
        raise Refused("Use a URL that begins with https:// or http://.")
    if "@" in parts.netloc:
        raise Refused("Leave the user and the password out of the URL.")
    if not host or "%" in host or port == 0:
        raise Refused("The URL names no host and port that can be posted to.")
    if not (parts.path + parts.query).isascii():
        raise Refused("Percent-encode the characters of the URL that are not ASCII.")


def addresses(where: Target, way: Way) -> Sequence[str]:
    """The addresses of a target, none of which is refused. Raises Refused, Unanswered."""
    found = _in_time(way, where)
    if not found:
        raise Unanswered("unknown host")
    if not way.private and not all(public(address) for address in found):
        raise Refused("The host has a private, loopback or otherwise reserved address.")
    return found


def public(address: str) -> bool:
    """Whether an address is one that a stranger's server can have.

    >>> public("93.184.215.14"), public("100.64.0.1"), public("::ffff:10.0.0.1")
    (True, False, False)
    """
    try:
        number: Address = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(number, ipaddress.IPv4Address):
        return not any(number in network for network in REFUSED_V4)
    return number in PUBLIC_V6 and not any(number in network for network in REFUSED_V6)


def post(url: str, headers: Mapping[str, str], body: bytes, way: Way) -> int:
    """Post once; returns the status of the answer. No redirect is followed. Raises Refused, Unanswered."""
    where = target(url)
    deadline = time.monotonic() + way.whole
    found = addresses(where, way)
    try:
        connection = _connected(where, found, way, deadline)
        try:
            return _answer(connection, where, headers, body, deadline)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(_told(error)) from error


def _in_time(way: Way, where: Target) -> Sequence[str]:
    # Resolving has no time limit of its own, and a name server may be as slow as it likes.
    answers: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(way.resolve(where.host, where.port))
        except (OSError, ValueError):
            answers.put(())

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        return answers.get(timeout=way.connect)
    except queue.Empty:
        raise Unanswered("the host's name was not resolved in time") from None


def _connected(where: Target, found: Sequence[str], way: Way, deadline: float) -> socket.socket:
    error: OSError = TimeoutError()
    for address in found:
        try:
            connection = socket.create_connection((address, where.port), min(way.connect, _left(deadline)))
        except OSError as problem:
            error = problem
            continue
        if not where.tls:
            return connection
        try:
            connection.settimeout(min(way.connect, _left(deadline)))
            return way.certificates().wrap_socket(connection, server_hostname=where.host)
        except BaseException:
            connection.close()
            raise
    raise error


def _answer(connection: socket.socket, where: Target, headers: Mapping[str, str], body: bytes, deadline: float) -> int:
    http_connection = http.client.HTTPConnection(where.host, where.port)
    wire: Any = _Wire(connection, deadline)
    http_connection.sock = wire
    own = {"Host": where.host_header, "Connection": "close"}
    http_connection.request("POST", where.request, body, {**headers, **own})
    with http_connection.getresponse() as response:
        with suppress(OSError, http.client.HTTPException):
            response.read(READ)
        return response.status


class _Wire:
    """A connected socket, as `http.client` uses one, that gives up at a deadline, however slowly bytes drip."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def sendall(self, data: bytes) -> None:
        self._connection.settimeout(_left(self._deadline))
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._connection, self._deadline))

    def close(self) -> None:
        """Leave it open: the answer may still be on its way."""


class _Incoming(io.RawIOBase):
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_left(self._deadline))
        return self._connection.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _told(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "timed out"
        case ConnectionRefusedError():
            return "connection refused"
        case ssl.SSLCertVerificationError():
            return f"certificate: {error.verify_message}"
        case ssl.SSLError():
            return "no TLS connection"
        case http.client.HTTPException():
            return "no HTTP answer"
        case OSError() if error.strerror:
            return error.strerror
    return type(error).__name__
