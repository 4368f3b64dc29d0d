"""Returns: a buyer gives a lead back. Facts in, a decision out; nothing here looks anything up.

`RULES` is the whole of it: an ordered table, each row with an id, a sentence, a question and an
outcome. The first row that holds decides, and the last always holds, so exactly one rule decides
any claim. What the exchange's own books prove or disprove comes before what a buyer shows, and a
person decides what neither can tell.

The policy is that of the contract's version at the sale. A cycle is that of the *sale*, so that a
rate compares returns with the sales they are of. A case that waits for a person holds its room
under every limit, as an attempt does under a cap: granting it later can pass none.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from exchange.core.model import Fact
from exchange.core.money import credit_parts, micros_of
from exchange.core.reasons import ReturnReason
from exchange.core.return_policy import MILLION, agreed_for, allowed, closes_at, millionths
from exchange.core.terms import ReasonTerms, ReturnTerms, TrustedTerms

Outcome = Literal["granted", "denied", "referred", "lapsed"]
"""`lapsed`: nobody decided a referred case in time; only `LAPSED` says so."""


class ReturnClaim(Fact, frozen=True, kw_only=True):
    """What a buyer says. `evidence`: names of `reasons.EVIDENCE` to references, codes and dates,
    nothing personal."""

    reason: ReturnReason
    evidence: Mapping[str, str] = {}


class CycleCount(Fact, frozen=True, kw_only=True):
    """A contract's sales of the cycle, and the *other* returns of them that are granted or still
    open: in all, for the claim's reason, and of those that were granted on trust."""

    sales: int
    returns: int = 0
    of_reason: int = 0
    on_trust: int = 0


class ReturnFacts(Fact, frozen=True, kw_only=True):
    """Everything known of a claimed sale. A `None` is *not known*: neither proof nor disproof.

    `zone` is the contract's, else the buyer's. `credited_micros` is what the buyer was credited on
    this sale before. `returned`: another case of this sale is open or granted. `replacement`: the
    lead itself replaced a returned one. `clawback_share` is what `clawback_share` answers.

    The rest is as of the sale: `phone`, what a look-up said then; `phone_in_plan`, whether the
    number can exist; `duplicate`, whether the buyer had the consumer by our own sales or by the
    list it uploaded (`"no"` only when it has one); `in_area` and `in_criteria` by the contract in
    force; `of_age`; `consent`, whether custody holds the consumer's consent; `complete`, whether no
    required field is missing.
    """

    sold_at: datetime
    requested_at: datetime
    zone: str
    price_micros: int
    payout_micros: int
    count: CycleCount
    credited_micros: int = 0
    clawback_share: Decimal = Decimal(0)
    returned: bool = False
    replacement: bool = False
    phone: Literal["connected", "disconnected", "invalid"] | None = None
    phone_in_plan: bool | None = None
    duplicate: Literal["own_sales", "buyers_list", "no"] | None = None
    in_area: bool | None = None
    in_criteria: bool | None = None
    of_age: bool | None = None
    consent: bool | None = None
    complete: bool | None = None


class Decision(Fact, frozen=True, kw_only=True):
    """What is decided, by which rule, in a sentence both sides read. Amounts are micros: what the
    buyer is credited and what the seller gives back; the house bears the difference. `replace`:
    the buyer is owed another lead. `wanting` names the evidence that a denied claim lacked."""

    outcome: Outcome
    rule: str
    sentence: str
    credit_micros: int = 0
    clawback_micros: int = 0
    replace: bool = False
    wanting: tuple[str, ...] = ()


class _Case(NamedTuple):
    """A claim with all it is judged by. `has_policy`: the contract had one (else `terms` are mere
    defaults); `is_agreed`: it accepts the claim's reason (else `agreed` is)."""

    claim: ReturnClaim
    facts: ReturnFacts
    terms: ReturnTerms
    agreed: ReasonTerms
    has_policy: bool
    is_agreed: bool


class _Appeal(NamedTuple):
    decided_at: datetime
    appealed_at: datetime
    hours: int
    appeals: int


_Judged = TypeVar("_Judged", _Case, _Appeal)


class Rule(NamedTuple, Generic[_Judged]):
    """A row of a table: the first whose question is answered with yes decides."""

    id: str
    sentence: str
    outcome: Outcome
    when: Callable[[_Judged], bool]


# --- the table ------------------------------------------------------------------------------------

_PHONE: Final = frozenset({ReturnReason.INVALID_PHONE, ReturnReason.DISCONNECTED})
_DEAD: Final = ("disconnected", "invalid")
_HAD_IT: Final = frozenset({ReturnReason.DUPLICATE, ReturnReason.EXISTING_CUSTOMER})


def _known(reason: ReturnReason, fact: str, *, value: bool) -> Callable[[_Case], bool]:
    """Whether the claim is for this reason and the books say so about this fact."""
    return lambda case: case.claim.reason is reason and getattr(case.facts, fact) is value


RULES: Final[tuple[Rule[_Case], ...]] = (
    Rule(
        "no_policy",
        "The contract allowed no returns when the lead was sold.",
        "denied",
        lambda case: not case.has_policy,
    ),
    Rule(
        "already_returned",
        "Another return of this sale is open or granted.",
        "denied",
        lambda case: case.facts.returned,
    ),
    Rule(
        "replacement_final",
        "The lead replaced a returned one, and a replacement is not returned.",
        "denied",
        lambda case: case.facts.replacement,
    ),
    Rule(
        "nothing_left",
        "Nothing of the price is left to give back.",
        "denied",
        lambda case: case.facts.credited_micros >= case.facts.price_micros,
    ),
    Rule(
        "too_late",
        "The return window of the contract had closed.",
        "denied",
        lambda case: _is_late(case),
    ),
    Rule(
        "reason_not_agreed",
        "The contract does not accept this reason.",
        "denied",
        lambda case: not case.is_agreed,
    ),
    # What the books disprove.
    Rule(
        "phone_worked",
        "The phone number was in service when the lead was sold.",
        "denied",
        lambda case: case.claim.reason in _PHONE and case.facts.phone == "connected",
    ),
    Rule(
        "not_had_before",
        "The consumer is neither among the buyer's purchases nor on the list it uploaded.",
        "denied",
        lambda case: case.claim.reason in _HAD_IT and case.facts.duplicate == "no",
    ),
    Rule(
        "in_area",
        "The consumer lives in the area of the contract in force at the sale.",
        "denied",
        _known(ReturnReason.OUT_OF_AREA, "in_area", value=True),
    ),
    Rule(
        "in_criteria",
        "The record meets the criteria of the contract in force at the sale.",
        "denied",
        _known(ReturnReason.OUTSIDE_CRITERIA, "in_criteria", value=True),
    ),
    Rule(
        "of_age",
        "The consumer was of age when the lead was sold.",
        "denied",
        _known(ReturnReason.UNDER_AGE, "of_age", value=True),
    ),
    Rule(
        "consent_held",
        "The custody record holds the consumer's consent.",
        "denied",
        _known(ReturnReason.NO_CONSENT, "consent", value=True),
    ),
    Rule(
        "complete",
        "Every required field was delivered.",
        "denied",
        _known(ReturnReason.INCOMPLETE, "complete", value=True),
    ),
    # Limits: of what is not denied, no more than agreed.
    Rule(
        "limit_reached",
        "As many leads of this cycle are returned or waiting as the contract allows.",
        "denied",
        lambda case: not _has_room(case, case.terms, case.facts.count.returns),
    ),
    Rule(
        "reason_limit_reached",
        "As many leads of this cycle are returned for this reason as the contract allows.",
        "denied",
        lambda case: not _has_room(case, case.agreed, case.facts.count.of_reason),
    ),
    # What the agreement leaves to a person.
    Rule(
        "high_price",
        "A person decides on leads of this price.",
        "referred",
        lambda case: _is_dear(case),
    ),
    Rule(
        "reason_to_person",
        "A person decides on returns for this reason.",
        "referred",
        lambda case: case.agreed.to_person is True,
    ),
    # What the books prove.
    Rule(
        "phone_dead",
        "The phone number was not in service when the lead was sold.",
        "granted",
        lambda case: case.claim.reason in _PHONE and case.facts.phone in _DEAD,
    ),
    Rule(
        "bought_before",
        "The buyer had bought this consumer here before.",
        "granted",
        lambda case: (
            case.claim.reason is ReturnReason.DUPLICATE and case.facts.duplicate == "own_sales"
        ),
    ),
    Rule(
        "listed_before",
        "The consumer stood on the list the buyer had uploaded before the sale.",
        "granted",
        lambda case: case.claim.reason in _HAD_IT and case.facts.duplicate == "buyers_list",
    ),
    Rule(
        "out_of_area",
        "The consumer lives outside the area of the contract in force at the sale.",
        "granted",
        _known(ReturnReason.OUT_OF_AREA, "in_area", value=False),
    ),
    Rule(
        "outside_criteria",
        "The record does not meet the criteria of the contract in force at the sale.",
        "granted",
        _known(ReturnReason.OUTSIDE_CRITERIA, "in_criteria", value=False),
    ),
    Rule(
        "under_age",
        "The consumer was under age when the lead was sold.",
        "granted",
        _known(ReturnReason.UNDER_AGE, "of_age", value=False),
    ),
    Rule(
        "consent_missing",
        "The custody record holds no consent of the consumer.",
        "granted",
        _known(ReturnReason.NO_CONSENT, "consent", value=False),
    ),
    Rule(
        "incomplete",
        "A required field was not delivered.",
        "granted",
        _known(ReturnReason.INCOMPLETE, "complete", value=False),
    ),
    # What the books cannot tell.
    Rule(
        "trusted",
        "The buyer is trusted, and its ceiling for this cycle is not reached.",
        "granted",
        lambda case: _is_trusted(case),
    ),
    Rule(
        "evidence_missing",
        "The claim lacks evidence that the contract asks for; it may be made again with it.",
        "denied",
        lambda case: bool(_wanting(case)),
    ),
    Rule(
        "phone_not_in_plan",
        "No number of the plan is like this one, and the buyer shows that it does not work.",
        "granted",
        lambda case: case.claim.reason in _PHONE and case.facts.phone_in_plan is False,
    ),
    Rule(
        "evidence_enough",
        "The claim brings the evidence that the contract asks for.",
        "granted",
        lambda case: case.agreed.to_person is False,
    ),
    Rule(
        "not_verifiable",
        "The books neither prove nor disprove the claim: a person decides.",
        "referred",
        lambda _: True,
    ),
)
"""Every decision there is on a claim. Ids stand in old cases and are never given another sense."""

FENCES: Final = frozenset(
    {"no_policy", "already_returned", "nothing_left", "limit_reached", "reason_limit_reached"}
)
"""Rules that bind a person's decision too: money and limits are not a matter of judgement."""

APPEALS: Final[tuple[Rule[_Appeal], ...]] = (
    Rule(
        "appeal_not_agreed",
        "The contract knows no appeal.",
        "denied",
        lambda appeal: appeal.hours == 0,
    ),
    Rule(
        "appealed_before",
        "A denied return is appealed once.",
        "denied",
        lambda appeal: appeal.appeals > 0,
    ),
    Rule(
        "appeal_too_late",
        "The time for an appeal is over.",
        "denied",
        lambda appeal: appeal.appealed_at >= appeal.decided_at + timedelta(hours=appeal.hours),
    ),
    Rule("appeal_open", "A person decides on the appeal.", "referred", lambda _: True),
)
"""What becomes of an appeal against a denial."""

_BY_PERSON: Final[dict[str, Rule[_Case]]] = {
    "granted": Rule("person_granted", "A person granted the return.", "granted", lambda _: True),
    "denied": Rule("person_denied", "A person denied the return.", "denied", lambda _: True),
}

LAPSED: Final = Decision(
    outcome="lapsed", rule="lapsed", sentence="Nobody decided in time: closed without a credit."
)
"""How a referred case ends at `return_policy.lapses_at`."""

INCIDENT_RULE: Final = "incident_credited"
"""The rule of a credit that nobody asked for: an incident at the lead's source (`incidents.py`). It
counts against no limit of the buyer."""

SENTENCES: Final[dict[str, str]] = {
    **{rule.id: rule.sentence for rule in (*RULES, *_BY_PERSON.values())},
    **{rule.id: rule.sentence for rule in APPEALS},
    LAPSED.rule: LAPSED.sentence,
    INCIDENT_RULE: "The lead's source sent what should not have been sold: what was left of the "
    "price is credited.",
}
"""What each id means that stands in a case, in a sentence both sides read."""


# --- deciding -------------------------------------------------------------------------------------


def adjudicate(claim: ReturnClaim, facts: ReturnFacts, terms: ReturnTerms | None) -> Decision:
    """The decision on a claim by the policy of its sale (`None`: the contract allows no returns).
    Never raises for facts that make sense: no amount below zero, none credited beyond the price, a
    zone that exists."""
    case = _case(claim, facts, terms)
    return _decision(_first(RULES, case), case)


def decided(
    claim: ReturnClaim,
    facts: ReturnFacts,
    terms: ReturnTerms | None,
    outcome: Literal["granted", "denied"],
) -> Decision:
    """What a person's decision on a referred or appealed case comes to: the credit is the same as
    by rule, and where one of `FENCES` holds the case is denied by it. `facts` are those of now,
    this case itself not counted."""
    case = _case(claim, facts, terms)
    if outcome == "denied":
        return _decision(_BY_PERSON["denied"], case)
    fences = (rule for rule in RULES if rule.id in FENCES and rule.when(case))
    return _decision(next(fences, _BY_PERSON["granted"]), case)


def appealed(
    decided_at: datetime, appealed_at: datetime, terms: ReturnTerms | None, *, appeals: int
) -> Decision:
    """Whether a denied case may be appealed: `referred` (a person decides) or `denied`. `appeals`
    is how many the case had before."""
    hours = (terms or ReturnTerms()).appeal_hours
    rule = _first(APPEALS, _Appeal(decided_at, appealed_at, hours, appeals))
    return Decision(outcome=rule.outcome, rule=rule.id, sentence=rule.sentence)


def _case(claim: ReturnClaim, facts: ReturnFacts, terms: ReturnTerms | None) -> _Case:
    agreed = agreed_for(claim.reason, terms)
    return _Case(
        claim=claim,
        facts=facts,
        terms=terms or ReturnTerms(),
        agreed=agreed or ReasonTerms(),
        has_policy=terms is not None,
        is_agreed=agreed is not None,
    )


def _first(rules: tuple[Rule[_Judged], ...], case: _Judged) -> Rule[_Judged]:
    return next(rule for rule in rules if rule.when(case))


def _decision(rule: Rule[_Case], case: _Case) -> Decision:
    credit = clawback = 0
    if rule.outcome == "granted":
        credit, clawback = _amounts(case)
    return Decision(
        outcome=rule.outcome,
        rule=rule.id,
        sentence=rule.sentence,
        credit_micros=credit,
        clawback_micros=clawback,
        replace=rule.outcome == "granted" and case.terms.replace,
        wanting=_wanting(case) if rule.id == "evidence_missing" else (),
    )


# --- money ----------------------------------------------------------------------------------------


def _amounts(case: _Case) -> tuple[int, int]:
    """`(credit, clawback)`. Both are rounded down: the odd micro of a credit stays with the house,
    that of a clawback with the seller. A replacement credits nothing, and the seller gives back as
    if all were credited."""
    facts = case.facts
    left = facts.price_micros - facts.credited_micros
    percent = int(case.agreed.credit_percent * 10_000)
    credit = left if case.terms.replace else min(left, facts.price_micros * percent // MILLION)
    payout_part, _ = credit_parts(
        credit,
        price_micros=facts.price_micros,
        payout_micros=facts.payout_micros,
        credited_micros=facts.credited_micros,
    )
    clawback = payout_part * millionths(facts.clawback_share) // MILLION
    return (0 if case.terms.replace else credit), clawback


def _has_room(case: _Case, limit: ReturnTerms | ReasonTerms | TrustedTerms, used: int) -> bool:
    sales, rounding = case.facts.count.sales, case.terms.rounding
    most = allowed(limit.max_rate, limit.max_count, sales=sales, rounding=rounding)
    return most is None or used < most


def _is_trusted(case: _Case) -> bool:
    trusted = case.terms.trusted
    return trusted is not None and _has_room(case, trusted, case.facts.count.on_trust)


def _is_dear(case: _Case) -> bool:
    bound = case.terms.refer_over
    return bound is not None and case.facts.price_micros >= micros_of(bound)


def _wanting(case: _Case) -> tuple[str, ...]:
    """The evidence that is asked for and not brought."""
    asked = case.agreed.evidence
    names = case.claim.reason.evidence if asked is None else asked
    return tuple(name for name in names if not case.claim.evidence.get(name))


def _is_late(case: _Case) -> bool:
    facts = case.facts
    return facts.requested_at >= closes_at(case.terms, facts.sold_at, facts.zone)
