"""Papers of simulated trade: all documents of all parties come to what the ledger says, in three
currencies; and a month-end of a thousand parties keeps its time."""

import time
from collections import Counter
from datetime import date
from zoneinfo import ZoneInfo

import pytest

from exchange.core.statements import Period
from exchange.effects.documents import DocumentStore
from exchange.effects.payments import PaymentStore
from exchange.effects.postgres import Database, connect
from exchange.flows.documents import Asked, Told
from exchange.flows.payments import Payments
from tests.books.trade import Trade, Traded, trade
from tests.flows.papering import Later, issued

pytestmark = pytest.mark.real

MONTH_END_S = 120
"""A month-end of 1,000 parties and 1,000,000 sales, in seconds."""
NEW_YORK = ZoneInfo("America/New_York")


def month(first: date, last: date) -> Asked:
    return Asked(period=Period(first=first, last=last, zone=NEW_YORK), by="Dana")


async def papered(
    database_url: str, terms: Trade, months: list[Asked]
) -> tuple[Traded, list[Told]]:
    """Trades, and issues every month; answers what was new."""
    traded = await trade(database_url, terms)
    database = await Database.open(database_url, role="exchange_app", size=4)
    reader = await connect(
        database_url, role="exchange_app", application_name="tests", statement_timeout_ms=600_000
    )
    told: list[Told] = []
    for asked in months:
        told += await issued(database, reader, asked)
    payments = Payments(
        store=PaymentStore(database), documents=DocumentStore(database), clock=Later()
    )
    rows = await payments.ageing(date(2026, 12, 31), Later(days=1).now())
    assert {row.difference_micros for row in rows} == {0}
    assert {row.unbilled_micros for row in rows} == {0}
    await reader.close()
    await database.close()
    return traded, told


def totals(told: list[Told]) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for one in told:
        assert one.new
        found[one.kind, one.currency] += one.total_micros
    return dict(found)


async def test_a_quarters_papers_come_to_what_was_traded(database_url: str) -> None:
    """Ends of months are New York's, the trade's days UTC's: what is sold at one month's end and
    returned in the next is on papers of both."""
    months = [
        month(date(2026, 8, 31), date(2026, 9, 1)),
        month(date(2026, 9, 2), date(2026, 9, 3)),
        month(date(2026, 9, 4), date(2026, 10, 31)),
    ]
    terms = Trade(sales=600, sellers=4, buyers=6, days=5)
    traded, told = await papered(database_url, terms, months)
    found = totals(told)
    for currency, price in traded.price_micros.items():
        assert found["invoice", currency] == price
        assert found["credit_memo", currency] == -traded.credit_micros[currency]
        payout = traded.payout_micros[currency] - traded.clawback_micros[currency]
        assert found["payout_statement", currency] == payout
    later = [one for one in told if one.kind == "credit_memo" and one.document]
    cited = {number for one in later if one.document for number in one.document.cites}
    assert len({number for number in cited if number.startswith("INV-")}) == len(cited) > 3


@pytest.mark.prove
async def test_a_month_end_of_a_thousand_parties_keeps_its_time(database_url: str) -> None:
    terms = Trade(sales=1_000_000, sellers=400, buyers=600, days=28)
    await trade(database_url, terms)
    database = await Database.open(
        database_url, role="exchange_app", size=2, statement_timeout_ms=600_000
    )
    reader = await connect(
        database_url, role="exchange_app", application_name="tests", statement_timeout_ms=600_000
    )
    began = time.monotonic()
    told = await issued(database, reader, month(date(2026, 8, 31), date(2026, 10, 15)))
    took_s = time.monotonic() - began
    await reader.close()
    await database.close()
    assert len({one.party for one in told}) == 1_000
    assert took_s < MONTH_END_S
