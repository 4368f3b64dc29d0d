"""The answers of one auction: each contract ends once, and an auction closes early only when it
may."""

from types import SimpleNamespace
from typing import Any

import pytest

from exchange.core.model import Bid, Contract, Ping, PingConsent, Vertical
from exchange.core.reasons import NonBid
from exchange.core.terms import ContractTerms, VerticalTerms
from exchange.core.wire import Answer, HttpReply, NoReply, NoReplyKind
from exchange.flows.asking import NON_BID_OF, Asking
from exchange.flows.ping import may_close_early
from exchange.flows.standing import Seat


def contract(number: int, most: int | None) -> Contract:
    return Contract(
        id=number,
        key=f"c{number}",
        buyer_id=number,
        vertical_id=1,
        terms=ContractTerms(buyer="b", vertical="v"),
        price_micros=None,
        bid_min_micros=0,
        bid_max_micros=most,
        caps=(),
        time_zone=None,
    )


def read_bid(one: Contract, reply: HttpReply, *, at_ms: int) -> Bid | NonBid:
    """A dialect whose body is the price in micros; empty is no bid."""
    if not reply.body:
        return NonBid.NO_BID
    return Bid(contract_id=one.id, buyer_id=one.buyer_id, price_micros=int(reply.body))


def asking(*most: int | None, close_early: bool = True) -> Asking:
    dialect: Any = SimpleNamespace(read_bid=read_bid)
    nothing: Any = None
    seats = [
        Seat(contract(number, limit), nothing, nothing, dialect, b"", limit)
        for number, limit in enumerate(most, 1)
    ]
    return Asking(seats, now_ms=0, close_early=close_early)


def bid(price: int) -> Answer:
    return HttpReply(status=200, body=str(price).encode())


def test_every_contract_ends_as_exactly_one_answer_in_order_of_invitation() -> None:
    round_ = asking(None, None, None)
    round_.on_answer(2, NoReply(kind=NoReplyKind.TIMEOUT, sent=True), 9.0)
    round_.on_answer(0, bid(5), 3.0)
    round_.on_answer(1, HttpReply(status=204), 4.0)
    round_.read()
    answers = round_.answers(below_floor=())

    assert [one.contract_id for one in answers] == [1, 2, 3]
    assert [one.non_bid for one in answers] == [None, NonBid.NO_BID, NonBid.TIMEOUT]
    assert round_.waited_ms == 9.0


def test_a_good_bid_under_the_floor_is_told_so() -> None:
    round_ = asking(None)
    round_.on_answer(0, bid(5), 1.0)
    round_.read()
    assert round_.answers(below_floor=(1,))[0].non_bid == NonBid.BELOW_FLOOR


def test_an_auction_is_over_when_nobody_outstanding_can_reach_the_leader() -> None:
    round_ = asking(None, 40, 30)
    assert round_.on_answer(0, bid(35), 1.0) is False, "the second may still bid 40"
    assert round_.on_answer(1, bid(20), 1.0) is True, "the third never bids more than 30"


def test_an_auction_that_may_not_close_early_waits_for_all() -> None:
    round_ = asking(None, 30, close_early=False)
    assert round_.on_answer(0, bid(35), 1.0) is False


def ping(**given: Any) -> Ping:
    return Ping(
        ping_id="p",
        seller_id=1,
        source_id=1,
        vertical_id=1,
        fields={},
        received_at=None,  # type: ignore[arg-type]
        tmax_ms=1,
        **given,
    )


def vertical(consent: Any) -> Vertical:
    return Vertical(id=1, key="v", terms=VerticalTerms(currency="USD", fields={}, consent=consent))


def test_direct_leads_and_named_consent_wait_for_lower_bids() -> None:
    plain, named = vertical("tcpa"), vertical("named")
    assert may_close_early(ping(), plain)
    assert not may_close_early(ping(direct=True), plain)
    shown = PingConsent(kind="named", buyers=("Acme",))
    assert not may_close_early(ping(consent=shown), plain)
    assert not may_close_early(ping(), named), "the consumer is yet to be shown who bid"


def test_by_expected_value_nobody_has_won_before_all_have_answered() -> None:
    terms = VerticalTerms(currency="USD", fields={}, ranking="expected_value")
    assert not may_close_early(ping(), Vertical(id=1, key="v", terms=terms))


@pytest.mark.parametrize("kind", NoReplyKind)
def test_every_kind_of_silence_has_its_non_bid_code(kind: NoReplyKind) -> None:
    assert isinstance(NON_BID_OF[kind], NonBid)
