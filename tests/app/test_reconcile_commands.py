"""Reconciliations on the real servers: with buyers and with sellers, kept and repeatable, settled,
ending doubts, and silent about persons."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.core.reasons import Delivery
from exchange.core.records import AttemptRow
from exchange.effects.commits import Commits
from exchange.effects.vault import Vault
from tests.conftest import run_apart
from tests.effects.bookkeeping import bought, returned
from tests.effects.sales import PAYOUT, PRICE, Sale

pytestmark = pytest.mark.real

PHONES = [f"+1310555{number:04d}" for number in range(100, 105)]
CANARIES = ("3105550100", "3105550199", "canary@leak.example", "hidden@leak.example")
TODAY = datetime.now(UTC).date()
DAYS = ["--zone", "UTC", "--from", TODAY - timedelta(days=1), "--to", TODAY + timedelta(days=1)]


@pytest.fixture(scope="module")
def books(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Five sales, the last clawed back in half; three posts in doubt."""
    key_file = tmp_path_factory.mktemp("keys") / "master"
    made: list[AttemptRow] = []

    async def filled() -> None:
        vault = Vault.open_file(key_file, create=True)
        made.extend(await bought(database_url, vault, PHONES))
        connection = await asyncpg.connect(database_url)
        await returned(connection, made[4], PRICE // 2, PAYOUT // 2, datetime.now(UTC))
        await connection.close()
        made.extend(await doubted(database_url, 3))

    run_apart(filled())
    return key_file, made


async def doubted(database_url: str, count: int) -> list[AttemptRow]:
    commits, found = await Commits.open(database_url), []
    for _ in range(count):
        sale = Sale()
        await commits.commit(sale.intent())
        await commits.commit(sale.result(Delivery.UNKNOWN, "in_doubt"))
        assert sale.attempt is not None
        found.append(sale.attempt)
    await commits.close()
    return found


@pytest.fixture
def run(books: Any, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", database_url)
    monkeypatch.setenv("EXCHANGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("EXCHANGE_MASTER_KEY_FILE", str(books[0]))
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


def query(database_url: str, text: str, *args: Any) -> list[Any]:
    found: list[Any] = []

    async def asked() -> None:
        connection = await asyncpg.connect(database_url)
        found.extend(await connection.fetch(text, *args))
        await connection.close()

    run_apart(asked())
    return found


def written(folder: Path, *lines: tuple[object, ...]) -> Path:
    path = folder / "theirs.csv"
    path.write_text("\n".join(",".join(map(str, line)) for line in lines))
    return path


def told(run: Any, *words: object) -> dict[str, Any]:
    ended = run(*words, "--json")
    assert ended.exit_code in (0, 1), ended.output
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


# --- sellers --------------------------------------------------------------------------------------


def test_a_sellers_file_is_compared_with_payouts_and_clawbacks(
    run: Any, books: Any, tmp_path: Path
) -> None:
    """By lead id, by sale id, by phone; one that misses the clawback, one at another payout, and
    one that was never sold."""
    one, two, three, _, five, *_ = books[1]
    path = written(
        tmp_path,
        ("Lead ID", "Phone", "Payout", "Status"),
        (one.lead_id, "", "8.50", "sold"),
        (two.attempt_id, "", "9.00", "sold"),
        ("", "310-555-0102", "8.50", ""),
        (five.lead_id, "", "8.50", "sold"),
        ("their-77", "", "8.50", "sold"),
    )
    found = told(run, "reconcile", path, "--seller", "s", *DAYS)
    verdicts = {
        (one["verdict"], *one["lines"]): (one["suggested"]["kind"], one["ours_micros"])
        for one in found["findings"]
        if one["our_status"] != "in_doubt"
    }
    assert verdicts == {
        ("other_price", 3): ("credit", PAYOUT),
        ("other_status", 5): ("tell", PAYOUT - PAYOUT // 2),
        ("only_theirs", 6): ("ask", 0),
        ("only_ours",): ("tell", PAYOUT),
    }
    assert three.lead_id not in {one["lead_id"] for one in found["findings"]}
    assert (found["result"]["side"], found["result"]["partner"]) == ("seller", "s")


def test_a_partner_is_named_once(run: Any, tmp_path: Path) -> None:
    path = written(tmp_path, ("phone",), ("3105550100",))
    for words in ([], ["--buyer", "b", "--seller", "s"], ["--seller", "s", "--resolve-doubts"]):
        assert run("reconcile", path, *words).exit_code == 2


# --- kept, repeated, settled ----------------------------------------------------------------------


def test_the_same_file_finds_the_same_and_says_what_changed_since(
    run: Any, books: Any, database_url: str, tmp_path: Path
) -> None:
    path = written(tmp_path, ("sale id", "price"), *((a.attempt_id, "9.00") for a in books[1][:3]))
    first = told(run, "reconcile", path, "--buyer", "b", *DAYS)
    again = told(run, "reconcile", "file", path, "--buyer", "b", *DAYS)
    keys = [one["attempt_id"] for one in first["findings"]]
    assert [one["attempt_id"] for one in again["findings"]] == keys
    assert (first["changed"], again["changed"]["previous"]) == (None, first["reconciliation_id"])
    assert (again["changed"]["appeared"], again["changed"]["gone"]) == (0, 0)

    async def credit() -> None:
        connection = await asyncpg.connect(database_url)
        await returned(connection, books[1][0], PRICE // 10, 0, datetime.now(UTC))
        await connection.close()

    run_apart(credit())  # what they say of the first sale is ours now, too
    third = told(run, "reconcile", path, "--buyer", "b", *DAYS)
    assert (third["changed"]["appeared"], third["changed"]["gone"]) == (0, 1)
    shown = run("reconcile", "show", third["reconciliation_id"])
    assert "1 are gone" in " ".join(shown.output.split())
    listed = json.loads(run("reconcile", "list", "--buyer", "b", "--limit", 3, "--json").stdout)
    assert [one["reconciliation_id"] for one in listed] == [
        one["reconciliation_id"] for one in (third, again, first)
    ]
    assert listed[0]["file_sha256"] == listed[2]["file_sha256"]


def test_a_settled_difference_is_known_again(run: Any, books: Any, tmp_path: Path) -> None:
    path = written(tmp_path, ("sale id", "price"), (books[1][2].attempt_id, "7.00"))
    first = told(run, "reconcile", path, "--buyer", "b", *DAYS)
    number = next(one["number"] for one in first["findings"] if one["verdict"] == "other_price")
    settle = ("reconcile", "settle", first["reconciliation_id"], number)
    assert run(*settle, "--why", "they correct line 2", "--by", "Dana").exit_code == 0
    again = told(run, "reconcile", path, "--buyer", "b", *DAYS)
    (one,) = [one for one in again["findings"] if one["settled"]]
    assert (one["number"], one["settled"]["by"]) == (number, "Dana")
    out = tmp_path / "found.csv"
    assert run("reconcile", "export", again["reconciliation_id"], "--out", out).exit_code == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["settled because"] for row in rows].count("they correct line 2") == 1
    assert all(row["command"].startswith("exchange ") for row in rows if row["suggested"] != "none")
    run(*settle, "--why", "they did not after all", "--reopen")
    assert "settled" not in run("reconcile", "show", again["reconciliation_id"]).output


@pytest.mark.parametrize(
    "words",
    [["show", "x"], ["export", "x", "--out", "y.csv"], ["settle", "x", "1", "--why", "abc"]],
)
def test_a_reconciliation_that_is_not_there_is_told_so(run: Any, words: list[str]) -> None:
    ended = run("reconcile", *words)
    assert ended.exit_code == 1
    assert "no such reconciliation" in ended.output


# --- doubts ---------------------------------------------------------------------------------------


def test_a_buyers_file_ends_doubts_only_when_asked_and_stands_as_evidence(
    run: Any, books: Any, database_url: str, tmp_path: Path
) -> None:
    *_, bought_one, refused, unlisted = books[1]
    path = written(
        tmp_path,
        ("sale id", "price", "status"),
        (bought_one.attempt_id, "10.00", "sold"),
        (refused.attempt_id, "", "rejected"),
    )
    made = told(run, "reconcile", path, "--buyer", "b", *DAYS)
    state = "SELECT state, resolved_by FROM attempt WHERE attempt_id = $1"

    def state_of(attempt: AttemptRow) -> tuple[str, str | None]:
        return tuple(query(database_url, state, attempt.attempt_id)[0])

    assert state_of(bought_one) == ("unknown", None)
    resolve = ("reconcile", "resolve", made["reconciliation_id"])
    assert {one["state"] for one in json.loads(run(*resolve, "--json").stdout)} == {
        "offered",
        "left",
    }
    assert state_of(bought_one) == ("unknown", None)

    done = json.loads(run(*resolve, "--yes", "--by", "Dana", "--json").stdout)
    assert {one["attempt_id"]: (one["outcome"], one["state"]) for one in done} == {
        bought_one.attempt_id: ("sold", "done"),
        refused.attempt_id: ("rejected", "done"),
        unlisted.attempt_id: (None, "left"),
    }
    assert state_of(bought_one) == ("sold", "partner file")
    assert state_of(refused) == ("rejected", "partner file")
    assert state_of(unlisted) == ("unknown", None)
    evidence = f"sha256:{made['result']['file_sha256']}"
    (event,) = query(
        database_url,
        "SELECT bytes FROM custody_event WHERE lead_id = $1 AND kind = 'resolved'",
        bought_one.lead_id,
    )
    assert json.loads(event["bytes"])["body"]["evidence"] == evidence
    audits = query(database_url, "SELECT by, detail FROM audit WHERE action = 'reconcile.resolve'")
    assert {(row["by"], json.loads(row["detail"])["evidence"]) for row in audits} == {
        ("Dana", evidence)
    }
    assert run("ledger", "prove").exit_code == 0

    last = json.loads(run(*resolve, "--unlisted", "--yes", "--json").stdout)
    assert {one["state"] for one in last} == {"already", "done"}
    assert state_of(unlisted) == ("rejected", "partner file")


# --- nothing personal -----------------------------------------------------------------------------


def test_phones_and_addresses_of_a_file_are_in_no_table_output_or_export(
    run: Any, database_url: str, tmp_path: Path
) -> None:
    """The canaries stand in known and unknown columns, in references, and in lines that cannot be
    read."""
    path = written(
        tmp_path,
        ("phone", "email", "reference", "price", "note canary@leak.example", "day"),
        ("(310) 555-0100", "canary@leak.example", "hidden@leak.example", "10.00", "x", TODAY),
        ("310.555.0199", "", "3105550199", "1.00", "canary@leak.example", TODAY),
        ("310.555.0199", "", "", "canary@leak.example", "", TODAY),
    )
    out = tmp_path / "found.csv"
    made = run("reconcile", path, "--buyer", "b", *DAYS, "--out", out, "--json")
    ended = json.loads(made.stdout)
    kept = tmp_path / "kept.csv"
    exported = run("reconcile", "export", ended["reconciliation_id"], "--out", kept)
    page = run("reconcile", "show", ended["reconciliation_id"])
    texts = [made.output, page.output, exported.output, out.read_text(), kept.read_text()]
    tables = query(
        database_url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition",
    )
    for table in tables:
        rows = query(database_url, f"SELECT t::text AS row FROM {table['relname']} t")
        texts += [row["row"] for row in rows]
    known = "".join(texts).replace("R-+13105550100", "")  # the books' own: a buyer's reference
    for canary in CANARIES:
        assert canary not in known, canary
    assert len(tables) > 20


# --- our books against themselves -----------------------------------------------------------------


def test_books_that_agree_end_with_0_and_a_doctored_ledger_with_1(
    run: Any, books: Any, database_url: str
) -> None:
    ended = run("reconcile", "books", "--json")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["agree"] is True
    change = "UPDATE attempt SET credited_micros = $2 WHERE attempt_id = $1 RETURNING 1"
    query(database_url, change, books[1][3].attempt_id, 1)
    ended = run("reconcile", "books")
    query(database_url, change, books[1][3].attempt_id, 0)
    assert ended.exit_code == 1
    assert books[1][3].attempt_id in ended.output
    assert "exchange ledger prove" in " ".join(ended.output.split())
    assert run("reconcile", "books", "--buyer", "nobody").exit_code == 1
