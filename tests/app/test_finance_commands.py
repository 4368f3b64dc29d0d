"""The commands of finance on the real Postgres: a doctored file is reconciled, a statement carries
its balance on, the ledger proves itself."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from openpyxl import load_workbook
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.core.records import AttemptRow
from exchange.effects.vault import Vault
from tests.conftest import run_apart
from tests.effects.bookkeeping import bought, returned
from tests.effects.sales import PAYOUT, PRICE

pytestmark = pytest.mark.real

PHONES = [f"+1310555{number:04d}" for number in range(6)]
TODAY = datetime.now(UTC).date()
DAYS = ["--from", str(TODAY - timedelta(days=1)), "--to", str(TODAY + timedelta(days=1))]


@pytest.fixture(scope="module")
def books(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Six sales, one of them returned in half, and a refusal."""
    key_file = tmp_path_factory.mktemp("keys") / "master"
    made: list[AttemptRow] = []

    async def filled() -> None:
        vault = Vault.open_file(key_file, create=True)
        made.extend(await bought(database_url, vault, PHONES, refused=1))
        connection = await asyncpg.connect(database_url)
        await returned(connection, made[5], PRICE // 2, 0, datetime.now(UTC))
        await connection.close()

    run_apart(filled())
    return key_file, made


@pytest.fixture
def run(books: Any, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", str(books[0]))
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


def their_file(folder: Path, made: list[AttemptRow]) -> Path:
    """The buyer's file: one sale left out, one at another price, one with another status, one we
    never sold, and one that agrees by each of id, reference, phone."""
    one, two, three, four, _, six = made
    lines = [
        ("Sale ID", "Ref", "Tel", "Price", "Status", "Day"),
        (one.attempt_id, "", "", "10.00", "sold", TODAY),
        ("", f"R-{PHONES[1]}", "", "10.00", "", TODAY),
        (two.attempt_id, "", "", "10.00", "", TODAY),
        ("", "", "(310) 555-0002", "9.00", "sold", TODAY),
        (four.lead_id, "", "", "10.00", "returned", TODAY),
        ("", "", "213 555 0199", "7.00", "sold", TODAY),
        (six.attempt_id, "", "", "5.00", "sold", TODAY),
    ]
    assert three.attempt_id
    path = folder / "theirs.csv"
    path.write_text("\n".join(";".join(map(str, line)) for line in lines), encoding="utf-16")
    return path


def test_a_doctored_file_is_reconciled_line_by_line(run: Any, books: Any, tmp_path: Path) -> None:
    made = books[1]
    found = tmp_path / "found.xlsx"
    asked = (
        "reconcile", their_file(tmp_path, made), "--buyer", "b", "--zone", "UTC", *DAYS,
        "--column", "phone=Tel", "--out", found, "--json",
    )  # fmt: skip
    ended = run(*asked)
    assert ended.exit_code == 1, ended.output
    told = json.loads(ended.stdout)
    verdicts = {
        (one["verdict"], *one["lines"]): (one["attempt_id"], one["suggested"]["kind"])
        for one in told["findings"]
    }
    assert verdicts == {
        ("only_theirs", 3): ("", "strike"),
        ("other_price", 5): (made[2].attempt_id, "credit"),
        ("other_status", 6): (made[3].attempt_id, "return"),
        ("only_theirs", 7): ("", "ask"),
        ("only_ours",): (made[4].attempt_id, "ask"),
    }
    rows = list(load_workbook(found).active.values)
    assert len(rows) == 1 + 8
    assert [row[0] for row in rows[1:]].count("agreed") == 3
    assert "5550" not in ended.output + str(rows)
    again = json.loads(run(*asked).stdout)
    for one in (*told["findings"], *again["findings"]):
        one.pop("command")  # it names the reconciliation
    assert again["findings"] == told["findings"]
    assert (again["changed"]["appeared"], again["changed"]["gone"]) == (0, 0)


def test_a_file_that_agrees_ends_well(run: Any, books: Any, tmp_path: Path) -> None:
    path = tmp_path / "same.csv"
    paid = [(one.attempt_id, "10.00") for one in books[1][:5]] + [(books[1][5].lead_id, "5.00")]
    path.write_text("lead id,price\n" + "\n".join(map(",".join, paid)))
    ended = run("reconcile", path, "--buyer", "b", "--zone", "UTC", *DAYS)
    assert ended.exit_code == 0, ended.output
    assert "together" in ended.output


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("phone,price\n", ["--buyer", "nobody"], "there is no buyer nobody"),
        ("phone,price\n", ["--buyer", "b"], "no time zone"),
        ("phone,price\n", ["--buyer", "b", "--zone", "Mars/Base"], "no time zone Mars/Base"),
        ("name,price\nx,1\n", ["--buyer", "b", "--zone", "UTC"], "no column holds"),
        ("", ["--buyer", "b", "--zone", "UTC"], "it is empty"),
        ("phone\n3105550001\n", ["--buyer", "b", "--zone", "UTC"], "says no days"),
        ("phone\n", ["--buyer", "b", "--column", "tel=x"], "fields are"),
        ("phone\n", ["--buyer", "b", "--out", "found.txt"], "does not end in .csv or .xlsx"),
    ],
)
def test_what_cannot_be_reconciled_is_told_in_a_sentence(
    run: Any, tmp_path: Path, text: str, words: list[str], said: str
) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text(text)
    ended = run("reconcile", path, *words)
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())


def test_a_statement_carries_its_balance_on(run: Any, tmp_path: Path) -> None:
    files = {end: tmp_path / f"acme.{end}" for end in ("csv", "xlsx", "pdf")}
    written = [word for end, path in files.items() for word in (f"--{end}", path)]
    ended = run("statement", "b", "--zone", "UTC", *DAYS, *written, "--json")
    assert ended.exit_code == 0, ended.output
    (one,) = json.loads(ended.stdout)
    assert one["totals"]["sale"] == 6 * PRICE
    assert one["totals"]["return"] == -PRICE // 2
    assert one["closing_micros"] == 6 * PRICE - PRICE // 2
    assert one["lines"][0]["reference"] == f"R-{PHONES[0]}"
    text = files["csv"].read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert (rows[0]["line"], rows[-1]["balance"]) == ("opening", "55.00")
    assert len(list(load_workbook(files["xlsx"]).active.values)) == 1 + len(rows)
    assert files["pdf"].read_bytes().startswith(b"%PDF-")

    later = ("--from", str(TODAY + timedelta(days=2)), "--to", str(TODAY + timedelta(days=2)))
    (then,) = json.loads(run("statement", "b", "--zone", "UTC", *later, "--json").stdout)
    assert (then["opening_micros"], then["lines"]) == (one["closing_micros"], [])


def test_a_sellers_statement_has_payouts_and_no_price(run: Any) -> None:
    (one,) = json.loads(run("statement", "s", "--zone", "UTC", *DAYS, "--json").stdout)
    assert (one["party"]["kind"], one["closing_micros"]) == ("seller", 6 * PAYOUT)
    assert one["totals"]["return"] == 0  # the house bore it
    page = run("statement", "seller:s", "--zone", "UTC", *DAYS)
    assert "51.00" in page.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody", "--zone", "UTC", *DAYS], "no buyer or seller nobody"),
        (["b", *DAYS], "whose days"),
        (["b", "--zone", "UTC", "--from", "2026-02-02", "--to", "2026-02-01"], "ends before"),
        (["b", "--zone", "UTC", *DAYS, "--csv", "x.txt"], "does not end in .csv"),
        (["b", "--zone", "UTC", *DAYS, "--pdf", "nowhere/x.pdf"], "nothing can be written"),
    ],
)
def test_a_statement_that_cannot_be_made_is_told_in_a_sentence(
    run: Any, words: list[str], said: str
) -> None:
    ended = run("statement", *words)
    assert ended.exit_code == 2
    assert said in ended.output


def test_the_ledger_proves_itself(run: Any) -> None:
    ended = run("ledger", "prove", "--json")
    told = json.loads(ended.stdout)
    assert (ended.exit_code, told["holds"]) == (0, True)
    looked = {check["name"] for check in told["checks"] if check["looked"]}
    assert {"sums_to_zero", "sale_booked_once", "credited_as_booked"} <= looked
    assert run("ledger", "prove").exit_code == 0


def test_a_ledger_that_does_not_hold_ends_with_1(run: Any, books: Any, database_url: str) -> None:
    async def change(micros: int) -> None:
        connection = await asyncpg.connect(database_url)
        text = "UPDATE attempt SET credited_micros = $2 WHERE attempt_id = $1"
        await connection.execute(text, books[1][0].attempt_id, micros)
        await connection.close()

    run_apart(change(1))
    ended = run("ledger", "prove")
    run_apart(change(0))
    assert ended.exit_code == 1
    assert books[1][0].attempt_id in ended.output
