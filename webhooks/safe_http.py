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

MAX_URL_CHARACTERS = 2000
# How much of an answer's body is read, in bytes, and thrown away: enough for the receiver to end in peace.
RESPONSE_BYTES_READ = 4096
DEFAULT_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]

# Where no stranger's server is. IANA's special-purpose registries, and multicast; said here in full, for what the
# standard library calls global differs from one release to the next. Of IPv6 all but 2000::/3 is refused: so are
# addresses that contain one of IPv4 (mapped, NAT64), and those that contain one within it (6to4, Teredo).
REFUSED_IPV4 = tuple(
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
PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
REFUSED_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


class UrlRefused(Exception):
    """A URL that is not posted to; the text is a sentence for whoever gave it."""


class NoAnswer(Exception):
    """No answer came; the text says why in a few words, with nothing of the URL but its host."""


def resolve_host(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises OSError."""
    host_addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in host_addresses))


@cache
def default_tls_context() -> ssl.SSLContext:
    """Certificates are verified against those that the system trusts."""
    return ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class PostOptions:
    """How to post: to `private` addresses too, and for how long, in seconds: to `connect`, and in all (`whole`)."""

    private: bool = False
    connect: float = 5.0
    whole: float = 10.0
    resolve: Resolver = resolve_host
    certificates: Callable[[], ssl.SSLContext] = default_tls_context


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """Where a URL leads. `request` is its path and query as an HTTP request names them."""

    tls: bool
    host: str
    port: int
    request: str

    @property
    def host_header(self) -> str:
        """The host as a request names it: the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


def parse_url(url: str) -> ParsedUrl:
    """Read a URL: http or https, without credentials. Raises Refused."""
    if not 0 < len(url) <= MAX_URL_CHARACTERS or "\\" in url or any(c.isspace() or not c.isprintable() for c in url):
        raise UrlRefused(
            f"Use a URL of at most {MAX_URL_CHARACTERS} printable characters, without blanks and backslashes."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode()
    except ValueError as error:
        raise UrlRefused("The URL cannot be read.") from error
    _check_url(parts, host, port)
    request = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return ParsedUrl(parts.scheme == "https", host, DEFAULT_PORTS[parts.scheme] if port is None else port, request)


def _check_url(parts: SplitResult, host: str, port: int | None) -> None:
    if parts.scheme not in DEFAULT_PORTS:
        raise UrlRefused("Use a URL that begins with https:// or http://.")
    if "@" in parts.netloc:
        raise UrlRefused("Leave the user and the password out of the URL.")
    if not host or "%" in host or port == 0:
        raise UrlRefused("The URL names no host and port that can be posted to.")
    if not (parts.path + parts.query).isascii():
        raise UrlRefused("Percent-encode the characters of the URL that are not ASCII.")


def allowed_addresses(url_parts: ParsedUrl, options: PostOptions) -> Sequence[str]:
    """The addresses of a target, none of which is refused. Raises Refused, Unanswered."""
    host_addresses = _resolve_in_time(options, url_parts)
    if not host_addresses:
        raise NoAnswer("unknown host")
    if not options.private and not all(is_public(address) for address in host_addresses):
        raise UrlRefused("The host has a private, loopback or otherwise reserved address.")
    return host_addresses


def is_public(address: str) -> bool:
    """Whether an address is one that a stranger's server can have.

    >>> public("93.184.215.14"), public("100.64.0.1"), public("::ffff:10.0.0.1")
    (True, False, False)
    """
    try:
        number: Address = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(number, ipaddress.IPv4Address):
        return not any(number in network for network in REFUSED_IPV4)
    return number in PUBLIC_IPV6 and not any(number in network for network in REFUSED_IPV6)


def post(url: str, headers: Mapping[str, str], body: bytes, options: PostOptions) -> int:
    """Post once; returns the status of the answer. No redirect is followed. Raises Refused, Unanswered."""
    url_parts = parse_url(url)
    deadline = time.monotonic() + options.whole
    host_addresses = allowed_addresses(url_parts, options)
    try:
        connection = _connect(url_parts, host_addresses, options, deadline)
        try:
            return _exchange(connection, url_parts, headers, body, deadline)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(_describe_error(error)) from error


def _resolve_in_time(options: PostOptions, url_parts: ParsedUrl) -> Sequence[str]:
    # Resolving has no time limit of its own, and a name server may be as slow as it likes.
    answers: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(options.resolve(url_parts.host, url_parts.port))
        except (OSError, ValueError):
            answers.put(())

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        return answers.get(timeout=options.connect)
    except queue.Empty:
        raise NoAnswer("the host's name was not resolved in time") from None


def _connect(
    url_parts: ParsedUrl, host_addresses: Sequence[str], options: PostOptions, deadline: float
) -> socket.socket:
    error: OSError = TimeoutError()
    for address in host_addresses:
        try:
            connection = socket.create_connection(
                (address, url_parts.port), min(options.connect, _seconds_left(deadline))
            )
        except OSError as problem:
            error = problem
            continue
        if not url_parts.tls:
            return connection
        try:
            connection.settimeout(min(options.connect, _seconds_left(deadline)))
            return options.certificates().wrap_socket(connection, server_hostname=url_parts.host)
        except BaseException:
            connection.close()
            raise
    raise error


def _exchange(
    connection: socket.socket, url_parts: ParsedUrl, headers: Mapping[str, str], body: bytes, deadline: float
) -> int:
    http_connection = http.client.HTTPConnection(url_parts.host, url_parts.port)
    deadline_socket: Any = _DeadlineSocket(connection, deadline)
    http_connection.sock = deadline_socket
    own_headers = {"Host": url_parts.host_header, "Connection": "close"}
    http_connection.request("POST", url_parts.request, body, {**headers, **own_headers})
    with http_connection.getresponse() as response:
        with suppress(OSError, http.client.HTTPException):
            response.read(RESPONSE_BYTES_READ)
        return response.status


class _DeadlineSocket:
    """A connected socket, as `http.client` uses one, that gives up at a deadline, however slowly bytes drip."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def sendall(self, data: bytes) -> None:
        self._connection.settimeout(_seconds_left(self._deadline))
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._connection, self._deadline))

    def close(self) -> None:
        """Leave it open: the answer may still be on its way."""


class _DeadlineReader(io.RawIOBase):
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_seconds_left(self._deadline))
        return self._connection.recv_into(buffer)


def _seconds_left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _describe_error(error: Exception) -> str:
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
