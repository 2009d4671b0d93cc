"""One charset for the whole request, decided on raw bytes: docs/protocol.md, Transport."""

from __future__ import annotations

import codecs

import pytest

from importing.reading.charset import WINDOWS_1252, CharsetDetector, find_charset
from tests.support.form_requests import MULTIPART, URLENCODED, Dribble, environ, multipart, read, urlencoded
from transport.multipart import declared_charset

LATIN = URLENCODED + "; charset="


def text_of(data: bytes, charset: str) -> str:
    return codecs.getincrementaldecoder(charset)().decode(data, True)


@pytest.mark.parametrize(
    ("raw", "content_type", "charset", "text"),
    [
        (b"abc", URLENCODED, "UTF-8", "abc"),
        ("Zoë €".encode(), URLENCODED, "UTF-8", "Zoë €"),
        ("Zoë".encode(), LATIN + "iso-8859-1", "UTF-8", "Zoë"),
        ("Zoë".encode(), LATIN + "windows-1250", "UTF-8", "Zoë"),
        (b"Zo\xeb \x80", URLENCODED, "Windows-1252", "Zoë €"),
        (b"Zo\xeb \x80", LATIN + "utf-8", "Windows-1252", "Zoë €"),
        (b"Zo\xeb \x80", LATIN + "ISO-8859-1", "Windows-1252", "Zoë €"),
        (b"Zo\xeb \x80", LATIN + "koi8-r", "Windows-1252", "Zoë €"),
        (b"Zo\xeb \x80", LATIN + "utf-16", "Windows-1252", "Zoë €"),
        (b"Zo\xeb", LATIN + "us-ascii", "Windows-1252", "Zoë"),
        (b"\x81\x8d\x8f\x90\x9d\x80", URLENCODED, "Windows-1252", "\x81\x8d\x8f\x90\x9d€"),
        (b"\x81\x8d\x8f\x90\x9d\x80", LATIN + "windows-1252", "Windows-1252", "\x81\x8d\x8f\x90\x9d€"),
        (b"\xb1\xe6", LATIN + "iso-8859-2", "ISO-8859-2", "ąć"),
        (b"\xb1\xe6", LATIN + '"ISO_8859-2"', "ISO-8859-2", "ąć"),
        (b"\xb9\xe6", LATIN + "Windows-1250", "Windows-1250", "ąć"),
        (b"\xcf\xf0", LATIN + "cp1251", "Windows-1251", "Пр"),
        (b"\xa4", LATIN + "iso-8859-15", "ISO-8859-15", "€"),
        (b"\x83\xe6", LATIN + "windows-1250", "Windows-1252", "ƒæ"),  # 0x83 is undefined there: does not fit
        (b"\xa5\xe6", LATIN + "iso-8859-6", "Windows-1252", "¥æ"),
        (b"\xc3\xa9\xc3", URLENCODED, "Windows-1252", "Ã©Ã"),  # UTF-8 that breaks off
        (b"\xed\xa0\x80", URLENCODED, "Windows-1252", "í\xa0€"),  # a surrogate is no UTF-8
        (b"\xc0\xaf", URLENCODED, "Windows-1252", "À¯"),
    ],
)
def test_the_charset_of_data(raw: bytes, content_type: str, charset: str, text: str) -> None:
    multi = MULTIPART + content_type.removeprefix(URLENCODED)
    for request in (
        environ(urlencoded([("profiles_data", raw)]), content_type),
        environ(b"profiles_data=" + raw, content_type),
        environ(multipart([("profiles_data", raw)]), multi),
        environ(multipart([("profiles_data", raw)]), multi, length=None),
        environ(method="GET", content_type=content_type, query=b"profiles_data=" + raw),
    ):
        form, data = read(request)
        assert form.charset == charset
        assert form.data is not None
        assert data is not None
        assert text_of(data, form.data.charset) == text


@pytest.mark.parametrize("place", ["value", "name", "query", "unknown", "replaced"])
def test_one_byte_anywhere_decides_for_the_whole_request(place: str) -> None:
    fields: list[tuple[str | bytes, str | bytes]] = [("code", "é"), ("profiles_data", "é")]
    query = b""
    if place == "value":
        fields.append(("action", b"\xe9"))
    elif place == "name":
        fields.append((b"\xe9", "1"))
    elif place == "query":
        query = b"action=%e9"
    elif place == "unknown":
        fields.append(("comment", b"x" * 100_000 + b"\xe9"))
    else:
        fields.insert(0, ("profiles_data", b"\xe9"))
    for request in (environ(urlencoded(fields), query=query), environ(multipart(fields), MULTIPART, query=query)):
        form, _ = read(request)
        assert form.charset == "Windows-1252"
        assert form.fields["code"] == "Ã©"


def test_the_charset_field_speaks_after_the_content_type() -> None:
    fields: list[tuple[str | bytes, str | bytes]] = [("code", b"\xb1"), ("_charset_", " ISO-8859-2 ")]
    assert read(environ(urlencoded(fields)))[0].fields["code"] == "ą"
    assert read(environ(multipart(fields), MULTIPART))[0].fields["code"] == "ą"
    assert read(environ(urlencoded(fields), query=b"_charset_=windows-1251"))[0].fields["code"] == "ą"
    assert read(environ(urlencoded(fields), LATIN + "windows-1251"))[0].fields["code"] == "±"
    assert read(environ(urlencoded(fields), LATIN + "klingon"))[0].fields["code"] == "ą"
    assert read(environ(urlencoded(fields), LATIN + "iso-8859-6"))[0].fields["code"] == "ą"


def test_a_part_may_declare_its_charset_when_the_request_does_not() -> None:
    header = b'Content-Disposition: form-data; name="profiles_data"\r\nContent-Type: text/plain; charset=iso-8859-2'
    body = b"--B\r\n" + header + b"\r\n\r\n\xb1\r\n--B--\r\n"
    assert read(environ(body, "multipart/form-data; boundary=B"))[0].charset == "ISO-8859-2"
    assert read(environ(body, "multipart/form-data; boundary=B; charset=cp1250"))[0].charset == "Windows-1250"


@pytest.mark.parametrize("limit", [1, 2, 1 << 20])
@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"\xef\xbb\xbf1|2", b"1|2"),
        (b"\xef\xbb\xbf", b""),
        (b"\xef\xbb\xbf\xef\xbb\xbf1", b"\xef\xbb\xbf1"),
        (b"\xef\xbb\xbf\xe9", b"\xe9"),
        (b"\xef\xbb", b"\xef\xbb"),
        (b"\xef\xbb1", b"\xef\xbb1"),
        (b"\n\xef\xbb\xbf1", b"\n\xef\xbb\xbf1"),
    ],
)
def test_a_bom_at_the_start_of_the_data_is_dropped(raw: bytes, kept: bytes, limit: int) -> None:
    for body, content_type in (
        (urlencoded([("profiles_data", raw)]), URLENCODED),
        (b"profiles_data=" + raw, URLENCODED),
        (multipart([("profiles_data", raw)]), MULTIPART),
    ):
        assert read(environ(Dribble(body, limit), content_type))[1] == kept


def test_a_character_does_not_span_two_values() -> None:
    assert read(environ(b"code=%C3&action=%A9"))[0].charset == "Windows-1252"
    assert read(environ(b"%C3=%A9"))[0].charset == "Windows-1252"


def test_evidence_is_the_same_in_any_pieces() -> None:
    raw = "Zoë Ζωή 左".encode()
    for cut in range(len(raw)):
        evidence = CharsetDetector()
        evidence.take(raw[:cut])
        evidence.take(b"")
        evidence.take(raw[cut:])
        evidence.end()
        assert evidence.charset(["iso-8859-2"]).name == "UTF-8"
        broken = CharsetDetector()
        broken.take(raw[:cut])
        broken.end()
        whole = raw[:cut].decode("utf-8", "replace").endswith("�")
        assert (broken.charset([]).name == "Windows-1252") is whole


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("UTF8", "UTF-8"),
        ("latin1", "Windows-1252"),
        ("iso8859-1", "Windows-1252"),
        ("ISO_8859-1:1987", "Windows-1252"),
        ("Latin-2", "ISO-8859-2"),
        ("latin9", "ISO-8859-15"),
        ("l5", "ISO-8859-9"),
        ("x-cp1250", "Windows-1250"),
        ("win-1251", "Windows-1251"),
    ],
)
def test_charset_names_are_known_by_their_usual_spellings(label: str, name: str) -> None:
    charset = find_charset(label)
    assert charset is not None
    assert charset.name == name


@pytest.mark.parametrize(
    "label", ["", "iso-8859-0", "iso-8859-12", "iso-8859-17", "windows-1259", "idna", "rot13", "cp437"]
)
def test_other_charset_names_are_ignored(label: str) -> None:
    assert find_charset(label) is None


def test_every_known_charset_has_a_codec() -> None:
    labels = [f"iso-8859-{part}" for part in range(1, 17)] + [f"windows-125{digit}" for digit in range(9)]
    charsets = [charset for label in labels if (charset := find_charset(label))]
    assert len(charsets) == 24
    for charset in charsets:
        assert codecs.getincrementaldecoder(charset.codec)().decode(b"abc", True) == "abc"


def test_the_charset_parameter_is_found_in_every_spelling() -> None:
    for content_type in ("a/b;charset=x-y", 'a/b; Charset = "x-y"', "a/b; charset='x-y'; q=1", "charset=x-y"):
        assert declared_charset(content_type) == "x-y"
    assert declared_charset("a/b") == declared_charset("") == declared_charset("a/b; charset=") == ""


def test_the_codec_reads_every_byte_and_writes_it_back() -> None:
    every = bytes(range(256))
    text = every.decode(WINDOWS_1252.codec)
    assert text.encode(WINDOWS_1252.codec) == every
    assert text_of(every, WINDOWS_1252.codec) == text
    for byte in every:
        try:
            assert text[byte] == bytes([byte]).decode("cp1252")
        except UnicodeDecodeError:
            assert text[byte] == chr(byte)
    with pytest.raises(UnicodeEncodeError):
        "左".encode(WINDOWS_1252.codec)
