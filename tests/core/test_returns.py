"""The table of return rules: every rule decides something, every claim is decided by one, and the
credit it makes is never more than the price."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.core.labels import evidence_problems
from exchange.core.ledger import balances, return_transfers, sale_transfers
from exchange.core.money import credit_parts
from exchange.core.reasons import EVIDENCE, ReturnReason
from exchange.core.returns import (
    APPEALS,
    FENCES,
    LAPSED,
    RULES,
    SENTENCES,
    CycleCount,
    ReturnClaim,
    ReturnFacts,
    adjudicate,
    appealed,
    decided,
)
from exchange.core.terms import ReasonTerms, ReturnTerms, TrustedTerms

SOLD = datetime(2026, 3, 2, 15, tzinfo=UTC)
R = ReturnReason
SHOWN = dict.fromkeys(EVIDENCE, "ref-1")
FACTS = ReturnFacts(
    sold_at=SOLD,
    requested_at=SOLD + timedelta(hours=1),
    zone="America/Chicago",
    price_micros=10_000_000,
    payout_micros=8_000_000,
    count=CycleCount(sales=100),
)
TERMS = ReturnTerms(reasons=tuple(reason.label for reason in ReturnReason))

BOOKS: dict[ReturnReason, dict[tuple[str, Any], str]] = {
    **{
        reason: {
            ("phone", "connected"): "phone_worked",
            ("phone", "disconnected"): "phone_dead",
            ("phone", "invalid"): "phone_dead",
            ("phone_in_plan", False): "phone_not_in_plan",
            ("phone_in_plan", True): "",
        }
        for reason in (R.INVALID_PHONE, R.DISCONNECTED)
    },
    R.DUPLICATE: {
        ("duplicate", "no"): "not_had_before",
        ("duplicate", "own_sales"): "bought_before",
        ("duplicate", "buyers_list"): "listed_before",
    },
    R.EXISTING_CUSTOMER: {
        ("duplicate", "no"): "not_had_before",
        ("duplicate", "own_sales"): "",
        ("duplicate", "buyers_list"): "listed_before",
    },
    R.OUT_OF_AREA: {("in_area", True): "in_area", ("in_area", False): "out_of_area"},
    R.OUTSIDE_CRITERIA: {
        ("in_criteria", True): "in_criteria",
        ("in_criteria", False): "outside_criteria",
    },
    R.UNDER_AGE: {("of_age", True): "of_age", ("of_age", False): "under_age"},
    R.NO_CONSENT: {("consent", True): "consent_held", ("consent", False): "consent_missing"},
    R.INCOMPLETE: {("complete", True): "complete", ("complete", False): "incomplete"},
}
"""What the books say of a claim, by one fact they hold: the rule it leads to, none when it is
neither proof nor disproof."""
OUTCOMES = {rule.id: rule.outcome for rule in RULES}
KNOWN = [
    (reason, fact)
    for reason in ReturnReason
    for fact in [None, *BOOKS.get(reason, {})]
]  # fmt: skip


def plainly(
    claim: ReturnClaim, facts: ReturnFacts, terms: ReturnTerms | None, *, late: bool
) -> str:
    """The rule that decides, by another way: nested questions, the money last."""
    if terms is None:
        return "no_policy"
    if facts.returned:
        return "already_returned"
    if facts.replacement:
        return "replacement_final"
    if facts.credited_micros == facts.price_micros:
        return "nothing_left"
    if late:
        return "too_late"
    if claim.reason.label not in terms.reasons:
        return "reason_not_agreed"
    agreed = ReasonTerms()
    if isinstance(terms.reasons, dict):
        agreed = terms.reasons[claim.reason.label]
    told = [
        rule for (name, value), rule in BOOKS.get(claim.reason, {}).items()
        if getattr(facts, name) == value and rule
    ]  # fmt: skip
    books = told[0] if told else ""
    if books and OUTCOMES[books] == "denied":
        return books
    count = facts.count
    if facts.count.returns >= int(terms.max_rate * count.sales):
        return "limit_reached"
    if agreed.max_count is not None and count.of_reason >= agreed.max_count:
        return "reason_limit_reached"
    if terms.refer_over and facts.price_micros >= Decimal(terms.refer_over) * 10**6:
        return "high_price"
    if agreed.to_person:
        return "reason_to_person"
    if books and books != "phone_not_in_plan":
        return books
    if terms.trusted and count.on_trust < (terms.trusted.max_count or 0):
        return "trusted"
    if not set(claim.reason.evidence) <= set(claim.evidence):
        return "evidence_missing"
    return books or ("evidence_enough" if agreed.to_person is False else "not_verifiable")


def test_every_claim_is_decided_by_the_rule_that_plain_words_name() -> None:
    """All that books can say of each reason, with all that comes after the plain denials."""
    fired = Counter[str]()
    later = product((0, 15), (0, 3), (None, "10.00"), (None, True, False), (None, 0, 1), (0, 1))
    ways = list(later)
    for reason, fact in KNOWN:
        for returns, of_reason, over, person, trust, shows in ways:
            agreed = ReasonTerms(max_count=3, to_person=person)
            terms = replace(
                TERMS,
                reasons={reason.label: agreed},
                refer_over=over,
                trusted=None if trust is None else TrustedTerms(max_count=trust),
            )
            count = CycleCount(sales=100, returns=returns, of_reason=of_reason)
            facts = replace(FACTS, count=count, **dict([fact] if fact else []))
            claim = ReturnClaim(reason=reason, evidence=SHOWN if shows else {})
            rule = adjudicate(claim, facts, terms).rule
            assert rule == plainly(claim, facts, terms, late=False), (claim, facts, terms)
            fired[rule] += 1
    assert set(fired) == {rule.id for rule in RULES[6:]}


def test_plain_denials_come_first_whatever_else_holds() -> None:
    """Every mixture of them, with one claim of each kind: proved, disproved, neither."""
    fired = Counter[str]()
    policies = (None, replace(TERMS, reasons=("language",)), TERMS)
    flags = list(product((False, True), repeat=4))
    for terms, (returned, replacement, spent, late), area, full, over in product(
        policies, flags, (None, True, False), (False, True), (None, "1.00")
    ):
        facts = replace(
            FACTS,
            returned=returned,
            replacement=replacement,
            credited_micros=FACTS.price_micros if spent else 0,
            requested_at=SOLD + timedelta(hours=120 if late else 119),
            in_area=area,
            count=CycleCount(sales=100, returns=15 if full else 14),
        )
        policy = terms and replace(terms, refer_over=over)
        claim = ReturnClaim(reason=R.OUT_OF_AREA)
        rule = adjudicate(claim, facts, policy).rule
        assert rule == plainly(claim, facts, policy, late=late)
        fired[rule] += 1
    assert {rule.id for rule in RULES[:6]} < set(fired)


facts_of_any_kind = st.builds(
    ReturnFacts,
    sold_at=st.just(SOLD),
    requested_at=st.integers(-1, 400).map(lambda hours: SOLD + timedelta(hours=hours)),
    zone=st.just("America/Chicago"),
    price_micros=st.integers(0, 10**12),
    payout_micros=st.integers(0, 10**12),
    count=st.builds(CycleCount, sales=st.integers(0, 50), returns=st.integers(0, 9)),
    credited_micros=st.just(0),
    clawback_share=st.decimals(0, 1, places=6),
    returned=st.booleans(),
    replacement=st.booleans(),
    phone=st.sampled_from([None, "connected", "disconnected", "invalid"]),
    phone_in_plan=st.none() | st.booleans(),
    duplicate=st.sampled_from([None, "no", "own_sales", "buyers_list"]),
    in_area=st.none() | st.booleans(),
    in_criteria=st.none() | st.booleans(),
    of_age=st.none() | st.booleans(),
    consent=st.none() | st.booleans(),
    complete=st.none() | st.booleans(),
)
claims = st.builds(
    ReturnClaim, reason=st.sampled_from(ReturnReason), evidence=st.sampled_from([{}, SHOWN])
)


@given(claim=claims, facts=facts_of_any_kind)
def test_facts_about_another_reason_change_nothing(claim: ReturnClaim, facts: ReturnFacts) -> None:
    late = facts.requested_at >= SOLD + timedelta(hours=120)
    if facts.phone is not None:
        facts = replace(facts, phone_in_plan=None)
    assert adjudicate(claim, facts, TERMS).rule == plainly(claim, facts, TERMS, late=late)


# --- each rule, and its breach --------------------------------------------------------------------

Changes = dict[str, Any]
LATE, IN_TIME = SOLD + timedelta(hours=120), SOLD + timedelta(hours=119, minutes=59)


def sales(**others: int) -> CycleCount:
    return CycleCount(sales=100, **others)


BY_FACT: list[tuple[str, ReturnReason, str, Any, Any, str]] = [
    # rule, reason, fact, what it is, what else it could be, which rule decides then
    ("already_returned", R.LANGUAGE, "returned", True, False, "not_verifiable"),
    ("replacement_final", R.LANGUAGE, "replacement", True, False, "not_verifiable"),
    ("nothing_left", R.LANGUAGE, "credited_micros", 10_000_000, 9_999_999, "not_verifiable"),
    ("too_late", R.LANGUAGE, "requested_at", LATE, IN_TIME, "not_verifiable"),
    ("phone_worked", R.DISCONNECTED, "phone", "connected", None, "not_verifiable"),
    ("not_had_before", R.DUPLICATE, "duplicate", "no", None, "not_verifiable"),
    ("in_area", R.OUT_OF_AREA, "in_area", True, False, "out_of_area"),
    ("in_criteria", R.OUTSIDE_CRITERIA, "in_criteria", True, False, "outside_criteria"),
    ("of_age", R.UNDER_AGE, "of_age", True, False, "under_age"),
    ("consent_held", R.NO_CONSENT, "consent", True, False, "consent_missing"),
    ("complete", R.INCOMPLETE, "complete", True, False, "incomplete"),
    ("limit_reached", R.FRAUD, "count", sales(returns=15), sales(returns=14), "not_verifiable"),
    ("phone_dead", R.DISCONNECTED, "phone", "disconnected", "connected", "phone_worked"),
    ("bought_before", R.DUPLICATE, "duplicate", "own_sales", "no", "not_had_before"),
    ("listed_before", R.EXISTING_CUSTOMER, "duplicate", "buyers_list", None, "not_verifiable"),
    ("out_of_area", R.OUT_OF_AREA, "in_area", False, None, "not_verifiable"),
    ("outside_criteria", R.OUTSIDE_CRITERIA, "in_criteria", False, None, "not_verifiable"),
    ("under_age", R.UNDER_AGE, "of_age", False, None, "not_verifiable"),
    ("consent_missing", R.NO_CONSENT, "consent", False, None, "not_verifiable"),
    ("incomplete", R.INCOMPLETE, "complete", False, None, "not_verifiable"),
    ("phone_not_in_plan", R.INVALID_PHONE, "phone_in_plan", False, True, "not_verifiable"),
]
FEW = ReasonTerms(max_rate=Decimal("0.02"))
ASKS = ReasonTerms(evidence=("document",))
BY_TERMS: list[tuple[str, ReturnReason, Changes, Changes | None, Changes, str]] = [
    # rule, reason, facts, terms (None: no policy), other terms, which rule decides then
    ("no_policy", R.FRAUD, {}, None, {}, "not_verifiable"),
    ("reason_not_agreed", R.NO_CONTACT, {}, {"reasons": ("fraud",)}, {}, "not_verifiable"),
    (
        "reason_limit_reached", R.FRAUD, {"count": sales(of_reason=2)},
        {"reasons": {"fraud": FEW}},
        {"reasons": {"fraud": ReasonTerms(max_rate=Decimal("0.03"))}}, "not_verifiable",
    ),
    (
        "high_price", R.INCOMPLETE, {"complete": False},
        {"refer_over": "10.00"}, {"refer_over": "10.000001"}, "incomplete",
    ),
    (
        "reason_to_person", R.INCOMPLETE, {"complete": False},
        {"reasons": {"incomplete": ReasonTerms(to_person=True)}}, {}, "incomplete",
    ),
    (
        "trusted", R.FRAUD, {"count": sales(on_trust=4)},
        {"trusted": TrustedTerms(max_rate=Decimal("0.05"))},
        {"trusted": TrustedTerms(max_rate=Decimal("0.04"))}, "not_verifiable",
    ),
    ("evidence_missing", R.NO_CONSENT, {}, {"reasons": {"no_consent": ASKS}}, {}, "not_verifiable"),
    (
        "evidence_enough", R.LANGUAGE, {},
        {"reasons": {"language": ReasonTerms(to_person=False)}}, {}, "not_verifiable",
    ),
    (
        "not_verifiable", R.LITIGATOR_DNC, {}, {},
        {"trusted": TrustedTerms(max_count=1)}, "trusted",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "reason", "fact", "value", "other", "otherwise"), BY_FACT)
def test_a_fact_leads_to_its_rule_and_another_fact_to_another(
    rule: str, reason: ReturnReason, fact: str, value: Any, other: Any, otherwise: str
) -> None:
    claim = ReturnClaim(reason=reason, evidence=SHOWN)
    first = adjudicate(claim, replace(FACTS, **{fact: value}), TERMS)
    second = adjudicate(claim, replace(FACTS, **{fact: other}), TERMS)
    assert (first.rule, first.outcome) == (rule, OUTCOMES[rule])
    assert (second.rule, second.outcome) == (otherwise, OUTCOMES[otherwise])


@pytest.mark.parametrize(("rule", "reason", "facts", "terms", "others", "otherwise"), BY_TERMS)
def test_a_term_leads_to_its_rule_and_another_term_to_another(
    rule: str,
    reason: ReturnReason,
    facts: Changes,
    terms: Changes | None,
    others: Changes,
    otherwise: str,
) -> None:
    claim = ReturnClaim(reason=reason, evidence={} if rule == "evidence_missing" else SHOWN)
    known = replace(FACTS, **facts)
    first = adjudicate(claim, known, None if terms is None else replace(TERMS, **terms))
    second = adjudicate(claim, known, replace(TERMS, **others))
    assert (first.rule, first.outcome) == (rule, OUTCOMES[rule])
    assert (second.rule, second.outcome) == (otherwise, OUTCOMES[otherwise])


def test_each_rule_has_such_a_row_and_a_sentence_of_its_own() -> None:
    rows = [row[0] for row in BY_FACT] + [row[0] for row in BY_TERMS]
    assert sorted(rows) == sorted(rule.id for rule in RULES)
    assert len(set(SENTENCES.values())) == len(SENTENCES) == len(RULES) + len(APPEALS) + 4
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())
    assert {rule.id for rule in RULES} > FENCES


def test_a_claim_without_the_evidence_hears_what_is_wanting() -> None:
    terms = replace(TERMS, reasons={"fraud": ReasonTerms(evidence=("call_log", "document"))})
    claim = ReturnClaim(reason=R.FRAUD, evidence={"call_log": "log-7", "document": ""})
    assert adjudicate(claim, FACTS, terms).wanting == ("document",)


def test_being_out_of_reach_is_returnable_only_where_the_contract_says_so() -> None:
    claim = ReturnClaim(reason=R.NO_CONTACT, evidence=SHOWN)
    agreed = ReturnTerms(reasons={"no_contact": ReasonTerms(to_person=False)})
    others = ReturnTerms(reasons=tuple(r.label for r in ReturnReason if r is not R.NO_CONTACT))
    assert adjudicate(claim, FACTS, others).rule == "reason_not_agreed"
    assert adjudicate(claim, FACTS, agreed).rule == "evidence_enough"


# --- people, appeals, lapses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, "person_granted"),
        ({"requested_at": SOLD + timedelta(days=90)}, "person_granted"),
        ({"in_area": True}, "person_granted"),
        ({"returned": True}, "already_returned"),
        ({"credited_micros": 10_000_000}, "nothing_left"),
        ({"count": CycleCount(sales=100, returns=15)}, "limit_reached"),
        ({"count": CycleCount(sales=100, of_reason=3)}, "reason_limit_reached"),
    ],
)
def test_a_person_may_judge_but_not_pass_a_fence(changes: Changes, rule: str) -> None:
    terms = replace(TERMS, reasons={"out_of_area": ReasonTerms(max_count=3)})
    claim, facts = ReturnClaim(reason=R.OUT_OF_AREA), replace(FACTS, **changes)
    granted = decided(claim, facts, terms, "granted")
    assert granted.rule == rule
    assert granted.credit_micros == (10_000_000 if rule == "person_granted" else 0)
    denied = decided(claim, facts, terms, "denied")
    assert (denied.rule, denied.outcome, denied.credit_micros) == ("person_denied", "denied", 0)


def test_a_person_grants_nothing_where_there_is_no_policy() -> None:
    assert decided(ReturnClaim(reason=R.FRAUD), FACTS, None, "granted").rule == "no_policy"


@pytest.mark.parametrize(
    ("hours", "after", "appeals", "rule"),
    [
        (72, 71, 0, "appeal_open"),
        (72, 72, 0, "appeal_too_late"),
        (72, 71, 1, "appealed_before"),
        (0, 0, 0, "appeal_not_agreed"),
    ],
)
def test_a_denial_is_appealed_once_and_in_time(
    hours: int, after: int, appeals: int, rule: str
) -> None:
    terms = replace(TERMS, appeal_hours=hours)
    answer = appealed(SOLD, SOLD + timedelta(hours=after), terms, appeals=appeals)
    assert answer.rule == rule
    assert answer.outcome == ("referred" if rule == "appeal_open" else "denied")


def test_a_lapse_credits_nothing() -> None:
    assert (LAPSED.outcome, LAPSED.credit_micros, LAPSED.clawback_micros) == ("lapsed", 0, 0)


# --- money ----------------------------------------------------------------------------------------


@given(
    price=st.integers(1, 10**12),
    payout=st.integers(0, 10**12),
    share=st.decimals(0, 1, places=6),
    percent=st.decimals(Decimal("0.0001"), 100, places=4),
    data=st.data(),
)
def test_a_credit_stays_within_the_price_and_a_clawback_within_the_payout(
    price: int, payout: int, share: Decimal, percent: Decimal, data: st.DataObject
) -> None:
    before = data.draw(st.integers(0, price - 1))
    facts = replace(
        FACTS,
        price_micros=price,
        payout_micros=payout,
        credited_micros=before,
        clawback_share=share,
        complete=False,
    )
    terms = replace(TERMS, reasons={"incomplete": ReasonTerms(credit_percent=percent)})
    decision = adjudicate(ReturnClaim(reason=R.INCOMPLETE), facts, terms)
    assert decision.outcome == "granted"
    assert 0 <= before + decision.credit_micros <= price
    assert decision.credit_micros <= price * percent / 100
    part, fee = credit_parts(
        decision.credit_micros, price_micros=price, payout_micros=payout, credited_micros=before
    )
    assert part + fee == decision.credit_micros
    assert 0 <= decision.clawback_micros <= part <= payout
    assert (decision.clawback_micros == part) or share < 1


@given(facts=facts_of_any_kind, percent=st.integers(1, 100), swapped=st.booleans(), data=st.data())
def test_whatever_is_granted_can_be_booked(
    facts: ReturnFacts, percent: int, swapped: bool, data: st.DataObject
) -> None:
    facts = replace(facts, credited_micros=data.draw(st.integers(0, facts.price_micros)))
    agreed = ReasonTerms(credit_percent=Decimal(percent))
    terms = ReturnTerms(reasons={"fraud": agreed}, max_rate=Decimal(1), replace=swapped)
    decision = decided(ReturnClaim(reason=R.FRAUD), facts, terms, "granted")
    legs = sale_transfers(
        attempt_id="a", lead_id="l", buyer_id=7, seller_id=5, currency="USD", at=SOLD,
        price_micros=facts.price_micros, payout_micros=facts.payout_micros,
        fee_micros=facts.price_micros - facts.payout_micros,
    )  # fmt: skip
    rows = return_transfers(
        legs, credit_micros=decision.credit_micros, clawback_micros=decision.clawback_micros,
        credited_micros=facts.credited_micros, part=1, at=SOLD,
    )  # fmt: skip
    found = Counter(balances(rows))
    assert found.total() == 0
    assert found[7, "receivable", "USD"] == -decision.credit_micros
    assert found[5, "payable", "USD"] == decision.clawback_micros


@pytest.mark.parametrize(
    ("share", "percent", "credit", "clawback"),
    [
        ("1", "100", 10_000_000, 8_000_000),
        ("0", "100", 10_000_000, 0),
        ("0.5", "100", 10_000_000, 4_000_000),
        ("1", "50", 5_000_000, 4_000_000),
        ("0.333333", "33.3333", 3_333_330, 888_887),
    ],
)
def test_credit_and_clawback_round_down(
    share: str, percent: str, credit: int, clawback: int
) -> None:
    facts = replace(FACTS, complete=False, clawback_share=Decimal(share))
    terms = replace(TERMS, reasons={"incomplete": ReasonTerms(credit_percent=Decimal(percent))})
    decision = adjudicate(ReturnClaim(reason=R.INCOMPLETE), facts, terms)
    assert (decision.credit_micros, decision.clawback_micros) == (credit, clawback)


def test_a_replaced_lead_is_not_credited_but_its_seller_gives_back() -> None:
    facts = replace(FACTS, complete=False, clawback_share=Decimal(1))
    decision = adjudicate(ReturnClaim(reason=R.INCOMPLETE), facts, replace(TERMS, replace=True))
    assert (decision.replace, decision.credit_micros) == (True, 0)
    assert decision.clawback_micros == FACTS.payout_micros
    denied = adjudicate(ReturnClaim(reason=R.FRAUD), FACTS, replace(TERMS, replace=True))
    assert (denied.rule, denied.replace) == ("evidence_missing", False)


# --- evidence -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        ({"call_log": "2026-03-01 14:02, 3 calls, out of service"}, None),
        ({"call_recording": "https://calls.example/r/4f88"}, None),
        ({"hunch": "yes"}, "is of no known kind"),
        ({"call_log": " "}, "is a text of 1 to 128 characters"),
        ({"call_log": "x" * 129}, "is a text of 1 to 128 characters"),
        ({"call_log": "a\nb"}, "is a text of 1 to 128 characters"),
        ({"call_log": "rang (555) 201-3344"}, "carries personal data"),
        ({"document": "mail from ann@example.com"}, "carries personal data"),
    ],
)
def test_evidence_is_a_reference_and_never_personal(
    evidence: dict[str, str], found: str | None
) -> None:
    problems = evidence_problems(evidence)
    assert [problem.message for problem in problems] == ([found] if found else [])
    assert not any(text in repr(problems) for text in evidence.values() if len(text) > 3)
