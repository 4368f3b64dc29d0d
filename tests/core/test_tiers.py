"""Tiers of a month: the step reached holds for every price of it; parts add up to what is due."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.ledger import HOUSE, balances
from exchange.core.model import Payout, Tier
from exchange.core.money import split
from exchange.core.tiers import Month, Sales, added, due, highest, terms_transfer

TIERS = (
    Tier(percent_millionths=150_000, leads=100),
    Tier(percent_millionths=100_000, leads=1_000),
)
TERMS = Payout(percent_millionths=200_000, tiers=TIERS)


def sold(count: int, price: int = 10_000_000, credited: int = 0, terms: Payout = TERMS) -> Sales:
    payout, _ = split(price, terms.percent_millionths, terms.fee_fixed_micros)
    return Sales(
        count=count,
        price_micros=price,
        payout_micros=payout,
        credited_micros=credited,
        terms=terms,
    )


@pytest.mark.parametrize(
    ("leads", "step"), [(0, None), (99, None), (100, 0), (999, 0), (1_000, 1), (50_000, 1)]
)
def test_a_step_is_reached_by_its_count(leads: int, step: int | None) -> None:
    assert highest(TIERS, leads, 0) == (None if step is None else TIERS[step])


def test_money_counts_where_a_step_says_money() -> None:
    tiers = (Tier(percent_millionths=0, money_micros=500),)
    assert highest(tiers, 10**9, 499) is None
    assert highest(tiers, 0, 500) == tiers[0]


def test_the_step_reached_holds_for_every_price_of_the_month() -> None:
    found = due([sold(60), sold(40, price=20_000_000)])
    assert (found.leads, found.money_micros) == (100, 1_400_000_000)
    assert found.due_micros == 1_400_000_000 * 5 // 100
    assert found.words == "15 % from 100 leads on"
    assert due([sold(99)]).due_micros == 0
    assert due([sold(1_000)]).due_micros == 1_000 * 1_000_000


def test_what_was_returned_neither_counts_nor_earns() -> None:
    assert due([sold(99), sold(5, credited=10_000_000)]).leads == 99
    half = due([sold(99), sold(1, credited=5_000_000)])
    assert (half.leads, half.money_micros) == (100, 995_000_000)
    assert half.due_micros == 99 * 500_000 + 250_000


def test_sales_on_terms_without_tiers_are_none_of_the_month() -> None:
    plain = Payout(percent_millionths=200_000)
    assert due([sold(99), sold(5_000, terms=plain)]).due_micros == 0


def test_what_a_promise_paid_already_is_not_paid_again() -> None:
    generous = Sales(
        count=100, price_micros=10_000_000, payout_micros=8_500_001, credited_micros=0, terms=TERMS
    )
    assert due([generous]).due_micros == 0


@given(
    st.integers(1, 10**9),
    st.integers(0, 1_000_000),
    st.integers(0, 1_000_000),
    st.integers(0, 10**9),
)
def test_a_step_never_adds_beyond_the_houses_part(
    price: int, margin: int, step: int, credited: int
) -> None:
    sale = sold(1, price, min(credited, price), Payout(percent_millionths=margin))
    more = added(sale, Tier(percent_millionths=step, leads=1))
    assert 0 <= more <= price - sale.payout_micros


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=9))
def test_parts_add_up_to_what_is_due_in_the_end(dues: list[int]) -> None:
    before, rows = 0, []
    for number, wanted in enumerate(dues):
        if wanted != before:
            rows.append(
                terms_transfer(
                    settlement_id=f"s{number}", seller_id=7, booked_micros=wanted - before,
                    currency="USD", at=datetime.now(UTC),
                )
            )  # fmt: skip
            before = wanted
    owed = balances([*rows, *rows])
    assert owed.get((7, "payable", "USD"), 0) == -dues[-1]
    assert owed.get((HOUSE, "margin", "USD"), 0) == dues[-1]


@pytest.mark.parametrize(
    ("name", "zone", "since", "until"),
    [
        ("2026-11", "America/Chicago", "2026-11-01T05:00", "2026-12-01T06:00"),  # the clocks change
        ("2026-12", "UTC", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("2026-02", "Asia/Tokyo", "2026-01-31T15:00", "2026-02-28T15:00"),
    ],
)
def test_a_month_is_the_zones(name: str, zone: str, since: str, until: str) -> None:
    month = Month(name=name, zone=zone)
    assert month.since == datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert month.until == datetime.fromisoformat(until).replace(tzinfo=UTC)


@pytest.mark.parametrize("name", ["2026-13", "2026-1", "26-11", "2026-11-01", "november"])
def test_what_is_no_month_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is written 2026-11"):
        Month(name=name, zone="UTC")
