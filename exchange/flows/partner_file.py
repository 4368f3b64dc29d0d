"""A partner's file against our books: read the sheet, let our sales pass, tell each finding.

The sheet is read once, row by row, and what it says put by in the memory that was given (on disk,
for a file of any length); our side passes in batches from one snapshot, and findings are told as
they are certain.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from exchange.core.model import Fact
from exchange.core.partner_lines import OurLine, Side
from exchange.core.partner_sheet import (
    SELLER_WORDS,
    WORDS,
    DayOrder,
    Field,
    Hashed,
    Reader,
    Unread,
    layout_of,
)
from exchange.core.reconciliation import Matching, Terms
from exchange.core.shelf import Memory
from exchange.core.verdicts import Finding, Total
from exchange.effects.reconciliation import Partner


class OurSide(Protocol):
    """What is asked of our books."""

    async def partner(self, side: Side, key: str) -> Partner | None: ...
    async def count(self, partner: Partner, since: datetime, until: datetime) -> int: ...
    def batches(
        self, partner: Partner, since: datetime, until: datetime, *, size: int
    ) -> AsyncIterator[list[OurLine]]: ...


class CannotReconcile(Exception):
    """Something is missing that must not be guessed; the message says what, in a sentence."""


class Asked(Fact, frozen=True, kw_only=True):
    """What is to be compared, and how. `first`, `last`: the period's days, both included; without
    them, those of the file. `unread_max`: more lines than these that cannot be read mean that the
    file, or the mapping, is another than it was thought to be."""

    side: Side
    partner: str
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

    side: Side
    partner: str
    partner_id: int
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
    memory: Memory,
    tell: Callable[[Finding], None],
    tick: Tick,
) -> Reconciled:
    """Compares a sheet's rows (the header first) with what a partner bought or sold; `memory` is
    empty, and `tell` is given every finding. Raises `CannotReconcile`, and what reading the rows
    raises."""
    partner = await ours.partner(asked.side, asked.partner)
    if partner is None:
        raise CannotReconcile(f"there is no {asked.side} {asked.partner}")
    zone = zone_of(asked.zone or partner.time_zone)
    sheet = _Sheet(asked, rows, zone, hashed)
    for count in sheet.read_into(memory):
        tick("theirs", count)
    first, last = _period(asked, sheet)
    matching = Matching((), _terms(asked, zone, first, last), memory)
    since, until = _moments(first, last, asked.tolerance_days, zone)
    passed, total = 0, await ours.count(partner, since, until)
    async for batch in ours.batches(partner, since, until, size=asked.batch):
        _tell_all(matching.passed(batch), tell)
        passed += len(batch)
        tick("ours", len(batch), total)
    _tell_all(matching.rest(), tell)
    return Reconciled(
        side=asked.side,
        partner=asked.partner,
        partner_id=partner.id,
        first=first,
        last=last,
        zone=zone.key,
        tolerance_days=asked.tolerance_days,
        columns=sheet.columns,
        our_lines=passed,
        their_lines=sheet.lines + len(sheet.unread),
        outside=matching.outside,
        unread=tuple(sheet.unread),
        totals=matching.totals,
    )


def zone_of(name: str | None) -> ZoneInfo:
    """The zone of this name. Raises `CannotReconcile` when there is none."""
    if name is None:
        raise CannotReconcile("the partner has no time zone: say whose days the file has, --zone")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CannotReconcile(f"there is no time zone {name}") from None


TICK_LINES = 500
"""How many lines are read between two steps of a progress bar."""


class _Sheet:
    """A sheet as it is read: its columns, how many lines, those that cannot be read, and the days
    it speaks of."""

    def __init__(
        self,
        asked: Asked,
        rows: Iterator[tuple[int, Sequence[Any]]],
        zone: ZoneInfo,
        hashed: Hashed,
    ) -> None:
        words = WORDS if asked.side == "buyer" else SELLER_WORDS
        layout = layout_of(next(rows)[1], asked.columns, words)
        self._reader = Reader(layout, hashed=hashed, zone=zone, day_order=asked.day_order)
        self._rows, self._unread_max = rows, asked.unread_max
        self.columns = {str(field): name for field, name in layout.headers.items()}
        self.lines = 0
        self.unread: list[Unread] = []
        self.first: date | None = None
        self.last: date | None = None

    def read_into(self, memory: Memory) -> Iterator[int]:
        """Put every line by; tells of every few how many they were."""
        for number, cells in self._rows:
            line = self._reader.line(number, cells)
            if isinstance(line, Unread):
                self._note(line)
                continue
            memory.add(line)
            self.lines += 1
            if line.on is not None:
                self.first = line.on if self.first is None else min(self.first, line.on)
                self.last = line.on if self.last is None else max(self.last, line.on)
            if self.lines % TICK_LINES == 0:
                yield TICK_LINES
        yield self.lines % TICK_LINES

    def _note(self, line: Unread) -> None:
        self.unread.append(line)
        if len(self.unread) > self._unread_max:
            first = self.unread[0]
            raise CannotReconcile(
                f"more than {self._unread_max} lines cannot be read; "
                f"line {first.line}, {first.column}: {first.why}"
            )


def _terms(asked: Asked, zone: ZoneInfo, first: date, last: date) -> Terms:
    return Terms(
        zone=zone,
        tolerance_days=asked.tolerance_days,
        side=asked.side,
        first=first,
        last=last,
        currency=asked.currency,
    )


def _period(asked: Asked, sheet: _Sheet) -> tuple[date, date]:
    first, last = asked.first or sheet.first, asked.last or sheet.last
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
