"""Transfers: balanced by construction, adding up to price, payout and fee, the same every time."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.ledger import HOUSE, balances, reversal, sale_transfers
from exchange.core.records import TransferRow

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUYER, SELLER = 7, 5
micros = st.integers(0, 10**12)


def sale(price: int, payout: int, attempt_id: str = "a") -> tuple[TransferRow, ...]:
    return sale_transfers(
        attempt_id=attempt_id,
        lead_id="lead",
        buyer_id=BUYER,
        seller_id=SELLER,
        price_micros=price,
        payout_micros=payout,
        fee_micros=price - payout,
        currency="USD",
        at=AT,
    )


@given(price=micros, payout=micros)
def test_a_sale_leaves_each_party_with_its_part_and_everything_sums_to_zero(
    price: int, payout: int
) -> None:
    found = Counter(balances(sale(price, payout)))
    assert found[BUYER, "receivable", "USD"] == price
    assert found[SELLER, "payable", "USD"] == -payout
    assert found[HOUSE, "margin", "USD"] == payout - price
    assert found.total() == 0


@pytest.mark.parametrize(
    ("price", "payout", "legs"),
    [
        (10, 8, [(BUYER, SELLER, 8), (BUYER, HOUSE, 2)]),
        (10, 10, [(BUYER, SELLER, 10)]),
        (10, 0, [(BUYER, HOUSE, 10)]),
        (10, 12, [(BUYER, SELLER, 12), (HOUSE, BUYER, 2)]),
        (0, 0, []),
    ],
)
def test_zero_legs_are_left_out_and_a_negative_fee_swaps_sides(
    price: int, payout: int, legs: list[tuple[int, int, int]]
) -> None:
    rows = sale(price, payout)
    assert [(row.debit_party, row.credit_party, row.amount_micros) for row in rows] == legs


@given(price=micros, payout=micros)
def test_posting_a_sale_twice_changes_nothing(price: int, payout: int) -> None:
    assert sale(price, payout) == sale(price, payout)
    assert balances((*sale(price, payout), *sale(price, payout))) == balances(sale(price, payout))


def test_ids_are_uuids_that_differ_by_attempt_and_by_leg() -> None:
    ids = [row.transfer_id for attempt in "ab" for row in sale(10, 8, attempt)]
    assert len(set(ids)) == 4
    assert {UUID(one).version for one in ids} == {8}


def test_an_id_never_changes_for_old_books_hold_it() -> None:
    assert sale(10, 8)[0].transfer_id == "fc1a30cf-ef89-8716-82bf-68509f5134ae"


@given(price=st.integers(1, 10**9), payout=micros, cuts=st.lists(st.integers(1, 10**9)))
def test_a_leg_reversed_in_parts_ends_at_zero(price: int, payout: int, cuts: list[int]) -> None:
    rows = list(sale(price, payout))
    for leg in tuple(rows):
        left, part = leg.amount_micros, 0
        for amount in [*cuts, leg.amount_micros]:
            amount = min(amount, left)
            if amount:
                part += 1
                rows.append(reversal(leg, at=AT, part=part, amount_micros=amount))
                left -= amount
    assert not any(balances(rows).values())
    assert len({row.transfer_id for row in rows}) == len(rows)


def test_parts_that_make_no_sense_are_refused() -> None:
    leg = sale(10, 8)[0]
    back = reversal(leg, at=AT)
    assert (back.reverses, back.amount_micros, back.debit_party) == (leg.transfer_id, 8, SELLER)
    for amount, part in ((0, 1), (9, 1), (-1, 1), (8, 0)):
        with pytest.raises(ValueError, match="cannot be reversed"):
            reversal(leg, at=AT, part=part, amount_micros=amount)
    with pytest.raises(ValueError, match="is a reversal itself"):
        reversal(back, at=AT)


def test_parts_that_do_not_add_up_to_the_price_are_refused() -> None:
    with pytest.raises(ValueError, match="add up"):
        sale_transfers(
            attempt_id="a", lead_id="l", buyer_id=BUYER, seller_id=SELLER, price_micros=10,
            payout_micros=8, fee_micros=1, currency="USD", at=AT,
        )  # fmt: skip
