"""What `exchange caps show` says, on the real servers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import uuid_utils

from exchange.core.book import compile_book, rows_of
from exchange.core.caps import windows
from exchange.core.terms import (
    BuyerTerms,
    CapTerms,
    ContractTerms,
    FieldTerms,
    MarketDoc,
    VerticalTerms,
)
from exchange.effects.caps import Caps, Rebuilt
from exchange.effects.clock import Clock
from exchange.effects.postgres import Database
from exchange.effects.valkey import Valkey
from exchange.flows.caps import NoSuchBuyer, rebuild, show

pytestmark = pytest.mark.real

BUYER = BuyerTerms(
    ping_url="https://a.example/ping", post_url="https://a.example/post", time_zone="Asia/Kolkata"
)
CAPS = (
    CapTerms(leads=2, per="day"),
    CapTerms(money="5000.00", per="total"),
    CapTerms(leads=1, per="day", each="state"),
)
DOC = MarketDoc(
    verticals={
        "auto": VerticalTerms(
            currency="USD",
            fields={"state": FieldTerms(type="enum", values=("CA", "NV"), ping=True)},
        )
    },
    buyers={"acme": BUYER, "idle": BUYER},
    contracts={
        "acme-auto": ContractTerms(buyer="acme", vertical="auto", caps=CAPS, cap_mode="fast"),
        "idle-auto": ContractTerms(buyer="idle", vertical="auto"),
    },
)
BOOK = compile_book(rows_of(DOC))
ACME = next(buyer for buyer in BOOK.buyers.values() if buyer.key == "acme")
NOW = datetime.now(UTC)


@pytest.fixture
async def caps(valkey_url: str, database_url: str) -> AsyncIterator[Caps]:
    database = await Database.open(database_url, role="exchange_app", size=2)
    for table, columns in (("party", "id, kind, key"), ("buyer", "id, key")):
        values = "$1, 'buyer', 'acme'" if table == "party" else "$1, 'acme'"
        await database.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING", ACME.id
        )
    valkey = await Valkey.open(valkey_url, queue_max=1_000, timeout_ms=5_000)
    caps = Caps(valkey, database, Clock())
    yield caps
    await caps.close()
    await valkey.close()
    await database.close()


def held(state: str):
    (contract,) = (one for one in BOOK.contracts.values() if one.key == "acme-auto")
    return windows(
        contract, fields={"state": state}, price_micros=20_000_000, at=NOW, zone="Asia/Kolkata"
    )


async def test_every_window_in_force_is_shown_beside_the_databases_count(caps):
    sold, running = str(uuid_utils.uuid7()), str(uuid_utils.uuid7())
    await caps.reserve(ACME.id, sold, held("CA"), 60_000)
    await caps.commit(ACME.id, sold, held("CA"))
    await caps.reserve(ACME.id, running, held("NV"), 60_000)
    rows = await show(caps=caps, book=BOOK, at=NOW)
    assert [
        (row.unit, row.per, row.segment, row.used, row.held, row.limit, row.booked) for row in rows
    ] == [
        ("leads", "day", None, 1, 1, 2, 0),
        ("money", "total", None, 20_000_000, 20_000_000, 5_000_000_000, 0),
        ("leads", "day", "CA", 1, 0, 1, 0),
        ("leads", "day", "NV", 0, 1, 1, 0),
    ]
    assert {(row.buyer, row.contract, row.mode) for row in rows} == {("acme", "acme-auto", "fast")}
    assert [row.difference for row in rows] == [2, 40_000_000, 1, 1]
    assert rows[1].resets_at is None
    assert rows[0].resets_at > NOW


async def test_a_rebuild_leaves_no_difference(caps):
    token = str(uuid_utils.uuid7())
    await caps.commit(ACME.id, token, held("CA"))
    assert isinstance(await rebuild("acme", caps=caps, book=BOOK), Rebuilt)
    rows = await show(caps=caps, book=BOOK, at=NOW, buyer_key="acme")
    assert [(row.used, row.difference) for row in rows] == [(0, 0), (0, 0)]


async def test_a_cap_that_cannot_be_read_shows_no_number(caps):
    await caps._valkey.close()
    rows = await show(caps=caps, book=BOOK, at=NOW)
    assert [(row.used, row.held, row.difference) for row in rows] == [(None, None, None)] * 2


async def test_a_buyer_the_market_does_not_have_is_said_to_be_so(caps):
    with pytest.raises(NoSuchBuyer, match="nobody"):
        await show(caps=caps, book=BOOK, at=NOW, buyer_key="nobody")
