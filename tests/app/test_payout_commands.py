"""Sellers paid by a bank's file, and the accountant's journal, on the real Postgres."""

import csv
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import asyncpg
import pytest
import time_machine
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.effects.papers.bank_file import SPACE
from tests.app.test_document_commands import HOUSE
from tests.conftest import run_apart
from tests.effects.sales import PAYOUT, PRICE
from tests.flows.papering import TODAY, noon, traded

pytestmark = pytest.mark.real

DAYS = ["--from", str(TODAY), "--to", str(TODAY)]
TERMS = """
{"remittance": {"hold_days": 3, "minimum": "20", "bank": {"holder": "Sunny Leads, Inc.",
 "account": "000123456", "routing": "021000021"}}, "paper": {"legal_name": "Sunny Leads"}}
"""


@pytest.fixture(scope="module")
def key_file(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sales, and tomorrow one of them taken back."""
    folder = tmp_path_factory.mktemp("keys")

    async def filled() -> None:
        later = noon(TODAY + timedelta(days=1))
        await traded(database_url, folder, sales=4, returns=[(3, PRICE, PAYOUT, later)])
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "INSERT INTO market_version (version, toml, source, by) VALUES (1, '', 'file', 't')"
        )
        await connection.execute(
            "INSERT INTO seller_version (seller_id, version, market_version, doc)"
            " VALUES (2, 1, 1, $1::jsonb)",
            TERMS,
        )
        await connection.close()

    run_apart(filled())
    return folder / "master"


@pytest.fixture
def run(
    key_file: Path, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Any:  # fmt: skip
    (tmp_path / "house.toml").write_text(HOUSE)
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", str(key_file))
    monkeypatch.setenv("EXCHANGE_HOUSE_FILE", str(tmp_path / "house.toml"))

    def ran(*words: Any, code: int = 0, later: int = 2) -> Any:
        with time_machine.travel(noon(TODAY) + timedelta(days=later), tick=True):
            ended = CliRunner().invoke(cli, [str(word) for word in words])
        assert ended.exit_code == code, ended.output
        return ended

    return ran


def due(run: Any, later: int, *words: Any) -> Any:
    return json.loads(run("payouts", "due", "--json", *words, later=later).stdout)


def test_a_seller_is_paid_after_its_hold_less_what_was_taken_back_since(
    run: Any, tmp_path: Path, database_url: str
) -> None:
    assert due(run, 2) == []  # no statement
    run("documents", "issue", *DAYS)
    (number,) = (
        one["number"]
        for one in json.loads(run("documents", "list", "--party", "s", "--json").stdout)
    )
    assert due(run, 2) == []  # its hold is not over

    hold = (
        "INSERT INTO payout_hold (hold_id, party_id, by, why)"
        " VALUES (gen_random_uuid(), 2, 'Dana', 'incident')"
    )
    run_apart(_held(database_url, hold))
    assert due(run, 3) == [_line(state="held", due="25.50", amount="0.00", held="25.50",
                                 key=f"{number}-1", statement=number)]  # fmt: skip
    run_apart(_held(database_url, "UPDATE payout_hold SET lifted_at = now(), lifted_by = 'Dana'"))

    xml, table = tmp_path / "bank.xml", tmp_path / "bank.csv"
    (one,) = due(run, 3, "--out", xml)
    assert (one["state"], one["amount"]) == ("pay", "25.50")
    root = ElementTree.parse(xml).getroot()
    found = {name: root.findtext(f".//{{{SPACE}}}{name}")
             for name in ("CtrlSum", "NbOfTxs", "EndToEndId", "InstdAmt")}  # fmt: skip
    assert found == {"CtrlSum": "25.50", "NbOfTxs": "1", "EndToEndId": f"{number}-1",
                     "InstdAmt": "25.50"}  # fmt: skip
    assert [node.text for node in root.iter(f"{{{SPACE}}}Nm")] == [
        "Northgate Leads LLC", "Northgate Leads LLC", "First Bank", "Sunny Leads, Inc.",
    ]  # fmt: skip

    due(run, 3, "--out", table)
    paid = json.loads(run("payments", "paid", table, "--json", later=3).stdout)
    assert [one["payment"]["amount_micros"] for one in paid["recorded"]] == [25_500_000]
    again = json.loads(run("payments", "paid", table, "--json", later=3).stdout)
    assert (again["recorded"], again["before"]) == ([], 1)
    assert due(run, 3) == []


async def _held(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(statement)
    await connection.close()


def _line(**told: str) -> dict[str, str]:
    return {"seller": "s", "currency": "USD", **told}


def test_the_journal_of_a_period_comes_to_what_the_ledger_moved(
    run: Any, tmp_path: Path, database_url: str
) -> None:
    run("payments", "record", "b", "12.50", "USD", later=4)
    file = tmp_path / "journal.csv"
    days = ("--from", TODAY, "--to", TODAY + timedelta(days=9))
    told = json.loads(run("ledger", "export", *days, "--out", file, "--json").stdout)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    moved: list[int] = []

    async def counted() -> None:
        connection = await asyncpg.connect(database_url)
        moved.append(await connection.fetchval("SELECT sum(amount_micros)::bigint FROM transfer"))
        await connection.close()

    run_apart(counted())
    for column in ("Debits", "Credits"):
        total = sum((Decimal(row[column]) for row in rows if row[column]), Decimal(0))
        assert total == Decimal(moved[0]) / 1_000_000
    journals = {row["JournalNo"] for row in rows}
    for name in journals:
        mine = [row for row in rows if row["JournalNo"] == name]
        assert _total(mine, "Debits") == _total(mine, "Credits")
    assert {"Bank", "Accounts receivable", "Accounts payable"} <= {r["AccountName"] for r in rows}
    assert told["rows"] == len(rows)

    run("ledger", "export", *days, "--out", file, "--for", "xero")
    signed = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert sum((Decimal(row["*Amount"]) for row in signed), Decimal(0)) == 0


def _total(rows: list[dict[str, str]], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows if row[column]), Decimal(0))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("payouts due --out run.txt", "neither in .xml nor in .csv"),
        ("ledger export --from 2026-02-01 --to 2026-02-02 --out x.txt", "no .csv"),
        ("ledger export --from 2026-02-01 --to 2026-02-02 --out x.csv --for sage", "--for is one"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(run: Any, words: str, said: str) -> None:
    assert said in run(*words.split(), code=2).output


def test_a_file_that_is_no_run_is_not_recorded(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    assert "has no column" in run("payments", "paid", path, code=2).output
