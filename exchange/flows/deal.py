"""A sale under way, as values: what is sold, each candidate's turn, and what the seller is told of
it. Nothing here touches the world; `selling.py` does, and keeps its notes in a `Run`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from exchange.core.attempts import Ended, Opening, Selling
from exchange.core.book import Book
from exchange.core.fields import Problem, Schema
from exchange.core.messages import PostReply, Refusal, Replayed, SaleLine
from exchange.core.model import Candidate, Fact, Lead, Seller, Value, Vertical
from exchange.core.money import text_of
from exchange.core.reasons import Delivery, Loss, Reason
from exchange.core.records import LeadPrivateRow, OutboxRow, PostRecord, PostStep
from exchange.core.resolution import name_of, why


class Deal(Fact, frozen=True, kw_only=True):
    """A lead and everything that was fixed before its sale began.

    `promised_micros` is the least payout that may be paid; `named`: the companies that consent
    names, if it names any: nobody else may ever see the lead. `opening` is written with the first
    commit (`None` when the lead is already durable). `private`: the record as it is sealed, whose
    key seals what a buyer adds. `deadline` is loop time. Of a returned lead that is offered again
    `leg` is more than 1, `releases_before` how many had it, and `notice_id` that of the webhook to
    its seller, should it be sold.
    """

    lead: Lead
    fields: dict[str, Value]
    seller: Seller
    source_id: int
    vertical: Vertical
    candidates: tuple[Candidate, ...]
    promised_micros: int
    selling: Selling
    opening: Opening | None
    pinged_at: datetime
    began: float
    deadline: float
    direct: bool
    test: bool
    sub_id: str | None = None
    named: tuple[str, ...] = ()
    private: LeadPrivateRow | None = None
    leg: int = 1
    releases_before: int = 0
    notice_id: str | None = None

    def __repr__(self) -> str:
        return f"Deal({self.lead.lead_id})"


class SaleEnd(Fact, frozen=True, kw_only=True):
    """How the sale of a lead ended. `reply` is `None` when another request already had this key or
    lead: its stored answer is the answer."""

    record: PostRecord
    reply: PostReply | None


class Way(msgspec.Struct):
    """What is known of a post so far, should its seller be answered before its end. `currency`: ""
    while its offer is unread."""

    currency: str = ""


class Run:
    """The state of one sale while it runs."""

    def __init__(self, deal: Deal) -> None:
        self.deal = deal
        self.selling = deal.selling
        self.opening = deal.opening
        self.before: Ended | None = None
        self.steps: list[PostStep] = []
        self.winner: Ended | None = None
        self.redirect_url: str | None = None
        self.releases = 0
        self.is_doubtful = False
        self.is_taken = False
        self.is_duplicate = False
        self.committed_ms = 0.0
        self.delivered_ms = 0.0
        self.reserved_ms = 0.0

    @property
    def is_over(self) -> bool:
        """Sold, in doubt, somebody else's, or of a consumer that was sold meanwhile."""
        return self.winner is not None or self.is_doubtful or self.is_taken or self.is_duplicate

    def step(self, candidate: Candidate, loss: Loss, **more: Any) -> None:
        """Remember one candidate's turn."""
        self.steps.append(
            PostStep(
                contract_id=candidate.contract_id,
                buyer_id=candidate.buyer_id,
                rank=candidate.rank,
                price_micros=candidate.price_micros,
                payout_micros=candidate.payout_micros,
                loss=int(loss),
                **more,
            )
        )


LOSS_OF = {
    Delivery.ACCEPTED: Loss.WON,
    Delivery.REJECTED: Loss.POST_REJECTED,
    Delivery.NOT_SENT: Loss.POST_NOT_SENT,
    Delivery.UNKNOWN: Loss.IN_DOUBT,
}


def unsold_reason(run: Run) -> Reason:
    """What the seller is told when nobody bought."""
    if run.is_doubtful:
        return Reason.IN_DOUBT
    if any(step.loss == Loss.BELOW_PROMISE for step in run.steps):
        return Reason.PROMISE_UNMET
    return Reason.NOBODY_BOUGHT


def pending(lead_id: str, currency: str, reason: Reason = Reason.POST_RUNNING) -> PostReply:
    """The answer while a request is still at work, or its lead is in doubt."""
    return without_sale(lead_id, "pending", currency, reason)


def without_sale(
    lead_id: str,
    status: Literal["pending", "unsold", "duplicate", "rejected"],
    currency: str,
    reason: Reason,
    *,
    payout_micros: int = 0,
) -> PostReply:
    """The answer to a lead that is not sold, or not yet, and why. `payout_micros`: what its seller
    gets all the same."""
    return PostReply(
        lead_id=lead_id,
        status=status,
        currency=currency,
        payout=text_of(payout_micros),
        reason=why(reason),
    )


def mismatched(names: Iterable[str], schema: Schema) -> Refusal:
    """The refusal of a record that differs from its ping in these fields."""
    return Refusal(
        status=422,
        title=Reason.PING_MISMATCH.label,
        detail=Reason.PING_MISMATCH.sentence,
        problems=tuple(
            Problem(
                field=f"lead.{name}",
                message="differs from the ping",
                hint="send the value that was pinged, or ping again",
            )
            for name in names
            if name in schema.terms  # a derived state is not the seller's to mend
        ),
    )


def told(reply: PostReply) -> dict[str, Any]:
    """The answer as it is stored and told again."""
    return dict(msgspec.to_builtins(reply))


def replay(lead_id: str, currency: str) -> Replayed:
    """The answer to a key whose request is still at work."""
    return Replayed(reply=told(pending(lead_id, currency)))


def not_to_be_had(reason: Reason) -> Refusal:
    """There is no offer to take up, and why."""
    status = 503 if reason is Reason.OFFERS_UNAVAILABLE else 409
    return Refusal(status=status, title=reason.label, detail=reason.sentence)


def reply_of(run: Run, book: Book) -> PostReply:
    """What the seller is told."""
    deal, winner = run.deal, run.winner
    currency = deal.vertical.terms.currency
    if run.is_duplicate:
        return without_sale(deal.lead.lead_id, "duplicate", currency, Reason.DUPLICATE)
    if winner is None:
        status: Literal["pending", "unsold"] = "pending" if run.is_doubtful else "unsold"
        owed = run.selling.guaranteed_micros if status == "unsold" else 0
        reason = unsold_reason(run)
        return without_sale(deal.lead.lead_id, status, currency, reason, payout_micros=owed)
    payout = text_of(winner.attempt.payout_micros)
    return PostReply(
        lead_id=deal.lead.lead_id,
        status="test" if deal.test else "sold",
        currency=currency,
        payout=payout,
        sales=[
            SaleLine(
                sale_id=winner.attempt.attempt_id,
                payout=payout,
                buyer=_told_name(book, winner.attempt.buyer_id),
                redirect_url=run.redirect_url,
            )
        ],
        redirect_url=run.redirect_url,
    )


def resold_notice(run: Run, end: Ended) -> tuple[OutboxRow, ...]:
    """The webhook of a second sale: nobody waits for its answer."""
    deal, attempt = run.deal, end.attempt
    if deal.notice_id is None:
        return ()
    body = {
        "lead_id": deal.lead.lead_id,
        "status": "sold",
        "sale_id": attempt.attempt_id,
        "payout": text_of(attempt.payout_micros),
        "currency": attempt.currency,
    }
    return (
        OutboxRow(
            outbox_id=deal.notice_id,
            lead_id=deal.lead.lead_id,
            party_id=deal.seller.id,
            kind="lead.resold",
            body=body,
            at=end.at,
        ),
    )


def never_released(opening: Opening) -> Opening:
    """A lead nobody received is kept without its personal data."""
    lead = replace(opening.lead, state="unsold")
    return replace(opening, lead=lead, private=None, persons=())


def _told_name(book: Book, buyer_id: int) -> str:
    """The buyer as sellers know it; its number, once it left the market."""
    buyer = book.buyers.get(buyer_id)
    return str(buyer_id) if buyer is None else name_of(buyer)


def retold(lead: Mapping[str, Any], book: Book) -> PostReply:
    """The answer to an ended lead whose reply was forgotten with its key, from the lead's own row:
    without a redirect, and of one that is not sold, only that nobody bought it."""
    lead_id, currency = str(lead["lead_id"]), lead["currency"]
    if lead["state"] == "unsold":
        owed = lead["guaranteed_micros"]
        return without_sale(lead_id, "unsold", currency, Reason.NOBODY_BOUGHT, payout_micros=owed)
    sales = [
        SaleLine(
            sale_id=sale["attempt_id"],
            payout=text_of(sale["payout_micros"]),
            buyer=_told_name(book, sale["buyer_id"]),
        )
        for sale in lead["sold"]
    ]
    return PostReply(
        lead_id=lead_id,
        status="test" if lead["test"] else "sold",
        currency=currency,
        payout=text_of(sum(sale["payout_micros"] for sale in lead["sold"])),
        sales=sales,
    )


def record_of(run: Run, book: Book, *, now: float, worker: str) -> PostRecord:
    """What everything else is told. `now` is loop time."""
    deal, winner = run.deal, run.winner
    attempt = winner.attempt if winner else None
    reply = reply_of(run, book)
    return PostRecord(
        lead_id=deal.lead.lead_id,
        seller_id=deal.seller.id,
        source_id=deal.source_id,
        vertical_id=deal.vertical.id,
        direct=deal.direct,
        status=reply.status,
        reason=reply.reason.code if reply.reason else None,
        price_micros=attempt.price_micros if attempt else 0,
        payout_micros=attempt.payout_micros if attempt else 0,
        fee_micros=attempt.fee_micros if attempt else 0,
        currency=deal.vertical.terms.currency,
        steps=tuple(run.steps),
        replayed=run.is_taken,
        took_ms=(now - deal.began) * 1000,
        committed_ms=run.committed_ms,
        delivered_ms=run.delivered_ms,
        reserved_ms=run.reserved_ms,
        worker=worker,
        test=deal.test,
    )
