"""How a post that its worker did not finish is finished: pure builders from what the database holds
of a lead to the one commit that ends it, and what the seller is told.

`Case` is an attempt whose outcome is open, `LeadNow` a lead as it stands. Both become commits
by `attempts.py`, so a sale found later is booked exactly like one found at once: the same
transfers, custody events and reply.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

from exchange.core.attempts import Ended, Selling, ended
from exchange.core.custody import Chain
from exchange.core.doubt import Finding
from exchange.core.messages import PostReply, SaleLine, Why
from exchange.core.model import Buyer, Fact
from exchange.core.money import text_of
from exchange.core.reasons import Delivery, Reason
from exchange.core.records import AttemptRow, CommitUnit, OutboxRow

DELIVERY_OF: dict[str, Delivery] = {
    "sold": Delivery.ACCEPTED,
    "rejected": Delivery.REJECTED,
    "written_off": Delivery.UNKNOWN,
}


class Sold(Fact, frozen=True, kw_only=True):
    """A sale of the same lead that is already booked (a shared lead may have several)."""

    attempt_id: str
    buyer_id: int
    payout_micros: int


class LeadNow(Fact, frozen=True, kw_only=True):
    """A lead as the database has it at this moment. `live` counts its attempts that are posting or
    in doubt; `idem_key` is the seller's key whose reply is owed; `guaranteed_micros` what the
    seller gets should nobody buy."""

    lead_id: str
    seller_id: int
    vertical_id: int
    state: str
    currency: str
    custody_seq: int
    custody_head: str
    boot_id: str
    idem_key: str
    test: bool
    live: int
    sold: tuple[Sold, ...] = ()
    guaranteed_micros: int = 0

    def selling(self) -> Selling:
        """The thread of the lead's commits, taken up where it was left."""
        return Selling(
            lead_id=self.lead_id,
            seller_id=self.seller_id,
            idem_key=self.idem_key,
            chain=Chain(
                lead_id=self.lead_id, seq=self.custody_seq, head=self.custody_head, rows=()
            ),
            boot_id=self.boot_id,
            state=self.state,
            guaranteed_micros=self.guaranteed_micros,
            currency=self.currency,
        )

    @property
    def unsold_micros(self) -> int:
        """What the seller is owed if nothing more is sold: what was, else what is guaranteed."""
        return sum(sale.payout_micros for sale in self.sold) or self.guaranteed_micros


class Case(Fact, frozen=True, kw_only=True):
    """An attempt with its lead; its outcome is open while `state` is `posting` or `unknown`.
    `since`: when it came in doubt, or was begun. `ping_id`: of the buyer's ping, where that is not
    the lead's id."""

    attempt: AttemptRow
    state: str
    since: datetime
    lead: LeadNow
    ping_id: str | None = None


class Told(Fact, frozen=True, kw_only=True):
    """How an end is told: the name of the buyer as sellers know it, and the id of the webhook to
    write, `None` when the seller has no webhook."""

    buyer_name: str
    outbox_id: str | None


def into_doubt(case: Case, *, at: datetime, next_check_at: datetime) -> CommitUnit:
    """POSTING to UNKNOWN: nobody is there who could still hear the answer. The seller's key keeps
    running: its reply is `pending` until the doubt ends."""
    last = Ended(
        attempt=case.attempt,
        delivery=Delivery.UNKNOWN,
        at=at,
        old="posting",
        resolved_by=None,
        next_check_at=next_check_at,
    )
    unit, _ = ended(case.lead.selling(), "in_doubt", at=at, reply=None, last=last)
    return unit


def ending(case: Case, finding: Finding, *, at: datetime, told: Told) -> CommitUnit:
    """UNKNOWN to its end, and the lead with it. Nobody else is tried: the promise to the seller has
    lapsed with its wait, so a lead that was not bought is unsold."""
    last = Ended(
        attempt=case.attempt,
        delivery=DELIVERY_OF[finding.outcome],
        at=at,
        buyer_ref=finding.buyer_ref,
        buyer_reason=finding.buyer_reason,
        old="unknown",
        resolved_by=finding.by,
        written_off=finding.outcome == "written_off",
        evidence=finding.evidence,
    )
    state = _lead_state(case, finding)
    reply = None if state == "in_doubt" else _reply(case, finding, told)
    unit, _ = ended(
        case.lead.selling(),
        state,
        at=at,
        reply=reply,
        last=last,
        outbox=_outbox(case.lead, reply, at=at, outbox_id=told.outbox_id),
    )
    return unit


def interrupted(lead: LeadNow, *, at: datetime, outbox_id: str | None) -> CommitUnit:
    """A lead whose worker died between two buyers: unsold, for nobody holds it any more (or sold,
    if it was shared and someone had bought it)."""
    state: Literal["sold", "unsold"] = "sold" if lead.sold else "unsold"
    reply = _as_json(
        PostReply(
            lead_id=lead.lead_id,
            status=_status(lead, sold=bool(lead.sold)),
            currency=lead.currency,
            payout=text_of(lead.unsold_micros),
            reason=None if lead.sold else why(Reason.INTERRUPTED),
        )
    )
    unit, _ = ended(
        lead.selling(),
        state,
        at=at,
        reply=reply,
        outbox=_outbox(lead, reply, at=at, outbox_id=outbox_id),
    )
    return unit


def why(reason: Reason) -> Why:
    """A reason as sellers read it."""
    return Why(code=int(reason), name=reason.label, message=reason.sentence)


def name_of(buyer: Buyer) -> str:
    """The buyer as sellers know it."""
    return buyer.terms.name or buyer.key


def _lead_state(case: Case, finding: Finding) -> Literal["sold", "unsold", "in_doubt"]:
    if case.lead.live > 1:
        return "in_doubt"
    return "sold" if finding.outcome == "sold" or case.lead.sold else "unsold"


def _reply(case: Case, finding: Finding, told: Told) -> dict[str, Any]:
    lead, attempt = case.lead, case.attempt
    if finding.outcome != "sold":
        reason = Reason.WRITTEN_OFF if finding.outcome == "written_off" else Reason.NOBODY_BOUGHT
        return _as_json(
            PostReply(
                lead_id=lead.lead_id,
                status=_status(lead, sold=bool(lead.sold)),
                currency=lead.currency,
                payout=text_of(lead.unsold_micros),
                reason=None if lead.sold else why(reason),
            )
        )
    before = sum(sale.payout_micros for sale in lead.sold)
    sale = SaleLine(
        sale_id=attempt.attempt_id,
        payout=text_of(attempt.payout_micros),
        buyer=told.buyer_name,
        redirect_url=finding.redirect_url,
    )
    return _as_json(
        PostReply(
            lead_id=lead.lead_id,
            status=_status(lead, sold=True),
            currency=lead.currency,
            payout=text_of(before + attempt.payout_micros),
            sales=[sale],
            redirect_url=finding.redirect_url,
        )
    )


def _status(lead: LeadNow, *, sold: bool) -> Literal["sold", "unsold", "test"]:
    if not sold:
        return "unsold"
    return "test" if lead.test else "sold"


def _outbox(
    lead: LeadNow, reply: dict[str, Any] | None, *, at: datetime, outbox_id: str | None
) -> tuple[OutboxRow, ...]:
    """The webhook to the seller: status and money, never a redirect (it may name the consumer)."""
    if reply is None or outbox_id is None:
        return ()
    told = ("lead_id", "status", "currency", "payout", "reason")
    body = {key: reply[key] for key in told if key in reply}
    return (
        OutboxRow(
            outbox_id=outbox_id,
            lead_id=lead.lead_id,
            party_id=lead.seller_id,
            kind=f"lead.{reply['status']}",
            body=body,
            at=at,
        ),
    )


def _as_json(reply: PostReply) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(reply)
    return value
