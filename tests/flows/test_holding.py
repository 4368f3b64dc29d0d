"""A contract may hold room from the offer on: the promise then rests on a reservation."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from exchange.core.auction import Ranking
from exchange.core.book import compile_book, rows_of
from exchange.core.model import (
    BuyerTerms,
    Candidate,
    CapTerms,
    ContractTerms,
    FieldTerms,
    MarketDoc,
    Ping,
    VerticalTerms,
)
from exchange.effects.buyers import Buyers
from exchange.effects.caps import Caps, Reserved
from exchange.effects.clock import Clock
from exchange.effects.postgres import Database
from exchange.effects.valkey import Valkey
from exchange.flows.holding import Holding
from exchange.flows.standing import Standing

pytestmark = pytest.mark.real

BUYER = BuyerTerms(
    ping_url="https://a.example/ping", post_url="https://a.example/post", time_zone="UTC"
)
BOOK = compile_book(
    rows_of(
        MarketDoc(
            verticals={
                "auto": VerticalTerms(
                    currency="USD",
                    fields={"state": FieldTerms(type="enum", values=("CA", "NV"), ping=True)},
                )
            },
            buyers={"acme": BUYER, "beacon": BUYER},
            contracts={
                "holds": ContractTerms(
                    buyer="acme",
                    vertical="auto",
                    caps=(CapTerms(leads=1, per="day"),),
                    cap_mode="fast",
                    hold="offer",
                ),
                "does-not": ContractTerms(buyer="beacon", vertical="auto"),
            },
        )
    )
)
HOLDS, DOES_NOT = (
    next(one for one in BOOK.contracts.values() if one.key == key) for key in ("holds", "does-not")
)


def ping(*, test: bool = False) -> Ping:
    return Ping(
        ping_id=Clock().new_id(),
        seller_id=9,
        source_id=9,
        vertical_id=HOLDS.vertical_id,
        fields={"state": "CA"},
        received_at=datetime.now(UTC),
        tmax_ms=1_000,
        test=test,
    )


def ranking() -> Ranking:
    return Ranking(
        candidates=tuple(
            Candidate(
                contract_id=contract.id,
                buyer_id=contract.buyer_id,
                rank=rank,
                price_micros=9,
                payout_micros=9,
                fee_micros=0,
            )
            for rank, contract in enumerate((HOLDS, DOES_NOT), 1)
        )
    )


@pytest.fixture
async def ground(valkey_url: str, database_url: str) -> AsyncIterator[tuple[Holding, Caps]]:
    database = await Database.open(database_url, role="exchange_app", size=2)
    for buyer in BOOK.buyers.values():
        await database.execute(
            "INSERT INTO party (id, kind, key) VALUES ($1, 'buyer', $2) ON CONFLICT DO NOTHING",
            buyer.id,
            buyer.key,
        )
        await database.execute(
            "INSERT INTO buyer (id, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            buyer.id,
            buyer.key,
        )
    valkey = await Valkey.open(valkey_url, queue_max=100, timeout_ms=5_000)
    caps = Caps(valkey, database, Clock())
    buyers = Buyers(lab=True)
    standing = Standing(
        BOOK, buyers=buyers, dialects={}, brake_count=3, brake_s=300, trial_s=30, worker_number=1
    )
    yield Holding(clock=Clock(), standing=standing, caps=caps, ttl_ms=60_000), caps
    await caps.close()
    await buyers.close()
    await valkey.close()
    await database.close()


async def test_room_is_held_for_the_best_candidate_and_the_post_finds_it(ground) -> None:
    holding, caps = ground
    best = (await holding.held(ping(), ranking())).candidates[0]

    assert best.contract_id == HOLDS.id
    assert best.attempt_id is not None
    (win,) = await caps.counters(HOLDS.buyer_id)
    again = await caps.reserve(HOLDS.buyer_id, best.attempt_id, (), 1_000)
    assert isinstance(again, Reserved), "the same token is the same hold"
    assert await caps.used(HOLDS.buyer_id, [win]) == {win: (0, 1)}


async def test_a_second_offer_finds_no_room_and_promises_the_next_bid(ground) -> None:
    holding, _ = ground
    await holding.held(ping(), ranking())
    second = await holding.held(ping(), ranking())

    assert [one.contract_id for one in second.candidates] == [DOES_NOT.id]
    assert second.candidates[0].attempt_id is None


async def test_a_test_ping_holds_nothing(ground) -> None:
    holding, caps = ground
    best = (await holding.held(ping(test=True), ranking())).candidates[0]

    assert best.attempt_id is None
    assert await caps.counters(HOLDS.buyer_id) == {}
