"""What an incident comes to, for every state a sale may be in."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.core.incidents import (
    MOVES,
    AffectedSale,
    Incident,
    by_currency,
    held_amounts,
    made_good,
    totals,
)
from exchange.core.terms import ClawbackTerms

AT = datetime(2026, 3, 6, 12, tzinfo=UTC)
INCIDENT = Incident(
    incident_id="i",
    seller_id=2,
    source_id=1,
    sub_id=None,
    since=AT - timedelta(days=3),
    until=None,
    reason="fraud",
    why="bots",
    seller_bears="all",
    state="open",
    opened_at=AT,
    opened_by="Dana",
)
TERMS = replace(INCIDENT, seller_bears="terms")
SALE = AffectedSale(
    attempt_id="a",
    lead_id="l",
    buyer_id=3,
    price_micros=10_000_000,
    payout_micros=8_500_000,
    credited_micros=0,
    clawed_micros=0,
    currency="USD",
    sold_at=AT - timedelta(days=1),
    zone="UTC",
)
CLAWBACK = ClawbackTerms(share=Decimal("0.8"), window_hours=48)


@pytest.mark.parametrize(
    ("incident", "laid_over", "credit", "clawback", "state"),
    [
        (INCIDENT, {}, 10_000_000, 8_500_000, "credited"),
        (
            INCIDENT,
            {"credited_micros": 5_000_000, "clawed_micros": 4_250_000},
            5_000_000,
            4_250_000,
            "credited",
        ),
        # The house had borne the seller's part of the first half.
        (INCIDENT, {"credited_micros": 5_000_000}, 5_000_000, 8_500_000, "credited"),
        (INCIDENT, {"credited_micros": 10_000_000}, 0, 8_500_000, "recovered"),
        (
            INCIDENT,
            {"credited_micros": 10_000_000, "clawed_micros": 8_500_000},
            0,
            0,
            "nothing_left",
        ),
        (INCIDENT, {"replaced": True, "clawed_micros": 8_000_000}, 0, 500_000, "recovered"),
        (INCIDENT, {"price_micros": 0, "payout_micros": 2_000_000}, 0, 0, "nothing_left"),
        (TERMS, {}, 10_000_000, 0, "credited"),
        (TERMS, {"clawback": CLAWBACK}, 10_000_000, 6_800_000, "credited"),
        (
            TERMS,
            {"clawback": CLAWBACK, "sold_at": AT - timedelta(days=3)},
            10_000_000,
            0,
            "credited",
        ),
        (TERMS, {"net_of_returns": True}, 10_000_000, 8_500_000, "credited"),
        (TERMS, {"credited_micros": 10_000_000}, 0, 0, "nothing_left"),
        (TERMS, {"replaced": True}, 0, 0, "nothing_left"),
    ],
)
def test_what_a_sale_comes_to(
    incident: Incident, laid_over: dict[str, object], credit: int, clawback: int, state: str
) -> None:
    good = made_good(incident, replace(SALE, **laid_over))
    assert (good.credit_micros, good.clawback_micros, good.state) == (credit, clawback, state)


@st.composite
def sales(draw: st.DrawFn) -> AffectedSale:
    price = draw(st.integers(0, 50_000_000))
    payout = draw(st.integers(0, price))
    credited = draw(st.integers(0, price) | st.just(price) | st.just(0))
    part = payout * credited // price if price else 0
    return replace(
        SALE,
        buyer_id=draw(st.integers(3, 5)),
        currency=draw(st.sampled_from(["USD", "CAD"])),
        price_micros=price,
        payout_micros=payout,
        credited_micros=credited,
        clawed_micros=draw(st.integers(0, part)),
        replaced=draw(st.booleans()) and not credited,
        is_paid=draw(st.booleans()),
        clawback=draw(st.none() | st.just(CLAWBACK)),
    )


@given(sales(), st.sampled_from([INCIDENT, TERMS]))
def test_no_more_is_credited_than_is_left_nor_taken_than_was_paid(
    sale: AffectedSale, incident: Incident
) -> None:
    good = made_good(incident, sale)
    assert 0 <= good.credit_micros <= sale.price_micros - sale.credited_micros
    assert 0 <= good.clawback_micros <= sale.payout_micros - sale.clawed_micros
    if incident is INCIDENT and sale.price_micros:
        assert sale.clawed_micros + good.clawback_micros == sale.payout_micros
        assert sale.replaced or sale.credited_micros + good.credit_micros == sale.price_micros


@given(st.lists(sales()), st.sampled_from([INCIDENT, TERMS]))
def test_the_totals_are_the_sums_of_the_sales(
    given_sales: list[AffectedSale], incident: Incident
) -> None:
    found = by_currency(totals(incident, given_sales))
    for currency in ("USD", "CAD"):
        mine = [made_good(incident, one) for one in given_sales if one.currency == currency]
        if mine:
            assert found[currency] == {
                "sales": len(mine),
                "credit_micros": sum(one.credit_micros for one in mine),
                "clawback_micros": sum(one.clawback_micros for one in mine),
            }
    held = held_amounts(given_sales)
    assert all(amount > 0 for amount in held.values())


def test_an_incident_ends_closed_or_cancelled_and_money_moves_only_between() -> None:
    assert {state for state, moves in MOVES.items() if not moves} == {"closed", "cancelled"}
    assert MOVES["open"] == {"approved", "cancelled"}
