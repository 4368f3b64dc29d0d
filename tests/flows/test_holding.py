"""A contract may hold room from the offer on: the promise then rests on a reservation."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from exchange.core.auction import Ranking
from exchange.core.book import compile_book, rows_of
from exchange.core.messages import PingRequest
from exchange.core.model import Candidate, Ping
from exchange.core.reasons import Reason
from exchange.core.records import PingRecord
from exchange.core.terms import (
    BuyerTerms,
    CapTerms,
    ContractTerms,
    FieldTerms,
    Margin,
    MarketDoc,
    SellerTerms,
    VerticalTerms,
)
from exchange.core.wire import HttpReply
from exchange.dialects import dialects
from exchange.effects.caps import Caps, Reserved
from exchange.effects.clock import Clock
from exchange.effects.offers import Offers
from exchange.effects.postgres import Database
from exchange.effects.valkey import Valkey
from exchange.flows.holding import Holding
from exchange.flows.ping import PingLimits, Pings
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
            sellers={"bright": SellerTerms(margin=Margin(percent=Decimal(10)), sources=("web",))},
            buyers={"acme": BUYER, "beacon": BUYER},
            contracts={
                "holds": ContractTerms(
                    buyer="acme",
                    vertical="auto",
                    caps=(CapTerms(leads=1, per="day"),),
                    cap_mode="fast",
                    hold="offer",
                    priority=9,
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


class Wire:
    """Every buyer bids the same at once."""

    def endpoint(self, *, key: str, **_: Any) -> str:
        return key

    def is_healthy(self, _key: str) -> bool:
        return True

    def retire(self, _keys: Any) -> None:
        pass

    async def ask(self, calls: Any, *, on_answer: Any, **_: Any) -> None:
        for place in range(len(calls)):
            on_answer(place, HttpReply(status=200, body=b'{"bid": 9.00}'), 1.0)


class Records:
    """A journal that nobody reads."""

    def put(self, _record: PingRecord) -> None:
        pass


class Shelf:
    """Keeps offers, or does as `fails` says first."""

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        self.fails: Callable[[], None] | None = None

    async def put(self, *args: Any, **named: Any) -> bool:
        if self.fails is not None:
            self.fails()
        return await self.offers.put(*args, **named)


def standing() -> Standing:
    wire: Any = Wire()
    made = Standing(
        BOOK,
        buyers=wire,
        dialects=dialects(),
        brake_count=3,
        brake_s=300,
        trial_s=30,
        worker_number=1,
    )
    made.adopt(BOOK, Clock().now())
    return made


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
    yield Holding(clock=Clock(), standing=standing(), caps=caps, ttl_ms=60_000), caps
    await caps.close()
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


# --- when the offer cannot be made ----------------------------------------------------------------


def pings(holding: Holding, shelf: Shelf) -> Pings:
    parts: Any = {"buyers": Wire(), "offers": shelf, "journal": Records()}
    return Pings(
        clock=Clock(),
        standing=holding._standing,
        holding=holding,
        pseudonym=lambda _kind, text: text,
        limits=PingLimits(
            tmax_ms=5_000,
            tmax_ms_min=50,
            tmax_ms_max=10_000,
            answer_reserve_ms=10,
            invited_max=50,
            ranking_kept=10,
            offer_ttl_ms=120_000,
        ),
        worker="w",
        **parts,
    )


async def pinged(holding: Holding, shelf: Shelf, *, tmax_ms: int | None = None) -> PingRecord:
    request = PingRequest(vertical="auto", source="web", fields={"state": "CA"}, tmax_ms=tmax_ms)
    seller = next(iter(BOOK.sellers.values()))
    began = asyncio.get_running_loop().time()
    record = await pings(holding, shelf).ping(request, seller, began=began)
    assert isinstance(record, PingRecord)
    return record


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0)


async def held_now(caps: Caps) -> list[tuple[int, int]]:
    counters = await caps.counters(HOLDS.buyer_id)
    assert isinstance(counters, dict)
    return list(counters.values())


async def test_an_offer_that_is_kept_keeps_its_room(ground) -> None:
    holding, caps = ground
    record = await pinged(holding, Shelf(Offers(caps._valkey)))
    assert (record.outcome, record.ranking[0].contract_id) == ("offer", HOLDS.id)
    assert await held_now(caps) == [(0, 1)]


async def test_an_offer_that_is_refused_gives_its_room_back_at_once(ground) -> None:
    holding, caps = ground
    record = await pinged(holding, Shelf(Offers(caps._valkey, open_max=0)))
    assert (record.outcome, record.reason) == ("no_offer", Reason.OFFERS_UNAVAILABLE)
    await until(lambda: not caps.untold)
    assert await held_now(caps) == [(0, 0)]


async def test_valkey_that_fails_between_hold_and_offer_is_told_when_it_is_back(
    ground, servers
) -> None:
    holding, caps = ground
    shelf = Shelf(Offers(caps._valkey))
    shelf.fails = lambda: servers.kill("valkey")
    try:
        record = await pinged(holding, shelf)
        assert record.outcome == "no_offer"
        assert record.ranking[0].attempt_id is not None, "it was held, and the record says so"
        assert caps.untold == 1
    finally:
        servers.restart("valkey")
    await until(lambda: not caps.untold)
    assert await held_now(caps) == [(0, 0)]


async def test_room_that_was_held_too_late_to_be_promised_is_given_back(ground, servers) -> None:
    holding, caps = ground
    assert await caps.counters(HOLDS.buyer_id) == {}
    servers.kill("valkey", signal.SIGSTOP)
    try:
        record = await pinged(holding, Shelf(Offers(caps._valkey)), tmax_ms=50)
    finally:
        servers.kill("valkey", signal.SIGCONT)
    assert record.outcome == "no_offer"
    await until(lambda: not caps.untold)
    assert all(held == 0 for _, held in await held_now(caps))
