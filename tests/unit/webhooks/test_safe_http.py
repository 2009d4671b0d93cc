"""Where posts go, and where they never go: URLs, addresses, names, certificates."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tests.support.webhook_receiver import receiving
from webhooks.safe_http import (
    NoAnswer,
    ParsedUrl,
    PostOptions,
    UrlRefused,
    allowed_addresses,
    is_public,
    parse_url,
    post,
)

NAME = "hooks.example.com"
LOCAL = "127.0.0.1"


def way(*found: str, private: bool = False) -> PostOptions:
    """A way on which every host has these addresses."""
    return PostOptions(allow_private=private, resolve=lambda _host, _port: found)


# URLs


def test_urls_are_read() -> None:
    assert parse_url("https://Shop.Example.com/hook?a=1#part") == ParsedUrl(True, "shop.example.com", 443, "/hook?a=1")
    assert parse_url("http://shop.example.com:8080") == ParsedUrl(False, "shop.example.com", 8080, "/")
    assert parse_url("https://[2606:2800::1]:444/x").host_header == "[2606:2800::1]:444"
    assert parse_url("https://münchen.example/").host_header == "xn--mnchen-3ya.example"
    assert parse_url("http://shop.example.com.:80/").host_header == "shop.example.com"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example.com/hook",
        "ftp://shop.example.com/",
        "file:///etc/passwd",
        "https:///hook",
        "https://.example.com/",
        "https://user@shop.example.com/",
        "https://user:password@shop.example.com/",
        "https://@shop.example.com/",
        "https://shop.example.com:0/",
        "https://shop.example.com:65536/",
        "https://shop.example.com:port/",
        "https://shop.example.com/a b",
        "https://shop.example.com/\r\nX-Other: 1",
        "https://shop.example.com\\@127.0.0.1/",
        "https://shop.example.com/caf\u00e9",
        "https://[::1",
        "http://[fe80::1%25eth0]/",
        "https://shop.example.com/" + "x" * 2000,
    ],
)
def test_urls_that_cannot_be_posted_to_are_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        parse_url(url)


# Addresses


NOBODYS = """
0.0.0.0 10.1.2.3 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8
192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:93.184.215.14 64:ff9b::7f00:1 64:ff9b::5db8:d70e 64:ff9b:1::1 100::1
2001::1 2001:db8::1 2002:7f00:1:: 3fff::1 fc00::1 fd12::1 fe80::1 fe80::1%lo fec0::1 ff02::1 5f00::1 nonsense
"""


@pytest.mark.parametrize("address", NOBODYS.split())
def test_addresses_that_no_stranger_has_are_refused(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(UrlRefused, match="reserved address"):
        allowed_addresses(parse_url("https://hooks.example.com/"), way("93.184.215.14", address))
    # A setting allows them.
    assert allowed_addresses(parse_url("https://hooks.example.com/"), way(address, private=True)) == (address,)


@pytest.mark.parametrize("address", ["93.184.215.14", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:2800::1"])
def test_addresses_of_strangers_are_allowed(address: str) -> None:
    assert allowed_addresses(parse_url("https://hooks.example.com/"), way(address)) == (address,)


@given(st.ip_addresses())
def test_whatever_the_standard_library_knows_as_reserved_is_refused(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(str(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_refused_however_it_is_written(host: str) -> None:
    with receiving() as receiver:
        with pytest.raises(UrlRefused, match="reserved address"):
            post(f"http://{host}:{receiver.port}/", {}, b"{}", PostOptions())
        assert receiver.posts == []


# Names


def test_a_name_is_resolved_once_and_the_connection_goes_where_it_was_looked_at() -> None:
    asked = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return [LOCAL]

    with receiving() as receiver:
        assert (
            post(f"http://{NAME}:{receiver.port}/a?b=c", {"X-One": "1"}, b"{}", PostOptions(True, resolve=resolve))
            == 204
        )
        assert asked == [(NAME, receiver.port)]
        [arrived] = receiver.posts
    assert (arrived.path, arrived.body) == ("/a?b=c", b"{}")
    assert (arrived.headers["Host"], arrived.headers["X-One"]) == (f"{NAME}:{receiver.port}", "1")


def test_the_next_address_is_taken_where_one_does_not_answer() -> None:
    with receiving() as receiver:
        assert post(f"http://{NAME}:{receiver.port}/", {}, b"", way("127.0.0.2", LOCAL, private=True)) == 204


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(NoAnswer, match="unknown host"):
        post("http://nobody.invalid/", {}, b"", PostOptions())


def test_a_name_server_that_does_not_answer_is_left_in_time() -> None:
    over = threading.Event()

    def resolve(_host: str, _port: int) -> Sequence[str]:
        over.wait()
        return []

    with pytest.raises(NoAnswer, match="not resolved in time"):
        post("http://hooks.example.com/", {}, b"", PostOptions(connect_timeout=0.1, total_timeout=0.1, resolve=resolve))
    over.set()


# Certificates


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's certificate for NAME, and a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, private)
    return server, ssl.create_default_context(cafile=str(chain))


def test_the_certificate_is_verified_for_the_name(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = tls
    named: list[str | None] = []
    server.set_servername_callback(lambda _connection, name, _context: named.append(name))
    verified = PostOptions(True, resolve=lambda _host, _port: [LOCAL], tls_context=lambda: client)
    with receiving(server) as receiver:
        assert post(f"https://{NAME}:{receiver.port}/", {}, b"{}", verified) == 204
        assert named == [NAME]
        with pytest.raises(NoAnswer, match=r"certificate: .*other\.example\.com"):
            post(f"https://other.example.com:{receiver.port}/", {}, b"{}", verified)
        with pytest.raises(NoAnswer, match="certificate: "):
            post(f"https://{NAME}:{receiver.port}/", {}, b"{}", way(LOCAL, private=True))
        assert len(receiver.posts) == 1
