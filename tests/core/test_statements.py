"""Statements: what one closes with the next opens with, and parts add up."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.ledger import return_transfers, sale_transfers
from exchange.core.records import TransferRow
from exchange.core.statements import (
    Entry,
    Party,
    Period,
    Statement,
    kind_of,
    signed,
    statements,
)

BUYER = Party(id=3, kind="buyer", key="acme", name="Acme")
SELLER = Party(id=2, kind="seller", key="sunny", name="Sunny")
NEW_YORK = ZoneInfo("America/New_York")
MARCH = Period(first=date(2026, 3, 1), last=date(2026, 3, 31), zone=NEW_YORK)
NOON = datetime(2026, 3, 10, 16, tzinfo=UTC)


def sold(
    number: int = 1, *, at: datetime = NOON, price: int = 25, fee: int = 4, **more: Any
) -> Any:
    given = {"currency": "USD", "buyer_id": 3, "seller_id": 2} | more
    return sale_transfers(
        attempt_id=f"a{number}",
        lead_id=f"l{number}",
        price_micros=price,
        payout_micros=price - fee,
        fee_micros=fee,
        at=at,
        **given,
    )


def credited(legs: Any, *, credit: int, clawback: int, at: datetime) -> Any:
    return return_transfers(
        legs, credit_micros=credit, clawback_micros=clawback, credited_micros=0, part=1, at=at
    )


def entries(party: Party, transfers: Any) -> list[Entry]:
    """As the database tells them: a row per side that is one of the party's accounts."""
    found = []
    for one in transfers:
        sides = (
            (one.debit_party, one.debit_kind, True),
            (one.credit_party, one.credit_kind, False),
        )
        for owner, kind, is_debit in sides:
            if owner == party.id:
                moved = signed(party.kind, kind, is_debit=is_debit, amount_micros=one.amount_micros)
                found.append(entry(one, moved))
    return found


def entry(one: TransferRow, moved: int, subject: str = "lead") -> Entry:
    return Entry(
        transfer_id=one.transfer_id,
        at=one.at,
        subject=subject,
        code=one.code,
        lead_id=one.lead_id,
        attempt_id=one.attempt_id,
        currency=one.currency,
        amount_micros=moved,
    )


def lines(statement: Statement) -> list[tuple[str, int, int]]:
    return [(one.kind, one.amount_micros, one.balance_micros) for one in statement.lines]


def test_a_buyer_sees_prices_and_a_seller_payouts() -> None:
    legs = sold(price=25, fee=4)
    (bought,) = statements(BUYER, MARCH, [("USD", 100)], entries(BUYER, legs))
    assert lines(bought) == [("sale", 25, 125)]
    assert (bought.opening_micros, bought.closing_micros) == (100, 125)
    (supplied,) = statements(SELLER, MARCH, [], entries(SELLER, legs))
    assert lines(supplied) == [("sale", 21, 21)]


def test_a_negative_fee_is_inside_the_buyers_price() -> None:
    (bought,) = statements(BUYER, MARCH, [], entries(BUYER, sold(price=25, fee=-5)))
    assert lines(bought) == [("sale", 25, 25)]


@pytest.mark.parametrize(("clawback", "of_seller"), [(21, [-21]), (7, [-7]), (0, [])])
def test_a_return_is_one_line_and_none_for_whom_it_costs_nothing(
    clawback: int, of_seller: list[int]
) -> None:
    legs = sold(price=25, fee=4)
    later = NOON + timedelta(days=2)
    moved = [*legs, *credited(legs, credit=25, clawback=clawback, at=later)]
    (bought,) = statements(BUYER, MARCH, [], entries(BUYER, moved))
    assert lines(bought) == [("sale", 25, 25), ("return", -25, 0)]
    (supplied,) = statements(SELLER, MARCH, [], entries(SELLER, moved))
    assert [one.amount_micros for one in supplied.lines if one.kind == "return"] == of_seller


@pytest.mark.parametrize(
    ("subject", "code", "kind"),
    [
        ("lead", 1, "sale"),
        ("lead", 2, "sale"),
        ("lead", 3, "return"),
        ("lead", 4, "return"),
        ("lead", 101, "return"),
        ("lead", 102, "return"),
        ("lead", 50, "guarantee"),
        ("document", 51, "terms"),
        ("payment", 10, "payment"),
        ("document", 20, "adjustment"),
    ],
)
def test_every_transfer_has_its_kind_of_line(subject: str, code: int, kind: str) -> None:
    assert kind_of(subject, code) == kind


def test_days_are_those_of_the_zone() -> None:
    late = datetime(2026, 4, 1, 3, 59, tzinfo=UTC)  # the last minute of March in New York
    (one,) = statements(BUYER, MARCH, [], entries(BUYER, sold(at=late)))
    assert one.lines[0].day == date(2026, 3, 31)
    with pytest.raises(ValueError, match="not of this period"):
        statements(BUYER, MARCH, [], entries(BUYER, sold(at=late + timedelta(minutes=1))))


def test_currencies_never_mix_and_an_idle_one_with_a_balance_is_told() -> None:
    moved = [*sold(1), *sold(2, currency="EUR", price=7, fee=0)]
    found = statements(BUYER, MARCH, [("CAD", 9), ("GBP", 0)], entries(BUYER, moved))
    assert [(one.currency, one.closing_micros) for one in found] == [
        ("CAD", 9),
        ("EUR", 7),
        ("USD", 25),
    ]


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="before it begins"):
        Period(first=date(2026, 3, 2), last=date(2026, 3, 1), zone=NEW_YORK)


# --- at any cut -----------------------------------------------------------------------------------

BEGAN = date(2026, 3, 1)
DAYS = 40  # from before a change of daylight saving until after it
moments = st.integers(0, DAYS * 86_400 - 1).map(
    lambda s: datetime(2026, 3, 1, 5, tzinfo=UTC) + timedelta(seconds=s)
)


@st.composite
def books(draw: st.DrawFn) -> list[TransferRow]:
    found: list[TransferRow] = []
    for number in range(draw(st.integers(0, 12))):
        price = draw(st.integers(1, 60_000_000))
        fee = draw(st.integers(0, price))
        currency = draw(st.sampled_from(["USD", "EUR"]))
        legs = sold(number, at=draw(moments), price=price, fee=fee, currency=currency)
        found += legs
        if draw(st.booleans()):
            credit = draw(st.integers(1, price))
            found += credited(legs, credit=credit, clawback=0, at=draw(moments))
    return found


def opening(party: Party, transfers: list[TransferRow], before: datetime) -> dict[str, int]:
    """As the database sums it: every transfer before the moment."""
    sums: defaultdict[str, int] = defaultdict(int)
    for one in entries(party, transfers):
        if one.at < before:
            sums[one.currency] += one.amount_micros
    return sums


def statement_of(
    party: Party, transfers: list[TransferRow], period: Period
) -> dict[str, Statement]:
    inside = [e for e in entries(party, transfers) if period.since <= e.at < period.until]
    opened = opening(party, transfers, period.since).items()
    return {one.currency: one for one in statements(party, period, opened, inside)}


@given(
    books(),
    st.lists(st.integers(0, DAYS + 2), min_size=1, max_size=6),
    st.sampled_from([BUYER, SELLER]),
    st.sampled_from(["America/New_York", "UTC", "Pacific/Auckland"]),
)
def test_what_one_closes_with_the_next_opens_with_at_any_cut(
    transfers: list[TransferRow], cuts: list[int], party: Party, zone: str
) -> None:
    days = sorted({0, *cuts, DAYS + 3})
    closing: dict[str, int] = {}
    for start, end in pairwise(days):
        period = Period(
            first=BEGAN + timedelta(days=start - 1),
            last=BEGAN + timedelta(days=end - 2),
            zone=ZoneInfo(zone),
        )
        found = statement_of(party, transfers, period)
        for currency, one in found.items():
            assert one.opening_micros == closing.get(currency, 0)
            adds_up(one)
            closing[currency] = one.closing_micros
        untouched = {c: micros for c, micros in closing.items() if c not in found}
        assert not any(untouched.values())
    everything = opening(party, transfers, datetime(2027, 1, 1, tzinfo=UTC))
    assert {c: m for c, m in closing.items() if m} == {c: m for c, m in everything.items() if m}


def adds_up(one: Statement) -> None:
    assert one.closing_micros == one.opening_micros + sum(one.totals.values())
    assert sum(one.counts.values()) == len(one.lines)
    balance = one.opening_micros
    for line in one.lines:
        balance += line.amount_micros
        assert line.balance_micros == balance
    assert balance == one.closing_micros
