"""What a seller hears of a post that takes longer than it waits."""

import asyncio
from typing import Any

import pytest

from exchange.core.book import book_of
from exchange.core.messages import PostReply, PostRequest
from exchange.core.model import Offer
from exchange.core.terms import FieldTerms, Margin, MarketDoc, SellerTerms, VerticalTerms
from exchange.effects.clock import Clock
from exchange.effects.postgres import DatabaseDown
from exchange.flows.post import PENDING_GRACE_S, PostLimits, Posts
from exchange.flows.replies import Replies

PING_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
BOOK = book_of(
    MarketDoc(
        verticals={
            "auto": VerticalTerms(currency="CAD", fields={"age": FieldTerms(type="int", ping=True)})
        },
        sellers={"bright": SellerTerms(margin=Margin(), sources=("web",))},
    )
)
SELLER = next(iter(BOOK.sellers.values()))


class Slow:
    """Every part behind a post: the offer is there at once, what comes after never ends."""

    book = BOOK
    up = True

    def __init__(self, row: dict[str, Any] | None = None, *, away: bool = False) -> None:
        self._row, self._away = row, away
        self.is_over = asyncio.Event()

    async def take(self, ping_id: str, seller_id: int, _key: str) -> Offer:
        return Offer(
            ping_id=ping_id,
            seller_id=seller_id,
            source_id=1,
            vertical_id=next(iter(BOOK.verticals)),
            payout_micros=1,
            currency="CAD",
            expires_at_ms=0,
            received_at_ms=0,
            fields={},
            candidates=(),
            book_version=1,
            mask_id=0,
        )

    async def at(self, _place: str) -> None:
        await self.is_over.wait()
        raise asyncio.CancelledError

    async def of_seller(self, _lead_id: str, _seller_id: int) -> dict[str, Any] | None:
        if self._away:
            raise DatabaseDown
        return self._row


def posts_of(slow: Any) -> Posts:
    return Posts(
        clock=Clock(),
        standing=slow,
        pings=slow,
        offers=slow,
        sales=slow,
        commits=slow,
        leads=slow,
        openings=slow,
        replies=Replies(vault=slow, leads=slow),
        pseudonym=lambda kind, text: text,
        recorded=lambda _: None,
        limits=PostLimits(
            post_deadline_ms=0, tmax_ms=1, tmax_ms_min=1, tmax_direct_ms_max=1, offer_ttl_ms=1
        ),
        boot_id="boot",
        at=slow.at,
    )


async def answered(slow: Slow) -> Any:
    """The first answer of a post whose deadline is over."""
    posts = posts_of(slow)
    began = Clock().loop_time() - PENDING_GRACE_S
    request = PostRequest(ping_id=PING_ID, lead={})
    outcome = await posts.post(request, SELLER, key="k", fingerprint="f", began=began)
    slow.is_over.set()
    await asyncio.gather(*posts._running, return_exceptions=True)
    return outcome


@pytest.mark.parametrize("away", [False, True])
async def test_the_first_answer_of_a_slow_post_is_no_replay_and_names_its_currency(
    away: bool,
) -> None:
    outcome = await answered(Slow(away=away))
    assert isinstance(outcome, PostReply), "a replay is of an earlier answer; there is none"
    assert (outcome.status, outcome.currency) == ("pending", "CAD")


async def test_a_slow_post_whose_end_is_written_is_told_it() -> None:
    reply = {"lead_id": PING_ID, "status": "sold", "currency": "CAD", "payout": "5.00"}
    outcome = await answered(Slow({"state": "sold", "currency": "CAD", "reply": reply}))
    assert isinstance(outcome, PostReply)
    assert (outcome.status, outcome.payout) == ("sold", "5.00")
