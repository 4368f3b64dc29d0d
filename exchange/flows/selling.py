"""Selling one lead: from a ranking to a sale, a doubt, or nobody.

```
each candidate, best first:
    may it still buy? - reserve - INTENT - deliver -+- accepted              RESULT: sold
                                                    +- unknown               RESULT: in doubt
                                                    +- rejected, not sent    the next candidate
```

Personal data leaves only after an INTENT is durable, and only to the one candidate it names. A
refusal is written together with the next INTENT; the last word is always a RESULT. An accepted sale
whose RESULT cannot be written yet is tried again until it can; if this process dies first,
reconcile asks the buyer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from exchange.core import attempts
from exchange.core.attempts import Ended
from exchange.core.auction import at_promise
from exchange.core.book import Book
from exchange.core.caps import Window
from exchange.core.consent import is_named
from exchange.core.filters import meets
from exchange.core.model import Buyer, Candidate, Contract
from exchange.core.reasons import Delivery, Loss
from exchange.core.records import AttemptRow, CommitAnswer
from exchange.core.wallets import is_counted, sale_windows, wallet_currency
from exchange.effects.buyers import Buyers
from exchange.effects.caps import Caps, Full, Reserved
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits, CommitsDown
from exchange.effects.failpoints import At
from exchange.flows.deal import (
    LOSS_OF,
    Deal,
    Run,
    SaleEnd,
    never_released,
    record_of,
    reply_of,
    resold_notice,
    told,
)
from exchange.flows.doubt import tell_caps
from exchange.flows.replies import Replies, key_of
from exchange.flows.standing import FullWindow, Standing

RESULT_RETRY_S = 0.2
"""Pause before a RESULT that could not be written is tried again."""


class SellLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers a sale needs; their meaning stands in `config.Limits`."""

    post_deadline_ms: int
    hold_margin_ms: int
    releases_max: int


class Sales:
    """Sells leads in one worker."""

    def __init__(
        self,
        *,
        clock: Clock,
        standing: Standing,
        buyers: Buyers,
        caps: Caps,
        commits: Commits,
        replies: Replies,
        secret: Callable[[str], bytes | None],
        claim_trial: Callable[[int], Awaitable[bool]],
        tell_late: Callable[[Ended], Awaitable[None]],
        limits: SellLimits,
        boot_id: str,
        worker: str,
        at: At,
    ) -> None:
        self._clock, self._standing, self._buyers = clock, standing, buyers
        self._caps, self._commits, self._replies = caps, commits, replies
        self._secret, self._claim_trial, self._tell_late = secret, claim_trial, tell_late
        self._limits, self._boot_id, self._worker = limits, boot_id, worker
        self._at = at
        self._telling: set[asyncio.Task[None]] = set()

    async def sell(self, deal: Deal) -> SaleEnd:
        """Offer the lead to one candidate after another until one takes it, one leaves it in doubt,
        or none is left. Raises `CommitsDown` only while nothing has been released to anyone."""
        run = Run(deal)
        for candidate in deal.candidates:
            if (payable := at_promise(candidate, deal.promised_micros)) is None:
                run.step(candidate, Loss.BELOW_PROMISE)
            else:
                await self._turn(run, payable)
            if run.is_over:
                break
        if not run.is_over or (run.is_duplicate and run.opening is None):
            await self._unsold(run)  # of a duplicate that is not durable yet, nothing is kept
        book = self._standing.book
        record = record_of(run, book, now=self._clock.loop_time(), worker=self._worker)
        return SaleEnd(record=record, reply=None if run.is_taken else reply_of(run, book))

    async def drain(self) -> None:
        """Wait until Valkey was told of every sale; call it once no post is under way."""
        while self._telling:
            await asyncio.wait(self._telling)

    # --- one candidate's turn ---------------------------------------------------------------------

    async def _turn(self, run: Run, candidate: Candidate) -> None:
        began = self._clock.loop_time()
        loss = self._barred(run, candidate)
        if loss is not None:
            run.step(candidate, loss)
            return
        contract = self._standing.book.contracts[candidate.contract_id]
        buyer = self._standing.book.buyers[candidate.buyer_id]
        attempt_id = candidate.attempt_id or self._clock.new_id()
        held = self._windows(run.deal, contract, buyer, candidate)
        is_held = candidate.attempt_id is not None
        reserved = await self._reserve(run, contract, attempt_id, held, is_held=is_held)
        if not isinstance(reserved, Reserved):
            is_full = isinstance(reserved, Full)
            run.step(candidate, _full(reserved.win) if is_full else Loss.CAPS_UNREADABLE)
            return
        if not await self._may_try(buyer.id):
            if held and candidate.attempt_id is None:
                await self._caps.release(buyer.id, attempt_id)
            run.step(candidate, Loss.BRAKED)
            return
        await self._at("reserved")
        send_ms = self._send_ms(run.deal, buyer)
        send_by = self._clock.loop_time() + send_ms / 1000
        attempt = self._attempt(
            run.deal, contract, buyer, candidate, attempt_id, held, reserved, send_ms
        )
        if not await self._intent(run, candidate, contract, attempt, held):
            return
        await self._at("intended")
        await self._delivered(run, candidate, contract, buyer, attempt, began, send_by)

    def _barred(self, run: Run, candidate: Candidate) -> Loss | None:
        """Why this candidate may not buy any more, in order of precedence; `None` when it may."""
        book, deal, now = self._standing.book, run.deal, self._clock.now()
        contract = book.contracts.get(candidate.contract_id)
        buyer = book.buyers.get(candidate.buyer_id)
        if contract is None or buyer is None or not is_trading(book, contract, buyer):
            return Loss.EXPIRED
        if candidate.expires_at_ms is not None and candidate.expires_at_ms <= self._clock.now_ms():
            return Loss.BID_EXPIRED
        if run.releases + deal.releases_before >= self._limits.releases_max:
            return Loss.RELEASES_SPENT
        if self._clock.loop_time() >= deal.deadline:
            return Loss.DEADLINE_SPENT
        if buyer.id in book.pauses.buyers(deal.source_id, deal.sub_id):
            return Loss.SOURCE_PAUSED
        if not (meets(contract, deal.fields) and is_named(buyer, deal.named)):
            return Loss.CRITERIA_AT_POST
        if self._standing.is_braked(buyer.id, now) and not self._standing.trial_is_due(
            buyer.id, now
        ):
            return Loss.BRAKED
        return None

    async def _may_try(self, buyer_id: int) -> bool:
        """Whether no brake is on, or this lead is the trial of a braked buyer. Asked when there is
        room: a trial that could not be sent would be wasted."""
        now = self._clock.now()
        if not self._standing.is_braked(buyer_id, now):
            return True
        return self._standing.trial_is_due(buyer_id, now) and await self._claim_trial(buyer_id)

    def _windows(
        self, deal: Deal, contract: Contract, buyer: Buyer, candidate: Candidate
    ) -> tuple[Window, ...]:
        """The cap windows this sale counts in; a test counts in none."""
        if deal.test or not is_counted(contract):
            return ()
        return sale_windows(
            contract,
            fields=deal.fields,
            price_micros=candidate.price_micros,
            at=self._clock.now() if candidate.attempt_id is None else deal.pinged_at,
            zone=contract.time_zone or buyer.terms.time_zone,
            currency=deal.vertical.terms.currency,
        )

    async def _reserve(
        self,
        run: Run,
        contract: Contract,
        attempt_id: str,
        held: tuple[Window, ...],
        *,
        is_held: bool,
    ) -> Any:
        """`is_held`: the offer came with a hold by this id, and so does a retry of this post."""
        if not held:
            return Reserved(sq=0)
        began = self._clock.loop_time()
        ttl_ms = self._limits.post_deadline_ms + self._limits.hold_margin_ms
        reserved = await self._caps.reserve(
            contract.buyer_id, attempt_id, held, ttl_ms, is_retried=is_held
        )
        run.reserved_ms += (self._clock.loop_time() - began) * 1000
        if isinstance(reserved, Full):
            self._note_full(run.deal, contract, reserved.win, held)
        return reserved

    def _note_full(
        self, deal: Deal, contract: Contract, win: str, held: tuple[Window, ...]
    ) -> None:
        window = next(one for one in held if one.win == win)
        self._standing.note_full(FullWindow.of(contract, window, deal.fields), self._clock.now())

    def _attempt(
        self,
        deal: Deal,
        contract: Contract,
        buyer: Buyer,
        candidate: Candidate,
        attempt_id: str,
        held: tuple[Window, ...],
        reserved: Reserved,
        send_ms: float,
    ) -> AttemptRow:
        now = self._clock.now()
        deadline_at = now + timedelta(milliseconds=send_ms)
        expires_ms = candidate.expires_at_ms
        return AttemptRow(
            attempt_id=attempt_id,
            lead_id=deal.lead.lead_id,
            seller_id=deal.seller.id,
            buyer_id=buyer.id,
            contract_id=contract.id,
            contract_version=contract.version,
            rank=candidate.rank,
            leg=deal.leg,
            price_micros=candidate.price_micros,
            payout_micros=candidate.payout_micros,
            fee_micros=candidate.fee_micros,
            currency=deal.vertical.terms.currency,
            buyer_bid_ref=candidate.buyer_ref,
            bid_expires_at=None
            if expires_ms is None
            else datetime.fromtimestamp(expires_ms / 1000, now.tzinfo),
            deadline_at=deadline_at,
            next_check_at=deadline_at,
            boot_id=self._boot_id,
            cap_mode=contract.terms.cap_mode,
            cap_sq=reserved.sq,
            windows=[[one.win, one.limit, one.amount] for one in held],
            slots=[1],
            test=deal.test,
            created_at=now,
        )

    def _send_ms(self, deal: Deal, buyer: Buyer) -> float:
        """How long this buyer may take: its own time, within what is left of the whole post's."""
        left_ms = (deal.deadline - self._clock.loop_time()) * 1000
        return max(0.0, min(float(buyer.terms.post_timeout_ms), left_ms))

    # --- INTENT -----------------------------------------------------------------------------------

    async def _intent(
        self,
        run: Run,
        candidate: Candidate,
        contract: Contract,
        attempt: AttemptRow,
        held: tuple[Window, ...],
    ) -> bool:
        """Make the attempt durable; false when it may not be made."""
        unit, selling = attempts.intent(
            run.selling, attempt, at=attempt.created_at, opening=run.opening, before=run.before
        )
        try:
            answer = await self._commit(run, unit)
        except CommitsDown:
            await self._not_made(candidate, attempt)
            if not run.releases:
                raise
            # What the buyers before said is not durable yet: reconcile will ask them.
            run.is_doubtful = True
            return False
        if answer.kind == "done":
            run.selling, run.opening, run.before = selling, None, None
            run.releases += 1
            return True
        await self._not_made(candidate, attempt)
        if answer.kind == "cap":
            run.step(candidate, _full(answer.win or ""), attempt_id=attempt.attempt_id)
            self._note_full(run.deal, contract, answer.win or "", held)
        elif answer.kind == "duplicate":
            run.is_duplicate = True
        else:
            run.is_taken = True
        return False

    async def _not_made(self, candidate: Candidate, attempt: AttemptRow) -> None:
        """Give back the hold of an attempt that was not made. One that came with the offer stays: a
        retry of this post, or the post that has the lead already, goes by the same token. Left
        alone it expires."""
        if candidate.attempt_id is None:
            await self._tell_caps(attempt, "voided")

    async def _commit(self, run: Run, unit: Any) -> CommitAnswer:
        began = self._clock.loop_time()
        try:
            return await self._commits.commit(unit)
        finally:
            run.committed_ms += (self._clock.loop_time() - began) * 1000

    # --- delivery and RESULT ----------------------------------------------------------------------

    async def _delivered(
        self,
        run: Run,
        candidate: Candidate,
        contract: Contract,
        buyer: Buyer,
        attempt: AttemptRow,
        began: float,
        send_by: float,
    ) -> None:
        """Send the record to the candidate and write down what came of it. `send_by` is the
        attempt's `deadline_at` in loop time: nobody's time begins anew after the INTENT."""
        sent_at = self._clock.loop_time()
        reading = await self._send(run, contract, buyer, attempt, candidate, send_by)
        await self._at("answered")
        run.delivered_ms += (self._clock.loop_time() - sent_at) * 1000
        now = self._clock.now()
        end = Ended(
            attempt=attempt,
            delivery=reading.delivery,
            at=now,
            buyer_ref=reading.buyer_ref,
            buyer_reason=reading.buyer_reason,
            next_check_at=now if reading.delivery is Delivery.UNKNOWN else None,
        )
        run.step(
            candidate,
            LOSS_OF[reading.delivery],
            attempt_id=attempt.attempt_id,
            delivery=reading.delivery,
            buyer_reason=reading.buyer_reason,
            began_ms=(began - run.deal.began) * 1000,
            took_ms=(self._clock.loop_time() - began) * 1000,
        )
        await self._concluded(run, end, reading.redirect_url)

    async def _send(
        self,
        run: Run,
        contract: Contract,
        buyer: Buyer,
        attempt: AttemptRow,
        candidate: Candidate,
        send_by: float,
    ) -> Any:
        deal, chain = run.deal, run.selling.chain
        dialect = self._standing.dialect(buyer)
        body = dialect.post_body(
            deal.lead,
            attempt_id=attempt.attempt_id,
            contract_key=contract.key,
            buyer_ref=candidate.buyer_ref,
            price_micros=candidate.price_micros,
            custody={"head": chain.head, "events": chain.seq},
            test=deal.test,
        )
        headers = dialect.post_headers(
            attempt_id=attempt.attempt_id,
            timestamp=int(attempt.created_at.timestamp()),
            body=body,
            secret=self._secret(buyer.terms.secret) if buyer.terms.secret else None,
        )
        answer = await self._buyers.send(
            self._standing.endpoint(buyer, "post"),
            headers=headers,
            body=body,
            deadline=send_by,
        )
        return dialect.read_delivery(answer)

    async def _concluded(self, run: Run, end: Ended, redirect_url: str | None) -> None:
        buyer_id, now = end.attempt.buyer_id, end.at
        if end.delivery in (Delivery.REJECTED, Delivery.NOT_SENT):
            run.before = end
            if end.delivery is Delivery.REJECTED:
                self._standing.note_answer(buyer_id, now)
            await self._tell_caps(end.attempt, end.new)
            return
        if end.delivery is Delivery.ACCEPTED:
            run.winner, run.redirect_url = end, redirect_url
            self._standing.note_answer(buyer_id, now)
            unit, _ = attempts.ended(
                run.selling,
                "sold",
                at=now,
                last=end,
                reply=self._stored(run),
                steps=run.steps,
                outbox=resold_notice(run, end),
            )
        else:
            run.is_doubtful = True
            self._standing.note_doubt(buyer_id, now)
            unit, _ = attempts.ended(
                run.selling, "in_doubt", at=now, last=end, reply=None, steps=run.steps
            )
        if await self._written(run, unit):
            await self._at("booked")
            self._counted_soon(end)
        else:
            await self._tell_late(end)

    async def _written(self, run: Run, unit: Any) -> bool:
        """Write a RESULT, again and again while the database is away: the buyer has the record, so
        this must not be lost while the process lives. False when reconcile was faster and has put
        the attempt in doubt: then what the buyer said is told to it."""
        while True:
            try:
                return (await self._commit(run, unit)).kind == "done"
            except CommitsDown:
                await asyncio.sleep(RESULT_RETRY_S)

    def _counted_soon(self, end: Ended) -> None:
        """Tell Valkey of a RESULT; the seller need not wait for it: until it knows, the hold stands
        and keeps the room."""
        task = asyncio.create_task(self._counted(end))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _counted(self, end: Ended) -> None:
        await self._tell_caps(end.attempt, end.new)
        await self._at("counted")

    async def _tell_caps(self, attempt: AttemptRow, state: str) -> None:
        """What the attempt's state means for its hold in Valkey."""
        await tell_caps(
            self._caps,
            buyer_id=attempt.buyer_id,
            attempt_id=attempt.attempt_id,
            state=state,
            held=attempt.windows,
        )

    def _stored(self, run: Run) -> dict[str, Any]:
        """The reply as it is kept: what a buyer put in it for the consumer is sealed."""
        deal, reply = run.deal, told(reply_of(run, self._standing.book))
        return self._replies.stored(deal.lead.lead_id, reply, key_of(deal.private))

    async def _unsold(self, run: Run) -> None:
        if run.selling.state == "sold":
            return  # offered again, and released to nobody: nothing has changed
        now = self._clock.now()
        unit, _ = attempts.ended(
            run.selling,
            "unsold",
            at=now,
            last=run.before,
            opening=None if run.opening is None else never_released(run.opening),
            reply=self._stored(run),
            steps=run.steps,
            is_duplicate=run.is_duplicate,
        )
        try:
            answer = await self._commit(run, unit)
        except CommitsDown:
            if not run.releases:
                raise
            run.is_doubtful = True
        else:
            run.is_taken = answer.kind in ("conflict", "stale")


def is_trading(book: Book, contract: Contract, buyer: Buyer) -> bool:
    """Whether nothing has closed or paused the contract since it bid."""
    return not (
        contract.closed
        or buyer.closed
        or contract.terms.paused
        or buyer.terms.paused
        or book.is_off("contract", contract.id)
        or book.is_off("buyer", buyer.id)
    )


def _full(win: str) -> Loss:
    """Why a full window is a loss: nothing is left in a wallet, or a cap filled meanwhile."""
    return Loss.OUT_OF_CREDIT if wallet_currency(win) else Loss.CAP_LOST
