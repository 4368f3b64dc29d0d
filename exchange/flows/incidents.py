"""Incidents: a person opens one, looks at what it comes to, approves it, and it is booked once.

Opening pauses the source and holds its seller's payout. Approving fixes the sales; from then on
they are made good one by one, each in a transaction of its own that also marks it, so whoever goes
on after a crash (the command again, or the job) finds what is left. Nothing is credited twice.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from exchange.core.book import Book
from exchange.core.fields import Problem
from exchange.core.incidents import (
    AffectedSale,
    Bears,
    Incident,
    Total,
    booked_case,
    by_currency,
    held_amounts,
    summary,
    totals,
    unit_of,
)
from exchange.core.messages import Refusal
from exchange.core.model import Fact, is_id
from exchange.core.money import text_of
from exchange.core.records import ReturnRecord
from exchange.core.return_cases import (
    REASONS,
    ReturnCase,
    ReturnSale,
    ReturnUnit,
    Room,
    Written,
    record_of,
)
from exchange.effects.clock import Clock
from exchange.effects.failpoints import At, nowhere
from exchange.effects.incidents import (
    FIRST,
    Affected,
    DueSale,
    IncidentEvent,
    IncidentPause,
    IncidentStore,
    Notice,
    PayoutHold,
    Progress,
)
from exchange.effects.leases import Lease
from exchange.effects.returns import Contended, ReturnStore
from exchange.flows.pausing import not_valid, source_named, sub_id_problems, told_problems

BY_INCIDENT: Final = "incident"
Hold = Literal["affected", "all"]
"""What is held: the payouts of the affected sales, or everything of the seller."""


class IncidentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`at_once_max`: sales made good at a time, within the connections of a command; `batch_max`:
    how many are read at a time."""

    at_once_max: int = 4
    batch_max: int = 200


class Opening(Fact, frozen=True, kw_only=True):
    """What a person says when opening an incident."""

    source: str
    sub_id: str | None = None
    since: datetime
    until: datetime | None = None
    reason: str = "fraud"
    seller_bears: Bears = "all"
    hold: Hold = "affected"
    by: str
    why: str


class Shown(Fact, frozen=True, kw_only=True):
    """An incident, its history, and what it comes to: the forecast of now and, once approved, what
    became of its sales. `later`: sales that came after the approval and are not in it."""

    incident: Incident
    source: str
    totals: tuple[Total, ...]
    in_doubt: int
    events: tuple[IncidentEvent, ...] = ()
    progress: tuple[Progress, ...] = ()
    later: int = 0
    sales: tuple[AffectedSale, ...] = ()


Tick = Callable[[int, int], None]
"""Told how many sales are booked, of how many."""


class Incidents:
    """What operators and finance do with incidents. What does not exist is answered with `None`."""

    def __init__(
        self,
        *,
        store: IncidentStore,
        returns: ReturnStore,
        clock: Clock,
        book: Callable[[], Book],
        recorded: Callable[[ReturnRecord], None],
        limits: IncidentLimits,
        at: At = nowhere,
    ) -> None:
        self._store, self._returns, self._clock, self._book = store, returns, clock, book
        self._recorded, self._limits, self._at = recorded, limits, at

    # --- opening and looking ----------------------------------------------------------------------

    async def open(self, asked: Opening, *, dry_run: bool = False) -> Shown | Refusal:
        """Pause, hold, and show what it comes to; with `dry_run` only show."""
        incident = self._said(asked)
        if isinstance(incident, Refusal):
            return incident
        found = await self._store.affected(incident)
        if not dry_run:
            await self._opened(incident, asked, found)
        return Shown(
            incident=incident,
            source=asked.source,
            totals=totals(incident, found.sales),
            in_doubt=found.in_doubt,
            sales=found.sales,
        )

    async def _opened(self, incident: Incident, asked: Opening, found: Affected) -> None:
        incident_id, by, why, at = incident.incident_id, asked.by, asked.why, incident.opened_at
        pause = IncidentPause(
            pause_id=self._clock.new_id(),
            source_id=incident.source_id,
            sub_id=incident.sub_id,
            incident_id=incident_id,
            since=at,
            by=by,
            why=why,
        )
        amounts: list[tuple[str | None, int | None]] = [(None, None)]
        if asked.hold == "affected":
            amounts = list(held_amounts(found.sales).items())
        holds = [
            PayoutHold(
                hold_id=self._clock.new_id(),
                party_id=incident.seller_id,
                incident_id=incident_id,
                currency=currency,
                amount_micros=amount,
                since=at,
                by=by,
                why=why,
            )
            for currency, amount in amounts
        ]
        detail = {
            "source": asked.source,
            "sub_id": incident.sub_id,
            "since": incident.since.isoformat(),
            "until": incident.until.isoformat() if incident.until else None,
            "seller_bears": incident.seller_bears,
            "reason": incident.reason,
            "sales": len(found.sales),
            "hold": asked.hold,
        }
        await self._store.open(incident, pause, holds, detail)

    async def show(self, incident_id: str) -> Shown | None:
        """An incident and what it comes to."""
        incident = await self._found(incident_id)
        if incident is None:
            return None
        found = await self._store.affected(incident)
        is_fixed = incident.state in ("approved", "booked", "closed")
        return Shown(
            incident=incident,
            source=self._source_of(incident),
            totals=totals(incident, found.sales),
            in_doubt=found.in_doubt,
            events=await self._store.events(incident_id),
            progress=await self._store.progress(incident_id),
            later=await self._store.later(incident_id) if is_fixed else 0,
            sales=found.sales,
        )

    async def listing(self, states: Sequence[str] | None = None) -> tuple[Incident, ...]:
        """Incidents, the newest first."""
        return await self._store.listing(states)

    # --- moves ------------------------------------------------------------------------------------

    async def approve(self, incident_id: str, *, by: str, why: str) -> Incident | Refusal | None:
        """Fix the sales: from now on they are made good, by `book` and by the job. Approving again
        what is approved is harmless."""
        incident = await self._found(incident_id)
        if incident is None or (problems := told_problems(by, why)):
            return None if incident is None else not_valid(*problems)
        if incident.state in ("approved", "booked"):
            return incident
        sums = by_currency(totals(incident, (await self._store.affected(incident)).sales))
        event = self._event("approved", by, why, {"totals": sums})
        if not await self._store.approve(incident_id, event):
            return await self._not_in(incident_id, "open")
        return await self._found(incident_id)

    async def book(self, incident_id: str, tick: Tick = lambda _done, _all: None) -> bool:
        """Make good what an approved incident still owes; whether all of it is booked now. May run
        in several places at once, and again after it was cut short."""
        incident = await self._found(incident_id)
        if incident is None or incident.state not in ("approved", "booked"):
            return False
        approval = next(
            one for one in await self._store.events(incident_id) if one.state == "approved"
        )
        gate = asyncio.Semaphore(self._limits.at_once_max)

        async def one(sale: DueSale) -> None:
            async with gate:
                await self._make_good(incident, approval, sale)

        after = FIRST
        tick(*await self._counted(incident_id))
        while due := await self._store.due(incident_id, after=after, limit=self._limits.batch_max):
            async with asyncio.TaskGroup() as group:
                for sale in due:
                    group.create_task(one(sale))
            after = due[-1].attempt_id
            tick(*await self._counted(incident_id))
        if await self._store.due(incident_id, limit=1):
            return False
        await self._finish(incident, approval)
        return True

    async def close(
        self, incident_id: str, *, by: str, why: str, keep_paused: bool = False
    ) -> Incident | Refusal | None:
        """End a booked incident: its hold and (unless kept) its pause are lifted."""
        return await self._end(incident_id, "booked", "closed", by, why, keep_paused=keep_paused)

    async def cancel(self, incident_id: str, *, by: str, why: str) -> Incident | Refusal | None:
        """End an open incident of which nothing was booked: pause and hold are lifted."""
        return await self._end(incident_id, "open", "cancelled", by, why)

    async def turn(self, _lease: Lease) -> int:
        """The job: go on with what is approved; how many incidents came to be booked."""
        approved = await self._store.listing(("approved",))
        return sum([await self.book(one.incident_id) for one in approved])

    # --- making good ------------------------------------------------------------------------------

    async def _make_good(self, incident: Incident, approval: IncidentEvent, due: DueSale) -> None:
        """One sale, in one transaction. One that is decided about at this moment is left for the
        next look."""
        began = self._clock.loop_time()
        sale = await self._returns.sale(due.attempt_id, due.buyer_id)
        if sale is None:
            return
        written = Written(at=self._clock.now(), by=approval.by, to_buyer=self._notice_id(sale))
        return_id = self._clock.new_id()

        def choose(room: Room) -> ReturnUnit | ReturnCase | None:
            known = booked_case(room)
            return known or unit_of(incident, sale, room, return_id=return_id, written=written)

        await self._at("incident_sale")
        try:
            done = await self._returns.settle(sale, incident.reason, choose)
        except Contended:
            return
        await self._at("incident_written")
        if isinstance(done, ReturnUnit):
            self._told(done.case, began)
        else:
            await self._store.nothing_left(incident.incident_id, due, self._clock.now())

    async def _finish(self, incident: Incident, approval: IncidentEvent) -> None:
        progress = await self._store.progress(incident.incident_id)
        sums: dict[str, dict[str, int]] = {}
        for one in progress:
            mine = sums.setdefault(one.currency, {"sales": 0, "credit": 0, "clawback": 0})
            mine["sales"] += one.sales
            mine["credit"] += one.credit_micros
            mine["clawback"] += one.clawback_micros
        event = self._event("booked", approval.by, approval.why, {"totals": sums})
        seller = self._book().sellers.get(incident.seller_id)
        notice = None
        if seller is not None and seller.terms.webhook_url:
            taken = {
                currency: {"sales": mine["sales"], "taken_back": text_of(mine["clawback"])}
                for currency, mine in sums.items()
            }
            notice = Notice(
                outbox_id=self._clock.new_id(),
                party_id=incident.seller_id,
                body=summary(incident, self._source_of(incident), taken),
            )
        await self._store.booked(incident.incident_id, event, notice)

    async def _counted(self, incident_id: str) -> tuple[int, int]:
        progress = await self._store.progress(incident_id)
        done = sum(one.sales for one in progress if one.state != "due")
        return done, sum(one.sales for one in progress)

    def _notice_id(self, sale: ReturnSale) -> str | None:
        buyer = self._book().buyers.get(sale.buyer_id)
        return self._clock.new_id() if buyer and buyer.terms.webhook_url else None

    def _told(self, case: ReturnCase, began: float) -> None:
        self._recorded(
            record_of(
                case,
                by=BY_INCIDENT,
                replayed=False,
                took_ms=(self._clock.loop_time() - began) * 1000,
            )
        )

    # --- parts ------------------------------------------------------------------------------------

    def _said(self, asked: Opening) -> Incident | Refusal:
        source = source_named(asked.source, self._book())
        now = self._clock.now()
        problems = [*told_problems(asked.by, asked.why), *sub_id_problems(asked.sub_id)]
        if isinstance(source, Problem):
            problems.append(source)
        if asked.since > now:
            problems.append(Problem(field="since", message="lies ahead"))
        if asked.until is not None and asked.until <= asked.since:
            problems.append(Problem(field="until", message="is not after since"))
        if asked.reason not in REASONS:
            hint = f"one of {', '.join(REASONS)}"
            problems.append(Problem(field="reason", message="is no return reason", hint=hint))
        if problems or isinstance(source, Problem):
            return not_valid(*problems)
        return Incident(
            incident_id=self._clock.new_id(),
            seller_id=source.seller_id,
            source_id=source.id,
            sub_id=asked.sub_id,
            since=asked.since,
            until=asked.until,
            reason=asked.reason,
            why=asked.why,
            seller_bears=asked.seller_bears,
            state="open",
            opened_at=now,
            opened_by=asked.by,
        )

    async def _end(
        self,
        incident_id: str,
        was: Literal["open", "booked"],
        to: Literal["closed", "cancelled"],
        by: str,
        why: str,
        *,
        keep_paused: bool = False,
    ) -> Incident | Refusal | None:
        incident = await self._found(incident_id)
        if incident is None or (problems := told_problems(by, why)):
            return None if incident is None else not_valid(*problems)
        if incident.state == to:
            return incident
        event = self._event(to, by, why, {"keep_paused": keep_paused})
        keep_pause = self._clock.new_id() if keep_paused else None
        if not await self._store.end(incident_id, was, event, keep_pause=keep_pause):
            return await self._not_in(incident_id, was)
        return await self._found(incident_id)

    async def _found(self, incident_id: str) -> Incident | None:
        return await self._store.find(incident_id) if is_id(incident_id) else None

    async def _not_in(self, incident_id: str, wanted: str) -> Refusal:
        found = await self._found(incident_id)
        state = "gone" if found is None else found.state
        return Refusal(
            status=409,
            title="Ended otherwise",
            detail=f"This incident is {state}; it would have to be {wanted}.",
        )

    def _event(
        self,
        state: Literal["approved", "booked", "closed", "cancelled"],
        by: str,
        why: str,
        detail: dict[str, object],
    ) -> IncidentEvent:
        return IncidentEvent(state=state, at=self._clock.now(), by=by, why=why, detail=detail)

    def _source_of(self, incident: Incident) -> str:
        book = self._book()
        source = book.parties.sources.get(incident.source_id)
        seller = book.sellers.get(incident.seller_id)
        if source is None or seller is None:
            return str(incident.source_id)
        return f"{seller.key}/{source.key}"
