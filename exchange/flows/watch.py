"""What a worker does beside answering: keep its knowledge fresh.

Once a second the cleared bits are read again: windows thought full (is there room?), posts in doubt
(of every worker), hours, health. A new book is taken in as the store hands it over. Nothing here
may stop the worker: the top of the loop catches everything, says so, and goes on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

from exchange.core.caps import cap_of, parts_of, period_of
from exchange.core.wallets import WHOLE, left_micros
from exchange.effects.caps import Caps
from exchange.effects.clock import Clock
from exchange.effects.leads import Leads
from exchange.flows.standing import FullWindow, Standing

FACTORS_EVERY_S: Final = 30.0
"""They are made anew every ten minutes; half a minute later every worker ranks by them."""
Say = Callable[..., Any]
"""Log one event of the process: `say("event", key=value)`."""


class FactorSource(Protocol):
    """Where it is read how much remains of a bid: vertical, source, contract, millionths."""

    async def factors(self) -> Sequence[tuple[int, int, int, int]]: ...


class Watch:
    """The background of one worker."""

    def __init__(
        self,
        *,
        clock: Clock,
        standing: Standing,
        caps: Caps,
        leads: Leads,
        say: Say,
        every_ms: int,
        brake_count: int,
        brake_s: int,
        factors: FactorSource | None = None,
    ) -> None:
        self._factor_source, self._factors_due = factors, 0.0
        self._clock, self._standing, self._caps, self._leads = clock, standing, caps, leads
        self._say, self._every_s = say, every_ms / 1000
        self._brake_count, self._brake_s = brake_count, brake_s

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for part in (self._room, self._doubts, self._factors):
                try:
                    await part()
                except Exception as fault:
                    self._say("watch_failed", part=part.__name__, fault=type(fault).__name__)
            self._standing.refresh(self._clock.now())
            await asyncio.sleep(self._every_s)

    async def learn(self) -> None:
        """One look at everything, before anything is sold. Raises `ConnectionError`,
        `TimeoutError`."""
        await self._room()
        await self._doubts()
        self._standing.refresh(self._clock.now())

    async def _room(self) -> None:
        """Windows thought full that have room again (a release, a raised cap, a period's end)."""
        by_buyer: dict[int, list[Any]] = {}
        for full in self._standing.full_windows():
            by_buyer.setdefault(full.buyer_id, []).append(full)
        for buyer_id, windows in by_buyer.items():
            used = await self._caps.used(buyer_id, [full.win for full in windows])
            for full in windows:
                if self._is_open(full, used):
                    self._standing.forget_full(full)

    def _is_open(self, full: FullWindow, used: Mapping[str, tuple[int, int]]) -> bool:
        """Room under the cap as the market now has it, or a window that is over (its period, or in
        the zone that it was named in): its next ping is tried, and the reserve of its next post
        tells."""
        if full.currency is not None:
            return left_micros(sum(used.get(full.win, (WHOLE, 0)))) > 0
        contract = self._standing.book.contracts.get(full.contract_id)
        cap = None if contract is None else cap_of(contract, full.win)
        if contract is None or cap is None:
            return True
        if parts_of(full.win).period != period_of(cap, self._clock.now(), contract.time_zone):
            return True
        taken = sum(used.get(full.win, (0, 0)))
        least = 1 if cap.unit == "leads" else contract.bid_min_micros or 1
        return bool(taken + least <= cap.limit)

    async def _factors(self) -> None:
        """What remains of bids, where any vertical ranks by it."""
        source, now = self._factor_source, self._clock.loop_time()
        if source is None or now < self._factors_due or not self._standing.needs_factors:
            return
        self._standing.learn_factors(await source.factors())
        self._factors_due = now + FACTORS_EVERY_S

    async def _doubts(self) -> None:
        since = self._clock.now() - timedelta(seconds=self._brake_s)
        self._standing.learn_doubts(await self._leads.doubts(since, count=self._brake_count))
