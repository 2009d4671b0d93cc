"""The three formats: which one is chosen, and that each carries the same tree. Source: docs/protocol.md, Replies."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from importing.batch import AssignedKey, Counts, Outcome
from importing.errors import ApiError
from legacy_api import replies
from legacy_api.formats import PIECE, Format, Kind, choose, is_callback
from legacy_api.replies import Group, Groups, Rows, Text
from tests.unit.legacy.test_replies import EVERY_TREE

# What XML 1.0 can carry.
CARRIED = st.text(
    st.characters(codec="utf-8", exclude_characters="\ufffe\uffff").filter(
        lambda character: character >= " " or character in "\t\n\r"
    )
)


def written(format: Format, root: Group) -> bytes:
    return b"".join(format.encode(root))


def outcome(made: list[AssignedKey], counts: Counts | None = None) -> Outcome:
    return Outcome("b1", counts or Counts(2, 1), made, [], [], "UTF-8", 0.5)


DOCUMENTED = replies.imported(outcome([]), details=False).root


class TestChoosing:
    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            ({}, Kind.XML),
            ({"output": ""}, Kind.XML),
            ({"output": " \t"}, Kind.XML),
            ({"output": "XML"}, Kind.XML),
            ({"output": "xMl"}, Kind.XML),
            ({"output": "JSON"}, Kind.JSON),
            ({"output": " json "}, Kind.JSON),
            ({"callback": "f"}, Kind.JSONP),
            ({"callback": "f", "output": ""}, Kind.JSONP),
            ({"callback": "f", "output": "json"}, Kind.JSONP),
            ({"callback": "f", "output": "xml"}, Kind.XML),
            ({"callback": " ", "output": "json"}, Kind.JSON),
            ({"callback": " "}, Kind.XML),
        ],
    )
    def test_output_and_callback(self, fields: dict[str, str], kind: Kind) -> None:
        chosen = choose(fields)
        assert (chosen.kind, chosen.fault) == (kind, None)

    def test_a_wrong_output_is_told_in_xml(self) -> None:
        chosen = choose({"output": "yaml", "callback": "f"})
        assert chosen.kind is Kind.XML
        assert chosen.fault is not None
        assert chosen.fault.message == "Invalid output: yaml. Use XML or JSON."

    def test_a_wrong_callback_is_told_in_plain_json(self) -> None:
        for output in ("", "JSON"):
            chosen = choose({"output": output, "callback": "alert(1)", "condensed": "yes"})
            assert (chosen.kind, chosen.condensed) == (Kind.JSON, True)
            assert chosen.fault is not None
            assert chosen.fault.code == "bad_callback"

    def test_a_wrong_callback_beside_output_xml_is_ignored(self) -> None:
        assert choose({"output": "XML", "callback": "alert(1)"}) == Format()

    def test_condensed_is_for_json_only(self) -> None:
        assert choose({"output": "json", "condensed": "Y"}).condensed
        assert choose({"callback": "f", "condensed": "1"}).condensed
        assert not choose({"output": "json", "condensed": "on"}).condensed
        assert not choose({"condensed": "yes"}).condensed

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
        chosen = choose(fields)
        assert written(chosen, replies.refused(chosen.fault or ApiError("no_data")))


class TestXml:
    def test_the_documented_success(self) -> None:
        assert written(Format(), DOCUMENTED).decode() == (
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
        assert written(Format(), replies.refused(ApiError("bad_delimiter"))).decode() == (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<response status="error">\n'
            "  <error>Invalid delimiter</error>\n"
            "</response>\n"
        )

    @given(CARRIED, CARRIED)
    def test_any_code_survives(self, code: str, card: str) -> None:
        reply = written(Format(), replies.imported(outcome([AssignedKey(1, code, card)]), details=False).root)
        customer = etree.fromstring(reply).find("batch/customers/customer")
        assert customer is not None
        assert (customer.findtext("code"), customer.findtext("card_number") or "") == (code, card)

    @given(st.text(st.characters()))
    def test_any_text_at_all_makes_well_formed_xml(self, text: str) -> None:
        etree.fromstring(written(Format(), Group("response", (Text("error", text),), "error")))

    def test_quotes_in_messages_are_plain(self) -> None:
        # Clients that cut the message out by hand would otherwise show an entity.
        assert b'<error>The "x"</error>' in written(Format(), Group("response", (Text("error", 'The "x"'),)))


class TestJson:
    def test_the_documented_success(self) -> None:
        assert json.loads(written(Format(Kind.JSON), DOCUMENTED)) == {
            "status": "success",
            "batch": {"status": "imported", "customers": {"new": "2", "updated": "1"}},
        }

    def test_an_error_has_error_and_errors(self) -> None:
        reply = written(Format(Kind.JSON), replies.refused(ApiError("bad_delimiter")))
        assert reply.decode() == (
            '{\n    "status": "error",\n    "error": "Invalid delimiter",\n'
            '    "errors": [\n        "Invalid delimiter"\n    ]\n}'
        )

    def test_white_space_is_php_s_pretty_print(self) -> None:
        for root in EVERY_TREE.values():
            reply = written(Format(Kind.JSON), root).decode()
            assert reply == json.dumps(json.loads(reply), indent=4)

    def test_condensed_has_no_white_space(self) -> None:
        for root in EVERY_TREE.values():
            reply = written(Format(Kind.JSON, condensed=True), root).decode()
            assert reply == json.dumps(json.loads(reply), separators=(",", ":"))

    def test_a_single_customer_is_an_array_too(self) -> None:
        root = replies.imported(outcome([AssignedKey(1, "c", "")]), details=False).root
        assert json.loads(written(Format(Kind.JSON), root))["batch"]["customers"]["customer"] == [
            {"row": "1", "code": "c"}
        ]

    @given(st.text(), st.text(min_size=1), st.booleans())
    def test_any_code_survives(self, code: str, card: str, condensed: bool) -> None:
        root = replies.imported(outcome([AssignedKey(1, code, card)]), details=False).root
        reply = json.loads(written(Format(Kind.JSON, condensed), root))
        assert reply["batch"]["customers"]["customer"] == [{"row": "1", "code": code, "card_number": card}]

    def test_json_is_the_tree_of_the_xml(self) -> None:
        for root in EVERY_TREE.values():
            told = json.loads(written(Format(Kind.JSON), root))
            told.pop("errors", None)
            assert told == as_json(etree.fromstring(written(Format(), root)))


class TestJsonp:
    def test_the_json_stands_in_the_call(self) -> None:
        reply = written(Format(Kind.JSONP, condensed=True, callback="a.b['c']"), DOCUMENTED)
        assert reply == (
            b"""/**/a.b['c']({"status":"success","batch":{"status":"imported","customers":{"new":"2","updated":"1"}}});"""
        )

    @given(st.text())
    def test_nothing_in_it_ends_a_script_or_a_line(self, code: str) -> None:
        root = replies.imported(outcome([AssignedKey(1, code + "</script>\u2028\u2029", "")]), details=False).root
        reply = written(Format(Kind.JSONP, callback="f"), root).decode("ascii")
        assert "<" not in reply
        told = json.loads(reply.removeprefix("/**/f(").removesuffix(");"))
        assert told["batch"]["customers"]["customer"][0]["code"] == code + "</script>\u2028\u2029"


class TestPieces:
    @pytest.mark.parametrize("kind", Kind)
    def test_a_long_reply_comes_in_small_pieces(self, kind: Kind) -> None:
        made = [AssignedKey(n, str(10**15 + n), "") for n in range(5_000)]
        pieces = list(Format(kind, callback="f").encode(replies.imported(outcome(made), details=False).root))
        assert len(pieces) > 3
        assert max(map(len, pieces)) < 2 * PIECE

    def test_rows_are_read_while_they_are_written(self) -> None:
        read = 0

        def customer(item: int) -> tuple[str | None, ...]:
            nonlocal read
            read += 1
            return (str(item),)

        root = Group("response", (Rows("customer", ("row",), range(100_000), customer),))
        next(Format().encode(root))
        assert 0 < read < 10_000

    @pytest.mark.parametrize("kind", Kind)
    def test_groups_are_made_while_they_are_written(self, kind: Kind) -> None:
        made = 0

        def batches() -> Iterator[Group]:
            nonlocal made
            for _ in range(1000):
                made += 1
                yield Group("batch", (Rows("customer", ("row",), range(2_000), lambda item: (str(item),)),))

        pieces = Format(kind, callback="f").encode(Group("response", (Groups("batches", batches()),)))
        next(pieces)
        assert 0 < made < 5
        assert len(next(pieces)) < 2 * PIECE

    @pytest.mark.parametrize("kind", Kind)
    def test_100_000_customers_take_less_than_a_second(self, kind: Kind) -> None:
        # 0.12 s where this was written; the bound only catches what is slower by its nature.
        made = [AssignedKey(n, str(10**15 + n), str(10**9 + n)) for n in range(100_000)]
        root = replies.imported(outcome(made), details=False).root
        start = time.perf_counter()
        for _ in Format(kind, callback="f").encode(root):
            pass
        assert time.perf_counter() - start < 1


def trees() -> list[Group]:
    """One tree of every kind, with empty and full lists."""
    from tests.unit.legacy.test_replies import EVERY_TREE

    return list(EVERY_TREE.values())


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
