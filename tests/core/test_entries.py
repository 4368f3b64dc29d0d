"""What finance books by hand: amounts add up, whatever is corrected how often."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.core.entries import (
    CorrectedSale,
    Correction,
    Entry,
    NotBooked,
    corrected,
    correction_transfers,
    entry_transfers,
    write_off_room,
)
from exchange.core.ledger import balances, sale_transfers

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ID = "019a0000-0000-7000-8000-000000000001"


def a_sale(price: int, payout: int) -> CorrectedSale:
    return CorrectedSale(
        attempt_id=ID, lead_id=ID, buyer_id=3, seller_id=2, currency="USD", price_micros=price,
        payout_micros=payout, credited_micros=0, raised_micros=0, parts=0,
    )  # fmt: skip


@given(
    price=st.integers(0, 10**7),
    share=st.integers(0, 1_200),
    wanted=st.lists(st.integers(0, 2 * 10**7), max_size=8),
)
def test_a_sale_stands_at_the_last_price_it_was_brought_to(
    price: int, share: int, wanted: list[int]
) -> None:
    sale = a_sale(price, price * share // 1_000)
    rows = list(
        sale_transfers(
            attempt_id=ID, lead_id=ID, buyer_id=3, seller_id=2, price_micros=price,
            payout_micros=sale.payout_micros, fee_micros=price - sale.payout_micros,
            currency="USD", at=NOW,
        )
    )  # fmt: skip
    for goal in (*wanted, price, 0):
        if goal == sale.stands_at:
            continue
        raised, credited = corrected(sale, goal)
        made = Correction(
            correction_id=ID, key="k", lead_id=ID, attempt_id=ID, raised_micros=raised,
            credited_micros=credited, by="me", why="why", at=NOW,
        )  # fmt: skip
        rows += correction_transfers(sale, made)
        sale = replace(
            sale,
            credited_micros=sale.credited_micros + credited,
            raised_micros=sale.raised_micros + raised,
            parts=sale.parts + 1,
        )
        assert 0 <= sale.credited_micros <= price
        assert sale.raised_micros >= 0
        assert sale.stands_at == goal
        found = balances(rows)
        assert found.get((3, "receivable", "USD"), 0) == goal
        assert sum(found.values()) == 0
        assert len({row.transfer_id for row in rows}) == len(rows)
    assert not any(balances(rows).values())  # at nothing, every side is back at nothing


@pytest.mark.parametrize(
    ("kind", "amount", "debit", "credit"),
    [
        ("buyer", 5, (3, "receivable"), (1, "adjustment")),
        ("buyer", -5, (1, "adjustment"), (3, "receivable")),
        ("seller", 5, (1, "adjustment"), (3, "payable")),
        ("seller", -5, (3, "payable"), (1, "adjustment")),
    ],
)
def test_an_adjustment_moves_the_balance_as_it_says(
    kind: str, amount: int, debit: tuple[int, str], credit: tuple[int, str]
) -> None:
    entry = Entry(
        entry_id=ID, key="k", kind="adjustment", party_id=3, party_kind=kind, currency="USD",
        amount_micros=amount, cites="", by="me", why="why", at=NOW,
    )  # fmt: skip
    (row,) = entry_transfers(entry)
    assert ((row.debit_party, row.debit_kind), (row.credit_party, row.credit_kind)) == (
        debit, credit
    )  # fmt: skip
    assert row.amount_micros == 5


@pytest.mark.parametrize(("owed", "asked"), [(0, None), (-5, None), (10, 11), (10, 0)])
def test_no_more_is_written_off_than_is_owed(owed: int, asked: int | None) -> None:
    assert write_off_room(10, None) == 10
    with pytest.raises(NotBooked):
        write_off_room(owed, asked)


@pytest.mark.parametrize("price", [-1, 100])
def test_a_price_that_is_none_or_stands_already_is_refused(price: int) -> None:
    with pytest.raises(NotBooked):
        corrected(a_sale(100, 85), price)
