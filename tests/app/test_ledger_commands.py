"""The commands of periods and the ledger on the real Postgres: what they print, refuse, write."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.core.records import AttemptRow
from exchange.effects.vault import Vault
from tests.conftest import run_apart
from tests.effects.bookkeeping import bought

pytestmark = pytest.mark.real
TODAY = str(datetime.now(UTC).date())
USD = ("--currency", "usd", "--why", "agreed by phone")


@pytest.fixture(scope="module")
def sale(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AttemptRow]:
    key_file, made = tmp_path_factory.mktemp("keys") / "master", []

    async def filled() -> None:
        vault = Vault.open_file(key_file, create=True)
        made.extend(await bought(database_url, vault, ["+13105550001"]))

    run_apart(filled())
    return key_file, made[0]


@pytest.fixture
def run(sale: Any, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", str(sale[0]))
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


def test_a_period_is_opened_checked_and_refuses_to_close_too_early(run: Any) -> None:
    month = TODAY[:7]
    assert "no period yet" in run("period", "list").stdout
    assert run("period", "open", "--month", month).exit_code == 0
    (row,) = json.loads(run("period", "list", "--json").stdout)
    checked = run("period", "check", row["id"])
    assert (checked.exit_code, "exchange documents issue" in checked.stdout) == (1, True)
    refused = run("period", "close", row["id"])
    assert (refused.exit_code, "it may close from" in refused.output) == (1, True)
    assert run("period", "show", 999).exit_code == 1
    for words in (["--month", "2026-13"], [], ["--month", month, "--to", TODAY]):
        assert run("period", "open", *words).exit_code == 2


def test_what_is_booked_by_hand_is_told_and_booked_once(run: Any, sale: Any) -> None:
    adjusted = ("ledger", "adjust", "b", "--credit", "1.50", *USD)
    assert "1.50 USD in favour of b" in run(*adjusted).stdout
    assert "booked before" in run(*adjusted).stdout
    corrected = run(
        "ledger", "correct", sale[1].attempt_id, "--price", "9.00", "--why", "agreed", "--json"
    )
    assert json.loads(corrected.stdout)["credited_micros"] == 1_000_000
    refused = run("ledger", "write-off", "b", "--amount", "100", *USD)
    assert (refused.exit_code, "only 7.50 is owed" in refused.output) == (1, True)
    assert run("ledger", "write-off", "b", *USD).exit_code == 0
    assert run("ledger", "adjust", "b", *USD).exit_code == 2
    (owed,) = json.loads(run("ledger", "balances", "b", "--json").stdout)
    assert owed["balance_micros"] == 0
    assert run("ledger", "prove").exit_code == 0


def test_a_lead_is_shown_back_to_back_and_every_one_written(
    run: Any, sale: Any, tmp_path: Path
) -> None:
    shown = run("ledger", "lead", sale[1].lead_id)
    assert (shown.exit_code, "together" in shown.stdout) == (0, True)
    file = tmp_path / "leads.csv"
    assert run("ledger", "lead", "--from", TODAY, "--to", TODAY, "--out", file).exit_code == 0
    header, line = list(csv.reader(file.read_text("utf-8-sig").splitlines()))
    assert (header[-1], line[0], line[-1]) == ("sum", sale[1].lead_id, "0.00")
    assert run("ledger", "lead", sale[1].attempt_id).exit_code == 1
    assert run("ledger", "lead").exit_code == 2


def test_days_are_rolled_up_by_hand_however_often(run: Any) -> None:
    assert run("ledger", "rollup").exit_code == 0
    assert json.loads(run("ledger", "rollup", "--rebuild", "--json").stdout) == {"days": 0}
