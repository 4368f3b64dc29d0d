"""The job that makes anew what of a bid remains: the last weeks' posts and returns, drawn towards
their vertical's, kept for the workers to rank by."""

from exchange.core.quality import WINDOW_DAYS, factor_rows
from exchange.effects.clock import Clock
from exchange.effects.leases import Lease
from exchange.effects.sums import SumStore
from exchange.flows.reports import window


class Qualities:
    """Keeps the factors."""

    def __init__(self, *, sums: SumStore, clock: Clock) -> None:
        self._sums, self._clock = sums, clock

    async def turn(self, _lease: Lease) -> int:
        """Make them anew; how many changed. Two at once would write the same."""
        first, last = window(self._clock.now().date(), WINDOW_DAYS)
        return await self._sums.save_factors(factor_rows(await self._sums.seen(first, last)))
