"""Ending doubts: one place that writes how an unfinished post came out, whoever found out:
reconcile, the buyer's callback, or a person.

Every end is one commit, gated by compare-and-set on the attempt's state, so two that find out at
the same time do no harm: one writes, the other is told so. Valkey hears of it afterwards.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec.structs import replace

from exchange.core.book import Book
from exchange.core.caps import held_windows
from exchange.core.doubt import Finding
from exchange.core.labels import reason_code, ref_of_sale
from exchange.core.model import Fact, is_id
from exchange.core.resolution import (
    Case,
    LeadNow,
    Told,
    ending,
    interrupted,
    into_doubt,
    name_of,
)
from exchange.effects.caps import Caps
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits
from exchange.effects.doubts import Doubt, DoubtFilter, Doubts
from exchange.effects.failpoints import At, nowhere
from exchange.flows.replies import Replies


class Endings:
    """Writes the ends of unfinished posts."""

    def __init__(
        self,
        *,
        commits: Commits,
        caps: Caps,
        replies: Replies,
        clock: Clock,
        book: Callable[[], Book],
        at: At = nowhere,
    ) -> None:
        self._commits, self._caps, self._replies = commits, caps, replies
        self._clock, self._book = clock, book
        self._at = at

    async def doubt(self, case: Case) -> bool:
        """POSTING to UNKNOWN, to be looked at at once; its hold is kept. False when its worker was
        faster. Raises `CommitsDown`."""
        now = self._clock.now()
        answer = await self._commits.commit(into_doubt(case, at=now, next_check_at=now))
        if answer.kind == "done":
            await self._at("doubted")
            await self._tell_caps(case, "unknown")
        return answer.kind == "done"

    async def end(self, case: Case, finding: Finding) -> bool:
        """UNKNOWN to its end, with transfers, custody, webhook and the seller's reply. False when
        somebody else was faster. Raises `CommitsDown`."""
        buyer = self._book().buyers.get(case.attempt.buyer_id)
        told = Told(
            buyer_name=str(case.attempt.buyer_id) if buyer is None else name_of(buyer),
            outbox_id=self._outbox_id(case.lead),
        )
        unit = ending(case, finding, at=self._clock.now(), told=told)
        await self._at("found")
        answer = await self._commits.commit(await self._replies.stored_with(unit))
        if answer.kind == "done":
            await self._at("ended")
            await self._tell_caps(case, finding.outcome)
        return answer.kind == "done"

    async def interrupt(self, lead: LeadNow) -> bool:
        """Closes a lead whose worker died between two buyers. Raises `CommitsDown`."""
        unit = interrupted(lead, at=self._clock.now(), outbox_id=self._outbox_id(lead))
        return (await self._commits.commit(unit)).kind == "done"

    def _outbox_id(self, lead: LeadNow) -> str | None:
        """A webhook only for sellers that have somewhere to send it."""
        seller = self._book().sellers.get(lead.seller_id)
        return self._clock.new_id() if seller and seller.terms.webhook_url else None

    async def _tell_caps(self, case: Case, state: str) -> None:
        attempt = case.attempt
        await tell_caps(
            self._caps,
            buyer_id=attempt.buyer_id,
            attempt_id=attempt.attempt_id,
            state=state,
            held=attempt.windows,
        )


async def tell_caps(
    caps: Caps, *, buyer_id: int, attempt_id: str, state: str, held: Sequence[Sequence[Any]]
) -> bool:
    """Tells Valkey what an attempt's state means for its hold: kept while in doubt, counted when
    sold, given back otherwise. Harmless when it knew. False when it could not be told."""
    if not held:
        return True
    if state == "unknown":
        return await caps.keep(buyer_id, attempt_id)
    if state == "sold":
        return await caps.commit(buyer_id, attempt_id, held_windows(held))
    return await caps.release(buyer_id, attempt_id)


# --- by callback or by hand -----------------------------------------------------------------------

Outcome = Literal["sold", "rejected", "written_off"]


class Resolved(Fact, frozen=True, kw_only=True):
    """What became of an attempt to end a doubt.

    `done`: it ended so now. `already`: it had ended so before. `otherwise`: it had ended otherwise
    (`state` says how). `running`: the post is still under way. `no_such`: there is no such attempt
    (of this buyer).
    """

    kind: Literal["done", "already", "otherwise", "running", "no_such"]
    state: str = ""
    lead_id: str = ""


class Resolving:
    """Ends doubts on somebody's word."""

    def __init__(self, *, doubts: Doubts, endings: Endings, clock: Clock, grace: timedelta) -> None:
        self._doubts, self._endings, self._clock, self._grace = doubts, endings, clock, grace

    async def resolve(
        self,
        attempt_id: str,
        outcome: Outcome,
        *,
        by: str,
        buyer_id: int | None = None,
        buyer_ref: str | None = None,
        buyer_reason: str | None = None,
        evidence: str | None = None,
    ) -> Resolved:
        """Ends the doubt about one attempt. `by` is `callback` or who says so, `evidence` what
        shows it; `buyer_id` narrows to that buyer's attempts: a buyer cannot speak for another.
        Raises `CommitsDown`."""
        case = await self._case(attempt_id, buyer_id)
        if case is None:
            return Resolved(kind="no_such")
        if case.state == "posting":
            if self._clock.now() < case.attempt.deadline_at + self._grace:
                return Resolved(kind="running", state=case.state, lead_id=case.lead.lead_id)
            await self._endings.doubt(case)
            case = await self._case(attempt_id, buyer_id) or case
        if case.state != "unknown":
            return _settled(case, outcome)
        found = Finding(
            outcome=outcome,
            by=by,
            buyer_ref=ref_of_sale(buyer_ref),
            buyer_reason=reason_code(buyer_reason),
            evidence=evidence,
        )
        if await self._endings.end(case, found):
            return Resolved(kind="done", state=outcome, lead_id=case.lead.lead_id)
        return _settled(await self._case(attempt_id, buyer_id) or case, outcome)

    async def _case(self, attempt_id: str, buyer_id: int | None) -> Case | None:
        found = await self._doubts.cases([attempt_id]) if is_id(attempt_id) else ()
        if not found or buyer_id not in (None, found[0].attempt.buyer_id):
            return None
        return found[0]


def _settled(case: Case, outcome: Outcome) -> Resolved:
    return Resolved(
        kind="already" if case.state == outcome else "otherwise",
        state=case.state,
        lead_id=case.lead.lead_id,
    )


# --- listing and bulk -----------------------------------------------------------------------------


class DoubtRow(Fact, frozen=True, kw_only=True):
    """One post in doubt, by names. `caps_held`: window -> amount (leads or micros)."""

    attempt_id: str
    lead_id: str
    buyer: str
    contract: str
    seller: str
    since: datetime
    price_micros: int
    payout_micros: int
    currency: str
    caps_held: dict[str, int]
    policy: tuple[str, ...]
    checks: int
    next_check_at: datetime | None
    test: bool


class DoubtTotals(Fact, frozen=True, kw_only=True):
    """What a list of doubts adds up to. Money by currency, caps by window."""

    leads: int
    price_micros: dict[str, int]
    payout_micros: dict[str, int]
    caps_held: dict[str, int]


class BulkResolved(Fact, frozen=True, kw_only=True):
    """What ending many doubts did, or with `dry_run` would do."""

    rows: tuple[DoubtRow, ...]
    totals: DoubtTotals
    dry_run: bool
    resolved: tuple[Resolved, ...] = ()


async def listing(narrowed: DoubtFilter, *, doubts: Doubts, book: Book) -> tuple[DoubtRow, ...]:
    """The posts in doubt, oldest first, by the market's names."""
    if narrowed.ids is not None:
        narrowed = replace(narrowed, ids=tuple(one for one in narrowed.ids if is_id(one)))
    return tuple(_row(doubt, book) for doubt in await doubts.listing(narrowed))


def totals(rows: Sequence[DoubtRow]) -> DoubtTotals:
    """The sum of a list. Test leads count, but no money is at stake in them."""
    prices: dict[str, int] = {}
    payouts: dict[str, int] = {}
    caps: dict[str, int] = {}
    for row in rows:
        if not row.test:
            prices[row.currency] = prices.get(row.currency, 0) + row.price_micros
            payouts[row.currency] = payouts.get(row.currency, 0) + row.payout_micros
        for win, amount in row.caps_held.items():
            caps[win] = caps.get(win, 0) + amount
    return DoubtTotals(leads=len(rows), price_micros=prices, payout_micros=payouts, caps_held=caps)


async def resolve_many(
    narrowed: DoubtFilter,
    outcome: Outcome,
    *,
    by: str,
    why: str,
    dry_run: bool,
    doubts: Doubts,
    resolving: Resolving,
    book: Book,
) -> BulkResolved:
    """Ends every doubt that the filter finds, on the word of `by`; with `dry_run` only shows which
    leads, money and caps it would move. The audit row is written first: what is about to be done
    and why is known even if it is cut short."""
    rows = await listing(narrowed, doubts=doubts, book=book)
    summed = totals(rows)
    if dry_run:
        return BulkResolved(rows=rows, totals=summed, dry_run=True)
    await doubts.audit(
        by=by,
        action="doubt.resolve",
        subject=outcome,
        detail={
            "why": why,
            "attempts": [row.attempt_id for row in rows],
            "price_micros": summed.price_micros,
        },
    )
    resolved = [await resolving.resolve(row.attempt_id, outcome, by=by) for row in rows]
    return BulkResolved(rows=rows, totals=summed, dry_run=False, resolved=tuple(resolved))


def _row(doubt: Doubt, book: Book) -> DoubtRow:
    buyer = book.buyers.get(doubt.buyer_id)
    contract = book.contracts.get(doubt.contract_id)
    seller = book.sellers.get(doubt.seller_id)
    return DoubtRow(
        attempt_id=doubt.attempt_id,
        lead_id=doubt.lead_id,
        buyer=buyer.key if buyer else f"#{doubt.buyer_id}",
        contract=contract.key if contract else f"#{doubt.contract_id}",
        seller=seller.key if seller else f"#{doubt.seller_id}",
        since=doubt.since,
        price_micros=doubt.price_micros,
        payout_micros=doubt.payout_micros,
        currency=doubt.currency,
        caps_held={str(win): int(amount) for win, _, amount in doubt.windows},
        policy=contract.terms.in_doubt.policy if contract else (),
        checks=doubt.checks,
        next_check_at=doubt.next_check_at,
        test=doubt.test,
    )
