"""Accounting periods: whole days of the house's zone that follow one another without a gap, and the
checklist that lets one close.

A transfer's moment is the moment it is booked, so a period is complete once it is over; closing it
is a lock, which the database keeps: nothing is booked there any more, and what concerns it later (a
return of one of its sales) is booked in the period that is open then. The one thing dated back is
the accrual of returns, at the period's last microsecond, in the transaction that closes it: it
concerns the house's own accounts alone, and belongs to the month whose sales it is of.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Literal

from exchange.core.model import Fact

MARGIN: Final = timedelta(minutes=15)
"""How long a period must have ended before it may close. Whoever stamps a transfer has it written
within this time or not at all: five tries of ten seconds each are the longest wait there is. The
migration's `closing_margin()` says the same."""
MOMENT: Final = timedelta(microseconds=1)
"""The least time Postgres knows."""
NAMED_MAX: Final = 10
"""How many things in the wrong a line of the checklist names."""

LineName = Literal[
    "lock",
    "in_doubt",
    "returns",
    "documents",
    "payments",
    "incidents",
    "negative",
    "rollups",
    "proof",
]
NEVER_WAIVED: Final[frozenset[LineName]] = frozenset({"lock", "rollups", "proof"})
"""What no reason makes good."""


class LineText(Fact, frozen=True, kw_only=True):
    """What a line of the checklist asks, how it says what is wrong (after the count), and the
    command that mends it; `{id}`, `{first}` and `{last}` are the period's."""

    asks: str
    wrong: str
    mend: str


LINES: Final[dict[LineName, LineText]] = {
    "lock": LineText(
        asks="The period ended over 15 minutes ago, and the one before it is closed.",
        wrong="reasons against it",
        mend="exchange period list",
    ),
    "in_doubt": LineText(
        asks="Every post of the period has ended: sold or not.",
        wrong="posts under way or in doubt",
        mend="exchange doubt list, exchange doubt resolve",
    ),
    "returns": LineText(
        asks="Every return asked for in the period is decided.",
        wrong="returns wait for a person",
        mend="exchange returns list",
    ),
    "documents": LineText(
        asks="Every party whose money moved has its documents.",
        wrong="parties lack a document",
        mend="exchange documents issue --from {first} --to {last}",
    ),
    "payments": LineText(
        asks="Every payment of the period is matched.",
        wrong="payments are not matched, or not in full",
        mend="exchange payments list, exchange payments match",
    ),
    "incidents": LineText(
        asks="Every incident of the period is booked or closed.",
        wrong="incidents have amounts that are not booked",
        mend="exchange incident list",
    ),
    "negative": LineText(
        asks="No seller owes the house more than its terms allow.",
        wrong="sellers are below their limit",
        mend="exchange ledger write-off, or wait for their next sales",
    ),
    "rollups": LineText(
        asks="The daily balances are complete to the period's end.",
        wrong="days are not rolled up",
        mend="exchange ledger rollup",
    ),
    "proof": LineText(
        asks="The ledger proves itself.",
        wrong="things in the books do not hold",
        mend="exchange ledger prove",
    ),
}
"""The checklist, in the order in which it is worked through."""


class PeriodRow(Fact, frozen=True, kw_only=True):
    """A period as it stands; both days are included, `until` is the first moment after it."""

    id: int
    first: date
    last: date
    zone: str
    since: datetime
    until: datetime
    opened_at: datetime
    opened_by: str
    settled_at: datetime | None = None
    closed_at: datetime | None = None
    closed_by: str | None = None

    @property
    def is_closed(self) -> bool:
        return self.closed_at is not None

    @property
    def last_moment(self) -> datetime:
        """Where what closes it is dated."""
        return self.until - MOMENT


class Found(Fact, frozen=True, kw_only=True):
    """What a line of the checklist found: how much is wrong, and what comes first of it."""

    wrong: int = 0
    first: tuple[str, ...] = ()


class Line(Fact, frozen=True, kw_only=True):
    """A line of the checklist, judged. `waived`: it does not hold, and may be let pass by name."""

    name: LineName
    asks: str
    wrong: int
    says: str
    first: tuple[str, ...]
    mend: str
    may_be_waived: bool

    @property
    def holds(self) -> bool:
        return self.wrong == 0


def checklist(period: PeriodRow, found: Mapping[LineName, Found]) -> tuple[Line, ...]:
    """Every line of a period's checklist; one of which nothing was found holds."""
    days = {"id": period.id, "first": period.first, "last": period.last}
    return tuple(
        Line(
            name=name,
            asks=text.asks,
            wrong=(seen := found.get(name, Found())).wrong,
            says=f"{seen.wrong} {text.wrong}" if seen.wrong else "ok",
            first=seen.first[:NAMED_MAX],
            mend=text.mend.format(**days) if seen.wrong else "",
            may_be_waived=name not in NEVER_WAIVED,
        )
        for name, text in LINES.items()
    )


def standing_against(lines: Iterable[Line], waived: Iterable[str]) -> tuple[Line, ...]:
    """The lines for which a period may not close."""
    names = set(waived) - NEVER_WAIVED
    return tuple(line for line in lines if not line.holds and line.name not in names)


def locked(period: PeriodRow, others: Sequence[PeriodRow], now: datetime) -> Found:
    """The line `lock`: what stands against closing, whatever the books say."""
    reasons = []
    if now - MARGIN < period.until:
        may = period.until + MARGIN
        reasons.append(f"it may close from {may:%Y-%m-%d %H:%M} UTC on")
    reasons += [
        f"period {other.id}, before it, is open"
        for other in others
        if other.until <= period.since and not other.is_closed
    ]
    return Found(wrong=len(reasons), first=tuple(reasons))


def next_days(periods: Sequence[PeriodRow], first: date | None, last: date) -> tuple[date, date]:
    """The days of the period to open. Raises `ValueError`, in a sentence, for days that leave a gap
    or overlap. `first` is needed for the first period alone."""
    due = max((period.last for period in periods), default=None)
    begins = first if due is None else due + timedelta(days=1)
    if begins is None:
        raise ValueError("the first period needs its first day")
    if first is not None and first != begins:
        raise ValueError(f"the next period begins on {begins}: periods leave no gap")
    if last < begins:
        raise ValueError(f"the period would end before it begins, on {begins}")
    return begins, last
