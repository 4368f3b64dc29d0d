"""Whom to ask, held against the slow twin in `markets.py`."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.core import filters, indexing
from exchange.core.book import book_of
from exchange.core.criteria import Test
from exchange.core.filters import (
    closed_mask,
    criteria_after_ping,
    invite,
    meets,
    why_not,
)
from exchange.core.masks import slots_of
from exchange.core.model import Payout
from exchange.core.money import split
from exchange.core.payouts import least_price
from exchange.core.reasons import NonBid
from tests.core import markets

AT = markets.AT


@st.composite
def asked(draw):
    """A book, a ping on it, the gates the process found, and how many may be invited."""
    book = book_of(draw(markets.markets))
    index = book.indexes[1]
    masks = st.integers(0, max(index.every, 0))
    gates = [(NonBid.CAP_FULL, draw(masks)), (NonBid.OUT_OF_HOURS, closed_mask(index, AT))]
    if draw(st.booleans()):
        gates.append((NonBid.BUYER_BRAKED, draw(masks)))
    return book, draw(markets.pings(book)), tuple(gates), draw(st.integers(0, 4))


@given(asked())
@settings(max_examples=400, deadline=None)
def test_invite_agrees_with_the_twin(case):
    book, ping, gates, invited_max = case
    index = book.indexes[1]
    truth = {each.id: markets.reasons(each, ping, book, gates) for each in index.contracts}
    eligible = [each for each in index.contracts if not truth[each.id]]

    invited = invite(ping, index, gates=gates, at=AT, invited_max=invited_max)

    assert invited.contracts == tuple(eligible[:invited_max])
    is_full = len(invited.contracts) == invited_max
    assert invited.eligible == len(eligible) or (is_full and invited.eligible > len(eligible))
    told = {
        index.contracts[slot].id: reason
        for reason, mask in invited.masks.items()
        for slot in slots_of(mask)
    }
    assert len(told) == sum(mask.bit_count() for mask in invited.masks.values())
    assert set(told) == {each.id for each in index.contracts} - {e.id for e in invited.contracts}
    last = index.slot_of[invited.contracts[-1].id] if invited.contracts else -1
    for contract_id, reason in told.items():
        if reason == NonBid.NOT_INVITED:  # who comes behind the last may be untested
            assert is_full
            assert index.slot_of[contract_id] > last
        else:
            assert reason in truth[contract_id]


@given(asked())
@settings(max_examples=300, deadline=None)
def test_why_not_tells_the_first_reason_of_the_list(case):
    book, ping, gates, invited_max = case
    index = book.indexes[1]
    invited = invite(ping, index, gates=gates, at=AT, invited_max=invited_max)
    told = why_not(ping, index, gates=gates, at=AT, invited_max=invited_max)
    assert set(told).isdisjoint(each.id for each in invited.contracts)
    for contract in index.contracts:
        truth = markets.reasons(contract, ping, book, gates)
        if truth:
            assert told[contract.id] == truth[0]
        elif contract.id in told:
            assert told[contract.id] == NonBid.NOT_INVITED


@given(markets.markets)
@settings(max_examples=50, deadline=None)
def test_slots_are_numbered_by_tier_priority_and_id(doc):
    index = book_of(doc).indexes[1]
    assert list(index.contracts) == sorted(index.contracts, key=filters.slot_order)
    assert {each.id: slot for slot, each in enumerate(index.contracts)} == dict(index.slot_of)
    for buyer_id, mask in index.buyer_mask.items():
        assert [index.contracts[slot].buyer_id for slot in slots_of(mask)] == [
            buyer_id
        ] * mask.bit_count()


def test_a_contract_is_not_asked_outside_its_hours():
    doc = markets.doc_of([{"buyer": "a", "vertical": "auto", "hours": {"fri": "09:00-17:00"}}])
    index = book_of(doc).indexes[1]
    assert closed_mask(index, datetime(2026, 3, 6, 15, tzinfo=UTC)) == 0
    assert closed_mask(index, datetime(2026, 3, 7, 15, tzinfo=UTC)) == 1


@pytest.mark.parametrize(
    ("fitting", "invited_max", "tested"),
    [
        pytest.param([1, 1, 1, 1, 1, 1], 2, 2, id="the first two pass: nobody else is tested"),
        pytest.param([0, 1, 0, 0, 1, 1], 2, 5, id="as many more as had failed, and again"),
        pytest.param([0, 0, 0, 0, 0, 0], 2, 6, id="nobody passes: all are tested"),
        pytest.param([1, 0, 1, 1, 1, 1], 9, 6, id="room for all: all are tested"),
        pytest.param([1, 1, 1, 1, 1, 1], 0, 0, id="nobody is wanted"),
    ],
)
def test_nobody_is_tested_who_could_not_be_invited_any_more(
    fitting, invited_max, tested, monkeypatch
):
    where = [{"zip": {"regex": "902.." if fits else "100.."}} for fits in fitting]
    terms = [{"buyer": "a", "vertical": "auto", "where": each} for each in where]
    book = book_of(markets.doc_of(terms))
    index, ping = book.indexes[1], ping_of(book, zip="90210")
    seen = []
    met = Test.met
    monkeypatch.setattr(Test, "met", lambda test, value: seen.append(test) or met(test, value))

    invited = invite(ping, index, gates=(), at=AT, invited_max=invited_max)

    wanted = [each for each, fits in zip(index.contracts, fitting, strict=True) if fits]
    assert invited.contracts == tuple(wanted[:invited_max])
    assert len(seen) == tested


def test_too_many_keys_for_a_table_are_tested_on_the_survivors(monkeypatch):
    monkeypatch.setattr(indexing, "KEYS_MAX", 1)
    monkeypatch.setattr(indexing, "BREAKS_MAX", 3)
    terms = [
        {
            "buyer": "a",
            "vertical": "auto",
            "where": {"zip": ["90210"], "age": {"min": 20, "max": 30}},
        },
        {
            "buyer": "a",
            "vertical": "auto",
            "where": {"zip": ["10001"], "age": {"min": 40, "max": 50}},
        },
        {"buyer": "a", "vertical": "auto", "where": {"zip": {"not": ["10001"]}}},
    ]
    book = book_of(markets.doc_of(terms))
    index = book.indexes[1]
    assert [field for field, _ in index.tested[1]] == ["zip"]
    assert [field for field, _ in index.tested[2]] == ["zip", "age"]
    for zip_code, age, wanted in (("90210", 25, ["c0", "c2"]), ("10001", 45, ["c1"])):
        ping = ping_of(book, zip=zip_code, age=age)
        invited = invite(ping, index, gates=(), at=AT, invited_max=9)
        assert [each.key for each in invited.contracts] == wanted


def ping_of(book, **raw):
    schema = book.schemas[1]
    fields = schema.gate(raw, mode="strip", pseudonym=lambda kind, value: value).fields
    return filters.Ping(
        ping_id="p",
        seller_id=2,
        source_id=1,
        vertical_id=1,
        fields=fields,
        received_at=AT,
        tmax_ms=1000,
    )


def test_criteria_on_fields_no_ping_carries_are_tested_at_the_post():
    terms = {"buyer": "a", "vertical": "auto", "where": {"veteran": True, "age": {"min": 30}}}
    book = book_of(markets.doc_of([terms]))
    (contract,) = book.indexes[1].contracts
    assert criteria_after_ping(contract, book.schemas[1]) == ("veteran",)
    assert meets(contract, {"veteran": True, "age": 30})
    assert not meets(contract, {"veteran": False, "age": 30})
    assert not meets(contract, {"age": 30})
    assert not meets(contract, {"veteran": "yes", "age": 30})


@given(st.integers(0, 40_000_000), st.integers(0, 1_000_000), st.integers(0, 3_000_000))
def test_the_least_price_is_the_first_whose_payout_reaches_the_floor(floor, percent, fixed):
    price = least_price(floor, Payout(percent_millionths=percent, fee_fixed_micros=fixed))
    margin = {"percent_millionths": percent, "fixed_micros": fixed}
    if price is None:
        assert percent == 1_000_000
        assert floor > 0
    else:
        assert split(price, **margin)[0] >= floor
        assert price == 0 or split(price - 1, **margin)[0] < floor


@given(st.integers(0, 2**200), st.none() | st.integers(0, 9))
def test_the_slots_of_a_mask_are_its_set_bits_lowest_first(mask, limit):
    wanted = [slot for slot in range(mask.bit_length()) if mask >> slot & 1]
    assert slots_of(mask, limit) == wanted[:limit]


@pytest.mark.parametrize("seller_id", [2, 99])
def test_a_ping_of_a_seller_nobody_knows_fails_nothing(seller_id):
    where = {"seller": ["one"], "source": ["search"]}
    book = book_of(
        markets.doc_of([{"buyer": "a", "vertical": "auto", "where": where, "price": "5.00"}])
    )
    known = ping_of(book, zip="90210")
    ping = filters.Ping(
        **{f: getattr(known, f) for f in known.__struct_fields__}
        | {
            "seller_id": seller_id,
            "source_id": 1 if seller_id == 2 else 99,
            "floor_micros": 1,
        }
    )
    invited = invite(ping, book.indexes[1], gates=(), at=AT, invited_max=9)
    assert len(invited.contracts) == (seller_id == 2)
