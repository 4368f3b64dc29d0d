"""What finance books by hand, on the real books: once by key, never beyond what is owed, and the
ledger proves itself after each."""

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import asyncpg
import pytest

from exchange.core.entries import NotBooked
from exchange.core.records import AttemptRow
from exchange.effects.clock import Clock
from exchange.effects.lead_money import LeadBooks
from exchange.effects.postgres import Database, connect
from exchange.effects.proof import proven
from exchange.effects.vault import Vault
from exchange.flows.entries import Booking
from tests.effects.bookkeeping import bought

pytestmark = pytest.mark.real


@pytest.fixture
async def sale(database_url: str, tmp_path: Path) -> AttemptRow:
    """A sale of 10.00 with a payout of 8.50."""
    (made,) = await bought(
        database_url, Vault.open_file(tmp_path / "k", create=True), ["+13105550001"]
    )
    return made


@pytest.fixture
async def booking(database_url: str, sale: AttemptRow) -> AsyncIterator[Booking]:
    database = await Database.open(database_url, role="exchange_app", size=2)
    yield Booking(database, clock=Clock())
    await database.close()


async def held(database_url: str) -> list[str]:
    reader = await connect(
        database_url, role="exchange_reader", application_name="tests", party_id=1
    )
    found = await proven(reader)
    await reader.close()
    return [check.name for check in found.checks if check.wrong]


async def owed(database_url: str, party_id: int, kind: str) -> int:
    connection = await asyncpg.connect(database_url)
    micros: int = await connection.fetchval(
        "SELECT coalesce(sum(debit_micros - credit_micros), 0)::bigint"
        " FROM balances_before('infinity') JOIN account a ON a.id = account_id"
        " WHERE party_id = $1 AND kind = $2",
        *(party_id, kind),
    )
    await connection.close()
    return micros


async def test_a_correction_is_booked_once_and_its_lead_sums_to_zero(
    booking: Booking, sale: AttemptRow, database_url: str
) -> None:
    before = await owed(database_url, 3, "receivable")
    for price in ("12.00", "7.50", "9.00"):
        _, is_new = await booking.correct(sale.attempt_id, price, by="me", why="agreed by phone")
        assert is_new
        assert await held(database_url) == []
    again, is_new = await booking.correct(sale.attempt_id, "9.00", by="me", why="agreed by phone")
    assert not is_new
    assert await owed(database_url, 3, "receivable") == before - 1_000_000
    reader = await connect(
        database_url, role="exchange_reader", application_name="tests", party_id=1
    )
    legs = await LeadBooks(reader).legs(sale.lead_id)
    async with reader.transaction():
        sales = [one async for one in LeadBooks(reader).sales(again.at.date(), again.at.date())]
    await reader.close()
    assert sum(one.buyer_micros + one.seller_micros + one.house_micros for one in legs) == 0
    (mine,) = (one for one in sales if one.lead_id == sale.lead_id)
    assert (mine.price, mine.corrected, mine.buyer_micros) == (10_000_000, -1_000_000, 9_000_000)


async def test_a_debt_is_written_off_once_and_never_beyond_what_is_owed(
    booking: Booking, database_url: str
) -> None:
    before = await owed(database_url, 3, "receivable")
    with pytest.raises(NotBooked, match="is owed"):
        await booking.write_off("b", "999999", "USD", by="me", why="insolvent")
    for is_first in (True, False):
        entry, is_new = await booking.write_off(
            "b", "2.50", "USD", by="me", why="insolvent", key="w"
        )
        assert (entry.amount_micros, is_new) == (-2_500_000, is_first)
    assert await owed(database_url, 3, "receivable") == before - 2_500_000
    with pytest.raises(NotBooked, match="nothing is owed"):
        await booking.write_off("s", None, "USD", by="me", why="gone")
    assert await held(database_url) == []


async def test_a_seller_that_was_paid_too_much_is_written_off(
    booking: Booking, database_url: str
) -> None:
    owing = await owed(database_url, 2, "payable")
    over = f"{-owing // 1_000_000 + 3}.00"
    await booking.adjust("s", over, "USD", against=True, by="me", why="paid twice")
    short = await owed(database_url, 2, "payable")
    assert short > 0
    entry, _ = await booking.write_off("s", None, "USD", by="me", why="it left the trade")
    assert entry.amount_micros == short
    assert await owed(database_url, 2, "payable") == 0
    assert await held(database_url) == []


@pytest.mark.parametrize(
    ("party", "amount", "why", "said"),
    [
        ("nobody", "1", "because", "no buyer or seller"),
        ("b", "1,5", "because", "decimal"),
        ("b", "0", "because", "moves nothing"),
        ("b", "1", " ", "say why"),
    ],
)
async def test_what_cannot_be_adjusted_is_refused_in_a_sentence(
    booking: Booking, party: str, amount: str, why: str, said: str
) -> None:
    with pytest.raises(NotBooked, match=said):
        await booking.adjust(party, amount, "USD", against=False, by="me", why=why)


async def test_any_order_of_entries_leaves_books_that_prove_themselves(
    booking: Booking, sale: AttemptRow, database_url: str, seed: int
) -> None:
    """The machine of tests/core/test_books_machine.py, shorter, on the real books."""
    chance = Random(seed)
    for number in range(30):
        said = {"by": "me", "why": f"step {number}"}
        amount = f"{chance.randrange(1, 2_000) / 100:.2f}"
        party = chance.choice(["b", "s"])
        try:
            match chance.randrange(3):
                case 0:
                    await booking.correct(sale.attempt_id, amount, **said)
                case 1:
                    against = chance.random() < 0.5
                    await booking.adjust(party, amount, "USD", against=against, **said)
                case _:
                    await booking.write_off(party, None, "USD", **said)
        except NotBooked:  # nothing is owed, or the sale stands there already
            pass
        if number % 6 == 5:
            assert await held(database_url) == []
    connection = await asyncpg.connect(database_url)
    credited, price = await connection.fetchrow(
        "SELECT credited_micros, price_micros FROM attempt WHERE attempt_id = $1", sale.attempt_id
    )
    await connection.close()
    assert 0 <= credited <= price
