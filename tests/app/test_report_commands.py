"""The command `exchange report` on the real Postgres: pages, files and JSON say the same, and the
profit is the ledger's."""

import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.core.money import text_of
from tests.books.reporting import earned
from tests.books.trade import Trade, trade
from tests.conftest import run_apart

pytestmark = pytest.mark.real

TERMS = Trade(sales=400, sellers=3, buyers=4, first=date(2026, 9, 1), days=5)
DAYS = ["--from", "2026-09-01", "--to", "2026-09-30"]


@pytest.fixture(scope="module")
def books(database_url: str) -> Any:
    found: list[Any] = []

    async def made() -> None:
        found.append(await trade(database_url, TERMS))
        connection = await asyncpg.connect(database_url)
        found.append(await earned(connection, date(2026, 9, 1), date(2026, 9, 30)))
        await connection.close()

    run_apart(made())
    return found


@pytest.fixture
def run(books: Any, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", "not-read-by-a-report")
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def built(run: Any) -> Any:
    assert run("report", "rebuild", *DAYS).exit_code == 0
    return run


def told(run: Any, *words: str) -> Any:
    ended = run("report", *words, *DAYS, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def test_a_day_that_counts_otherwise_than_its_facts_is_found_and_mended(
    run: Any, database_url: str
) -> None:
    assert "30 days were made anew" in run("reports", "rebuild", *DAYS).output

    async def changed() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("UPDATE ping_daily SET leads = leads + 1 WHERE day = '2026-09-02'")
        await connection.close()

    run_apart(changed())
    wrong = run("report", "check", *DAYS)
    assert wrong.exit_code == 1
    assert "2026-09-02 leads" in wrong.output
    run("report", "rebuild", "--from", "2026-09-02", "--to", "2026-09-02")
    after = run("report", "check", *DAYS, "--json")
    assert (after.exit_code, json.loads(after.stdout)["holds"]) == (0, True)


@pytest.mark.parametrize("by", ["source", "seller", "buyer", "contract", "vertical", "day"])
def test_profit_and_loss_is_the_ledgers_however_it_is_told(built: Any, books: Any, by: str) -> None:
    found = told(built, "pnl", "--by", by)
    assert found["zone"] == "UTC"
    for total in found["totals"]:
        truth = books[1][total["currency"]]
        said = {"net": total["net_margin"]} | {
            name: total.get(name) for name in truth if name != "net"
        }
        assert said == {name: text_of(micros) for name, micros in truth.items()}


def test_the_file_has_every_line_of_the_report(built: Any, tmp_path: Path) -> None:
    path = tmp_path / "buyers.csv"
    assert built("report", "buyers", *DAYS, "--csv", path).exit_code == 0
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    lines = told(built, "buyers")["lines"]
    assert [row["buyer"] for row in rows] == [line["buyer"] for line in lines]
    assert [row["spent"] for row in rows] == [line["spent"] for line in lines]
    assert sum(int(row["sales"]) for row in rows) == TERMS.sales


def test_returns_are_told_by_reason_and_by_source(built: Any, books: Any) -> None:
    by_source = told(built, "returns", "--by", "source")
    assert sum(one["granted"] for one in by_source["lines"]) == books[0].returns
    reasons = told(built, "returns", "--by", "reason")
    assert {one["reason"] for one in reasons["lines"]} == {
        "invalid_phone", "disconnected", "wrong_person", "duplicate",
    }  # fmt: skip
    for one in by_source["lines"]:
        assert sum(one["reasons"].values()) == one["granted"]


def test_quality_shows_raw_and_shrunk_and_who_would_be_paused(built: Any) -> None:
    ended = built("report", "quality", *DAYS, "--pause-over", "0.01")
    assert ended.exit_code == 0, ended.output
    assert "would be paused" in ended.output
    rows = told(built, "quality", "--pause-over", "1.0")["rows"]
    assert not any(one["would_pause"] for one in rows)
    assert sum(one["accepted"] for one in rows if not one["contract_id"]) == TERMS.sales


@pytest.mark.parametrize("name", ["pnl", "funnel", "returns", "buyers"])
def test_every_report_has_a_page(built: Any, name: str) -> None:
    ended = built("report", name, *DAYS)
    assert ended.exit_code == 0, ended.output
    assert "UTC days" in ended.output
    assert "USD" in ended.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pnl", "--by", "reason"], "pnl is told by"),
        (["funnel", "--from", "2026-09-02", "--to", "2026-09-01"], "before the first"),
        (["funnel", "--csv", "x.pdf"], "does not end in .csv"),
        (["funnel", "--csv", "nowhere/x.csv"], "no folder"),
        (["rebuild", "--from", "2026-09-02", "--to", "2026-09-01"], "before the first"),
    ],
)
def test_a_report_that_cannot_be_made_is_told_in_a_sentence(
    run: Any, words: list[str], said: str
) -> None:
    ended = run("report", *words)
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())
