"""The proof of the ledger: it holds for what the exchange writes, and each breach is caught by its
check."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from msgspec.structs import replace

from exchange.core.ledger import HOUSE, TransferCode
from exchange.core.records import AttemptRow, TransferRow
from exchange.effects.postgres import connect
from exchange.effects.proof import BESIDE, Proven, proven
from exchange.effects.vault import Vault
from tests.effects.bookkeeping import bought, returned, transferred
from tests.effects.sales import BUYER, PRICE, SELLER, new_id

pytestmark = pytest.mark.real

NOW = datetime.now(UTC)


@pytest.fixture
async def sale(database_url: str, tmp_path: Path) -> AttemptRow:
    """A sale of its own for each test."""
    vault = Vault.open_file(tmp_path / "master", create=True)
    (made,) = await bought(database_url, vault, ["+13105550001"], refused=1)
    return made


@pytest.fixture
async def undone(app: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """A connection whose work is rolled back: facts cannot be taken out again."""
    transaction = app.transaction()
    await transaction.start()
    yield app
    await transaction.rollback()


def failing(found: Proven) -> set[str]:
    return {check.name for check in found.checks if check.wrong}


def transfer(sale: AttemptRow, code: int, amount: int = 5) -> TransferRow:
    """A transfer of the sale that takes from the buyer what it should not."""
    return TransferRow(
        transfer_id=new_id(), lead_id=sale.lead_id, attempt_id=sale.attempt_id, code=code,
        debit_party=BUYER, debit_kind="receivable", credit_party=SELLER, credit_kind="payable",
        amount_micros=amount, currency="USD", reverses=None, at=NOW,
    )  # fmt: skip


async def test_books_of_sales_refusals_and_returns_hold(
    undone: asyncpg.Connection, sale: AttemptRow, database_url: str
) -> None:
    await returned(undone, sale, PRICE // 2, 1_000_000, NOW)
    found = await proven(undone)
    assert failing(found) == set()
    idle = {check.name for check in found.checks if not check.looked}
    # No seller here has such terms, and nothing is kept beside the transfers.
    assert idle == {"guaranteed_once", "sold_to_one", "terms_as_settled", *BESIDE}
    assert found.transfers >= 5
    assert not found.wrong


async def test_the_houses_reader_may_prove(sale: AttemptRow, database_url: str) -> None:
    reader = await connect(
        database_url, role="exchange_reader", application_name="tests", party_id=HOUSE
    )
    found = await proven(reader)
    await reader.close()
    assert (found.wrong, found.transfers > 0) == (0, True)


@pytest.mark.parametrize("code", [TransferCode.PAYOUT, TransferCode.FEE])
async def test_a_sale_booked_twice_is_caught(
    undone: asyncpg.Connection, sale: AttemptRow, code: TransferCode
) -> None:
    await transferred(undone, transfer(sale, code))
    found = await proven(undone)
    assert failing(found) == {"sale_booked_once"}
    (check,) = (one for one in found.checks if one.wrong)
    assert check.first == (sale.attempt_id,)


async def test_a_credit_that_no_transfer_made_is_caught(
    undone: asyncpg.Connection, sale: AttemptRow
) -> None:
    await undone.execute(
        "UPDATE attempt SET credited_micros = 1 WHERE attempt_id = $1", sale.attempt_id
    )
    assert failing(await proven(undone)) == {"credited_as_booked", "credited_as_granted"}


async def test_a_transfer_that_no_return_granted_is_caught(
    undone: asyncpg.Connection, sale: AttemptRow
) -> None:
    await transferred(undone, transfer(sale, TransferCode.RETURN_BORNE))
    assert failing(await proven(undone)) == {"credited_as_booked"}


async def test_a_leg_taken_back_beyond_its_amount_is_caught(
    undone: asyncpg.Connection, sale: AttemptRow
) -> None:
    leg = await undone.fetchval(
        "SELECT transfer_id::text FROM transfer WHERE attempt_id = $1 AND code = 1", sale.attempt_id
    )
    back = replace(
        transfer(sale, 101, PRICE + 1),
        reverses=leg, part=1, debit_party=SELLER, debit_kind="payable",
        credit_party=BUYER, credit_kind="receivable",
    )  # fmt: skip
    await transferred(undone, back)
    assert "reversed_within_leg" in failing(await proven(undone))


async def test_a_reversal_on_other_accounts_is_caught(
    undone: asyncpg.Connection, sale: AttemptRow
) -> None:
    leg = await undone.fetchval(
        "SELECT transfer_id::text FROM transfer WHERE attempt_id = $1 AND code = 1", sale.attempt_id
    )
    await transferred(undone, replace(transfer(sale, 101), reverses=leg, part=1))
    assert "reversed_within_leg" in failing(await proven(undone))


async def test_a_transfer_without_its_attempt_is_caught(
    undone: asyncpg.Connection, sale: AttemptRow
) -> None:
    await transferred(undone, replace(transfer(sale, 1), attempt_id=new_id()))
    assert failing(await proven(undone)) == {"no_stray_transfer"}


async def test_a_transfer_on_no_account_of_its_currency_is_caught(
    undone: asyncpg.Connection, sale: AttemptRow
) -> None:
    await undone.execute(
        "INSERT INTO transfer (transfer_id, lead_id, day, attempt_id, code, debit_account,"
        " credit_account, amount_micros, currency, at)"
        " SELECT $1, $2, lead_day($2), NULL, 9, d.id, 987654321, 5, 'USD', $3 FROM account d"
        " WHERE party_id = $4 AND kind = 'receivable' AND currency = 'USD'",
        *(new_id(), sale.lead_id, NOW, BUYER),
    )
    assert failing(await proven(undone)) == {"sums_to_zero"}


# --- what is kept beside the transfers ------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "caught"),
    [
        (
            "INSERT INTO book_entry (entry_id, key, kind, party_id, currency, amount_micros, by,"
            " why, at) VALUES (uuidv7(), 'k', 'adjustment', 3, 'USD', 5, 'me', 'why', now())",
            "entries_as_booked",
        ),
        (
            "INSERT INTO transfer (transfer_id, lead_id, day, subject, code, debit_account,"
            " credit_account, amount_micros, currency, at) SELECT uuidv7(), l, lead_day(l),"
            " 'document', 30, 1, 2, 5, 'USD', now() FROM uuidv7() l",
            "entries_as_booked",
        ),
        (
            "INSERT INTO price_correction (correction_id, key, lead_id, day, attempt_id,"
            " raised_micros, credited_micros, by, why, at) SELECT uuidv7(), 'k', lead_id, day,"
            " attempt_id, 5, 0, 'me', 'why', now() FROM attempt WHERE state = 'sold' LIMIT 1",
            "corrections_as_booked",
        ),
        (
            "INSERT INTO payment (payment_id, key, way, party_id, currency, amount_micros,"
            " value_day, by) VALUES (uuidv7(), 'k', 'received', 3, 'USD', 5, current_date, 'me')",
            "payments_as_booked",
        ),
        (
            "WITH rolled AS (INSERT INTO rollup_day (day, done) VALUES (current_date - 9, 0))"
            " INSERT INTO account_day VALUES (1, current_date - 9, 5, 0, 1)",
            "rollups_as_booked",
        ),
        (
            "WITH p AS (INSERT INTO period (from_day, to_day) VALUES ('2025-01-01', '2025-02-01')"
            " RETURNING id) INSERT INTO period_balance (period_id, account_id, opening_micros,"
            " debit_micros, credit_micros, transfers) SELECT id, 1, 5, 0, 0, 0 FROM p",
            "periods_unchanged",
        ),
        (
            "WITH a AS (INSERT INTO account (party_id, kind, currency)"
            " VALUES (1, 'reserve', 'USD') RETURNING id)"
            " INSERT INTO transfer (transfer_id, lead_id, day, subject, code, debit_account,"
            " credit_account, amount_micros, currency, at) SELECT uuidv7(), l, lead_day(l),"
            " 'document', 40, (SELECT id FROM account WHERE kind = 'margin'), a.id, 5, 'USD',"
            " now() FROM uuidv7() l, a",
            "reserve_as_accrued",
        ),
        (
            "INSERT INTO cap_claim (buyer_id, win, attempt_id, lead_id, amount, state)"
            " SELECT buyer_id, 'w', attempt_id, lead_id, 1, 'held' FROM attempt"
            " WHERE state = 'sold' LIMIT 1",
            "claims_as_ended",
        ),
        (
            "WITH w AS (INSERT INTO cap_window (buyer_id, win, used) VALUES (3, 'w', 2))"
            " INSERT INTO cap_claim (buyer_id, win, attempt_id, lead_id, amount, state)"
            " SELECT 3, 'w', attempt_id, lead_id, 1, 'used' FROM attempt"
            " WHERE state = 'sold' LIMIT 1",
            "windows_as_claimed",
        ),
    ],
)
async def test_what_is_kept_beside_the_transfers_is_held_against_them(
    undone: asyncpg.Connection, sale: AttemptRow, planted: str, caught: str
) -> None:
    assert failing(await proven(undone)) == set()
    await undone.execute(planted)
    if caught == "periods_unchanged":
        period_id = await undone.fetchval("SELECT id FROM period")
        await undone.fetchval("SELECT settle_period($1)", period_id)
        await undone.execute("UPDATE period SET closed_at = now(), closed_by = 'x'")
    assert caught in failing(await proven(undone))
