"""Who may be offered a returned lead again, and when: the rules in their order, and the terms."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from exchange.core.market import read_market
from exchange.core.market_text import market_text
from exchange.core.reasons import ReturnReason
from exchange.core.resale import (
    LASTING,
    RESELLABLE,
    SENTENCES,
    ReturnedLead,
    names_allowed,
    refusal,
    terms_of,
)
from exchange.core.terms import ResellTerms
from tests.core.test_market_payouts import market

AT = datetime(2026, 11, 3, 12, tzinfo=UTC)
TERMS = ResellTerms(within_hours=48, reasons=("duplicate",))
LEAD = ReturnedLead(
    lead_id="l", seller_id=2, source_id=1, sub_id=None, vertical_id=1, external_id=None,
    state="sold", test=False, floor_micros=0, currency="USD", received_at=AT, custody_seq=9,
    custody_head="00", idem_key="k", attempts=(5,), leg=2, sales=1, sales_returned=1,
    return_id="r", reason="duplicate", tried=False, offered_named=False, offered_to=(5, 6),
)  # fmt: skip


def ruled(
    lead: ReturnedLead = LEAD,
    terms: ResellTerms | None = TERMS,
    *,
    hours: float = 1,
    by_hand: bool = False,
) -> str | None:
    now = AT + timedelta(hours=hours)
    return refusal(lead, terms, now=now, releases_max=3, by_hand=by_hand)


def test_a_young_lead_that_was_given_back_in_full_is_offered_again() -> None:
    assert ruled() is None
    assert ruled(by_hand=True) is None
    assert ruled(terms=None, by_hand=True) is None


@pytest.mark.parametrize(
    ("change", "rule", "binds_a_person"),
    [
        ({"test": True}, "is_test", True),
        ({"state": "unsold"}, "not_sold", True),
        ({"state": "selling"}, "not_sold", True),
        ({"return_id": None, "reason": None}, "not_returned", True),
        ({"sales_returned": 0}, "not_in_full", True),
        ({"sales": 2, "sales_returned": 1}, "not_in_full", True),
        ({"reason": "fraud"}, "not_resellable", True),
        ({"reason": "language"}, "reason_not_agreed", False),
        ({"tried": True}, "tried_before", True),
        ({"attempts": (5, 6, 7)}, "releases_spent", True),
    ],
)
def test_what_keeps_a_lead_from_being_offered_again(
    change: dict[str, Any], rule: str, binds_a_person: bool
) -> None:
    lead = replace(LEAD, **change)
    assert ruled(lead) == rule
    assert ruled(lead, by_hand=True) == (rule if binds_a_person else None)


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_lead_is_too_old_from_the_hour_on(by_hand: bool) -> None:
    assert ruled(hours=47.99, by_hand=by_hand) is None
    assert ruled(hours=48, by_hand=by_hand) == "too_old"


def test_the_job_needs_terms() -> None:
    assert ruled(terms=None) == "no_terms"


def test_no_reason_of_consumer_or_record_is_ever_resellable() -> None:
    never = {reason.label for reason in ReturnReason} - RESELLABLE
    assert never >= {"no_consent", "litigator_dnc", "under_age", "fraud", "disconnected"}
    for reason in never:
        assert ruled(replace(LEAD, reason=reason), by_hand=True) == "not_resellable"


def test_a_sellers_terms_stand_instead_of_the_verticals() -> None:
    other = ResellTerms(within_hours=1, reasons=("language",))
    assert terms_of(other, TERMS) is other
    assert terms_of(None, TERMS) is TERMS
    assert terms_of(None, None) is None


@pytest.mark.parametrize(
    ("named", "offered_named", "allowed"),
    [
        ((), False, ()),
        (("acme",), False, ("acme",)),
        (("acme",), True, ("acme",)),
        ((), True, ("acme", "beacon")),
    ],
)
def test_consent_is_never_taken_for_wider_than_it_was(
    named: tuple[str, ...], offered_named: bool, allowed: tuple[str, ...]
) -> None:
    lead = replace(LEAD, offered_named=offered_named)
    assert names_allowed(named, lead, {5: "acme", 6: "beacon", 7: "cedar"}) == allowed
    if offered_named and not named:  # who was named has left the market: nobody may have it
        assert names_allowed((), lead, {7: "cedar"}) == ("",)


def test_every_rule_has_its_sentence_and_passing_ones_are_looked_at_again() -> None:
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())
    assert not LASTING & {"busy", "source_paused"}


def test_terms_read_back_equal() -> None:
    text = market('resell = { within_hours = 24, reasons = ["duplicate", "language"] }')
    reading = read_market(text)
    assert (reading.problems, reading.warnings) == ((), ())
    assert reading.doc is not None
    assert read_market(market_text(reading.doc)).doc == reading.doc


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ('{ reasons = ["fraud"] }', "returned as fraud is never offered again"),
        ('{ reasons = ["duplicate", "duplicate"] }', "stands there twice"),
        ("{ within_hours = 24 }", "names no reason"),
        ('{ within_hours = 0, reasons = ["language"] }', "lies between 1 and 720"),
    ],
)
@pytest.mark.parametrize("at_vertical", [False, True])
def test_terms_that_make_no_sense_are_refused(terms: str, message: str, at_vertical: bool) -> None:
    text = market("" if at_vertical else f"resell = {terms}")
    if at_vertical:
        text = text.replace('currency = "USD"', f'currency = "USD"\nresell = {terms}')
    (problem,) = read_market(text).problems
    assert message in problem.message
    assert problem.line == (3 if at_vertical else 9)
