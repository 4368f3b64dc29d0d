"""The commands of documents and payments on the real Postgres, from a period to a bank's money."""

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from openpyxl import load_workbook
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.effects.vault import Vault
from tests.conftest import run_apart
from tests.effects.sales import PAYOUT, PRICE
from tests.flows.papering import TODAY, noon, traded

pytestmark = pytest.mark.real

DAYS = ["--from", str(TODAY), "--to", str(TODAY)]
HOUSE = """
name = "Northgate Leads"
[paper]
legal_name = "Northgate Leads LLC"
address = ["1 Market Street", "San Francisco, CA 94105"]
tax_id = "94-1234567"
[bank]
bank = "First Bank"
account = "1234567890"
routing = "021000021"
"""


@pytest.fixture(scope="module")
def key_file(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sales, one returned whole on the same day."""
    folder = tmp_path_factory.mktemp("keys")
    returns = [(3, PRICE, PAYOUT, noon(TODAY))]

    run_apart(_filled(database_url, folder, returns))
    Vault.open_file(folder / "master", create=True)
    return folder / "master"


async def _filled(database_url: str, folder: Path, returns: Any) -> None:
    await traded(database_url, folder, sales=4, returns=returns)


@pytest.fixture
def run(
    key_file: Path, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Any:  # fmt: skip
    house = tmp_path / "house.toml"
    house.write_text(HOUSE)
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", str(key_file))
    monkeypatch.setenv("EXCHANGE_HOUSE_FILE", str(house))

    def ran(*words: Any, code: int = 0, later: int = 2) -> Any:
        with time_machine.travel(noon(TODAY) + timedelta(days=later), tick=True):
            ended = CliRunner().invoke(cli, [str(word) for word in words])
        assert ended.exit_code == code, ended.output
        return ended

    return ran


def answer(ended: Any) -> Any:
    return json.loads(ended.stdout)


def issued(run: Any) -> dict[str, str]:
    """The numbers of the period's documents, by kind; issued at the first asking."""
    return {
        one["kind"]: one["number"] for one in answer(run("documents", "issue", *DAYS, "--json"))
    }


def test_a_month_is_previewed_then_issued_into_a_folder_once(run: Any, tmp_path: Path) -> None:
    would = answer(run("documents", "issue", *DAYS, "--dry-run", "--json"))
    folder = tmp_path / "papers"
    told = answer(run("documents", "issue", *DAYS, "--out", folder, "--pdf", "--csv", "--json"))
    totals = {one["kind"]: one["total_micros"] for one in told}
    assert totals == {
        "payout_statement": 3 * PAYOUT, "invoice": 4 * PRICE, "credit_memo": -PRICE,
    }  # fmt: skip
    assert [one["total_micros"] for one in would] == [one["total_micros"] for one in told]
    assert not any(one["number"] for one in would)
    assert len(list(folder.iterdir())) == 6
    assert "issued before" in run("documents", "issue", *DAYS).output


def test_a_document_is_shown_in_every_form_as_it_was_issued(run: Any, tmp_path: Path) -> None:
    number = issued(run)["invoice"]
    said = answer(run("documents", "show", number, "--json"))
    assert (said["total"], said["house"]["name"]) == ("40.00", "Northgate Leads LLC")
    forms = run("documents", "show", number, "--out", tmp_path)
    assert "sha256" in forms.output
    rows = list(csv.DictReader((tmp_path / f"{number}.csv").read_text().splitlines()))
    assert [row["amount"] for row in rows] == ["10.00"] * 4 + ["40.00"]
    assert rows[0]["reference"].startswith("R-")
    assert len(list(load_workbook(tmp_path / f"{number}.xlsx").active.values)) == 6
    pdf = (tmp_path / f"{number}.pdf").read_bytes()
    run("documents", "show", number, "--pdf", tmp_path / "again.pdf")
    assert pdf.startswith(b"%PDF-")
    assert pdf == (tmp_path / "again.pdf").read_bytes()
    assert (tmp_path / f"{number}.json").read_text() == json.dumps(
        said, separators=(",", ":"), ensure_ascii=False, sort_keys=True
    )


def test_what_a_buyer_pays_covers_its_oldest_invoice_and_the_rest_is_paid_ahead(run: Any) -> None:
    number = issued(run)["invoice"]
    words = ("payments", "record", "b", "45.00", "usd", "--reference", "WIRE 7", "--json")
    told = answer(run(*words, later=3))
    assert [(one["number"], one["amount_micros"]) for one in told["matches"]] == [
        (number, 3 * PRICE)  # the credit memo took off the rest
    ]
    assert (told["rest"], told["replayed"]) == ("15.00", False)
    again = answer(run(*words, later=3))
    assert (again["payment"]["payment_id"], again["replayed"]) == (
        told["payment"]["payment_id"], True,
    )  # fmt: skip
    (row,) = answer(run("ageing", "--json", "--at", TODAY + timedelta(days=60), later=3))
    assert (row["receivable"], row["prepaid"], row["not_due"]) == ("0.00", "15.00", "0.00")
    assert row["difference"] == "0.00"

    payment = told["payment"]["payment_id"]
    assert "are matched" in run("documents", "cancel", number, code=1, later=3).output
    undone = answer(
        run("payments", "unmatch", payment, number, "--why", "other month", "--json", later=3)
    )
    assert undone["rest"] == "45.00"
    (row,) = answer(run("ageing", "--json", "--at", TODAY + timedelta(days=60), later=3))
    assert (row["days_1_30"], row["receivable"], row["prepaid"]) == ("30.00", "30.00", "45.00")
    run("payments", "refund", "b", "50", "USD", code=1, later=3)
    assert answer(run("payments", "refund", "b", "5", "USD", "--json", later=3))["rest"] == "0.00"
    by_number = answer(run("payments", "match", payment, number, "--json", later=3))
    assert by_number["rest"] == "0.00"
    (row,) = answer(run("ageing", "--json", "--at", TODAY + timedelta(days=60), later=3))
    assert (row["receivable"], row["prepaid"], row["credit"]) == ("-10.00", "0.00", "-10.00")
    assert "45.00" in run("payments", "list", "--party", "b", later=3).output
    assert answer(run("ledger", "prove", "--json", later=3))["holds"]


def test_a_statement_closes_with_what_the_next_opens_with_whatever_was_paid(run: Any) -> None:
    issued(run)
    run("payments", "record", "b", "3.00", "USD", "--key", "a", later=3)
    whole = answer(run(*_statement(0, 5), later=4))[0]
    first, second = (answer(run(*_statement(*days), later=4))[0] for days in ((0, 1), (2, 5)))
    assert first["closing_micros"] == second["opening_micros"]
    assert second["closing_micros"] == whole["closing_micros"]
    assert second["totals"]["payment"] < 0


def _statement(first: int, last: int) -> tuple[Any, ...]:
    days = ("--from", TODAY + timedelta(days=first), "--to", TODAY + timedelta(days=last))
    return ("statement", "b", *days, "--zone", "UTC", "--json")


def test_a_seller_is_paid_and_a_payout_that_comes_back_is_owed_again(run: Any) -> None:
    number = issued(run)["payout_statement"]
    paid = answer(run("payments", "record", "s", "25.50", "USD", "--json"))
    assert [one["number"] for one in paid["matches"]] == [number]
    payment = paid["payment"]["payment_id"]
    back = answer(run("payments", "returned", payment, "--reference", "account closed", "--json"))
    assert back["payment"]["returns"] == payment
    assert answer(run("payments", "returned", payment, "--reference", "account closed", "--json"))[
        "replayed"
    ]
    assert "came back" in run("payments", "match", payment, code=1).output
    twice = ("payments", "returned", payment, "--reference", "again", "--day", "2026-01-02")
    assert "another payment" in run(*twice, code=1).output
    days = ("--from", TODAY, "--to", TODAY + timedelta(days=5), "--zone", "UTC", "--json")
    (one,) = answer(run("statement", "s", *days))
    assert one["closing_micros"] == 3 * PAYOUT
    listed = answer(run("documents", "list", "--party", "s", "--json"))
    assert listed[0]["paid_micros"] == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("documents issue --from 2026-02-02 --to 2026-02-01", 2, "ends before"),
        ("documents issue --from 2026-02-01 --to 2026-02-28 --zone Mars/Base", 2, "no time zone"),
        ("documents issue --from 2026-02-01 --to 2026-02-28 --pdf", 2, "need a folder"),
        ("documents issue --from 2026-02-01 --to 2026-02-28 --party nobody", 2, "no buyer or"),
        ("documents issue --from 2098-02-01 --to 2098-02-28", 2, "issue it after"),
        ("documents issue --from 2026-02-01 --to 2026-02-28 --cycle year", 2, "month or week"),
        ("documents show INV-1999-000001", 1, "there is no document"),
        ("documents cancel INV-1999-000001", 1, "there is no document"),
        ("documents list --kind bill", 2, "--kind is one of"),
        ("payments record nobody 5 USD", 1, "no buyer or seller"),
        ("payments record b five USD", 2, "a decimal"),
        ("payments record b 0 USD", 1, "more than 0"),
        ("payments record b 5 DOLLAR", 1, "no currency"),
        ("payments record b 5 USD --match INV-1999-000001", 1, "no open document"),
        ("payments record b 5 USD --reference call+13105550001", 1, "personal data"),
        ("payments record b 5 USD --key a@b.example", 1, "personal data"),
        ("payments refund s 5 USD", 1, "only a buyer"),
        ("payments match 019a0000-0000-7000-8000-000000000001", 1, "no such payment"),
        ("payments unmatch x INV-1 --why ok", 1, "3 to 500"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    run: Any, words: str, code: int, said: str
) -> None:
    ended = run(*words.split(), code=code)
    assert said in " ".join(ended.output.split())
    assert "3105550001" not in ended.output


def test_a_house_file_that_is_wrong_is_told_line_by_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('nam = "x"\n[bank]\niban = "DE00"\nrouting = "1"\n')
    monkeypatch.setenv("EXCHANGE_HOUSE_FILE", str(path))
    said = run("documents", "list", code=2).output
    assert "line 1: nam: there is no such setting" in " ".join(said.split())
