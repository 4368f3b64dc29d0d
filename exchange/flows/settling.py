"""Settling sellers' months: who has tiers, whose month is over, what it came to."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from exchange.core.tiers import Month
from exchange.effects.clock import Clock
from exchange.effects.leases import Lease
from exchange.effects.settlements import Settled, Settlements, Tiered

MONTHS_BACK: Final = 3
"""How many months the job looks back: a return of an older sale is settled by hand."""
BY_JOB: Final = "terms job"


class CannotSettle(ValueError):
    """The month or seller asked for cannot be settled; the message says why."""


class Settling:
    """Settles months, by hand or as a job."""

    def __init__(self, *, settlements: Settlements, clock: Clock) -> None:
        self._settlements, self._clock = settlements, clock

    async def settle(
        self, month: str, *, only: Sequence[str] = (), by: str, dry_run: bool = False
    ) -> tuple[Settled, ...]:
        """What a month came to for every seller with tiers (or those named), booked unless
        `dry_run`; a month under way can only be looked at. Raises `CannotSettle`."""
        _month(month)
        sellers = await self._settlements.tiered()
        unknown = sorted(set(only) - {one.key for one in sellers})
        if unknown:
            raise CannotSettle(f"{', '.join(unknown)} has no tiers")
        chosen = [one for one in sellers if not only or one.key in only]
        now = self._clock.now()
        running = [one.key for one in chosen if Month(name=month, zone=one.zone).until > now]
        if running and not dry_run:
            raise CannotSettle(f"{month} is not over for {', '.join(running)}; see --dry-run")
        return await self._settled(chosen, month, now, by, dry_run=dry_run)

    async def turn(self, lease: Lease) -> int:
        """Settles the months that are over, and again the ones before; how many parts were booked.
        Raises `settlements.LeaseLost`."""
        now = self._clock.now()
        due: dict[str, list[Tiered]] = {}
        for seller in await self._settlements.tiered():
            for name in ended(now, seller.zone, MONTHS_BACK):
                due.setdefault(name, []).append(seller)
        booked = 0
        for name, sellers in sorted(due.items()):
            settled = await self._settled(sellers, name, now, BY_JOB, lease=lease)
            booked += sum(one.part > 0 for one in settled)
        return booked

    async def _settled(
        self,
        sellers: Sequence[Tiered],
        month: str,
        now: datetime,
        by: str,
        *,
        dry_run: bool = False,
        lease: Lease | None = None,
    ) -> tuple[Settled, ...]:
        if not sellers:
            return ()
        return await self._settlements.settle(
            sellers,
            month,
            at=now,
            by=by,
            new_id=self._clock.new_id,
            dry_run=dry_run,
            lease=None if lease is None else (lease.job, lease.epoch),
        )


def ended(now: datetime, zone: str, count: int) -> tuple[str, ...]:
    """The last months that are over in a zone, the newest first."""
    first = now.astimezone(ZoneInfo(zone)).date().replace(day=1)
    found = []
    for _ in range(count):
        first = (first - timedelta(days=1)).replace(day=1)
        found.append(f"{first:%Y-%m}")
    return tuple(found)


def _month(name: str) -> None:
    try:
        Month(name=name, zone="UTC")
    except ValueError as bad:
        raise CannotSettle(f"{name} is no month: write it as 2026-11") from bad
