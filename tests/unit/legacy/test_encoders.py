"""The three formats: which one is chosen, and that each carries the same tree. Source: docs/protocol.md, Replies."""

from __future__ import annotations

import json
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from importing.batch import AssignedKey, Counts, Outcome
from importing.errors import ApiError
from legacy_api import replies
from legacy_api.encoders import REPLY_PIECE_SIZE, Encoder, MediaType, choose_encoder, is_callback
from legacy_api.replies import GroupList, GroupNode, RecordList, TextNode
from tests.unit.legacy.test_replies import EVERY_TREE

# What XML 1.0 can carry.
CARRIED = st.text(
    st.characters(codec="utf-8", exclude_characters="\ufffe\uffff").filter(
        lambda character: character >= " " or character in "\t\n\r"
    )
)


def written(format: Encoder, root: GroupNode) -> bytes:
    return b"".join(format.encode(root))


def outcome(made: list[AssignedKey], counts: Counts | None = None) -> Outcome:
    return Outcome("b1", counts or Counts(2, 1), made, [], [], "UTF-8", 0.5)


DOCUMENTED = replies.import_reply(outcome([]), details=False).root


class TestChoosing:
    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            ({}, MediaType.XML),
            ({"output": ""}, MediaType.XML),
            ({"output": " \t"}, MediaType.XML),
            ({"output": "XML"}, MediaType.XML),
            ({"output": "xMl"}, MediaType.XML),
            ({"output": "JSON"}, MediaType.JSON),
            ({"output": " json "}, MediaType.JSON),
            ({"callback": "f"}, MediaType.JSONP),
            ({"callback": "f", "output": ""}, MediaType.JSONP),
            ({"callback": "f", "output": "json"}, MediaType.JSONP),
            ({"callback": "f", "output": "xml"}, MediaType.XML),
            ({"callback": " ", "output": "json"}, MediaType.JSON),
            ({"callback": " "}, MediaType.XML),
        ],
    )
    def test_output_and_callback(self, fields: dict[str, str], kind: MediaType) -> None:
        chosen = choose_encoder(fields)
        assert (chosen.media_type, chosen.error) == (kind, None)

    def test_a_wrong_output_is_reported_in_xml(self) -> None:
        chosen = choose_encoder({"output": "yaml", "callback": "f"})
        assert chosen.media_type is MediaType.XML
        assert chosen.error is not None
        assert chosen.error.message == "Invalid output: yaml. Use XML or JSON."

    def test_a_wrong_callback_is_reported_in_plain_json(self) -> None:
        for output in ("", "JSON"):
            chosen = choose_encoder({"output": output, "callback": "alert(1)", "condensed": "yes"})
            assert (chosen.media_type, chosen.condensed) == (MediaType.JSON, True)
            assert chosen.error is not None
            assert chosen.error.code == "bad_callback"

    def test_a_wrong_callback_beside_output_xml_is_ignored(self) -> None:
        assert choose_encoder({"output": "XML", "callback": "alert(1)"}) == Encoder()

    def test_condensed_is_for_json_only(self) -> None:
        assert choose_encoder({"output": "json", "condensed": "Y"}).condensed
        assert choose_encoder({"callback": "f", "condensed": "1"}).condensed
        assert not choose_encoder({"output": "json", "condensed": "on"}).condensed
        assert not choose_encoder({"condensed": "yes"}).condensed

    @pytest.mark.parametrize(
        "callback",
        ["f", "$", "_", "jQuery1124_5", "a.b.c", "a[0]", "a[0][1].b", "a['x']", "a['x.y-z$_9'].b", "a['9']", "f" * 128],
    )
    def test_callbacks_that_are_served(self, callback: str) -> None:
        assert is_callback(callback)

    @pytest.mark.parametrize(
        "callback",
        [
            "1f",
            "a.",
            ".a",
            "a..b",
            "a.1",
            "a-b",
            "a b",
            "a[]",
            "a[-1]",
            "a[b]",
            'a["x"]',
            "a['']",
            "a['x y']",
            "a['x'",
            "[0]",
            "a[0]b",
            "a(b)",
            "a;b",
            "é",
            "a[٣]",
            "a\n",
            "f" * 129,
            "<script>",
        ],
    )
    def test_callbacks_that_are_refused(self, callback: str) -> None:
        assert not is_callback(callback)

    @given(st.dictionaries(st.sampled_from(["output", "callback", "condensed"]), st.text()))
    def test_choosing_never_fails(self, fields: dict[str, str]) -> None:
        chosen = choose_encoder(fields)
        assert written(chosen, replies.error_tree(chosen.error or ApiError("no_data")))


class TestXml:
    def test_the_documented_success(self) -> None:
        assert written(Encoder(), DOCUMENTED).decode() == (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<response status="success">\n'
            '  <batch status="imported">\n'
            "    <customers>\n"
            "      <new>2</new>\n"
            "      <updated>1</updated>\n"
            "    </customers>\n"
            "  </batch>\n"
            "</response>\n"
        )

    def test_the_documented_error(self) -> None:
        assert written(Encoder(), replies.error_tree(ApiError("bad_delimiter"))).decode() == (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<response status="error">\n'
            "  <error>Invalid delimiter</error>\n"
            "</response>\n"
        )

    @given(CARRIED, CARRIED)
    def test_any_code_survives(self, code: str, card: str) -> None:
        reply = written(Encoder(), replies.import_reply(outcome([AssignedKey(1, code, card)]), details=False).root)
        customer = etree.fromstring(reply).find("batch/customers/customer")
        assert customer is not None
        assert (customer.findtext("code"), customer.findtext("card_number") or "") == (code, card)

    @given(st.text(st.characters()))
    def test_any_text_at_all_makes_well_formed_xml(self, text: str) -> None:
        etree.fromstring(written(Encoder(), GroupNode("response", (TextNode("error", text),), "error")))

    def test_quotes_in_messages_are_plain(self) -> None:
        # Clients that cut the message out by hand would otherwise show an entity.
        assert b'<error>The "x"</error>' in written(Encoder(), GroupNode("response", (TextNode("error", 'The "x"'),)))


class TestJson:
    def test_the_documented_success(self) -> None:
        assert json.loads(written(Encoder(MediaType.JSON), DOCUMENTED)) == {
            "status": "success",
            "batch": {"status": "imported", "customers": {"new": "2", "updated": "1"}},
        }

    def test_an_error_has_error_and_errors(self) -> None:
        reply = written(Encoder(MediaType.JSON), replies.error_tree(ApiError("bad_delimiter")))
        assert reply.decode() == (
            '{\n    "status": "error",\n    "error": "Invalid delimiter",\n'
            '    "errors": [\n        "Invalid delimiter"\n    ]\n}'
        )

    def test_white_space_is_php_s_pretty_print(self) -> None:
        for root in EVERY_TREE.values():
            reply = written(Encoder(MediaType.JSON), root).decode()
            assert reply == json.dumps(json.loads(reply), indent=4)

    def test_condensed_has_no_white_space(self) -> None:
        for root in EVERY_TREE.values():
            reply = written(Encoder(MediaType.JSON, condensed=True), root).decode()
            assert reply == json.dumps(json.loads(reply), separators=(",", ":"))

    def test_a_single_customer_is_an_array_too(self) -> None:
        root = replies.import_reply(outcome([AssignedKey(1, "c", "")]), details=False).root
        assert json.loads(written(Encoder(MediaType.JSON), root))["batch"]["customers"]["customer"] == [
            {"row": "1", "code": "c"}
        ]

    @given(st.text(), st.text(min_size=1), st.booleans())
    def test_any_code_survives(self, code: str, card: str, condensed: bool) -> None:
        root = replies.import_reply(outcome([AssignedKey(1, code, card)]), details=False).root
        reply = json.loads(written(Encoder(MediaType.JSON, condensed), root))
        assert reply["batch"]["customers"]["customer"] == [{"row": "1", "code": code, "card_number": card}]

    def test_json_is_the_tree_of_the_xml(self) -> None:
        for root in EVERY_TREE.values():
            told = json.loads(written(Encoder(MediaType.JSON), root))
            told.pop("errors", None)
            assert told == as_json(etree.fromstring(written(Encoder(), root)))


class TestJsonp:
    def test_the_json_stands_in_the_call(self) -> None:
        reply = written(Encoder(MediaType.JSONP, condensed=True, callback="a.b['c']"), DOCUMENTED)
        assert reply == (
            b"""/**/a.b['c']({"status":"success","batch":{"status":"imported","customers":{"new":"2","updated":"1"}}});"""
        )

    @given(st.text())
    def test_nothing_in_it_ends_a_script_or_a_line(self, code: str) -> None:
        root = replies.import_reply(outcome([AssignedKey(1, code + "</script>\u2028\u2029", "")]), details=False).root
        reply = written(Encoder(MediaType.JSONP, callback="f"), root).decode("ascii")
        assert "<" not in reply
        told = json.loads(reply.removeprefix("/**/f(").removesuffix(");"))
        assert told["batch"]["customers"]["customer"][0]["code"] == code + "</script>\u2028\u2029"


class TestPieces:
    @pytest.mark.parametrize("kind", MediaType)
    def test_a_long_reply_comes_in_small_pieces(self, kind: MediaType) -> None:
        made = [AssignedKey(n, str(10**15 + n), "") for n in range(5_000)]
        pieces = list(Encoder(kind, callback="f").encode(replies.import_reply(outcome(made), details=False).root))
        assert len(pieces) > 3
        assert max(map(len, pieces)) < 2 * REPLY_PIECE_SIZE

    def test_rows_are_read_while_they_are_written(self) -> None:
        read = 0

        def customer(item: int) -> tuple[str | None, ...]:
            nonlocal read
            read += 1
            return (str(item),)

        root = GroupNode("response", (RecordList("customer", ("row",), range(100_000), customer),))
        next(Encoder().encode(root))
        assert 0 < read < 10_000

    @pytest.mark.parametrize("kind", MediaType)
    def test_groups_are_made_while_they_are_written(self, kind: MediaType) -> None:
        made = 0

        def batches() -> Iterator[GroupNode]:
            nonlocal made
            for _ in range(1000):
                made += 1
                yield GroupNode("batch", (RecordList("customer", ("row",), range(2_000), lambda item: (str(item),)),))

        pieces = Encoder(kind, callback="f").encode(GroupNode("response", (GroupList("batches", batches()),)))
        next(pieces)
        assert 0 < made < 5
        assert len(next(pieces)) < 2 * REPLY_PIECE_SIZE

    @pytest.mark.parametrize("kind", MediaType)
    def test_a_long_reply_is_written_fast_and_in_flat_memory(self, kind: MediaType) -> None:
        made = (AssignedKey(n, str(10**15 + n), str(10**9 + n)) for n in range(100_000))
        members = (RecordList("customer", ("row", "code"), made, lambda item: (str(item.row), item.code)),)
        pieces = Encoder(kind, callback="f").encode(GroupNode("response", members))
        first = len(next(pieces))
        before, start = resident_mb(), time.process_time()
        length = first + sum(map(len, pieces))
        # 7 MB and 0.4 s where this was written. The bounds catch what grows or is slow by its nature.
        assert length > 6_000_000
        assert resident_mb() - before < 4
        assert time.process_time() - start < 2


def resident_mb() -> float:
    """The memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def as_json(element: etree._Element) -> Any:
    """The mapping rules of docs/protocol.md, Replies, once more, from the XML's side."""
    if re.fullmatch("problems|warnings|conflicts|batches", element.tag):
        return [as_json(child) for child in element]
    if len(element) == 0 and not element.attrib:
        return element.text or ""
    told: dict[str, Any] = {str(name): value for name, value in element.attrib.items()}
    for child in element:
        if child.tag == "customer":
            told.setdefault("customer", []).append(as_json(child))
        else:
            told[child.tag] = as_json(child)
    return told
