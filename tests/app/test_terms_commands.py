"""`exchange terms` on the real Postgres: a month is settled, or the command says why not."""

import json
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.app.terms_commands import page
from exchange.core.tiers import Due
from exchange.effects.settlements import Settled
from exchange.effects.vault import Vault

pytestmark = pytest.mark.real


@pytest.fixture
def run(database_url: str, valkey_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    Vault.open_file(tmp_path / "master", create=True)
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", str(tmp_path / "master"))
    return lambda *words: CliRunner().invoke(cli, ["terms", "settle", *words])


def test_a_month_is_settled_or_refused_in_a_sentence(run: Any) -> None:
    done = run("--period", "2026-01", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    for asked, said in (
        (("--period", "2026-1"), "is no month"),
        (("--period", "2026-01", "--seller", "nobody"), "nobody has no tiers"),
    ):
        done = run(*asked)
        assert done.exit_code == 1
        assert said in done.stderr


def test_what_a_month_came_to_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    one = Settled(
        seller="bright",
        month="2026-11",
        zone="UTC",
        currency="USD",
        due=Due(
            leads=1_204,
            money_micros=30_000_000_000,
            due_micros=1_500_000_000,
            words="10 % from 1,000 leads on",
        ),
        before_micros=0,
        booked_micros=1_500_000_000,
        part=1,
    )
    page([one], Console(width=140), dry_run=False)
    told = capsys.readouterr().out
    for said in ("bright", "1,204", "30000.00 USD", "10 % from 1,000 leads on", "1500.00"):
        assert said in told
