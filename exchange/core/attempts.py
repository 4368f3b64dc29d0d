"""What the commits of a sale hold: pure builders from what happened to one `CommitUnit`.

```
Opening ─ opened() ──► RECEIVED            direct leads only: durable before the auction
        ─ intent() ──► INTENT              before the first byte of personal data leaves
                       (with the refusal before it, when there was one, in the same commit)
        ─ ended()  ──► RESULT              what the attempt came to, and the lead with it
```

The post flow and reconcile build every commit here, so a sale found after a crash is booked exactly
like one found at once. `Selling` is the thread through the commits of one lead: its custody chain
and state.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec.structs import replace

from exchange.core.custody import Chain, ended_event, released_body
from exchange.core.guarantees import guarantee_transfers
from exchange.core.ledger import sale_transfers
from exchange.core.model import Fact
from exchange.core.reasons import Delivery
from exchange.core.records import (
    AttemptEventRow,
    AttemptMove,
    AttemptRow,
    CommitUnit,
    IdemDone,
    IdemRow,
    LeadMove,
    LeadPrivateRow,
    LeadRow,
    OutboxRow,
    PersonClaim,
    PersonKeyRow,
    PostStep,
    ResaleRow,
    TransferRow,
)

STATE_OF: dict[Delivery, str] = {
    Delivery.NOT_SENT: "voided",
    Delivery.REJECTED: "rejected",
    Delivery.ACCEPTED: "sold",
    Delivery.UNKNOWN: "unknown",
}
"""The state an attempt ends its post in."""


class Opening(Fact, frozen=True, kw_only=True):
    """The rows that open a lead: written with its first commit. `private` is `None` when the lead
    is never released to anyone (then its personal data is not kept either)."""

    lead: LeadRow
    idem: IdemRow
    private: LeadPrivateRow | None = None
    persons: tuple[PersonKeyRow, ...] = ()


class Selling(Fact, frozen=True, kw_only=True):
    """A lead on its way: `state` is the lead's state in the database, `None` before its first
    commit. `chain` holds the custody events not yet committed in `chain.rows`. `claims`: the
    consumer, claimed with the first INTENT, after which the lead's own state keeps others out.
    `guaranteed_micros`: what its seller gets, in `currency`, should the lead end unsold. `resale`:
    it was sold, returned, and is offered again; written with the first INTENT."""

    lead_id: str
    seller_id: int
    idem_key: str
    chain: Chain
    boot_id: str
    state: str | None = None
    claims: tuple[PersonClaim, ...] = ()
    guaranteed_micros: int = 0
    currency: str = ""
    resale: ResaleRow | None = None


class Ended(Fact, frozen=True, kw_only=True):
    """What became of an attempt. `old` is the state it is moved from; `resolved_by` says who found
    out when it was not the post itself (`inquiry`, `repost`, `callback`, `policy`, `partner file`,
    or a person's name), `evidence` by what."""

    attempt: AttemptRow
    delivery: Delivery
    at: datetime
    buyer_ref: str | None = None
    buyer_reason: str | None = None
    old: str = "posting"
    resolved_by: str | None = None
    written_off: bool = False
    next_check_at: datetime | None = None
    evidence: str | None = None

    @property
    def new(self) -> str:
        """The state the attempt ends in."""
        return "written_off" if self.written_off else STATE_OF[self.delivery]


def opened(opening: Opening, selling: Selling) -> tuple[CommitUnit, Selling]:
    """RECEIVED: the lead is durable before it is auctioned (state `received`)."""
    unit = CommitUnit(
        lead_id=selling.lead_id,
        marker=(selling.lead_id, opening.lead.state),
        idem=opening.idem,
        lead=_with_chain(opening.lead, selling.chain),
        private=opening.private,
        persons=opening.persons,
        custody=selling.chain.rows,
    )
    return unit, _saved(selling, opening.lead.state)


def intent(
    selling: Selling,
    attempt: AttemptRow,
    *,
    at: datetime,
    opening: Opening | None = None,
    before: Ended | None = None,
) -> tuple[CommitUnit, Selling]:
    """INTENT: from here on the buyer may have the record. `opening` when this is the lead's first
    commit; `before` is the attempt just refused, ended in the same commit."""
    chain = _ended_event(selling.chain, before) if before else selling.chain
    chain = chain.append(
        "released",
        at,
        released_body(
            attempt_id=attempt.attempt_id,
            buyer_id=attempt.buyer_id,
            contract_id=attempt.contract_id,
            contract_version=attempt.contract_version,
            price_micros=attempt.price_micros,
        ),
    )
    event = AttemptEventRow(
        attempt_id=attempt.attempt_id,
        lead_id=selling.lead_id,
        state="posting",
        at=at,
        detail={"rank": attempt.rank},
    )
    unit = CommitUnit(
        lead_id=selling.lead_id,
        marker=(attempt.attempt_id, "posting"),
        idem=opening.idem if opening else None,
        lead=_with_chain(opening.lead, chain) if opening else None,
        private=opening.private if opening else None,
        persons=opening.persons if opening else (),
        claims=() if selling.state == "selling" else selling.claims,
        lead_move=None if opening else _lead_move(selling, "selling", chain),
        attempts=(attempt,),
        attempt_moves=(_move(before),) if before else (),
        events=(*((_event(before),) if before else ()), event),
        custody=chain.rows,
        resale=selling.resale if selling.state == "sold" else None,
    )
    return unit, _saved(_chained(selling, chain), "selling")


def ended(
    selling: Selling,
    lead_state: Literal["sold", "unsold", "in_doubt", "selling"],
    *,
    at: datetime,
    reply: dict[str, Any] | None,
    last: Ended | None = None,
    opening: Opening | None = None,
    outbox: tuple[OutboxRow, ...] = (),
    steps: Sequence[PostStep] = (),
    is_duplicate: bool = False,
) -> tuple[CommitUnit, Selling]:
    """RESULT: the last attempt's end and the lead's state with it. A sale carries its transfers, a
    lead that nobody bought those of its guarantee.
    `steps`, each candidate's turn, are kept in an event of the lead's own, for `explain`; so is
    that it ends because its consumer was sold meanwhile, when nothing of it is guaranteed.

    `reply` is what a retry of the key is told; `None` leaves the key running. `opening` closes a
    lead that was never released: its rows are written with its end.
    """
    chain = _ended_event(selling.chain, last) if last else selling.chain
    if lead_state == "unsold":
        chain = chain.append("unsold", at, {})
    lead = _with_chain(opening.lead, chain) if opening else None
    unit = CommitUnit(
        lead_id=selling.lead_id,
        marker=(last.attempt.attempt_id, last.new) if last else (selling.lead_id, lead_state),
        idem=opening.idem if opening else None,
        lead=lead,
        lead_move=None if opening else _lead_move(selling, lead_state, chain),
        attempt_moves=(_move(last),) if last else (),
        events=(
            *((_event(last),) if last else ()),
            *(
                (_lead_event(selling, lead_state, at, steps, is_duplicate),)
                if steps or is_duplicate
                else ()
            ),
        ),
        custody=chain.rows,
        transfers=(
            *(_transfers(last) if last and last.new == "sold" else ()),
            *(_guarantee(selling, at) if lead_state == "unsold" and not is_duplicate else ()),
        ),
        outbox=outbox,
        idem_done=None
        if reply is None
        else IdemDone(seller_id=selling.seller_id, key=selling.idem_key, reply=reply),
    )
    return unit, _saved(_chained(selling, chain), lead_state)


def _guarantee(selling: Selling, at: datetime) -> tuple[TransferRow, ...]:
    return guarantee_transfers(
        lead_id=selling.lead_id,
        seller_id=selling.seller_id,
        amount_micros=selling.guaranteed_micros,
        currency=selling.currency,
        at=at,
    )


def _transfers(last: Ended) -> tuple[TransferRow, ...]:
    attempt = last.attempt
    if attempt.test:
        return ()
    return sale_transfers(
        attempt_id=attempt.attempt_id,
        lead_id=attempt.lead_id,
        buyer_id=attempt.buyer_id,
        seller_id=attempt.seller_id,
        price_micros=attempt.price_micros,
        payout_micros=attempt.payout_micros,
        fee_micros=attempt.fee_micros,
        currency=attempt.currency,
        at=last.at,
    )


def _move(last: Ended) -> AttemptMove:
    return AttemptMove(
        attempt_id=last.attempt.attempt_id,
        lead_id=last.attempt.lead_id,
        old=last.old,
        new=last.new,
        strict=last.attempt.cap_mode == "strict" and bool(last.attempt.windows),
        buyer_ref=last.buyer_ref,
        buyer_reason=last.buyer_reason,
        resolved_by=last.resolved_by,
        next_check_at=last.next_check_at,
    )


def _event(last: Ended) -> AttemptEventRow:
    return AttemptEventRow(
        attempt_id=last.attempt.attempt_id,
        lead_id=last.attempt.lead_id,
        state=last.new,
        at=last.at,
        detail={
            key: value
            for key, value in (
                ("buyer_ref", last.buyer_ref),
                ("buyer_reason", last.buyer_reason),
                ("resolved_by", last.resolved_by),
                ("evidence", last.evidence),
            )
            if value is not None
        },
    )


def _lead_event(
    selling: Selling, state: str, at: datetime, steps: Sequence[PostStep], is_duplicate: bool
) -> AttemptEventRow:
    """The end of a lead's post, under the lead's own id, or its resale's: `[contract_id, loss]` of
    each turn."""
    return AttemptEventRow(
        attempt_id=selling.lead_id if selling.resale is None else selling.resale.resale_id,
        lead_id=selling.lead_id,
        state=state,
        at=at,
        detail={"steps": [[step.contract_id, step.loss] for step in steps]}
        | ({"duplicate": True} if is_duplicate else {}),
    )


def _ended_event(chain: Chain, last: Ended) -> Chain:
    """The custody event of an attempt's end; `resolved` when it had been in doubt."""
    kind, body = ended_event(
        attempt_id=last.attempt.attempt_id,
        buyer_id=last.attempt.buyer_id,
        state=last.new,
        was_in_doubt=last.old == "unknown",
        by=last.resolved_by,
        evidence=last.evidence,
        buyer_ref=last.buyer_ref,
    )
    return chain.append(kind, last.at, body)


def _lead_move(selling: Selling, new: str, chain: Chain) -> LeadMove:
    if selling.state is None:
        raise ValueError("a lead that was never committed has no state to move from")
    return LeadMove(
        lead_id=selling.lead_id,
        old=selling.state,
        new=new,
        custody_seq=chain.seq,
        custody_head=chain.head,
        boot_id=selling.boot_id,
    )


def _with_chain(lead: LeadRow, chain: Chain) -> LeadRow:
    return replace(lead, custody_seq=chain.seq, custody_head=chain.head)


def _chained(selling: Selling, chain: Chain) -> Selling:
    return replace(selling, chain=chain)


def _saved(selling: Selling, state: str) -> Selling:
    return replace(selling, chain=replace(selling.chain, rows=()), state=state)
