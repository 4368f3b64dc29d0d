"""A partner's file against our books: read the sheet, let our sales pass, tell each finding.

What is held is the partner's file in the few fields that matching needs (`SheetLimits.rows_max`
bounds it); our side passes in batches from one snapshot, and findings are told as they are certain.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from exchange.core.model import Fact
from exchange.core.partner_lines import OurLine, TheirLine
from exchange.core.partner_sheet import (
    WORDS,
    DayOrder,
    Field,
    Hashed,
    Reader,
    Unread,
    layout_of,
)
from exchange.core.reconciliation import Finding, Matching, Terms, Total
from exchange.effects.reconciliation import Partner


class OurSide(Protocol):
    """What is asked of our books."""

    async def partner(self, buyer_key: str) -> Partner | None: ...
    async def count(self, buyer_id: int, since: datetime, until: datetime) -> int: ...
    def batches(
        self, buyer_id: int, since: datetime, until: datetime, *, size: int
    ) -> AsyncIterator[list[OurLine]]: ...


class CannotReconcile(Exception):
    """Something is missing that must not be guessed; the message says what, in a sentence."""


class Asked(Fact, frozen=True, kw_only=True):
    """What is to be compared, and how. `first`, `last`: the period's days, both included; without
    them, those of the file. `unread_max`: more lines than these that cannot be read mean that the
    file, or the mapping, is another than it was thought to be."""

    buyer: str
    first: date | None = None
    last: date | None = None
    zone: str | None = None
    currency: str = ""
    columns: Mapping[Field, str] = {}
    day_order: DayOrder | None = None
    tolerance_days: int = 1
    batch: int = 2_000
    unread_max: int = 1_000


class Reconciled(Fact, frozen=True, kw_only=True):
    """The result. `columns`: what was read as what; `outside`: lines of theirs that belong to
    another period; `differences`: findings that are not `agreed`, lines unread included."""

    buyer: str
    first: date
    last: date
    zone: str
    tolerance_days: int
    columns: Mapping[str, str]
    our_lines: int
    their_lines: int
    outside: int
    unread: tuple[Unread, ...]
    totals: tuple[Total, ...]

    @property
    def differences(self) -> int:
        found = sum(one.findings for one in self.totals if one.verdict != "agreed")
        return found + len(self.unread)

    @property
    def ambiguous(self) -> int:
        return sum(one.ambiguous for one in self.totals)


class Tick(Protocol):
    """Told how far it is: the side (`theirs`, `ours`), so many lines more, of how many if that is
    known."""

    def __call__(self, side: str, more: int, total: int | None = None) -> None: ...


async def reconcile(
    asked: Asked,
    rows: Iterator[tuple[int, Sequence[Any]]],
    *,
    ours: OurSide,
    hashed: Hashed,
    tell: Callable[[Finding], None],
    tick: Tick,
) -> Reconciled:
    """Compares a sheet's rows (the header first) with what a buyer bought; `tell` is given every
    finding. Raises `CannotReconcile`, and what reading the rows raises."""
    partner = await ours.partner(asked.buyer)
    if partner is None:
        raise CannotReconcile(f"there is no buyer {asked.buyer}")
    zone = zone_of(asked.zone or partner.time_zone)
    columns, lines, unread = _read(asked, rows, zone, hashed, tick)
    first, last = _period(asked, lines)
    matching = Matching(lines, _terms(asked, zone, first, last))
    read = len(lines)
    lines.clear()
    since, until = _moments(first, last, asked.tolerance_days, zone)
    passed, total = 0, await ours.count(partner.id, since, until)
    async for batch in ours.batches(partner.id, since, until, size=asked.batch):
        _tell_all(matching.passed(batch), tell)
        passed += len(batch)
        tick("ours", len(batch), total)
    _tell_all(matching.rest(), tell)
    return Reconciled(
        buyer=asked.buyer,
        first=first,
        last=last,
        zone=zone.key,
        tolerance_days=asked.tolerance_days,
        columns=columns,
        our_lines=passed,
        their_lines=read + len(unread),
        outside=matching.outside,
        unread=tuple(unread),
        totals=matching.totals,
    )


def zone_of(name: str | None) -> ZoneInfo:
    """The zone of this name. Raises `CannotReconcile` when there is none."""
    if name is None:
        raise CannotReconcile("the buyer has no time zone: say whose days the file has, --zone")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CannotReconcile(f"there is no time zone {name}") from None


def _terms(asked: Asked, zone: ZoneInfo, first: date, last: date) -> Terms:
    return Terms(
        zone=zone,
        tolerance_days=asked.tolerance_days,
        first=first,
        last=last,
        currency=asked.currency,
    )


def _read(
    asked: Asked,
    rows: Iterator[tuple[int, Sequence[Any]]],
    zone: ZoneInfo,
    hashed: Hashed,
    tick: Tick,
) -> tuple[dict[str, str], list[TheirLine], list[Unread]]:
    """The sheet: which columns it has, its lines, and those that cannot be read."""
    layout = layout_of(next(rows)[1], asked.columns, WORDS)
    reader = Reader(layout, hashed=hashed, zone=zone, day_order=asked.day_order)
    lines, unread = list[TheirLine](), list[Unread]()
    for number, cells in rows:
        read = reader.line(number, cells)
        if isinstance(read, TheirLine):
            lines.append(read)
        else:
            unread.append(read)
        if len(unread) > asked.unread_max:
            first = unread[0]
            raise CannotReconcile(
                f"more than {asked.unread_max} lines cannot be read; "
                f"line {first.line}, {first.column}: {first.why}"
            )
        tick("theirs", 1)
    return {str(field): name for field, name in layout.headers.items()}, lines, unread


def _period(asked: Asked, lines: Sequence[TheirLine]) -> tuple[date, date]:
    days = [line.on for line in lines if line.on is not None]
    first, last = asked.first or min(days, default=None), asked.last or max(days, default=None)
    if first is None or last is None:
        raise CannotReconcile("the file says no days: say which with --from and --to")
    if first > last:
        raise CannotReconcile("the period ends before it begins")
    return first, last


def _moments(first: date, last: date, days: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From when to when our sales are read: the period's days in their zone, and those tolerated
    around it."""
    return (
        datetime.combine(first - timedelta(days=days), time(), zone),
        datetime.combine(last + timedelta(days=days + 1), time(), zone),
    )


def _tell_all(findings: Iterable[Finding], tell: Callable[[Finding], None]) -> None:
    for finding in findings:
        tell(finding)
