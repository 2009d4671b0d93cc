"""HTTP posts to URLs that customers choose: only to public addresses, unless a setting allows others.

A name is resolved once, all its addresses are checked, and the connection goes to one of these addresses. So a name
server cannot give one answer to the check and another to the connection.
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
# So much of a response's body is read and ignored, so that the receiver can finish without an error.
RESPONSE_BYTES_READ = 4096
DEFAULT_PORTS = {"http": 80, "https": 443}

Resolver = Callable[[str, int], Sequence[str]]

# IANA's special-purpose registries, and multicast. They are listed because what the standard library calls global differs
# between releases. Of IPv6 only 2000::/3 is public, which excludes addresses that contain an IPv4 address (mapped, NAT64);
# those that contain one within it (6to4, Teredo) are listed.
REFUSED_IPV4 = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
    "203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
)
REFUSED_IPV6 = "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20"
REFUSED_NETWORKS = tuple(map(ipaddress.ip_network, f"{REFUSED_IPV4} {REFUSED_IPV6}".split()))
PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")


class UrlRefused(Exception):
    """The URL is not allowed; the text is a sentence for whoever entered it."""


class NoAnswer(Exception):
    """No response came; the text says why in a few words and quotes nothing of the URL but its host."""


def resolve_host(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises OSError."""
    host_addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in host_addresses))


@cache
def default_tls_context() -> ssl.SSLContext:
    """TLS with certificates that the system trusts."""
    return ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class PostOptions:
    """How to post: to private addresses too, and with which timeouts, in seconds: to connect, and for everything."""

    allow_private: bool = False
    connect_timeout: float = 5.0
    total_timeout: float = 10.0
    resolve: Resolver = resolve_host
    tls_context: Callable[[], ssl.SSLContext] = default_tls_context


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """The parts of a URL. `target` is its path and query, as in the request line."""

    tls: bool
    host: str
    port: int
    target: str

    @property
    def host_header(self) -> str:
        """The header Host: with the port unless it is the default one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


def parse_url(url: str) -> ParsedUrl:
    """Parse a URL of http or https, without credentials. Raises UrlRefused."""
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
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return ParsedUrl(parts.scheme == "https", host, DEFAULT_PORTS[parts.scheme] if port is None else port, target)


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
    """The addresses of the URL's host, all of them allowed. Raises UrlRefused, NoAnswer."""
    host_addresses = _resolve_in_time(options, url_parts)
    if not host_addresses:
        raise NoAnswer("unknown host")
    if not options.allow_private and not all(map(is_public, host_addresses)):
        raise UrlRefused("The host has a private, loopback or otherwise reserved address.")
    return host_addresses


def is_public(address: str) -> bool:
    """Whether an address is public.

    >>> is_public("93.184.215.14"), is_public("100.64.0.1"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    try:
        parsed_address = ipaddress.ip_address(address)
    except ValueError:
        return False
    if parsed_address.version == 6 and parsed_address not in PUBLIC_IPV6:
        return False
    return not any(parsed_address in network for network in REFUSED_NETWORKS)


def post(url: str, headers: Mapping[str, str], body: bytes, options: PostOptions) -> int:
    """Post once; returns the response's status. Follows no redirect. Raises UrlRefused, NoAnswer."""
    url_parts = parse_url(url)
    deadline = time.monotonic() + options.total_timeout
    host_addresses = allowed_addresses(url_parts, options)
    try:
        with _connect(url_parts, host_addresses, options, deadline) as connection:
            return _exchange(connection, url_parts, headers, body, deadline)
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(_describe_error(error)) from error


def _resolve_in_time(options: PostOptions, url_parts: ParsedUrl) -> Sequence[str]:
    # The resolver has no timeout of its own, and a name server may be slow.
    answers: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(options.resolve(url_parts.host, url_parts.port))
        except (OSError, ValueError):
            answers.put(())

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    try:
        return answers.get(timeout=options.connect_timeout)
    except queue.Empty:
        raise NoAnswer("the host's name was not resolved in time") from None


def _connect(
    url_parts: ParsedUrl, host_addresses: Sequence[str], options: PostOptions, deadline: float
) -> socket.socket:
    error: OSError = TimeoutError()
    for address in host_addresses:
        try:
            timeout = min(options.connect_timeout, _seconds_left(deadline))
            connection = socket.create_connection((address, url_parts.port), timeout)
        except OSError as problem:
            error = problem
            continue
        if not url_parts.tls:
            return connection
        try:
            connection.settimeout(min(options.connect_timeout, _seconds_left(deadline)))
            return options.tls_context().wrap_socket(connection, server_hostname=url_parts.host)
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
    http_connection.request("POST", url_parts.target, body, {**headers, **own_headers})
    with http_connection.getresponse() as response:
        with suppress(OSError, http.client.HTTPException):
            response.read(RESPONSE_BYTES_READ)
        return response.status


class _DeadlineSocket:
    """A connected socket for `http.client` that times out at a deadline, however slowly bytes come."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def sendall(self, data: bytes) -> None:
        self._connection.settimeout(_seconds_left(self._deadline))
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._connection, self._deadline))

    def close(self) -> None:
        """Leave it open: http.client closes it before it reads the response."""


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
