"""What the terms of a return policy come to: until when a return may be asked for, how many of a
cycle's sales may be returned, what is agreed for a reason, what a seller gives back.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from exchange.core import criteria
from exchange.core.model import Fact, Value
from exchange.core.reasons import ReturnReason
from exchange.core.terms import ClawbackTerms, Criterion, ReasonTerms, ReturnTerms, WindowTerms

WINDOW_HOURS: Final = 120
"""The window of terms that name none: five days is what most purchase agreements give."""
MILLION: Final = 1_000_000


class Cycle(Fact, frozen=True, kw_only=True):
    """The billing cycle a sale lies in: `m2026-11` or `w2026-45`, from the first moment to just
    before `ends_at`, in UTC."""

    name: str
    starts_at: datetime
    ends_at: datetime


# --- how many -------------------------------------------------------------------------------------


def agreed_for(reason: ReturnReason, terms: ReturnTerms | None) -> ReasonTerms | None:
    """What a policy says of a reason; `None` when it does not accept it."""
    reasons = terms.reasons if terms is not None else ()
    if isinstance(reasons, dict):
        return reasons.get(reason.label)
    return ReasonTerms() if reason.label in reasons else None


def allowed(
    rate: Decimal | None,
    count: int | None,
    *,
    sales: int,
    rounding: Literal["down", "half_up", "up"],
) -> int | None:
    """How many of a cycle's sales may be returned: the smaller of a count and a rate of the sales,
    made whole by the rounding rule. `None`: as many as there are."""
    most = [] if count is None else [count]
    if rate is not None:
        share = millionths(rate) * sales
        extra = {"down": 0, "half_up": MILLION // 2, "up": MILLION - 1}[rounding]
        most.append((share + extra) // MILLION)
    return min(most, default=None)


def millionths(share: Decimal) -> int:
    """A share (1 is the whole) in millionths; those of a market in force have no smaller parts."""
    return int(share * MILLION)


# --- the contract at the sale ---------------------------------------------------------------------


class Kept(NamedTuple):
    """Whether a record kept to a contract's area (ZIP codes and states) and to its other criteria;
    `None` where that is not known."""

    area: bool | None
    criteria: bool | None


def kept(
    where: Mapping[str, Criterion], types: Mapping[str, str], known: Mapping[str, Value | None]
) -> Kept:
    """How a record stands to the criteria of the contract in force at the sale. `types` are those
    of the vertical's schema; `known` has what is known of the record, seller, source and sub_id
    too, with `None` for what it lacks. A contract without such criteria is kept by any record."""
    met: dict[bool, list[bool | None]] = {True: [], False: []}
    for field, said in where.items():
        kind = types.get(field, "code")
        test = criteria.test_of(said, kind)
        is_area = kind == "us_zip" or field == "state"
        met[is_area].append(test.met(known[field]) if field in known else None)
    return Kept(area=_all(met[True]), criteria=_all(met[False]))


def _all(met: Sequence[bool | None]) -> bool | None:
    if False in met:
        return False
    return None if None in met else True


# --- time -----------------------------------------------------------------------------------------


def closes_at(window: WindowTerms, sold_at: datetime, zone: str) -> datetime:
    """The first moment that is too late, in UTC. Hours are hours, whatever the clocks do; days end
    at the midnight of the zone. The day of delivery is no business day of the window; the 1st of
    the next month may be. A day that a month lacks is its last. No calendar of holidays is kept."""
    place = ZoneInfo(zone)
    day = sold_at.astimezone(place).date()
    if window.window_until_day is not None:
        first = _month_after(day)
        last = _month_after(first) - timedelta(days=1)
        until = first + timedelta(days=window.window_until_day - 1)
        return _end_of(min(until, last), place)
    start = sold_at
    if window.window_from == "next_month":
        day = _month_after(day) - timedelta(days=1)
        start = _end_of(day, place)
    if window.window_business_days is not None:
        return _end_of(_business_day(day, window.window_business_days), place)
    hours = WINDOW_HOURS if window.window_hours is None else window.window_hours
    return start.astimezone(UTC) + timedelta(hours=hours)


def clawback_share(
    clawback: ClawbackTerms | None, *, sold_at: datetime, requested_at: datetime, zone: str
) -> Decimal:
    """The share of its payout that the seller gives back of a return asked for at `requested_at`: 0
    without clawback terms or outside their window. `zone` is the seller's, else the contract's. The
    moment of asking counts, so that no seller gains by a slow decision."""
    if clawback is None or requested_at >= closes_at(clawback, sold_at, zone):
        return Decimal(0)
    return clawback.share


def cycle_of(at: datetime, terms: ReturnTerms, zone: str) -> Cycle:
    """The billing cycle that a moment lies in, in the contract's zone. Weeks are ISO weeks."""
    place = ZoneInfo(zone)
    day = at.astimezone(place).date()
    if terms.cycle == "week":
        first = day - timedelta(days=day.weekday())
        year, week, _ = day.isocalendar()
        name, last = f"w{year:04d}-{week:02d}", first + timedelta(days=6)
    else:
        first = day.replace(day=1)
        name, last = f"m{day.year:04d}-{day.month:02d}", _month_after(day) - timedelta(days=1)
    return Cycle(
        name=name,
        starts_at=_end_of(first - timedelta(days=1), place),
        ends_at=_end_of(last, place),
    )


def lapses_at(referred_at: datetime, terms: ReturnTerms | None) -> datetime:
    """When a case that nobody decides closes by itself."""
    return referred_at + timedelta(hours=(terms or ReturnTerms()).lapse_hours)


def _end_of(day: date, place: ZoneInfo) -> datetime:
    """The midnight after a civil day, in UTC: of one that the clocks skip the moment they jump to,
    of one that they repeat the first."""
    after = day + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=place).astimezone(UTC)


def _business_day(day: date, number: int) -> date:
    """The n-th day from Monday to Friday after a day."""
    weeks, rest = divmod(number, 5)
    weekday = min(day.weekday(), 4)  # a weekend counts from its Friday
    day += timedelta(days=weekday - day.weekday() + 7 * weeks)
    return day + timedelta(days=rest + (2 if weekday + rest > 4 else 0))


def _month_after(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)
