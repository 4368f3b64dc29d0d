"""Transfers: balanced by construction, adding up to price, payout and fee, the same every time."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.ledger import (
    HOUSE,
    TransferCode,
    balances,
    return_transfers,
    reversal,
    sale_transfers,
)
from exchange.core.money import credit_parts
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


# --- returns --------------------------------------------------------------------------------------


def returned(
    legs: tuple[TransferRow, ...], credit: int, clawback: int, credited: int = 0, part: int = 1
) -> tuple[TransferRow, ...]:
    return return_transfers(
        legs,
        credit_micros=credit,
        clawback_micros=clawback,
        credited_micros=credited,
        part=part,
        at=AT,
    )


@pytest.mark.parametrize(
    ("price", "payout", "credit", "clawback", "found"),
    [
        # all back; half; the seller bears nothing, half of its part; a negative fee
        (10, 8, 10, 8, [(SELLER, BUYER, 8), (HOUSE, BUYER, 2)]),
        (10, 8, 5, 4, [(SELLER, BUYER, 4), (HOUSE, BUYER, 1)]),
        (10, 8, 10, 0, [(HOUSE, BUYER, 2), (HOUSE, BUYER, 8)]),
        (10, 8, 10, 4, [(SELLER, BUYER, 4), (HOUSE, BUYER, 2), (HOUSE, BUYER, 4)]),
        (10, 12, 10, 12, [(SELLER, BUYER, 12), (BUYER, HOUSE, 2)]),
        (10, 12, 10, 0, [(BUYER, HOUSE, 2), (HOUSE, BUYER, 12)]),
        (10, 0, 10, 0, [(HOUSE, BUYER, 10)]),
        (10, 10, 10, 10, [(SELLER, BUYER, 10)]),
        # replaced: no credit, and the house keeps what the seller gives back
        (10, 8, 0, 8, [(SELLER, HOUSE, 8)]),
        (10, 8, 0, 0, []),
        (0, 0, 0, 0, []),
    ],
)
def test_a_return_is_credit_memo_and_clawback_in_one_list(
    price: int, payout: int, credit: int, clawback: int, found: list[tuple[int, int, int]]
) -> None:
    rows = returned(sale(price, payout), credit, clawback)
    assert [(row.debit_party, row.credit_party, row.amount_micros) for row in rows] == found
    assert all(row.part == 1 for row in rows)


@given(price=st.integers(1, 10**9), payout=micros, data=st.data())
def test_returns_in_parts_never_take_back_more_than_was_sold(
    price: int, payout: int, data: st.DataObject
) -> None:
    """Any number of credits, each with any clawback the seller may owe of it."""
    legs = sale(price, payout)
    rows, credited, clawed, part = list(legs), 0, 0, 0
    while credited < price and part < 5:
        part += 1
        credit = price - credited if part == 5 else data.draw(st.integers(1, price - credited))
        most, _ = credit_parts(
            credit, price_micros=price, payout_micros=payout, credited_micros=credited
        )
        clawback = data.draw(st.integers(0, most))
        rows += returned(legs, credit, clawback, credited, part)
        credited, clawed = credited + credit, clawed + clawback
        found = Counter(balances(rows))
        assert found.total() == 0
        assert found[BUYER, "receivable", "USD"] == price - credited
        assert found[SELLER, "payable", "USD"] == clawed - payout
    assert len({row.transfer_id for row in rows}) == len(rows)
    taken = Counter[str]()
    for row in rows:
        if row.reverses is not None:
            taken[row.reverses] += row.amount_micros
    assert all(taken[leg.transfer_id] <= leg.amount_micros for leg in legs)


@given(price=st.integers(1, 10**9), payout=micros, cuts=st.lists(st.integers(1, 10**9), max_size=6))
def test_a_price_credited_in_parts_ends_with_every_leg_taken_back_whole(
    price: int, payout: int, cuts: list[int]
) -> None:
    rows, credited = list(sale(price, payout)), 0
    for part, cut in enumerate([*cuts, price], 1):
        credit = min(cut, price - credited)
        if credit:
            share, _ = credit_parts(
                credit, price_micros=price, payout_micros=payout, credited_micros=credited
            )
            rows += returned(sale(price, payout), credit, share, credited, part)
            credited += credit
    assert not any(balances(rows).values())
    assert not [row for row in rows if row.code == TransferCode.RETURN_BORNE]


def test_what_the_seller_does_not_bear_is_told_apart_from_the_fee() -> None:
    rows = returned(sale(10, 8), 10, 3)
    assert [(row.code, row.amount_micros) for row in rows] == [(101, 3), (102, 2), (3, 5)]
    kept = returned(sale(10, 8), 0, 4, credited=5, part=2)
    assert [(row.code, row.amount_micros) for row in kept] == [(TransferCode.CLAWBACK_KEPT, 4)]
    assert (kept[0].reverses, kept[0].part) == (None, 2)


@pytest.mark.parametrize(
    ("credit", "clawback", "credited"),
    [(11, 0, 0), (6, 0, 5), (-1, 0, 0), (10, 9, 0), (10, -1, 0), (0, 9, 0), (0, 5, 5), (5, 5, 0)],
)
def test_a_return_beyond_the_sale_is_refused(credit: int, clawback: int, credited: int) -> None:
    with pytest.raises(ValueError, match="no more"):
        returned(sale(10, 8), credit, clawback, credited)
