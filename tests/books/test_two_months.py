"""Two months of trade at the size of a real house: 100,000 sales, 12 % of them returned, three
currencies; issued, closed, and proven with no difference anywhere."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from exchange.core.statements import Period
from exchange.effects.clock import Clock
from exchange.effects.postgres import Database, connect
from exchange.effects.proof import proven
from exchange.effects.rollups import Rollups
from exchange.effects.statements import PartyBooks
from exchange.flows.documents import Asked
from exchange.flows.periods import Accounting
from exchange.flows.rollups import roll_up
from exchange.flows.statements import statements_of
from tests.books.trade import Trade, trade
from tests.flows.papering import issued

pytestmark = [pytest.mark.real, pytest.mark.prove]
SALES, SELLERS, BUYERS = 100_000, 40, 60
SEPTEMBER, OCTOBER = (date(2026, 9, 1), date(2026, 9, 30)), (date(2026, 10, 1), date(2026, 10, 31))
NOVEMBER = (date(2026, 11, 1), date(2026, 11, 30))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(
        database_url, role="exchange_app", size=2, statement_timeout_ms=600_000
    )
    yield database
    await database.close()


@pytest.fixture
async def reader(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    reader = await connect(
        database_url,
        role="exchange_reader",
        application_name="tests",
        party_id=1,
        statement_timeout_ms=600_000,
    )
    yield reader
    await reader.close()


async def test_two_months_of_a_hundred_thousand_sales_close_without_a_difference(
    database_url: str, database: Database, reader: asyncpg.Connection
) -> None:
    terms = Trade(sales=SALES, sellers=SELLERS, buyers=BUYERS, first=SEPTEMBER[0], days=61)
    traded = await trade(database_url, terms)
    assert 0.115 < traded.returns / traded.sales < 0.125

    await roll_up(Rollups(database), datetime.now(UTC), tick=lambda _done, _of: None)
    papers: Counter[tuple[str, str]] = Counter()
    accounting = Accounting(database, clock=Clock())
    for first, last in (SEPTEMBER, OCTOBER):
        period = Period(first=first, last=last, zone=ZoneInfo("UTC"))
        told = await issued(database, reader, Asked(period=period, by="tests"), clock=Clock())
        for one in told:
            papers[one.kind, one.currency] += one.total_micros
        opened, _ = await accounting.open(first, last, zone=None, by="tests")
        _, is_new = await accounting.close(opened.id, by="tests")
        assert is_new

    await _papers_are_the_ledger(reader, papers)
    await _each_closing_is_the_next_opening(reader)
    assert (await proven(reader)).wrong == 0


async def _papers_are_the_ledger(
    reader: asyncpg.Connection, papers: Counter[tuple[str, str]]
) -> None:
    """What all documents come to is what the accounts of buyers and sellers hold, but for returns
    that came after the two months."""
    rows = await reader.fetch(
        "SELECT a.kind, t.currency,"
        " sum(CASE WHEN a.id = t.debit_account THEN t.amount_micros ELSE -t.amount_micros END)"
        "   ::bigint AS micros"
        " FROM transfer t JOIN account a ON a.id IN (t.debit_account, t.credit_account)"
        " WHERE a.kind IN ('receivable', 'payable') AND t.at < '2026-11-01T00:00Z'"
        " GROUP BY a.kind, t.currency"
    )
    held = {(row["kind"], row["currency"]): row["micros"] for row in rows}
    for currency in ("USD", "CAD", "GBP"):
        billed = papers["invoice", currency] + papers["credit_memo", currency]
        assert billed == held["receivable", currency]
        assert papers["payout_statement", currency] == -held["payable", currency]


async def _each_closing_is_the_next_opening(reader: asyncpg.Connection) -> None:
    parties = [f"s{n}" for n in range(SELLERS)] + [f"b{n}" for n in range(BUYERS)]
    async with reader.transaction(isolation="repeatable_read", readonly=True):
        books = PartyBooks(reader)
        for party in parties:
            closing: dict[str, int] = {}
            for first, last in (SEPTEMBER, OCTOBER, NOVEMBER):
                made = await statements_of(party, first, last, books=books, zone="UTC")
                assert {one.currency: one.opening_micros for one in made if one.opening_micros} == {
                    currency: micros for currency, micros in closing.items() if micros
                }
                closing = {one.currency: one.closing_micros for one in made}
