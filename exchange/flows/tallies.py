"""The job that keeps the tallies, and making days of them anew.

```
facts ─► a slice of time, older than its margin ─► added, and the watermark moved, in one step
a day that ended an hour ago ─► its facts counted once more ─► other than its tally: made anew
```
A fact has its moment before it is in the database: what is committed later than its margin after
its moment is missed by the slices. The second line catches that; so does `exchange report rebuild`
for any days at any time.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final

from exchange.core.model import Fact
from exchange.core.tallies import days, facts_gone, slices, wrong_sums
from exchange.effects.clock import Clock
from exchange.effects.leases import Deposed, Lease
from exchange.effects.tallies import Name, Step, TallyStore

MARGIN: Final[dict[Name, timedelta]] = {
    "pings": timedelta(minutes=2),  # the journal saves within 100 ms, later while Postgres is away
    "leads": timedelta(minutes=15),  # an offer is taken up within offer_ttl_ms, 5 minutes at most
    "posts": timedelta(minutes=2),  # a moment is taken just before its commit
    "money": timedelta(minutes=2),
    "returns": timedelta(minutes=2),
}
"""How long after its moment a fact is waited for; clocks of hosts may differ within it too."""
ADDED: Final[dict[Name, Callable[[Step, datetime, datetime], Awaitable[object]]]] = {
    "pings": Step.add_pings,
    "leads": Step.add_leads,
    "posts": Step.add_posts,
    "money": Step.add_money,
}
"""What only ever adds; returns are counted again instead."""
SPAN: Final = {name: timedelta(hours=1) if name == "pings" else timedelta(days=1) for name in ADDED}
"""The most that one step takes in: what a fault costs to be read again. A day of pings may be ten
million."""
SETTLED_AFTER: Final = timedelta(hours=1)
"""When a day that has ended is compared with its facts."""


class TallyTurn(Fact, frozen=True, kw_only=True):
    """What a round did that is worth a line: days that had to be made anew."""

    mended: tuple[date, ...]


class FactsGone(Exception):
    """A day cannot be made anew: its facts were dropped for their age. Nothing was changed."""


class Tallies:
    """Keeps the tallies."""

    def __init__(self, *, store: TallyStore, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def turn(self, lease: Lease) -> TallyTurn | None:
        """Take in every fact that is old enough; compare a day that has ended."""
        progress, now = await self._begun(), self._clock.now()
        await self._taken_in(progress, now, lease)
        mended = await self._settled(progress["settled"], now, lease)
        return TallyTurn(mended=mended) if mended else None

    async def _taken_in(
        self,
        progress: Mapping[str, datetime],
        now: datetime,
        lease: Lease | None,
        margins: Mapping[Name, timedelta] = MARGIN,
    ) -> None:
        for name, add in ADDED.items():
            for since, until in slices(progress[name], now - margins[name], SPAN[name]):
                async with self._store.step() as step:
                    await _advanced(step, name, since, until, lease)
                    await add(step, since, until)
        await self._returns(progress["returns"], now - margins["returns"], lease)

    async def _begun(self) -> dict[str, datetime]:
        progress = await self._store.progress()
        if len(progress) < len(MARGIN) + 1:
            now = self._clock.now()
            first = _midnight((await self._store.begin() or now).date(), now.tzinfo)
            at: dict[Name, datetime] = dict.fromkeys(MARGIN, first)
            await self._store.start({**at, "settled": _midnight(now.date(), now.tzinfo)})
            progress = await self._store.progress()
        return progress

    async def _returns(self, since: datetime, until: datetime, lease: Lease | None) -> None:
        """Cases change as they stand, so the days of those that may have are counted again; what
        was decided within the margin is looked at twice."""
        if until <= since:
            return
        async with self._store.step() as step:
            await _advanced(step, "returns", since, until, lease)
            for day in await step.returned_days(since):
                await step.recount_returns(day)

    async def _settled(self, since: datetime, now: datetime, lease: Lease) -> tuple[date, ...]:
        """The days that ended since the last look, made anew where their facts say otherwise."""
        mended = []
        while since + timedelta(days=1) + SETTLED_AFTER <= now:
            async with self._store.step() as step:
                await _advanced(step, "settled", since, since + timedelta(days=1), lease)
                if await _mended(step, since.date()):
                    mended.append(since.date())
            since += timedelta(days=1)
        return tuple(mended)

    async def rebuild(
        self,
        first: date,
        last: date,
        *,
        to_the_moment: bool = False,
        tick: Callable[[date], None] = lambda _: None,
    ) -> None:
        """Take in what is due, and make days anew from their facts. The job may run meanwhile: the
        two wait for each other, and what one took in the other finds done. `to_the_moment`: nothing
        is written any more, so no margin is kept. Raises `FactsGone`."""
        margins = dict.fromkeys(MARGIN, timedelta(0)) if to_the_moment else MARGIN
        with suppress(Deposed):  # then the job is at it
            await self._taken_in(await self._begun(), self._clock.now(), None, margins)
        for day in days(first, last):
            async with self._store.step() as step:
                await _made_anew(step, day)
            tick(day)

    async def wrong(self, first: date, last: date) -> dict[date, dict[str, tuple[int, int]]]:
        """The days whose tallies do not count what their facts do: `(facts, tally)` by name."""
        await self._begun()
        found = {}
        for day in days(first, last):
            async with self._store.step() as step:
                if differences := await _differences(step, day):
                    found[day] = differences
        return found


async def _advanced(
    step: Step, name: Name, old: datetime, new: datetime, lease: Lease | None
) -> None:
    held = (lease.job, lease.epoch) if lease else None
    if not await step.advance(name, old, new, lease=held):
        raise Deposed(f"{name} are taken in by another process")


async def _differences(step: Step, day: date) -> dict[str, tuple[int, int]]:
    return wrong_sums(*await step.counts(day, await step.held()))


async def _mended(step: Step, day: date) -> bool:
    """Whether the day had to be made anew. One whose facts are gone stays as it is."""
    facts, tally = await step.counts(day, await step.held())
    if not wrong_sums(facts, tally) or facts_gone(facts, tally):
        return False
    await _made_anew(step, day)
    return True


async def _made_anew(step: Step, day: date) -> None:
    """A day from its facts, those that are in: what comes after them is still added by slices."""
    at = await step.held()
    if gone := facts_gone(*await step.counts(day, at)):
        raise FactsGone(f"{day} has no {' nor '.join(gone)} any more; its tally stays as it is")
    zone = at["pings"].tzinfo
    begins, ends = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
    await step.clear(day)
    for since, until in slices(begins, min(ends, at["pings"]), SPAN["pings"]):
        await step.add_pings(since, until)
    await step.add_leads(begins, min(ends, at["leads"]))
    await step.add_posts(begins - timedelta(days=1), at["posts"], day)
    await step.add_money(begins, min(ends, at["money"]))
    await step.recount_returns(day)


def _midnight(day: date, zone: tzinfo | None) -> datetime:
    return datetime.combine(day, time(), zone)
