"""A buyer's list of customers by the command line: taken in, shown, and never told again."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.effects.vault import Vault
from tests.conftest import run_apart
from tests.flows.returning import trading

pytestmark = pytest.mark.real


@pytest.fixture
def run(database_url: str, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    Vault.open_file(tmp_path / "master", create=True)
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", str(tmp_path / "master"))

    async def registry() -> None:
        async with trading(database_url):
            pass

    run_apart(registry())
    return lambda *words: CliRunner().invoke(cli, ["buyers", *map(str, words), "--buyer", "b"])


def test_a_list_is_taken_in_whole_or_added_to(run: Any, tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("Name;Phone;E-Mail\nCanary;310-222-0177;a@mail.example\nNobody;;\n")
    two.write_text("310-222-0178\n")
    assert "no list" in run("list-show").output
    first = run("list-upload", one)
    assert (first.exit_code, "2 consumers listed by email and phone" in first.output) == (0, True)
    assert "neither phone nor e-mail: 1" in first.output
    more = json.loads(run("list-upload", two, "--more", "--json").stdout)
    assert (more["list"]["keys"], more["list"]["way"]) == (3, "more")
    whole = run("list-upload", two)
    assert "1 consumers listed" in whole.output
    shown = json.loads(run("list-show", "--json").stdout)
    assert shown["list"]["keys"] == 1
    for text in (first.output, str(more), whole.output):
        assert "222" not in text
        assert "mail.example" not in text


def test_a_list_that_cannot_be_taken_is_told_in_a_sentence(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("a" * 64 + "\n")
    ended = run("list-upload", path)
    assert (ended.exit_code, "it has hashes" in ended.output) == (2, True)
    path.write_text("")
    assert run("list-upload", path).exit_code == 2
