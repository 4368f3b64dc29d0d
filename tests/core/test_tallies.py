"""Journal rows added up: every answer is counted once, in any pieces and any order."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.model import Candidate, ContractAnswer
from exchange.core.reasons import NonBid
from exchange.core.tallies import (
    NO_CURRENCY,
    BidSums,
    Currencies,
    Folded,
    Journaled,
    days,
    slices,
    wrong_sums,
)


def row(*answers: ContractAnswer, best: int | None = None, source_id: int = 7) -> Journaled:
    """A row as the journal packs it."""
    ranking = [
        Candidate(
            contract_id=one.contract_id,
            buyer_id=one.buyer_id,
            rank=1,
            price_micros=20,
            payout_micros=17,
            fee_micros=3,
            factor_millionths=900_000,
        )
        for one in answers
        if one.contract_id == best
    ]
    bids = msgspec.json.encode({"answers": answers, "ranking": ranking})
    return Journaled(2, source_id, 1, "USD", best is not None, 17 if best else 0, False, bids)


def answer(contract_id: int, non_bid: int | None = None, price: int | None = None) -> Any:
    return ContractAnswer(
        contract_id=contract_id,
        buyer_id=contract_id + 100,
        non_bid=non_bid,
        price_micros=price,
        buyer_ref="r-1",
        waited_ms=10.0,
    )


def counts(sums: BidSums) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(sums).items() if value}


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        (answer(1, price=20), {"bids": 1, "bid_micros": 20}),
        (
            answer(1, NonBid.BELOW_FLOOR, 5),
            {"bids": 1, "bid_micros": 5, "below_floor": 1},
        ),
        (answer(1, NonBid.NO_BID), {"no_bids": 1}),
        (answer(1, NonBid.DUPLICATE), {"no_bids": 1}),
        (answer(1, NonBid.TIMEOUT), {"timeouts": 1}),
        (answer(1, NonBid.ERROR), {"errors": 1}),
        (answer(1, NonBid.UNREACHABLE), {"errors": 1}),
        (answer(1, NonBid.INVALID_BID), {"errors": 1}),
        (answer(1, NonBid.EARLY_CLOSED), {}),
    ],
)
def test_an_answer_is_counted_as_what_it_was(said: Any, counted: dict[str, int]) -> None:
    folded = Folded()
    folded.add([row(said)])
    ((key, sums),) = folded.bids.items()
    assert (key.contract_id, key.buyer_id, key.currency) == (1, 101, "USD")
    assert counts(sums) == {"invited": 1, "waited_ms": 10.0} | counted


def test_the_first_of_an_offers_ranking_has_won() -> None:
    folded = Folded()
    folded.add([row(answer(1, price=20), answer(2, price=19), best=1), row(answer(1, price=20))])
    ((_, pings),) = folded.pings.items()
    assert (pings.pings, pings.offers, pings.offered_micros) == (2, 1, 17)
    assert {key.contract_id: sums.wins for key, sums in folded.bids.items()} == {1: 1, 2: 0}


ANSWERS = st.builds(
    answer,
    st.integers(1, 3),
    st.sampled_from([None, 0, 100, 101, 301, 530]),
    st.integers(1, 50),
)
ROWS = st.lists(
    st.builds(
        lambda said, best, source: row(*said, best=best, source_id=source),
        st.lists(ANSWERS, max_size=4, unique_by=lambda one: one.contract_id),
        st.sampled_from([None, 1, 2]),
        st.integers(1, 2),
    ),
    max_size=12,
)


@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 5))
def test_rows_come_to_the_same_in_any_order_and_pieces(rows: Any, chance: Any, size: int) -> None:
    whole, pieces = Folded(), Folded()
    whole.add(rows)
    shuffled = chance.sample(rows, len(rows))
    for start in range(0, len(rows), size):
        pieces.add(shuffled[start : start + size])
    assert (pieces.pings, pieces.bids) == (whole.pings, whole.bids)


def test_a_vertical_has_the_currency_of_its_terms_at_the_time() -> None:
    known = Currencies([(1, 5, "CAD"), (1, 2, "USD"), (2, 1, None)])
    assert [known.of(1, version) for version in (1, 2, 4, 5, 9)] == [
        NO_CURRENCY, "USD", "USD", "CAD", "CAD",
    ]  # fmt: skip
    assert (known.of(2, 1), known.of(3, 1)) == (NO_CURRENCY, NO_CURRENCY)


MOMENTS = st.integers(0, 8 * 86_400).map(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@given(MOMENTS, MOMENTS, st.integers(1, 3_000))
def test_slices_cover_the_time_once_and_cross_no_midnight(
    since: datetime, until: datetime, minutes: int
) -> None:
    span = timedelta(minutes=minutes)
    cut = list(slices(since, until, span))
    if since >= until:
        assert cut == []
        return
    assert (cut[0][0], cut[-1][1]) == (since, until)
    assert all(a[1] == b[0] for a, b in pairwise(cut))
    for begin, end in cut:
        assert begin < end <= begin + span
        assert (end - timedelta(microseconds=1)).date() == begin.date()


def test_days_are_whole_with_both_ends() -> None:
    assert days(date(2026, 2, 27), date(2026, 3, 1)) == (
        date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1),
    )  # fmt: skip
    assert days(date(2026, 3, 1), date(2026, 2, 1)) == ()


def test_a_tally_that_counts_otherwise_than_its_facts_is_told() -> None:
    assert wrong_sums({"pings": 3, "leads": 1}, {"pings": 3, "leads": 2}) == {"leads": (1, 2)}
    assert wrong_sums({"pings": 3}, {"pings": 3, "extra": 1}) == {}
