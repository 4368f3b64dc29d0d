"""A buyer's sheet of returns by the command line: preview, booking, the reply, the sellers'
notices, and not a word of the sheet's persons anywhere but in the reply."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.core.records import AttemptRow
from exchange.effects.vault import Vault
from tests.conftest import run_apart
from tests.flows.returning import terms, trading

pytestmark = pytest.mark.real
PHONES = ("+13102220101", "+13102220102")
HEADER = ["Customer", "Tel", "Sold on", "Sale ID", "Disposition", "Call log", "=cmd()"]


@pytest.fixture(scope="module")
def shop(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A contract that takes two reasons back, and sales of it: two of known phones, three more."""
    key_file = tmp_path_factory.mktemp("keys") / "master"
    made: list[AttemptRow] = []

    async def filled() -> None:
        vault = Vault.open_file(key_file, create=True)
        async with trading(database_url) as trade:
            await trade.admin.execute(
                "INSERT INTO key_epoch (kind, epoch) VALUES ('pepper', 1) ON CONFLICT DO NOTHING"
            )
            reasons = {"wrong_person": {"to_person": False}, "invalid_phone": {}}
            contract = await trade.contract(terms(reasons=reasons))
            for phone in PHONES:
                consumer = "\\x" + vault.person("phone", phone)[1]
                made.extend(await trade.sold(contract, consumer=consumer))
            made.extend(await trade.sold(contract, 3))

    run_apart(filled())
    return key_file, made


@pytest.fixture
def run(shop: Any, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", str(shop[0]))
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


def sheet(path: Path, lines: list[list[Any]]) -> Path:
    """The buyer's file, as either kind."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=";").writerows([HEADER, *lines])
    else:
        book = Workbook()
        for row in [HEADER, *lines]:
            book.active.append(row)
        book.save(path)
    return path


def lines_of(made: list[AttemptRow]) -> list[list[Any]]:
    day = made[0].created_at.date()
    return [
        ["Wilhelmina Canary", "(310) 222-0101", day, "", "Wrong number", "CL-1", "=1+1"],
        ["Other Canary", "310.222.0102", day, "", "bad number", "CL-2", "@x"],
        ["Third Canary", "", "", made[2].attempt_id, "not interested", "CL-3", ""],
        ["Fourth Canary", "", "", made[3].lead_id, "wrong number", "", "-3"],
        ["Fifth Canary", "", "", made[4].attempt_id, "who knows", "", ""],
        ["Wilhelmina Canary", "", "", made[0].attempt_id, "wrong person", "CL-1", ""],
    ]


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_a_sheet_is_previewed_taught_booked_and_answered(
    run: Any, shop: Any, tmp_path: Path, ending: str
) -> None:
    made = shop[1]
    file = sheet(tmp_path / f"back{ending}", lines_of(made))
    reply, notices = tmp_path / f"reply{ending}", tmp_path / "notices"
    asked = ("returns", "import", file, "--buyer", "b", "--column", "phone=Tel")
    first = run(*asked, "--json")
    assert first.exit_code == 1, first.output
    told = json.loads(first.stdout)
    assert [one["rule"] for one in told["lines"][2:5]] == [
        *("reason_not_agreed", "evidence_missing", "unknown_reason")
    ]
    taught = run(*asked, "--reason", "bad number=invalid_phone", "--json")
    assert json.loads(taught.stdout)["lines"][1]["rule"] == "evidence_missing"

    done = run(*asked, "--book", "--out", reply, "--notices", notices)
    assert done.exit_code == 1, done.output
    assert "lines that need a person: 1" in done.output
    again = json.loads(run(*asked, "--book", "--json", "--notices", notices).stdout)
    assert all(one["replayed"] for one in again["lines"] if one["state"] != "flagged")
    assert again["totals"] == [
        {
            "currency": "USD", "returns": 1, "credit": "10.00", "booked_before": "10.00",
            "taken_back": "6.80", "borne": "3.20",
        }
    ]  # fmt: skip

    rows = written(reply)
    assert rows[0][:6] == HEADER[:6]
    assert rows[1][0] == "Wilhelmina Canary"
    assert rows[1][6] in ("'=1+1", None)  # no spreadsheet runs it; XLSX says what it came to
    assert rows[2][6] == "'@x"
    assert rows[1][7:9] == ["granted", "evidence_enough"]
    assert [row[7] for row in rows[1:6]] == ["granted", "denied", "denied", "denied", "flagged"]
    assert (rows[6][7], rows[6][9][:10]) == ("granted", "As line 2.")
    assert sum(Decimal(str(row[10] or 0)) for row in rows[1:]) == 10  # what was credited, once

    [notice] = json.loads((notices / "s.json").read_text())
    assert (notice["lead_id"], notice["taken_back"]) == (made[0].lead_id, "6.80")
    assert (notices / "s.csv").read_text().count("\n") == 2
    texts = [first.output, done.output, *(one.read_text() for one in notices.iterdir())]
    for text in (*texts, json.dumps(again)):
        assert "Canary" not in text
        assert "222" not in text.replace(made[0].lead_id, "")
    for text in (one.read_text() for one in notices.iterdir()):
        assert "10.00" not in text  # a seller never sees the buyer's price
        assert "buyer" not in text


def written(path: Path) -> list[list[Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.reader(file))
    return [list(row) for row in load_workbook(path).active.values]


def test_a_sheet_of_which_every_line_is_decided_ends_well(
    run: Any, shop: Any, tmp_path: Path
) -> None:
    file = sheet(tmp_path / "back.csv", lines_of(shop[1])[2:3])
    ended = run("returns", "import", file, "--buyer", "b")
    assert ended.exit_code == 0, ended.output
    assert "a preview" in ended.output


def test_what_was_learnt_is_shown_and_corrected(run: Any) -> None:
    run("returns", "headers", "--buyer", "b", "--reason", "kaput=disconnected", "--days", "mdy")
    page = run("returns", "headers", "--buyer", "b")
    assert "kaput" in page.output
    assert "mdy" in page.output
    fixed = ("--reason", "Kaput!=invalid_phone", "--days", "ymd")
    told = json.loads(run("returns", "headers", "--buyer", "b", *fixed, "--json").stdout)
    assert (told["reasons"]["kaput"], told["days"]) == ("invalid_phone", "ymd")


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("phone,reason\n", ["--buyer", "nobody"], "there is no buyer nobody"),
        ("phone,reason\n", ["--buyer", "b", "--zone", "Mars/Base"], "no time zone Mars/Base"),
        ("name,reason\nx,1\n", ["--buyer", "b"], "no column holds an id"),
        ("phone,price\nx,1\n", ["--buyer", "b"], "no column holds the reason"),
        ("", ["--buyer", "b"], "it is empty"),
        ("phone\n", ["--buyer", "b", "--column", "tel=x"], "fields are"),
        ("phone\n", ["--buyer", "b", "--reason", "dup=double"], "reasons are"),
        ("phone\n", ["--buyer", "b", "--out", "found.txt"], "does not end in .csv or .xlsx"),
        ("phone\n", ["--buyer", "b", "--notices", "x"], "goes with --book"),
    ],
)
def test_what_cannot_be_imported_is_told_in_a_sentence(
    run: Any, tmp_path: Path, text: str, words: list[str], said: str
) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text(text)
    ended = run("returns", "import", path, *words)
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())
