"""A period's life: opened, checked as often as one likes, closed once.

Closing goes in three steps. Whoever is writing a transfer is waited for, so that the period holds
all it will ever hold; the checklist is read in one snapshot; then one transaction locks the period,
sees that nothing has come between, accrues what open windows are expected to cost, writes every
account's balance and throws the lock.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date
from typing import Any, Final
from zoneinfo import ZoneInfo

from exchange.core.accruals import accrual_transfers, accruals, release_transfers, totals
from exchange.core.model import Fact
from exchange.core.periods import (
    LINES,
    NEVER_WAIVED,
    Found,
    Line,
    PeriodRow,
    checklist,
    locked,
    next_days,
    standing_against,
)
from exchange.effects.accruals import Accruals, Accrued
from exchange.effects.bookings import Bookings
from exchange.effects.clock import Clock
from exchange.effects.periods import Busy, Changed, Closing, Periods, Refused, Waiver
from exchange.effects.postgres import Database
from exchange.effects.proof import proven
from exchange.effects.rollups import Rollups

WHY_MIN: Final = 3
"""Letters of a reason; fewer are none."""


class NotDone(Exception):
    """What was asked for is refused: each problem with the field it is about, in a sentence."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = dict(problems)


class Unknown(Exception):
    """There is no such period."""


class Checked(Fact, frozen=True, kw_only=True):
    """A period and its checklist. `transfers`: how many it had when it was read."""

    period: PeriodRow
    lines: tuple[Line, ...]
    transfers: int

    @property
    def may_close(self) -> bool:
        return all(line.holds for line in self.lines)


class Shown(Fact, frozen=True, kw_only=True):
    """A period as it stands: of a closed one what it closed with and what was let pass."""

    period: PeriodRow
    balances: tuple[Closing, ...]
    accrued: tuple[Accrued, ...]
    waivers: tuple[Waiver, ...]


class Accounting:
    """What finance does with periods, over connections that have time to sum the books."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._periods = Periods(database)
        self._accruals, self._bookings = Accruals(), Bookings()
        self._rollups = Rollups(database)

    async def listing(self) -> tuple[PeriodRow, ...]:
        """Every period, the oldest first."""
        return await self._periods.all()

    async def open(
        self, first: date | None, last: date, *, zone: str | None, by: str
    ) -> tuple[PeriodRow, bool]:
        """Open the period that ends with `last`; whether it was made now (one of these days may be
        there). `zone` is the first one's to choose. Raises `NotDone`."""
        known = await self._periods.all()
        for one in known:
            if one.last == last and first in (None, one.first) and zone in (None, one.zone):
                return one, False
        chosen = _zone(known, zone)
        try:
            begins, ends = next_days(known, first, last)
            made = await self._periods.open(begins, ends, chosen, by=by)
        except (ValueError, Refused) as refused:
            raise NotDone({"last": str(refused)}) from None
        return await self._one(made), True

    async def show(self, period_id: int) -> Shown:
        """One period. Raises `Unknown`."""
        return Shown(
            period=await self._one(period_id),
            balances=await self._periods.closing(period_id),
            accrued=await self._accruals.of_period(self._database, period_id),
            waivers=await self._periods.waivers(period_id),
        )

    async def check(self, period_id: int) -> Checked:
        """The checklist of a period, all of it in one look. Raises `Unknown`."""
        period = await self._one(period_id)
        async with self._periods.looking() as connection:
            found = await self._periods.found(connection, period)
            found["proof"] = await _proof(connection)
            transfers = await self._periods.transfers(connection, period)
        found["lock"] = locked(period, await self._periods.all(), self._clock.now())
        return Checked(period=period, lines=checklist(period, found), transfers=transfers)

    async def close(
        self, period_id: int, *, waived: Iterable[str] = (), by: str, why: str = ""
    ) -> tuple[Shown, bool]:
        """Close a period for good; whether it was closed now. Raises `NotDone` with every line that
        stands against it, `Unknown`."""
        period, names = await self._one(period_id), tuple(waived)
        if period.is_closed:
            return await self.show(period_id), False
        _refuse_waiving(names, why)
        not_yet = locked(period, await self._periods.all(), self._clock.now())
        if not_yet.wrong:
            raise NotDone({"lock": "; ".join(not_yet.first)})
        try:
            await self._periods.settle(period_id)
            checked = await self.check(period_id)
            against = standing_against(checked.lines, names)
            if against:
                raise NotDone({line.name: f"{line.says}: {line.mend}" for line in against})
            async with self._periods.held(period, transfers=checked.transfers) as connection:
                passed: dict[str, str] = {
                    line.name: line.says
                    for line in checked.lines
                    if not line.holds and line.name in names
                }
                await self._accrue(connection, period)
                await self._periods.close(connection, period, waived=passed, by=by, why=why)
        except (Busy, Changed) as moved:
            raise NotDone({"lock": f"{moved}; try again"}) from None
        return await self.show(period_id), True

    async def _accrue(self, connection: Any, period: PeriodRow) -> None:
        """Take back what the period before set aside, and set aside what is expected now."""
        accrued = accruals(await self._accruals.exposures(connection, period.until))
        rows = accrual_transfers(period.id, period.last_moment, totals(accrued))
        for earlier in await self._periods.all():
            if earlier.until == period.since:
                held = await self._accruals.set_aside(connection, earlier)
                rows = release_transfers(held, period.last_moment) + rows
        await self._bookings.book(connection, rows, subject="document")
        await self._accruals.write(connection, period.id, accrued)
        await self._rollups.again(connection, period.last_moment.astimezone(UTC).date())

    async def _one(self, period_id: int) -> PeriodRow:
        for period in await self._periods.all():
            if period.id == period_id:
                return period
        raise Unknown(str(period_id))


def _zone(known: tuple[PeriodRow, ...], zone: str | None) -> str:
    """Whose days a new period has: the house has one zone, chosen with its first period."""
    ours = known[-1].zone if known else zone or "UTC"
    if zone is not None and zone != ours:
        raise NotDone({"zone": f"the house's periods have the days of {ours}"})
    try:
        ZoneInfo(ours)
    except (KeyError, ValueError, OSError):
        raise NotDone({"zone": f"there is no time zone {ours}"}) from None
    return ours


def _refuse_waiving(names: Iterable[str], why: str) -> None:
    problems = {}
    for name in names:
        if name not in LINES:
            problems["waive"] = f"there is no line {name}: {', '.join(LINES)}"
        elif name in NEVER_WAIVED:
            problems["waive"] = f"no reason makes {name} good"
        elif len(why.strip()) < WHY_MIN:
            problems["why"] = "a line is let pass for a reason: say why"
    if problems:
        raise NotDone(problems)


async def _proof(connection: Any) -> Found:
    """The line `proof`: the checks that do not hold."""
    checks = (await proven(connection)).checks
    return Found(
        wrong=sum(check.wrong for check in checks),
        first=tuple(f"{check.name}: {check.wrong}" for check in checks if check.wrong),
    )
