"""The job that pauses sources by the return rates of the market's rules, and ends what is over."""

from collections.abc import Callable

from exchange.core.auto_pause import (
    BY_RULE,
    AutoRule,
    ReturnRate,
    is_broken,
    lifts_at,
    rules_of,
    sentence,
    told,
)
from exchange.core.book import Book
from exchange.core.model import Fact
from exchange.core.records import OutboxRow
from exchange.core.return_cases import AuditRow
from exchange.effects.clock import Clock
from exchange.effects.leases import Lease
from exchange.effects.pauses import PauseRow, PauseStore


class AutoPaused(Fact, frozen=True, kw_only=True):
    """A source that the rule of a buyer paused there."""

    source: str
    sub_id: str | None
    buyer: str
    why: str


class AutoPauses(Fact, frozen=True, kw_only=True):
    """What a turn did."""

    paused: tuple[AutoPaused, ...] = ()
    lifted: int = 0

    def __bool__(self) -> bool:
        return bool(self.paused or self.lifted)


class AutoPause:
    """Call `turn` again and again. `counted` is told the buyer of each pause."""

    def __init__(
        self,
        *,
        store: PauseStore,
        clock: Clock,
        book: Callable[[], Book],
        counted: Callable[[int], None],
    ) -> None:
        self._store, self._clock, self._book, self._counted = store, clock, book, counted

    async def turn(self, lease: Lease) -> AutoPauses:
        """One round over all rules."""
        lifted = await self._store.lift_due(self._clock.now(), job=lease.job, epoch=lease.epoch)
        paused: list[AutoPaused] = []
        for rule in rules_of(self._book()):
            for rate in await self._store.rates(rule, self._clock.now()):
                done = await self._paused(rule, rate) if is_broken(rule.terms, rate) else None
                paused += [done] if done else []
        return AutoPauses(paused=tuple(paused), lifted=lifted)

    async def _paused(self, rule: AutoRule, rate: ReturnRate) -> AutoPaused | None:
        """The pause, unless the source does not reach this buyer anyway."""
        book, at = self._book(), self._clock.now()
        source = book.parties.sources.get(rate.source_id)
        off = book.pauses.buyers(rate.source_id, rate.sub_id)
        if source is None or rule.buyer_id in off or book.pauses.stop(source.id, rate.sub_id):
            return None
        seller, buyer = book.sellers[source.seller_id], book.buyers[rule.buyer_id]
        named, why = f"{seller.key}/{source.key}", sentence(rule.terms, rate)
        pause = PauseRow(
            pause_id=self._clock.new_id(),
            source_id=source.id,
            sub_id=rate.sub_id,
            buyer_id=buyer.id,
            since=at,
            by=BY_RULE,
            why=why,
            lift_at=lifts_at(rule.terms, at),
        )
        audit = AuditRow(
            by=BY_RULE,
            action="source.pause",
            subject=named,
            detail={"sub_id": rate.sub_id, "buyer": buyer.key, "why": why},
        )
        notices = [
            OutboxRow(
                outbox_id=self._clock.new_id(),
                lead_id=pause.pause_id,
                party_id=party.id,
                kind="source.paused",
                body=told(named, rule, rate, at),
                at=at,
            )
            for party in (seller, buyer)
            if party.terms.webhook_url
        ]
        if not await self._store.pause(pause, audit, notices):
            return None
        self._counted(buyer.id)
        return AutoPaused(source=named, sub_id=rate.sub_id, buyer=buyer.key, why=why)
