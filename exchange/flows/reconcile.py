"""Reconcile: finishes what a worker began and did not finish.

```
posting, its process dead or its time over ──► unknown          the hold is kept, the lead frozen
unknown, due ──► inquire ─ re-post ─ hold as sold ─ write off    the contract's policy, in its order
received or selling, nothing under way, process dead ──► unsold  nobody has the lead
ended in a process's last moments ──► Valkey is told again       idempotent by token
```

It runs in one process at a time, under a lease; should two run after all, compare-and-set makes the
second a bystander. The commits themselves carry no epoch: what a deposed reconcile learnt from a
buyer is as true as what its successor would learn.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

import msgspec

from exchange.core.doubt import Finding, next_check_at, settled_by_waiting, steps_due
from exchange.core.model import Buyer, Contract
from exchange.core.resolution import Case
from exchange.core.terms import InDoubtTerms
from exchange.effects.caps import Caps
from exchange.effects.clock import Clock
from exchange.effects.doubts import Doubts
from exchange.effects.leases import Boots, Lease, Leases
from exchange.flows.doubt import Endings, tell_caps
from exchange.flows.inquiry import Desk, Inquiries


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of reconcile. `grace_s`: how long past its deadline a post of a living worker may
    still be finished by it (its commit may be slow). `idle_s`: a lead untouched for this long with
    nothing under way belongs to no request any more; longer than any request can live. `batch_max`:
    how many cases one turn takes up; `at_once_max`: how many at a time, of inquiries how many of
    one buyer. `turn_s`: how long a turn waits for buyers; who takes longer is awaited beside the
    turns that follow, so that a buyer that hangs holds up no other."""

    grace_s: float = 5.0
    idle_s: float = 180.0
    batch_max: int = 500
    at_once_max: int = 16
    turn_s: float = 1.0
    dead_after_s: float = 5.0
    untold_within_s: float = 600.0
    untold_before_death_s: float = 30.0


class Turn(msgspec.Struct, kw_only=True):
    """What one turn did; false when there was nothing to do."""

    doubted: int = 0
    resolved: int = 0
    postponed: int = 0
    interrupted: int = 0
    failed: int = 0

    def __bool__(self) -> bool:
        return any(msgspec.structs.astuple(self))


NO_POLICY = InDoubtTerms()
"""For a contract that has left the market: the defaults, of which only writing off can be done."""


class Reconcile:
    """Reconcile as a job: call `turn` again and again."""

    def __init__(
        self,
        *,
        doubts: Doubts,
        boots: Boots,
        leases: Leases,
        endings: Endings,
        inquiries: Inquiries,
        caps: Caps,
        desk: Desk,
        clock: Clock,
        pace: Pace,
    ) -> None:
        self._doubts, self._boots, self._leases = doubts, boots, leases
        self._endings, self._inquiries, self._caps = endings, inquiries, caps
        self._desk, self._clock, self._pace = desk, clock, pace
        self._retold: set[str] = set()
        self._asking: dict[str, asyncio.Task[Literal["resolved", "postponed", "stale"]]] = {}
        self._gates: dict[int, asyncio.Semaphore] = {}

    async def turn(self, lease: Lease) -> Turn:
        """One round. A case that fails is left for the next round and counted; the first failure is
        raised at the end, so that it is seen. Raises `Deposed` when the lease was lost."""
        done = Turn()
        dead = await self._boots.dead_boots()
        failures = [
            *await self._into_doubt(dead, lease, done),
            *await self._out_of_doubt(lease, done),
            *await self._orphans(dead, lease, done),
        ]
        await self._retell()
        done.failed = len(failures)
        if failures:
            raise failures[0]
        return done

    async def stop(self) -> None:
        """Give up asking: a successor asks again."""
        for task in self._asking.values():
            task.cancel()
        if self._asking:
            await asyncio.wait(self._asking.values())

    async def _into_doubt(
        self, dead: Sequence[str], lease: Lease, done: Turn
    ) -> list[BaseException]:
        stuck = await self._doubts.stuck(
            dead,
            deadline_before=self._clock.now() - timedelta(seconds=self._pace.grace_s),
            limit=self._pace.batch_max,
        )

        async def one(case: Case) -> None:
            await self._leases.renew(lease)
            is_doubted = await self._endings.doubt(case)
            done.doubted += is_doubted

        return await self._each(stuck, one)

    async def _out_of_doubt(self, lease: Lease, done: Turn) -> list[BaseException]:
        for case in await self._doubts.due(self._clock.now(), limit=self._pace.batch_max):
            attempt_id = case.attempt.attempt_id
            if attempt_id not in self._asking:
                self._asking[attempt_id] = asyncio.create_task(self._asked(case, lease))
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=self._pace.turn_s)
        failures: list[BaseException] = []
        for attempt_id, task in tuple(self._asking.items()):
            if not task.done():
                continue
            del self._asking[attempt_id]
            if fault := task.exception():
                failures.append(fault)
            else:
                done.resolved += task.result() == "resolved"
                done.postponed += task.result() == "postponed"
        return failures

    async def _asked(self, case: Case, lease: Lease) -> Literal["resolved", "postponed", "stale"]:
        """One case: ended, or put off. `stale` when somebody else was faster."""
        buyer_id = case.attempt.buyer_id
        gate = self._gates.setdefault(buyer_id, asyncio.Semaphore(self._pace.at_once_max))
        async with gate:
            found = await self._found(case)
        await self._leases.renew(lease)
        if found is None:
            return "postponed" if await self._postponed(case, lease) else "stale"
        return "resolved" if await self._endings.end(case, found) else "stale"

    async def _found(self, case: Case) -> Finding | None:
        """The first end that the policy's steps arrive at, in their order."""
        contract, buyer = self._parties(case)
        terms = contract.terms.in_doubt if contract else NO_POLICY
        can_ask = contract is not None and buyer is not None
        steps = steps_due(
            terms,
            since=case.since,
            now=self._clock.now(),
            has_status_url=bool(can_ask and buyer and buyer.terms.status_url),
        )
        for step in steps:
            found = settled_by_waiting(step)
            if step in ("inquire", "repost") and contract is not None and buyer is not None:
                found = await self._inquiries.ask(step, case, contract, buyer)
            if found is not None:
                return found
        return None

    def _parties(self, case: Case) -> tuple[Contract | None, Buyer | None]:
        book = self._desk.book
        return book.contracts.get(case.attempt.contract_id), book.buyers.get(case.attempt.buyer_id)

    async def _postponed(self, case: Case, lease: Lease) -> bool:
        contract, _ = self._parties(case)
        terms = contract.terms.in_doubt if contract else NO_POLICY
        until = next_check_at(terms, since=case.since, now=self._clock.now())
        return await self._doubts.postpone(case, until, job=lease.job, epoch=lease.epoch)

    async def _orphans(self, dead: Sequence[str], lease: Lease, done: Turn) -> list[BaseException]:
        orphans = await self._doubts.orphans(
            dead,
            idle_before=self._clock.now() - timedelta(seconds=self._pace.idle_s),
            limit=self._pace.batch_max,
        )

        async def one(lead: Any) -> None:
            await self._leases.renew(lease)
            is_interrupted = await self._endings.interrupt(lead)
            done.interrupted += is_interrupted

        return await self._each(orphans, one)

    async def _retell(self) -> None:
        """Tells Valkey again what dead processes may not have told it, once per boot: a sale whose
        hold would expire uncounted, a refusal that would hold its room. A boot that was only taken
        for dead, and beats again, may die once more."""
        dead = await self._doubts.lately_dead(
            dead_after_s=self._pace.dead_after_s, within_s=self._pace.untold_within_s
        )
        self._retold &= set(dead)
        news = [boot_id for boot_id in dead if boot_id not in self._retold]
        untold = await self._doubts.untold(news, before_death_s=self._pace.untold_before_death_s)
        told = [
            await tell_caps(
                self._caps,
                buyer_id=one.buyer_id,
                attempt_id=one.attempt_id,
                state=one.state,
                held=one.windows,
            )
            for one in untold
        ]
        if all(told):
            self._retold.update(news)

    async def _each(
        self, cases: Sequence[Any], one: Callable[[Any], Awaitable[None]]
    ) -> list[BaseException]:
        """Every case for itself, a few at a time: one that fails holds up no other."""
        gate = asyncio.Semaphore(self._pace.at_once_max)

        async def guarded(case: Any) -> None:
            async with gate:
                await one(case)

        results = await asyncio.gather(*(guarded(case) for case in cases), return_exceptions=True)
        return [result for result in results if isinstance(result, BaseException)]
