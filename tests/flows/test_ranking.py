"""A ping of a vertical that ranks by expected value: who is promised, who is next, and what is
kept of it for later."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from exchange.core.book import Book, compile_book, rows_of
from exchange.core.messages import PingRequest
from exchange.core.model import Candidate, Offer
from exchange.core.records import PingRecord
from exchange.core.terms import (
    BuyerTerms,
    ContractTerms,
    FieldTerms,
    Margin,
    MarketDoc,
    SellerTerms,
    VerticalTerms,
)
from exchange.core.wire import HttpReply
from exchange.dialects import dialects
from exchange.effects.clock import Clock
from exchange.flows.holding import Holding
from exchange.flows.ping import PingLimits, Pings
from exchange.flows.standing import Standing

BUYER = BuyerTerms(
    ping_url="https://a.example/ping", post_url="https://a.example/post", time_zone="UTC"
)
TENTH = Margin(percent=Decimal(10))
BIDS = {"high": b'{"bid": 20.00}', "good": b'{"bid": 18.00}'}


def market(ranking: Any) -> Book:
    fields = {"state": FieldTerms(type="enum", values=("CA",), ping=True)}
    return compile_book(
        rows_of(
            MarketDoc(
                verticals={"auto": VerticalTerms(currency="USD", fields=fields, ranking=ranking)},
                sellers={
                    "bright": SellerTerms(margin=Margin(percent=Decimal(10)), sources=("web",))
                },
                buyers={"high": BUYER, "good": BUYER},
                contracts={key: ContractTerms(buyer=key, vertical="auto") for key in BIDS},
            )
        )
    )


class Wire:
    """Buyers that bid at once."""

    def __init__(self, book: Book) -> None:
        self.bids = {one.buyer_id: BIDS[one.key] for one in book.contracts.values()}

    def endpoint(self, *, key: str, **_: Any) -> str:
        return key

    async def ask(self, calls: Any, *, on_answer: Any, **_: Any) -> None:
        for place, (endpoint, _) in enumerate(calls):
            body = self.bids[int(endpoint.partition(".")[0])]
            if on_answer(place, HttpReply(status=200, body=body), 1.0):
                return


class Shelf:
    """Keeps offers."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []

    async def put(self, offer: Offer, **_: Any) -> bool:
        self.offers.append(offer)
        return True


class Kept:
    """Keeps records."""

    def __init__(self) -> None:
        self.records: list[PingRecord] = []

    def put(self, record: PingRecord) -> None:
        self.records.append(record)


async def pinged(ranking: str, factors: dict[str, int]) -> tuple[Book, Offer, PingRecord]:
    book, clock, shelf, kept = market(ranking), Clock(), Shelf(), Kept()
    world: Any = Wire(book)
    standing = Standing(
        book, buyers=world, dialects=dialects(), brake_count=3, brake_s=300, trial_s=30,
        worker_number=1,
    )  # fmt: skip
    (vertical,), (source,) = book.verticals.values(), book.sources.values()
    standing.learn_factors(
        (vertical.id, source.id, one.id, factors[one.key])
        for one in book.contracts.values()
        if one.key in factors
    )
    nothing: Any = None
    holding = Holding(clock=clock, standing=standing, caps=nothing, ttl_ms=1_000)
    limits = PingLimits(
        tmax_ms=1_000, tmax_ms_min=50, tmax_ms_max=5_000, answer_reserve_ms=10, invited_max=10,
        ranking_kept=10, offer_ttl_ms=60_000,
    )  # fmt: skip
    pings = Pings(
        clock=clock, standing=standing, buyers=world, offers=shelf, holding=holding,  # type: ignore[arg-type]
        journal=kept, pseudonym=lambda _a, b: b, limits=limits, worker="w",  # type: ignore[arg-type]
    )  # fmt: skip
    request = PingRequest(vertical="auto", source="web", fields={"state": "CA"})
    (seller,) = book.sellers.values()
    record = await pings.ping(request, seller, began=clock.loop_time())
    assert isinstance(record, PingRecord)
    assert kept.records == [record]
    return book, shelf.offers[0], record


@pytest.mark.parametrize(
    ("ranking", "factors", "first", "promised"),
    [
        ("payout", {"high": 500_000, "good": 900_000}, "high", 18_000_000),
        ("expected_value", {"high": 500_000, "good": 900_000}, "good", 16_200_000),
        ("expected_value", {"high": 900_000, "good": 900_000}, "high", 18_000_000),
        ("expected_value", {}, "high", 18_000_000),
        ("expected_value", {"good": 800_000}, "high", 18_000_000),
    ],
)
async def test_the_first_by_the_verticals_ranking_is_promised(
    ranking: str, factors: dict[str, int], first: str, promised: int
) -> None:
    book, offer, record = await pinged(ranking, factors)
    assert book.contracts[offer.candidates[0].contract_id].key == first
    assert offer.payout_micros == record.payout_micros == promised
    assert len(offer.candidates) == 2  # the other is next if the first falls through


async def test_the_factors_of_then_are_kept_with_the_ping_and_its_offer() -> None:
    book, offer, record = await pinged("expected_value", {"high": 500_000, "good": 900_000})
    told = {book.contracts[one.contract_id].key: one.factor_millionths for one in record.ranking}
    assert told == {"high": 500_000, "good": 900_000}
    again = msgspec.json.decode(msgspec.json.encode(record.ranking), type=tuple[Candidate, ...])
    assert again == record.ranking == offer.candidates


async def test_a_ping_ranked_by_payout_keeps_nothing_of_factors() -> None:
    _, _, record = await pinged("payout", {"high": 500_000, "good": 900_000})
    assert {one.factor_millionths for one in record.ranking} == {1_000_000}
    assert b"factor" not in msgspec.json.encode(record)
