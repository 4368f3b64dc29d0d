"""What is known of a claimed sale, and what a decision on it writes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from exchange.core.custody import GENESIS, event, verify
from exchange.core.lifecycle import IllegalMove
from exchange.core.reasons import ReturnReason
from exchange.core.return_cases import (
    ReturnSale,
    ReturnUnit,
    Room,
    Written,
    facts_of,
    judged,
    opened,
)
from exchange.core.returns import CycleCount, Decision, ReturnClaim, adjudicate
from exchange.core.sale_checks import ConsentCheck, PhoneCheck
from exchange.core.terms import ReturnTerms

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
LEAD = "019a0000-0000-7000-8000-000000000001"
SALE = ReturnSale(
    attempt_id="019a0000-0000-7000-8000-000000000002", lead_id=LEAD, seller_id=2, buyer_id=3,
    contract_id=1, price_micros=10_000_000, payout_micros=8_000_000, fee_micros=2_000_000,
    currency="USD", test=False, sold_at=AT, zone="UTC",
    terms=ReturnTerms(reasons=("fraud", "wrong_person")),
    types={"zip": "us_zip", "age": "int", "insured": "bool"},
    known={"zip": "90210", "age": 34, "seller": "bright", "source": "web", "sub_id": None},
    required=frozenset({"zip", "phone"}), delivered=frozenset({"zip", "phone", "age"}),
)  # fmt: skip
ROOM = Room(credited_micros=0, custody_seq=0, custody_head=GENESIS, count=CycleCount(sales=100))
CONNECTED = PhoneCheck(in_plan=True, status="connected")
CLAIM = ReturnClaim(reason=ReturnReason.FRAUD, evidence={"call_log": "CL-1"})


@pytest.mark.parametrize(
    ("change", "fact", "value"),
    [
        ({"where": {"zip": {"prefix": ["90"]}}}, "in_area", True),
        ({"where": {"zip": {"prefix": ["10"]}}}, "in_area", False),
        ({"where": {"state": ["CA"]}}, "in_area", None),  # no state is known
        ({"where": {"age": {"min": 40}}}, "in_criteria", False),
        ({"where": {"source": {"not": ["web"]}}}, "in_criteria", False),
        ({"where": {"insured": True}}, "in_criteria", None),  # it was not pinged
        ({"where": {}}, "in_area", True),  # any record keeps to no criteria
        ({"where": {"insured": True}, "types": {}}, "in_criteria", None),  # of another vertical
        ({"known": {"age": 17}}, "of_age", False),
        ({"known": {"age": 18}}, "of_age", None),  # a record that says so proves nothing
        ({"known": {"age": True}}, "of_age", None),
        ({}, "complete", True),
        ({"delivered": frozenset({"zip"})}, "complete", False),
        ({"delivered": None}, "complete", None),
        ({"bought_before": True}, "duplicate", "own_sales"),
        ({"bought_before": False}, "duplicate", None),  # never "no": nobody uploaded a list
        ({"listed": True, "has_list": True, "bought_before": True}, "duplicate", "buyers_list"),
        ({"has_list": True, "bought_before": True}, "duplicate", "own_sales"),
        ({"has_list": True}, "duplicate", "no"),
        ({"consent": ConsentCheck(held=True)}, "consent", True),
        ({"consent": ConsentCheck(held=None)}, "consent", None),
        ({"phone": PhoneCheck(in_plan=False)}, "phone_in_plan", False),
        ({"phone": PhoneCheck(in_plan=True, status="invalid")}, "phone", "invalid"),
        ({"phone": CONNECTED}, "phone", None),  # the seller's word for itself
        ({"phone": CONNECTED, "terms": ReturnTerms(phone_check="all")}, "phone", "connected"),
    ],
)
def test_a_fact_is_known_or_left_open(change: dict[str, Any], fact: str, value: Any) -> None:
    facts = facts_of(replace(SALE, **change), ROOM, requested_at=AT)
    assert getattr(facts, fact) == value


def test_what_nobody_supplies_is_left_open() -> None:
    facts = facts_of(SALE, ROOM, requested_at=AT)
    assert (facts.phone, facts.phone_in_plan, facts.consent) == (None, None, None)


def unit(**given: Any) -> ReturnUnit:
    facts = facts_of(SALE, ROOM, requested_at=AT)
    decision = adjudicate(CLAIM, facts, SALE.terms)
    return opened(
        SALE, ROOM, CLAIM, decision, return_id="r1", idem_key=None,
        written=Written(at=AT, **given),
    )  # fmt: skip


def test_a_case_of_the_sale_counts_as_returned_but_not_against_itself() -> None:
    made = unit()
    assert made.case.state == "referred"
    room = replace(ROOM, cases=(made.case,))
    assert facts_of(SALE, room, requested_at=AT).returned
    assert not facts_of(SALE, room, requested_at=AT, return_id="r1").returned


def test_a_referred_case_waits_until_it_lapses_and_nobody_is_told() -> None:
    made = unit(to_seller="n1")
    assert made.case.due_at == AT + timedelta(hours=168)
    assert (made.outbox, made.transfers, made.case.decided_at) == ((), (), None)


def test_the_chain_says_that_a_person_decided_but_not_who() -> None:
    granted = Decision(outcome="granted", rule="person_granted", sentence="", credit_micros=1)
    room = replace(ROOM, cases=(unit().case,))
    done = judged(SALE, room, unit().case, granted, Written(at=AT, by="Dana"))
    assert done.case.decided_by == "Dana"
    assert verify([done.custody]) is None
    said = event(done.custody)
    assert (said["kind"], said["body"]["by"]) == ("return_granted", "person")
    assert "Dana" not in str(said)


def test_a_closed_case_is_not_judged_again() -> None:
    lapsed = Decision(outcome="lapsed", rule="lapsed", sentence="")
    closed = judged(SALE, ROOM, unit().case, lapsed, Written(at=AT)).case
    with pytest.raises(IllegalMove):
        judged(SALE, ROOM, closed, lapsed, Written(at=AT))
