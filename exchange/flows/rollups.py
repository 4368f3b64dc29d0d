"""The daily balances, kept up: as a job, a few days a turn, and by hand, all that are due."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Final, Protocol

from exchange.effects.clock import Clock
from exchange.effects.leases import Deposed, Lease
from exchange.effects.rollups import LeaseLost

DAYS_MAX: Final = 60
"""Days of one turn: a first run over years goes on at the next."""
EVER: Final = 40_000
"""More days than any ledger has."""


class Days(Protocol):
    """What is asked of the daily balances."""

    async def due(self, now: datetime, *, limit: int) -> tuple[date, ...]: ...
    async def roll(self, day: date, *, lease: tuple[str, int] | None = None) -> None: ...
    async def ask_all(self) -> None: ...


class KeepingDays:
    """The job that rolls up each day once it is over, and again when it has changed."""

    def __init__(self, *, days: Days, clock: Clock) -> None:
        self._days, self._clock = days, clock

    async def turn(self, lease: Lease) -> int:
        """One round; answers how many days were rolled up."""
        due = await self._days.due(self._clock.now(), limit=DAYS_MAX)
        for day in due:
            try:
                await self._days.roll(day, lease=(lease.job, lease.epoch))
            except LeaseLost as lost:
                raise Deposed(str(lost)) from None
        return len(due)


async def roll_up(
    days: Days, now: datetime, *, anew: bool = False, tick: Callable[[int, int], None]
) -> int:
    """Roll up every day that is due (`anew`: every day there is); how many. `tick` hears how many
    are done, of how many."""
    if anew:
        await days.ask_all()
    due = await days.due(now, limit=EVER)
    for number, day in enumerate(due, start=1):
        await days.roll(day)
        tick(number, len(due))
    return len(due)
