"""The auction: best payout first, floors kept, ties even-handed, and never the order of arrival."""

from itertools import permutations, product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.auction import Factors, at_promise, is_decided, offer_expires_at_ms, rank
from exchange.core.model import Bid, Candidate, Contract, Payout
from exchange.core.terms import ContractTerms

PING = "01890a5d-ac96-774b-bcce-b302099a8057"


def share(percent: int = 0, fixed: int = 0) -> Payout:
    return Payout(percent_millionths=percent, fee_fixed_micros=fixed)


def contract(number: int, *, priority: int = 100, most: int | None = None) -> Contract:
    return Contract(
        id=number,
        key=f"c{number}",
        buyer_id=100 + number,
        vertical_id=1,
        terms=ContractTerms(buyer="b", vertical="v", priority=priority),
        price_micros=None,
        bid_min_micros=0,
        bid_max_micros=most,
        caps=(),
        time_zone=None,
    )


def bid(of: Contract, price: int, expires_at_ms: int | None = None) -> tuple[Contract, Bid]:
    return of, Bid(
        contract_id=of.id, buyer_id=of.buyer_id, price_micros=price, expires_at_ms=expires_at_ms
    )


def order(bids: list[tuple[Contract, Bid]], *, floor: int = 0, kept: int = 10) -> list[int]:
    ranking = rank(PING, bids, terms=share(), floor_micros=floor, kept=kept)
    return [candidate.contract_id for candidate in ranking.candidates]


def test_ranking_is_the_same_for_every_order_of_arrival_of_up_to_four_bids_and_ties() -> None:
    for prices in product((5, 7, 9), repeat=4):
        bids = [bid(contract(n), price) for n, price in enumerate(prices, 1)]
        orders = {tuple(order(list(arrival))) for arrival in permutations(bids)}
        assert len(orders) == 1
        ranked = [prices[n - 1] for n in orders.pop()]
        assert ranked == sorted(prices, reverse=True)


def test_among_equal_payouts_the_lower_priority_number_wins() -> None:
    assert order([bid(contract(1), 5), bid(contract(2, priority=1), 5)]) == [2, 1]


def test_ties_fall_evenly_over_many_pings() -> None:
    bids = [bid(contract(1), 5), bid(contract(2), 5)]
    wins = [
        rank(f"ping-{n}", bids, terms=share(), floor_micros=0, kept=1).candidates[0].contract_id
        for n in range(1000)
    ]
    assert 400 < wins.count(1) < 600


def test_a_payout_below_the_floor_is_named_and_not_ranked() -> None:
    ranking = rank(
        PING,
        [bid(contract(1), 10_000_000), bid(contract(2), 20_000_000)],
        terms=share(percent=500_000),
        floor_micros=6_000_000,
        kept=10,
    )
    assert [one.contract_id for one in ranking.candidates] == [2]
    assert ranking.below_floor == (1,)
    assert (ranking.candidates[0].payout_micros, ranking.candidates[0].fee_micros) == (
        10_000_000,
        10_000_000,
    )


def test_a_payout_of_nothing_is_never_an_offer() -> None:
    ranking = rank(
        PING,
        [bid(contract(1), 1_000_000)],
        terms=share(fixed=1_000_000),
        floor_micros=0,
        kept=10,
    )
    assert ranking.candidates == ()
    assert ranking.payout_micros is None


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 49))
def test_adding_a_lower_bid_never_changes_the_winner(prices: list[int], lower: int) -> None:
    bids = [bid(contract(n), price) for n, price in enumerate(prices, 1)]
    winner = order(bids)[0]
    more = [*bids, bid(contract(99), min(lower, max(prices) - 1) or 1)]
    if max(prices) > 1:
        assert order(more)[0] == winner


def test_only_the_best_are_kept() -> None:
    bids = [bid(contract(n), n) for n in range(1, 20)]
    assert order(bids, kept=3) == [19, 18, 17]


# --- by expected value ----------------------------------------------------------------------------


def valued(bids: list[tuple[Contract, Bid]], factors: dict[int, int], usual: int) -> list[int]:
    found = Factors(by_contract=factors, usual=usual)
    ranking = rank(PING, bids, terms=share(), floor_micros=0, kept=10, factors=found)
    assert all(one.factor_millionths == found.of(one.contract_id) for one in ranking.candidates)
    assert [one.rank for one in ranking.candidates] == list(range(1, len(bids) + 1))
    return [one.contract_id for one in ranking.candidates]


PRICES = st.lists(st.integers(1, 60), min_size=1, max_size=8)
FACTOR = st.integers(1, 1_000_000)


@given(PRICES, FACTOR)
def test_with_all_factors_equal_the_order_is_that_of_payout(prices: list[int], all_of: int) -> None:
    bids = [bid(contract(n), price) for n, price in enumerate(prices, 1)]
    assert valued(bids, {}, all_of) == order(bids)


@given(PRICES, st.lists(FACTOR, min_size=8, max_size=8), st.randoms(use_true_random=False))
def test_ranking_by_value_is_a_permutation_and_independent_of_arrival(
    prices: list[int], factors: list[int], chance: Any
) -> None:
    bids = [bid(contract(n), price) for n, price in enumerate(prices, 1)]
    known = dict(enumerate(factors, 1))
    ranked = valued(bids, known, 1)
    assert sorted(ranked) == list(range(1, len(bids) + 1))
    assert valued(chance.sample(bids, len(bids)), known, 1) == ranked
    worths = [prices[n - 1] * known[n] for n in ranked]
    assert worths == sorted(worths, reverse=True)


@given(PRICES, st.lists(FACTOR, min_size=8, max_size=8), st.integers(1, 8), FACTOR)
def test_a_lower_factor_never_improves_a_rank(
    prices: list[int], factors: list[int], who: int, other: int
) -> None:
    who = min(who, len(prices))
    bids = [bid(contract(n), price) for n, price in enumerate(prices, 1)]
    known = dict(enumerate(factors, 1))
    lower = known | {who: min(other, known[who])}
    assert valued(bids, lower, 1).index(who) >= valued(bids, known, 1).index(who)


def test_the_promise_is_the_payout_of_the_first_by_value() -> None:
    bids = [bid(contract(1), 20_000_000), bid(contract(2), 18_000_000)]
    factors = Factors(by_contract={1: 500_000}, usual=900_000)
    ranking = rank(PING, bids, terms=share(150_000), floor_micros=0, kept=10, factors=factors)
    assert [one.contract_id for one in ranking.candidates] == [2, 1]
    assert ranking.payout_micros == 15_300_000
    fallen = at_promise(ranking.candidates[1], 15_300_000)
    assert fallen is not None
    assert fallen.payout_micros == 17_000_000  # whoever is next may pay more than was promised


def test_equal_values_are_in_order_of_payout() -> None:
    bids = [bid(contract(1), 10), bid(contract(2), 20)]
    assert valued(bids, {1: 1_000_000, 2: 500_000}, 1) == [2, 1]


def test_without_factors_a_candidate_says_nothing_of_one() -> None:
    ranking = rank(PING, [bid(contract(1), 5)], terms=share(), floor_micros=0, kept=1)
    assert b"factor" not in msgspec.json.encode(ranking.candidates)


@pytest.mark.parametrize(
    ("leader", "most", "decided"),
    [
        (10, [9, 8], True),
        (10, [9, 10], False),
        (10, [9, None], False),
        (0, [9], False),
        (10, [], True),
    ],
)
def test_an_auction_is_decided_only_when_nobody_outstanding_can_reach_the_leader(
    leader: int, most: list[int | None], decided: bool
) -> None:
    outstanding = [contract(n, most=limit) for n, limit in enumerate(most, 1)]
    assert is_decided(leader, outstanding) is decided


def test_a_promise_ends_with_the_bid_it_rests_on() -> None:
    ranking = rank(
        PING, [bid(contract(1), 5, expires_at_ms=1_500)], terms=share(), floor_micros=0, kept=1
    )
    assert offer_expires_at_ms(ranking, now_ms=1_000, ttl_ms=120_000) == 1_500
    assert offer_expires_at_ms(ranking, now_ms=1_000, ttl_ms=200) == 1_200


@pytest.mark.parametrize(
    ("promised", "payout_and_fee"),
    [
        (17, (18, 2)),  # it pays more than was promised: nothing changes
        (18, (18, 2)),
        (19, (19, 1)),  # the house gives up a part of its fee
        (20, (20, 0)),  # and all of it
        (21, None),  # the price cannot pay it
    ],
)
def test_the_fee_shrinks_before_the_promise_is_broken(
    promised: int, payout_and_fee: tuple[int, int] | None
) -> None:
    candidate = Candidate(
        contract_id=1, buyer_id=2, rank=3, price_micros=20, payout_micros=18, fee_micros=2
    )
    payable = at_promise(candidate, promised)
    assert payout_and_fee == (payable and (payable.payout_micros, payable.fee_micros))
