"""The commands that import a file, show what came of it, take it back, and write it out again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing.reading.csv_formula_guard import guard, unguard
from server.installation import open_context
from settings import load_settings
from storage import tables
from tests.conftest import Blank
from tests.support.command_line import CommandLine, installation
from tests.support.job_queries import origin_of
from tests.support.strategies import profile

FILE = """code,card_number,first_name,last_name,phone
1,11,Zoë,"O""Neil, jr.",555-0001
2,,Bob,"Two
lines",555-0002
"""


@pytest.fixture
def tillgate(
    tmp_path: Path, blank_sqlite: Blank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    command = installation(tmp_path, blank_sqlite, capsys, monkeypatch)
    command.ok("account", "create", "greatwidgets")
    command.ok("campaign", "create", "greatwidgets", "spring", "--name", "Spring", "--type", "points")
    return command


def write(text: str, name: str = "customers.csv", charset: str = "utf-8") -> str:
    """A file in the current folder."""
    Path(name).write_bytes(text.encode(charset))
    return name


def customers(tillgate: CommandLine, *options: str) -> dict[str, dict[str, object]]:
    """The account's customers by code."""
    found = tillgate.ok("customers", "greatwidgets", "--json", *options).json
    return {customer["code"]: customer for customer in found}


class TestImport:
    def test_first_line_names_the_columns(self, tillgate: CommandLine) -> None:
        outcome = tillgate.ok("import", "greatwidgets", write(FILE), "--json").json
        assert (outcome["status"], outcome["new"], outcome["failed"], outcome["charset"]) == ("imported", 2, 0, "UTF-8")
        found = customers(tillgate)
        assert (found["1"]["first_name"], found["1"]["last_name"]) == ("Zoë", 'O"Neil, jr.')
        assert (found["2"]["last_name"], found["2"]["card_number"]) == ("Two\nlines", "")

    def test_headers_name_the_columns(self, tillgate: CommandLine) -> None:
        headers = [part for name in ("Code", "", "custome_date") for part in ("--header", name)]
        tillgate.ok("import", "greatwidgets", write("7|x|2020-02-29\n"), "--delimiter", "pipe", *headers)
        assert customers(tillgate)["7"]["custom_date"] == "2020-02-29"

    @pytest.mark.parametrize(
        ("delimiter", "option"),
        [(",", "comma"), (";", "semicolon"), (";", ";"), ("|", "PIPE"), ("|", "|"), ("\t", "tab"), ("~", "~")],
    )
    def test_delimiter_is_a_word_or_a_character(self, tillgate: CommandLine, delimiter: str, option: str) -> None:
        text = f'code{delimiter}city\n1{delimiter}"a{delimiter}b"\n'
        tillgate.ok("import", "greatwidgets", write(text), "--delimiter", option)
        assert customers(tillgate)["1"]["city"] == f"a{delimiter}b"

    @pytest.mark.parametrize("option", ["", "::", '"', "\n"])
    def test_delimiter_is_checked(self, tillgate: CommandLine, option: str) -> None:
        refused = tillgate.refused("import", "greatwidgets", write(FILE), "--delimiter", option)
        assert refused.startswith("Invalid delimiter")

    @pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "cp1252"])
    def test_charset_is_found(self, tillgate: CommandLine, charset: str) -> None:
        tillgate.ok("import", "greatwidgets", write(FILE, charset=charset))
        assert customers(tillgate)["1"]["first_name"] == "Zoë"

    def test_standard_input_is_read(self, tillgate: CommandLine) -> None:
        tillgate.ok("import", "greatwidgets", "-", stdin=FILE)
        assert len(customers(tillgate)) == 2

    def test_existing_customers_are_ignored_unless_said(self, tillgate: CommandLine) -> None:
        tillgate.ok("import", "greatwidgets", write(FILE))
        changed = write("code,phone\n1,555-9999\n")
        assert tillgate.ok("import", "greatwidgets", changed, "--json").json["ignored"] == 1
        assert customers(tillgate)["1"]["phone"] == "555-0001"
        assert tillgate.ok("import", "greatwidgets", changed, "--mode", "update", "--json").json["updated"] == 1
        assert customers(tillgate)["1"]["phone"] == "555-9999"

    def test_campaigns_enrol_and_are_added_to(self, tillgate: CommandLine) -> None:
        tillgate.ok("import", "greatwidgets", write("code,auto_add\n1,25\n2,\n"), "--campaign", "spring")
        found = customers(tillgate)
        assert (found["1"]["campaigns"], found["2"]["campaigns"]) == ({"spring": "25.00"}, {"spring": "0.00"})

    def test_campaigns_are_checked(self, tillgate: CommandLine) -> None:
        assert "autumn" in tillgate.refused("import", "greatwidgets", write(FILE), "--campaign", "autumn")
        assert "--campaign" in tillgate.refused("import", "greatwidgets", write("code,auto_add\n1,25\n"))

    def test_cards_are_made(self, tillgate: CommandLine) -> None:
        outcome = tillgate.ok("import", "greatwidgets", write(FILE), "--card-digits", "6", "--json").json
        [made] = outcome["made"]
        assert (made["row"], made["code"], len(made["card_number"])) == (2, "2", 6)
        assert made["card_number"] in tillgate.ok("customers", "greatwidgets").out

    def test_dry_run_writes_nothing(self, tillgate: CommandLine) -> None:
        outcome = tillgate.ok("import", "greatwidgets", write(FILE), "--dry-run", "--json").json
        assert (outcome["status"], outcome["batch_id"], outcome["new"]) == ("checked", "", 2)
        assert customers(tillgate) == {}
        assert "nothing written: 2 new" in tillgate.ok("import", "greatwidgets", write(FILE), "--dry-run").out

    def test_bad_row_refuses_all_or_is_skipped(self, tillgate: CommandLine) -> None:
        file = write("code,custom_date\n1,tomorrow\n2,2020-01-01\n")
        refused = tillgate("import", "greatwidgets", file)
        assert refused.status == 1
        assert 'Row 1, custom_date: "tomorrow" is not a date' in refused.err
        assert customers(tillgate) == {}
        outcome = tillgate.ok("import", "greatwidgets", file, "--on-error", "skip", "--json").json
        assert [(problem["row"], problem["code"]) for problem in outcome["problems"]] == [(1, "bad_date")]
        assert list(customers(tillgate)) == ["2"]

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("code,shoe\n1,2\n", "Unknown field in column 2: shoe"),
            ("code,custom_field_1\n1,2\n", "The field custom_field_1 in column 2 is not defined in this account."),
            ("code,code\n1,2\n", "The field code is given by two headers: column 1 and column 2."),
            (",\n", "No data was given"),
            ("", "No data was given"),
        ],
    )
    def test_columns_are_checked(self, tillgate: CommandLine, text: str, sentence: str) -> None:
        assert tillgate.refused("import", "greatwidgets", write(text)) == sentence

    def test_file_and_account_must_exist(self, tillgate: CommandLine) -> None:
        assert "missing.csv" in tillgate.refused("import", "greatwidgets", "missing.csv")
        assert tillgate.refused("import", "x", write(FILE)) == "There is no account 'x'."

    def test_long_work_says_how_far_it_is(self, tillgate: CommandLine) -> None:
        text = "code,city\n" + "".join(f"{number},{'x' * 200}\n" for number in range(25_000))
        told = tillgate.ok("import", "greatwidgets", write(text)).err.splitlines()
        assert told[0] == f"Importing customers.csv, {len(text) - len('code,city') - 1:,} bytes, for greatwidgets"
        assert told[1:] == ["25 % read", "50 % read", "75 % read", "All rows are read; writing."]


class TestHistory:
    def test_batches_are_listed_newest_first(self, tillgate: CommandLine) -> None:
        ids = [tillgate.ok("import", "greatwidgets", write(FILE), "--json").json["batch_id"] for _ in range(3)]
        found = tillgate.ok("batches", "greatwidgets", "--length", "2", "--json").json
        assert [row["id"] for row in found] == [ids[2], ids[1]]
        assert (found[0]["face"], found[0]["mode"], found[0]["ignored"]) == ("cli", "ignore", 2)
        assert tillgate.ok("batches", "greatwidgets").out.count("\n") == 4

    def test_the_delimiter_is_stored(self, tillgate: CommandLine) -> None:
        file = write("code|phone\n1|555-0001\n")
        batch = tillgate.ok("import", "greatwidgets", file, "--delimiter", "pipe", "--json").json["batch_id"]
        assert origin_of(open_context(load_settings()), batch) == (None, "|", None, None)

    def test_batch_has_its_problems(self, tillgate: CommandLine) -> None:
        file = write("code,custom_date\n1,tomorrow\n2,2020-01-01\n")
        batch = tillgate.ok("import", "greatwidgets", file, "--on-error", "skip", "--json").json["batch_id"]
        [problem] = tillgate.ok("batch", batch, "--json").json["problems"]
        assert problem["message"] == 'Row 1, custom_date: "tomorrow" is not a date (YYYY-MM-DD).'
        assert problem["message"] in tillgate.ok("batch", batch).out

    def test_unknown_batch_is_refused(self, tillgate: CommandLine) -> None:
        assert tillgate.refused("batch", "nope") == "Unknown batch: nope"
        assert tillgate.refused("undo", "nope") == "Unknown batch: nope"


class TestUndo:
    def test_takes_a_batch_back_and_can_be_undone(self, tillgate: CommandLine) -> None:
        batch = tillgate.ok("import", "greatwidgets", write(FILE), "--json").json["batch_id"]
        before = customers(tillgate)
        preview = tillgate.ok("undo", batch, "--preview", "--json").json
        assert (preview["status"], preview["removed"], preview["batch_id"]) == ("checked", 2, "")
        assert len(customers(tillgate)) == 2
        done = tillgate.ok("undo", batch, "--json").json
        assert (done["status"], done["undoes"], done["removed"], done["conflicts"]) == ("undone", batch, 2, [])
        assert customers(tillgate) == {}
        assert tillgate.refused("undo", batch) == f"The batch {batch} is undone already."
        tillgate.ok("undo", done["batch_id"])
        assert _without_times(customers(tillgate)) == _without_times(before)

    def test_is_in_the_audit(self, tillgate: CommandLine) -> None:
        batch = tillgate.ok("import", "greatwidgets", write(FILE), "--json").json["batch_id"]
        tillgate.ok("undo", batch)
        context = open_context(load_settings())
        with context.database.reading() as connection:
            rows = connection.execute(tables.audit.select()).mappings().all()
        context.database.dispose()
        assert [row["subject"] for row in rows if row["action"] == "undo"] == [batch]

    def test_is_refused_without_an_undo_state(self, tillgate: CommandLine) -> None:
        batch = tillgate.ok("import", "greatwidgets", write(FILE), "--no-undo", "--json").json["batch_id"]
        assert "no undo state" in tillgate.refused("undo", batch)


class TestCustomers:
    def test_one_has_everything_but_secrets(self, tillgate: CommandLine) -> None:
        tillgate.ok("field", "create", "greatwidgets", "custom_field_2", "--label", "Size")
        tillgate.ok("field", "create", "greatwidgets", "custom_field_3", "--label", "Hat")
        text = "code,email,customer_username,customer_password,custom_field_2,custom_field_3\n1,a@b.c,Ann,s3cret,42,\n"
        tillgate.ok("import", "greatwidgets", write(text), "--campaign", "spring")
        shown = tillgate.ok("customers", "greatwidgets", "--code", "1", "--json")
        assert "s3cret" not in shown.out
        assert "digest" not in shown.out
        [customer] = shown.json
        assert list(customer) == [
            *("code", "card_number", "first_name", "last_name", "email", "phone", "custom_date", "street1", "street2"),
            *("city", "state", "postal_code", "country", "customer_username", "custom_fields", "attributes"),
            *("campaigns", "has_password", "has_pin", "created_at", "updated_at"),
        ]
        assert (customer["custom_fields"], customer["attributes"]) == ({"custom_field_2": "42"}, {})
        assert (customer["customer_username"], customer["card_number"], customer["custom_date"]) == ("Ann", "", "")
        assert (customer["has_password"], customer["has_pin"]) == (True, False)
        assert customer["created_at"][10] == "T"
        assert customer["created_at"][19:] == "Z"

    def test_one_is_found_by_code_or_card(self, tillgate: CommandLine) -> None:
        tillgate.ok("import", "greatwidgets", write(FILE))
        assert list(customers(tillgate, "--card-number", "11")) == ["1"]
        assert list(customers(tillgate, "--code", "2")) == ["2"]
        assert customers(tillgate, "--code", "3") == {}
        assert tillgate.ok("customers", "greatwidgets", "--code", "3").err == "There is no such customer.\n"

    def test_others_account_is_not_read(self, tillgate: CommandLine) -> None:
        tillgate.ok("account", "create", "other")
        tillgate.ok("import", "greatwidgets", write(FILE))
        assert tillgate.ok("customers", "other", "--json").json == []

    def test_table_cannot_be_broken_by_a_value(self, tillgate: CommandLine) -> None:
        tillgate.ok("import", "greatwidgets", write('code,first_name\n1,"a\nb"\n'))
        assert "a\\x0ab" in tillgate.ok("customers", "greatwidgets").out


class TestExport:
    def test_columns_are_the_protocols_names(self, tillgate: CommandLine) -> None:
        tillgate.ok("field", "create", "greatwidgets", "custom_field_2", "--label", "Size")
        header = tillgate.ok("export", "greatwidgets").out
        assert header.startswith("code,card_number,first_name,")
        assert header.endswith(",customer_username,custom_field_2\r\n")

    def test_each_line_of_jsonl_is_a_customer(self, tillgate: CommandLine) -> None:
        tillgate.ok("import", "greatwidgets", write(FILE))
        lines = tillgate.ok("export", "greatwidgets", "--format", "jsonl").out.splitlines()
        assert [json.loads(line) for line in lines] == tillgate.ok("customers", "greatwidgets", "--json").json

    def test_more_than_a_page_is_exported(self, tillgate: CommandLine) -> None:
        tillgate.ok("import", "greatwidgets", write("code\n" + "".join(f"{n}\n" for n in range(2500))))
        rows = list(csv.reader(io.StringIO(tillgate.ok("export", "greatwidgets").out)))
        assert [row[0] for row in rows[1:]] == [str(number) for number in range(2500)]

    def test_is_imported_again_as_it_is(self, tillgate: CommandLine) -> None:
        tillgate.ok("field", "create", "greatwidgets", "custom_field_2", "--label", "Size")
        tillgate.ok("import", "greatwidgets", write(FILE.replace("phone", "custom_field_2")))
        exported = write(tillgate.ok("export", "greatwidgets").out)
        before = customers(tillgate)
        outcome = tillgate.ok("import", "greatwidgets", exported, "--mode", "yes", "--json").json
        assert (outcome["updated"], outcome["unchanged"]) == (2, 2)
        tillgate.ok("account", "create", "other")
        tillgate.ok("field", "create", "other", "custom_field_2", "--label", "Size")
        tillgate.ok("import", "other", exported)
        copies = {customer["code"]: customer for customer in tillgate.ok("customers", "other", "--json").json}
        assert _without_times(copies) == _without_times(before)

    def test_guard_is_taken_off_again(self, tillgate: CommandLine) -> None:
        values = ["=1+1", "+1 555", "-5", "@x", "'=1", "''@x", "'t Hooft", "O'Neil", "'"]
        text = "code,city\n" + "".join(f"{number},{guard(value)}\n" for number, value in enumerate(values))
        tillgate.ok("import", "greatwidgets", write(text))
        assert [customer["city"] for customer in customers(tillgate).values()] == values
        exported = write(tillgate.ok("export", "greatwidgets").out)
        assert "'=1+1" in Path(exported).read_text()
        assert tillgate.ok("import", "greatwidgets", exported, "--mode", "yes", "--json").json["unchanged"] == 9


class TestGuard:
    @pytest.mark.parametrize("value", ["=1+1", "+1 555", "-5", "@x", "\ty", "\rz", "'=1", "''@x", "\uff1d1"])
    def test_is_put_before_what_a_spreadsheet_would_run(self, value: str) -> None:
        assert guard(value) == f"'{value}"

    @pytest.mark.parametrize("value", ["", "a", "O'Neil", "'t Hooft", "''t Hooft", "1-2", "'", "555-5557"])
    def test_leaves_other_values_alone(self, value: str) -> None:
        assert guard(value) == unguard(value) == value

    @profile(300, 20_000)
    @given(st.text(st.one_of(st.sampled_from("'=+-@\t\r\na"), st.characters())))
    def test_comes_off_again(self, value: str) -> None:
        assert unguard(guard(value)) == value


def _without_times(found: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    times = ("created_at", "updated_at")
    return {
        code: {name: value for name, value in customer.items() if name not in times} for code, customer in found.items()
    }
