"""Cases of returns: what is known of a claimed sale, and what a decision writes.

`ReturnSale` is a sale with the terms it was made on, which nothing changes any more; `Room` is what
may have changed since, read while nobody else can decide in the same contract and cycle. Both make
the facts of `returns.py`, and a decision on them makes one `ReturnUnit`, written whole or not at
all.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from msgspec.structs import replace

from exchange.core.criteria import BadCriterion
from exchange.core.custody import Chain, returned_event
from exchange.core.ledger import return_transfers, sale_transfers
from exchange.core.lifecycle import RETURN, moved
from exchange.core.model import Fact, Value
from exchange.core.money import text_of
from exchange.core.reasons import ReturnReason
from exchange.core.records import CustodyRow, OutboxRow, ReturnRecord, TransferRow
from exchange.core.return_policy import (
    Cycle,
    Kept,
    clawback_share,
    cycle_of,
    kept,
    lapses_at,
)
from exchange.core.returns import (
    INCIDENT_RULE,
    SENTENCES,
    CycleCount,
    Decision,
    ReturnClaim,
    ReturnFacts,
)
from exchange.core.sale_checks import ConsentCheck, PhoneCheck, PhoneStatus
from exchange.core.terms import ClawbackTerms, Criterion, ReturnTerms

ADULT_AGE: Final = 18
"""Whoever is younger makes no contract in the United States (19 in two states)."""
BY_RULE: Final = "rule"
"""Who decided, where no person did; `LAPSED` where nobody did in time."""
BY_LAPSE: Final = "lapse"
OPEN: Final = frozenset({"requested", "referred", "appealed"})
"""States in which a case still waits for somebody."""
HOLDS: Final = OPEN | {"granted"}
"""States in which a case takes room under the limits; a sale has one such case at most."""
REASONS: Final = {reason.label: reason for reason in ReturnReason}


class ReturnSale(Fact, frozen=True, kw_only=True):
    """A sale that may be returned, with what was agreed and known when it was made.

    `zone`: whose days its policy has. `where`, `types` and `known` are the contract's criteria, the
    types of the vertical's fields, and what is known of the record. `required` and `delivered`:
    names of fields (`None`: not known). `bought_before`: the buyer had bought the consumer here;
    `listed`: it stood on the list the buyer had uploaded, `has_list`: there was one to look in.
    `phone` and `consent` are what was found when the record came in (`None`: nothing was noted).
    `net_of_returns`: the seller bears all of a return, whenever it is asked for.
    """

    attempt_id: str
    lead_id: str
    seller_id: int
    buyer_id: int
    contract_id: int
    price_micros: int
    payout_micros: int
    fee_micros: int
    currency: str
    test: bool
    sold_at: datetime
    zone: str
    terms: ReturnTerms | None = None
    clawback: ClawbackTerms | None = None
    net_of_returns: bool = False
    seller_zone: str | None = None
    where: Mapping[str, Criterion] = {}
    types: Mapping[str, str] = {}
    known: Mapping[str, Value | None] = {}
    required: frozenset[str] = frozenset()
    delivered: frozenset[str] | None = None
    bought_before: bool = False
    listed: bool = False
    has_list: bool = False
    phone: PhoneCheck | None = None
    consent: ConsentCheck | None = None

    @property
    def cycle(self) -> Cycle:
        """The billing cycle of the sale, whose limits its return counts against."""
        return cycle_of(self.sold_at, self.terms or ReturnTerms(), self.zone)


class ReturnCase(Fact, frozen=True, kw_only=True):
    """A case as it is kept. `rule` is the id of the rule that decided last. `due_at`: until then an
    open case waits for a person, and a denied one may be appealed. `decided_by`: `rule`, `lapse`,
    or a person's name."""

    return_id: str
    lead_id: str
    attempt_id: str
    seller_id: int
    buyer_id: int
    contract_id: int
    state: str
    reason: str
    evidence: dict[str, str]
    rule: str | None
    currency: str
    cycle: str
    requested_at: datetime
    wanting: tuple[str, ...] = ()
    credit_micros: int = 0
    clawback_micros: int = 0
    replaces: bool = False
    idem_key: str | None = None
    appeals: int = 0
    due_at: datetime | None = None
    decided_at: datetime | None = None
    decided_by: str | None = None

    @property
    def claim(self) -> ReturnClaim:
        """What the buyer says."""
        return ReturnClaim(reason=REASONS[self.reason], evidence=self.evidence)


class Room(Fact, frozen=True, kw_only=True):
    """What may change between two looks, as it stands now and until the decision is written.

    `count`: the cycle's sales and its other cases that hold room. `cases`: all of this sale, in the
    order they were asked for. `keyed`: the buyer's case of the same idempotency key. `custody_seq`
    and `custody_head` are the end of the lead's chain.
    """

    credited_micros: int
    custody_seq: int
    custody_head: str
    count: CycleCount
    cases: tuple[ReturnCase, ...] = ()
    keyed: ReturnCase | None = None

    def others(self, return_id: str | None = None) -> tuple[ReturnCase, ...]:
        """The cases of this sale but one."""
        return tuple(case for case in self.cases if case.return_id != return_id)


class AuditRow(Fact, frozen=True, kw_only=True):
    """What a person did."""

    by: str
    action: str
    subject: str
    detail: dict[str, Any]


class ReturnUnit(Fact, frozen=True, kw_only=True):
    """What one decision writes. `was` is the state the case is moved from, `None` when it is new.
    `credited_micros` is what the sale had been credited before. `incident_id`: the incident
    that this makes its sale good for."""

    case: ReturnCase
    was: str | None
    decision: Decision
    credited_micros: int
    custody_seq: int
    custody: CustodyRow
    transfers: tuple[TransferRow, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    audit: AuditRow | None = None
    incident_id: str | None = None


class Written(Fact, frozen=True, kw_only=True):
    """How and when a decision is written down. The ids are those of the notices to the seller and
    the buyer, `None` where there is no webhook, or nothing that was not said in an answer."""

    at: datetime
    by: str = BY_RULE
    to_seller: str | None = None
    to_buyer: str | None = None
    audit: AuditRow | None = None


# --- facts ----------------------------------------------------------------------------------------


def facts_of(
    sale: ReturnSale, room: Room, *, requested_at: datetime, return_id: str | None = None
) -> ReturnFacts:
    """Everything known of a claim made at `requested_at`; `return_id` is its case, if it has one
    already. What nobody supplied stays unknown."""
    place = _kept(sale)
    age = sale.known.get("age")
    return ReturnFacts(
        sold_at=sale.sold_at,
        requested_at=requested_at,
        zone=sale.zone,
        price_micros=sale.price_micros,
        payout_micros=sale.payout_micros,
        count=room.count,
        credited_micros=room.credited_micros,
        clawback_share=_share(sale, requested_at),
        returned=any(case.state in HOLDS for case in room.others(return_id)),
        phone=_phone(sale),
        phone_in_plan=None if sale.phone is None else sale.phone.in_plan,
        duplicate=_duplicate(sale),
        in_area=place.area,
        in_criteria=place.criteria,
        # A record that says 34 proves nothing, one that says 16 does.
        of_age=False if type(age) is int and age < ADULT_AGE else None,
        consent=None if sale.consent is None else sale.consent.held,
        complete=None if sale.delivered is None else sale.required <= sale.delivered,
    )


def _phone(sale: ReturnSale) -> PhoneStatus | None:
    """What the seller's check said at the sale. That the number worked is the seller's own word,
    and counts only where the buyer agreed to it."""
    status = None if sale.phone is None else sale.phone.status
    trusts = sale.terms is not None and sale.terms.phone_check == "all"
    return status if status != "connected" or trusts else None


def _duplicate(sale: ReturnSale) -> Literal["own_sales", "buyers_list", "no"] | None:
    """The list comes first: it proves more, that the consumer was a customer."""
    if sale.listed:
        return "buyers_list"
    if sale.bought_before:
        return "own_sales"
    return "no" if sale.has_list else None


def _kept(sale: ReturnSale) -> Kept:
    """How the record stands to the contract's criteria. Not known where they do not fit the fields:
    the vertical changed between the ping and the sale."""
    try:
        return kept(sale.where, sale.types, sale.known)
    except BadCriterion:
        return Kept(area=None, criteria=None)


def _share(sale: ReturnSale, requested_at: datetime) -> Decimal:
    if sale.net_of_returns:
        return Decimal(1)
    return clawback_share(
        sale.clawback,
        sold_at=sale.sold_at,
        requested_at=requested_at,
        zone=sale.seller_zone or sale.zone,
    )


# --- what a decision writes -----------------------------------------------------------------------


def opened(
    sale: ReturnSale,
    room: Room,
    claim: ReturnClaim,
    decision: Decision,
    *,
    return_id: str,
    idem_key: str | None,
    written: Written,
) -> ReturnUnit:
    """A new case, decided at once."""
    case = ReturnCase(
        return_id=return_id,
        lead_id=sale.lead_id,
        attempt_id=sale.attempt_id,
        seller_id=sale.seller_id,
        buyer_id=sale.buyer_id,
        contract_id=sale.contract_id,
        state="requested",
        reason=claim.reason.label,
        evidence=dict(claim.evidence),
        rule=None,
        currency=sale.currency,
        cycle=sale.cycle.name,
        requested_at=written.at,
        idem_key=idem_key,
    )
    return _unit(sale, room, case, None, decision, written)


def judged(
    sale: ReturnSale, room: Room, case: ReturnCase, decision: Decision, written: Written
) -> ReturnUnit:
    """An open case, decided by a person or by time. Raises `IllegalMove` for one that is closed."""
    return _unit(sale, room, case, case.state, decision, written)


def taken_up(
    sale: ReturnSale, room: Room, case: ReturnCase, decision: Decision, written: Written
) -> ReturnUnit:
    """A denied case, open again: `decision` is that of the appeal."""
    appealed = replace(case, appeals=case.appeals + 1)
    return _unit(sale, room, appealed, case.state, decision, written, state="appealed")


def _unit(
    sale: ReturnSale,
    room: Room,
    case: ReturnCase,
    was: str | None,
    decision: Decision,
    written: Written,
    *,
    state: str | None = None,
) -> ReturnUnit:
    new = replace(
        case,
        state=moved(RETURN, case.state, state or decision.outcome),
        rule=decision.rule,
        wanting=decision.wanting,
        credit_micros=decision.credit_micros,
        clawback_micros=decision.clawback_micros,
        replaces=decision.replace,
        due_at=_due_at(sale, state or decision.outcome, case.appeals, written.at),
        decided_at=None if (state or decision.outcome) in OPEN else written.at,
        decided_by=None if (state or decision.outcome) in OPEN else written.by,
    )
    chain = Chain(lead_id=sale.lead_id, seq=room.custody_seq, head=room.custody_head)
    kind, body = returned_event(
        return_id=new.return_id,
        attempt_id=new.attempt_id,
        buyer_id=new.buyer_id,
        state=new.state,
        reason=new.reason,
        rule=decision.rule,
        by=written.by if written.by in (BY_RULE, BY_LAPSE) else "person",
        credit_micros=new.credit_micros,
        clawback_micros=new.clawback_micros,
    )
    return ReturnUnit(
        case=new,
        was=was,
        decision=decision,
        credited_micros=room.credited_micros,
        custody_seq=room.custody_seq,
        custody=chain.append(kind, written.at, body).rows[0],
        transfers=_transfers(sale, room, new, written.at) if new.state == "granted" else (),
        outbox=_notices(new, written),
        audit=written.audit,
    )


def _due_at(sale: ReturnSale, state: str, appeals: int, at: datetime) -> datetime | None:
    terms = sale.terms or ReturnTerms()
    if state in OPEN:
        return lapses_at(at, sale.terms)
    if state == "denied" and sale.terms is not None and terms.appeal_hours and not appeals:
        return at + timedelta(hours=terms.appeal_hours)
    return None


def _transfers(
    sale: ReturnSale, room: Room, case: ReturnCase, at: datetime
) -> tuple[TransferRow, ...]:
    """The credit memo and the clawback. The legs of the sale are made again, ids and all."""
    if sale.test:
        return ()
    legs = sale_transfers(
        attempt_id=sale.attempt_id,
        lead_id=sale.lead_id,
        buyer_id=sale.buyer_id,
        seller_id=sale.seller_id,
        price_micros=sale.price_micros,
        payout_micros=sale.payout_micros,
        fee_micros=sale.fee_micros,
        currency=sale.currency,
        at=sale.sold_at,
    )
    earlier = [one for one in room.others(case.return_id) if one.state == "granted"]
    return return_transfers(
        legs,
        credit_micros=case.credit_micros,
        clawback_micros=case.clawback_micros,
        credited_micros=room.credited_micros,
        borne_micros=_borne(sale, room, earlier) if case.rule == INCIDENT_RULE else 0,
        part=1 + len(earlier),
        at=at,
    )


def _borne(sale: ReturnSale, room: Room, earlier: Sequence[ReturnCase]) -> int:
    """What the house bore of the seller's part of earlier credits."""
    if not room.credited_micros:
        return 0
    part = sale.payout_micros * room.credited_micros // sale.price_micros
    return max(0, part - sum(one.clawback_micros for one in earlier))


def _notices(case: ReturnCase, written: Written) -> tuple[OutboxRow, ...]:
    """A seller is told of a granted return: why, and what it gives back, never what the buyer paid
    or was credited. A buyer is told what a person or time decided."""
    told = {"return_id": case.return_id, "sale_id": case.attempt_id, "lead_id": case.lead_id}
    told |= {"reason": case.reason, "currency": case.currency}
    notices = []
    if case.state == "granted" and written.to_seller is not None:
        taken = {"taken_back": text_of(case.clawback_micros)}
        words = {"message": REASONS[case.reason].sentence}
        notices.append(
            OutboxRow(
                outbox_id=written.to_seller,
                lead_id=case.lead_id,
                party_id=case.seller_id,
                kind="return.granted",
                body=told | taken | words,
                at=written.at,
            )
        )
    if written.to_buyer is not None:
        came_to = {
            "state": case.state,
            "rule": case.rule,
            "message": SENTENCES[case.rule or ""],
            "credit": text_of(case.credit_micros),
            "replacement": case.replaces,
        }
        notices.append(
            OutboxRow(
                outbox_id=written.to_buyer,
                lead_id=case.lead_id,
                party_id=case.buyer_id,
                kind="return.decided",
                body=told | came_to,
                at=written.at,
            )
        )
    return tuple(notices)


def record_of(
    case: ReturnCase,
    *,
    by: Literal["buyer", "person", "lapse", "incident"],
    replayed: bool,
    took_ms: float,
) -> ReturnRecord:
    """One step of a case, for metrics and log."""
    return ReturnRecord(
        return_id=case.return_id,
        lead_id=case.lead_id,
        attempt_id=case.attempt_id,
        seller_id=case.seller_id,
        buyer_id=case.buyer_id,
        contract_id=case.contract_id,
        reason=case.reason,
        decision=case.state,
        rule=case.rule or "",
        by=by,
        credit_micros=case.credit_micros,
        clawback_micros=case.clawback_micros,
        currency=case.currency,
        replayed=replayed,
        took_ms=took_ms,
    )
