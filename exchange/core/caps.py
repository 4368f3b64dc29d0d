"""Caps: which windows a sale counts in at a moment, and when each begins anew.

A window is named by what it counts, not by where its cap stands in the market file:

    7.0.d2026-11-01          contract 7, leads, the civil day in the contract's zone
    7.1.m2026-11             contract 7, money
    7.5488748022.t.inaq      contract 7, leads for each state, here "CA" in base 32, for ever

So an edit of a cap (another limit, another place in the file, a neighbour removed) never resets its
counter, and a name alone tells when it may be forgotten.

Days, weeks (ISO) and months are civil time of the contract's zone, else the buyer's; there is no
default. A day has 23 or 25 hours when daylight saving changes. Hours are UTC hours, by number: an
autumn night has the hour 01:00 twice, and zones off by 30 or 45 minutes share them.
"""

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from exchange.core.model import Cap, Contract, Fact

LIMIT_MAX: Final = 2**53 - 1
"""Lua counts in doubles: a larger limit is held to this (nine billion units of money)."""
FORGET_AFTER: Final = timedelta(hours=48)
"""How long after its end a window is still counted: late commits, undone sales, the statement."""
LAST_ZONE: Final = timedelta(hours=12)
"""A civil date ends everywhere on Earth 12 hours after it ends in UTC (UTC-12)."""
_HOUR: Final = 3600
_LEADS, _MONEY = 0, 1


class NoZone(ValueError):
    """A cap per day, week or month of a contract that has no zone, nor its buyer. A market with
    such a contract is refused before it comes into force."""


class Window(Fact, frozen=True, kw_only=True):
    """A window that a sale counts in: its name, how much it takes (leads or micros) of how much,
    and which of the contract's caps asked for it."""

    win: str
    limit: int
    amount: int
    cap_index: int


class SalesThen(Fact, frozen=True, kw_only=True):
    """Sales (and live attempts) of one contract at one moment: how many, and what they cost.
    `fields` are what the ping said; `segments` what their windows were named by, from a cap's
    number to its segment as it stands in a window's name."""

    at: datetime
    leads: int
    micros: int
    fields: Mapping[str, Any]
    segments: Mapping[str, str]


class WinParts(NamedTuple):
    """What a window's name says. `segment` is `None` when the cap is not for each value of a field,
    and empty for leads without the field."""

    contract_id: int
    cap: int
    period: str
    segment: str | None


def windows(
    contract: Contract,
    *,
    fields: Mapping[str, Any],
    price_micros: int,
    at: datetime,
    zone: str | None,
) -> tuple[Window, ...]:
    """The windows that a sale at this price and moment would count in, ordered by name. Two caps of
    one kind share a window, and the smaller limit holds. Raises `NoZone`."""
    found: dict[str, Window] = {}
    for cap in contract.caps:
        segment = None if cap.each is None else segment_of(fields.get(cap.each))
        window = Window(
            win=win_of(contract.id, cap, at=at, zone=zone, segment=segment),
            limit=min(cap.limit, LIMIT_MAX),
            amount=1 if cap.unit == "leads" else price_micros,
            cap_index=cap.index,
        )
        known = found.get(window.win)
        if known is None or window.limit < known.limit:
            found[window.win] = window
    return tuple(found[win] for win in sorted(found))


def recounted(
    contract: Contract, sales: Sequence[SalesThen], *, at: datetime, zone: str | None
) -> dict[str, int]:
    """What the windows that are open at `at` count, by when the sales were made and not by the
    windows they name: a market that changes a contract's zone moves a window's bounds, and one that
    gives it another cap opens a window that no sale names yet. Raises `NoZone`."""
    counts: dict[str, int] = {}
    for cap in {_prefix(cap): cap for cap in contract.caps}.values():
        period = period_of(cap, at, zone)
        is_open = {then: period_of(cap, then, zone) == period for then in {one.at for one in sales}}
        if cap.each is None:
            counts[win_of(contract.id, cap, at=at, zone=zone, segment=None)] = 0
        for one in sales:
            win = win_of(contract.id, cap, at=at, zone=zone, segment=_segment_then(cap, one))
            amount = one.leads if cap.unit == "leads" else one.micros
            counts[win] = counts.get(win, 0) + (amount if is_open[one.at] else 0)
    return counts


def _segment_then(cap: Cap, sales: SalesThen) -> str | None:
    if cap.each is None:
        return None
    named = sales.segments.get(str(cap_number(cap)))
    return segment_of(sales.fields.get(cap.each)) if named is None else _unbase32(named)


def win_of(
    contract_id: int, cap: Cap, *, at: datetime, zone: str | None, segment: str | None
) -> str:
    """The name of a cap's window at a moment. Raises `NoZone`."""
    name = f"{contract_id}.{cap_number(cap)}.{period_of(cap, at, zone)}"
    return name if segment is None else f"{name}.{_base32(segment)}"


def parts_of(win: str) -> WinParts:
    """A window's name, taken apart. Raises `ValueError` for a text that is no such name."""
    contract_id, cap, period, *rest = win.split(".")
    return WinParts(int(contract_id), int(cap), period, _unbase32(rest[0]) if rest else None)


def cap_number(cap: Cap) -> int:
    """What a cap counts, as a number: 0 leads, 1 money; with `each`, a checksum of the field's name
    beside them. Not its index, which an edit of the market file would move."""
    unit = _LEADS if cap.unit == "leads" else _MONEY
    return unit if cap.each is None else zlib.crc32(cap.each.encode()) * 2 + unit


def cap_of(contract: Contract, win: str) -> Cap | None:
    """The cap that a window counts for; `None` when the contract has it no more. Of two caps of one
    kind, the one with the smaller limit."""
    parts = parts_of(win)
    if parts.contract_id != contract.id:
        return None
    fits = [cap for cap in contract.caps if _prefix(cap) == (parts.cap, parts.period[0])]
    return min(fits, key=lambda cap: cap.limit, default=None)


def _prefix(cap: Cap) -> tuple[int, str]:
    return cap_number(cap), cap.per[0]


def segment_of(value: Any) -> str:
    """A field's value as a segment's text. Leads without the field have a segment of their own."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date) else str(value)


def held_windows(rows: Iterable[Sequence[Any]]) -> tuple[Window, ...]:
    """The windows of an attempt's row, `[[win, limit, amount], ...]`. Their `cap_index` is not
    known any more and stands at -1."""
    return tuple(
        Window(win=str(win), limit=int(limit), amount=int(amount), cap_index=-1)
        for win, limit, amount in rows
    )


# --- what the database counted, as the counters' restore takes it --------------------------------


def restored(counted: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, str, str]], int]:
    """Used amounts by window, and each live attempt's hold, with how many holds."""
    held: dict[str, list[str]] = {}
    loads: list[tuple[str, str, str]] = []
    for row in counted:
        if row["kind"] == "ended":
            continue
        part = f"{row['amount']}@{forget_at_ms(row['win'])}"
        if row["kind"] == "used":
            loads.append(("used", row["win"], part))
        else:
            held.setdefault(row["token"], []).append(f"{row['win']}={part}")
    loads += (("hold", token, ";".join(parts)) for token, parts in held.items())
    return loads, len(held)


def ended(counted: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Tokens that ended lately, and how: `C`ommitted or `U`ndone."""
    return [(row["token"], row["win"]) for row in counted if row["kind"] == "ended"]


# --- time -----------------------------------------------------------------------------------------


def needs_zone(cap: Cap) -> bool:
    """Whether the cap's period is civil time."""
    return cap.per in ("day", "week", "month")


def period_of(cap: Cap, at: datetime, zone: str | None) -> str:
    """The period a moment lies in, as it stands in a window's name. Raises `NoZone`."""
    if cap.per == "hour":
        return f"h{int(at.timestamp()) // _HOUR}"
    if cap.per == "total":
        return "t"
    day = at.astimezone(_zone(zone)).date()
    if cap.per == "day":
        return f"d{day.isoformat()}"
    if cap.per == "month":
        return f"m{day.year:04d}-{day.month:02d}"
    year, week, _ = day.isocalendar()
    return f"w{year:04d}-{week:02d}"


def resets_at(cap: Cap, at: datetime, zone: str | None) -> datetime | None:
    """When the cap begins anew after `at`, in UTC; `None` for a total. Raises `NoZone`."""
    if cap.per == "total":
        return None
    if cap.per == "hour":
        return datetime.fromtimestamp((int(at.timestamp()) // _HOUR + 1) * _HOUR, UTC)
    place = _zone(zone)
    day = _next_start(cap, at.astimezone(place).date())
    midnight = datetime(day.year, day.month, day.day, tzinfo=place)
    resets = midnight.astimezone(UTC)
    # A midnight that the clocks repeat: the first one may be over.
    return resets if resets > at else midnight.replace(fold=1).astimezone(UTC)


@lru_cache(maxsize=4096)
def forget_at_ms(win: str) -> int:
    """Unix ms after which a window's counter is of no use to anyone; 0 for a total. Read from the
    name alone, so the zone is not known and the last one on Earth is assumed."""
    period = win.split(".")[2]
    kind, when = period[0], period[1:]
    if kind == "t":
        return 0
    if kind == "h":
        end = datetime.fromtimestamp((int(when) + 1) * _HOUR, UTC)
    else:
        end = _end_of(kind, when) + LAST_ZONE
    return int((end + FORGET_AFTER).timestamp()) * 1000


def _end_of(kind: str, when: str) -> datetime:
    """The end of a civil period, as if in UTC."""
    if kind == "d":
        day = date.fromisoformat(when) + timedelta(days=1)
    elif kind == "w":
        year, week = map(int, when.split("-"))
        day = date.fromisocalendar(year, week, 7) + timedelta(days=1)
    elif kind == "m":
        year, month = map(int, when.split("-"))
        day = _month_after(date(year, month, 1))
    else:
        raise ValueError("a period is h, d, w, m or t")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _next_start(cap: Cap, day: date) -> date:
    if cap.per == "day":
        return day + timedelta(days=1)
    if cap.per == "week":
        return day + timedelta(days=7 - day.weekday())
    return _month_after(day)


def _month_after(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _zone(zone: str | None) -> ZoneInfo:
    if zone is None:
        raise NoZone("a cap per day, week or month needs a zone: the contract's, else the buyer's")
    return ZoneInfo(zone)


def _base32(text: str) -> str:
    return base64.b32encode(text.encode()).decode().rstrip("=").lower()


def _unbase32(text: str) -> str:
    return base64.b32decode(text.upper() + "=" * (-len(text) % 8)).decode()
