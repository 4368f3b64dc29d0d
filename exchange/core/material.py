"""What the database kept of one ping and lead, as values: what `story.py` tells a story from."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from exchange.core.ledger import TransferCode
from exchange.core.model import Candidate, ContractAnswer, Fact, Ping
from exchange.core.reasons import Loss, NonBid
from exchange.core.records import CustodyRow
from exchange.core.source_pauses import PauseTold


class Heard(Fact, frozen=True, kw_only=True):
    """The ping and its auction. `is_journaled` is false when the journal lost the row and this is
    what the lead carries of it: then answers of losing buyers are unknown."""

    ping: Ping
    outcome: str
    reason: int | None
    answers: tuple[ContractAnswer, ...]
    ranking: tuple[Candidate, ...]
    payout_micros: int | None
    expires_at: datetime | None
    book_version: int
    mask_id: int
    took_ms: float
    late_ms: float
    is_journaled: bool = True


class LeadFacts(Fact, frozen=True, kw_only=True):
    """The lead's row. `reply` is what its seller was told, `None` while the key runs."""

    state: str
    direct: bool
    test: bool
    currency: str
    promised_payout_micros: int
    min_payout_micros: int
    custody_seq: int
    custody_head: str
    received_at: datetime
    reply: dict[str, Any] | None


class AttemptFacts(Fact, frozen=True, kw_only=True):
    """An attempt's row."""

    attempt_id: str
    buyer_id: int
    contract_id: int
    rank: int
    state: str
    price_micros: int
    payout_micros: int
    fee_micros: int
    currency: str
    deadline_at: datetime
    next_check_at: datetime | None
    checks: int
    buyer_ref: str | None
    buyer_reason: str | None
    resolved_by: str | None
    windows: list[list[Any]]
    created_at: datetime
    leg: int = 1


class EventFacts(Fact, frozen=True, kw_only=True):
    """A fact about an attempt, or about the lead (then `attempt_id` is the lead's)."""

    attempt_id: str
    state: str
    at: datetime
    detail: dict[str, Any]


class TransferFacts(Fact, frozen=True, kw_only=True):
    """A transfer, its accounts by party and kind."""

    attempt_id: str | None
    debit_party: int
    debit_kind: str
    credit_party: int
    credit_kind: str
    amount_micros: int
    currency: str
    at: datetime
    code: int = 0


class ReturnKept(Fact, frozen=True, kw_only=True):
    """A return of one of its sales. `rule`: the id of the rule that decided last."""

    return_id: str
    attempt_id: str
    buyer_id: int
    state: str
    reason: str
    rule: str | None
    credit_micros: int
    clawback_micros: int
    replaces: bool
    currency: str
    requested_at: datetime
    decided_at: datetime | None
    decided_by: str | None


class ResaleKept(Fact, frozen=True, kw_only=True):
    """A time that the lead, given back, was looked at for another sale. `released`: somebody had it
    then, as the sale of number `leg`; else `rule` says why not."""

    resale_id: str
    leg: int
    released: bool
    rule: str
    by: str
    why: str
    at: datetime


class NoticeFacts(Fact, frozen=True, kw_only=True):
    """A webhook owed to the seller, or to a buyer."""

    party_id: int
    kind: str
    state: str
    tries: int
    next_try_at: datetime
    sent_at: datetime | None
    last_result: str | None


class Used(Fact, frozen=True, kw_only=True):
    """A cap window as it stands now: `used` is booked, `held` reserved, in leads or micros."""

    contract_id: int
    cap_index: int
    win: str
    used: int
    held: int
    limit: int
    resets_at: datetime | None


class Material(Fact, frozen=True, kw_only=True):
    """Everything the database kept. `not_asked` is the filter run again on the recorded book, and
    `is_exact` when it ran with the cleared bits of that moment."""

    heard: Heard
    lead: LeadFacts | None
    attempts: tuple[AttemptFacts, ...]
    events: tuple[EventFacts, ...]
    transfers: tuple[TransferFacts, ...]
    custody: tuple[CustodyRow, ...]
    notices: tuple[NoticeFacts, ...]
    not_asked: Mapping[int, NonBid]
    is_exact: bool
    caps: tuple[Used, ...]
    returns: tuple[ReturnKept, ...] = ()
    resales: tuple[ResaleKept, ...] = ()
    pauses: tuple[PauseTold, ...] = ()


def guaranteed(material: Material) -> int:
    """What the seller got, in micros, though nobody bought."""
    code = int(TransferCode.GUARANTEE)
    return sum(one.amount_micros for one in material.transfers if one.code == code)


def losses_of(material: Material) -> dict[int, Loss]:
    """What became of each ranked bid: as the post wrote it down; for what it did not write (it was
    cut short), as the attempts say."""
    written: dict[int, Loss] = {}
    for event in material.events:
        for contract_id, loss in event.detail.get("steps", ()):
            written[contract_id] = Loss(loss)
    for attempt in material.attempts:
        written[attempt.contract_id] = LOSS_OF_STATE[attempt.state]
    lead = material.lead
    for one in material.heard.ranking:
        if one.contract_id in written:
            continue
        if lead is None:
            written[one.contract_id] = Loss.SELLER_DECLINED
        elif lead.state == "sold":
            written[one.contract_id] = Loss.OUTBID
        elif one.price_micros < lead.min_payout_micros:
            written[one.contract_id] = Loss.BELOW_PROMISE
    return written


LOSS_OF_STATE = {
    "posting": Loss.IN_DOUBT,
    "unknown": Loss.IN_DOUBT,
    "written_off": Loss.IN_DOUBT,
    "sold": Loss.WON,
    "rejected": Loss.POST_REJECTED,
    "voided": Loss.POST_NOT_SENT,
}


def ranked(material: Material) -> Sequence[Candidate]:
    """The ranking; what the journal lost of it, from the attempts."""
    known = {one.contract_id for one in material.heard.ranking}
    extra = [
        Candidate(
            contract_id=one.contract_id,
            buyer_id=one.buyer_id,
            rank=one.rank,
            price_micros=one.price_micros,
            payout_micros=one.payout_micros,
            fee_micros=one.fee_micros,
        )
        for one in material.attempts
        if one.contract_id not in known
    ]
    return sorted((*material.heard.ranking, *extra), key=lambda one: one.rank)
