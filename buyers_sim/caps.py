"""Caps as a judge sees them: from the moment a buyer received a lead, in the contract's zone.

The exchange counts a lead when it reserves it; the buyer writes its truth a little later. At the
edge of a window both may be right: a sale within `SLACK` after an edge is counted in whichever of
the two windows has room, so what is called a violation cannot be explained by that.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from .events import Event
from .evidence import CapFact, Case, ContractFact, Per, micros

SLACK: Final = timedelta(seconds=150)
"""How much earlier than the buyer the exchange may have counted a lead: an offer that holds its cap
lives 120 s, and a post takes 10 s; the rest is for a busy machine."""

Sale = tuple[datetime, int]
"""When the buyer received it, and how much of the cap it takes (1, or micros)."""


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """What one window of a cap (for one segment of it) holds. `least` is its smallest sale."""

    contract: str
    cap: CapFact
    segment: str
    held: int
    least: int

    def is_over(self) -> bool:
        return self.held > self.cap.limit()

    def is_full(self) -> bool:
        """Whether not even the smallest sale would still fit."""
        return self.held + self.least > self.cap.limit()

    def __str__(self) -> str:
        segment = f" ({self.segment})" if self.segment else ""
        return f"{self.contract}: {self.held} in a window of {self.cap}{segment}"


class Unjudged(ValueError):
    """A cap that the evidence cannot judge; the text says why."""


def cap_fillings(case: Case) -> tuple[list[Filling], list[str]]:
    """Every window of every cap that holds something, and what cannot be judged."""
    sales: defaultdict[str, list[Event]] = defaultdict(list)
    for events in case.accepted.values():
        for event in events:
            sales[event.contract].append(event)
    found: list[Filling] = []
    unjudged: list[str] = []
    for key, events in sales.items():
        contract = case.market.contracts.get(key)
        if contract is None:
            unjudged.append(f"{len(events)} leads of an unknown contract `{key}`")
            continue
        for cap in contract.caps:
            try:
                found.extend(_fillings_of(case, key, contract, cap, events))
            except ValueError as error:
                unjudged.append(f"{key}: {cap}: {error}")
    return found, unjudged


def _fillings_of(
    case: Case, key: str, contract: ContractFact, cap: CapFact, events: Iterable[Event]
) -> Iterator[Filling]:
    if contract.zone is None and cap.per in ("day", "week", "month"):
        raise Unjudged("no zone")
    zone = ZoneInfo(contract.zone or "UTC")
    segments: defaultdict[str, list[Sale]] = defaultdict(list)
    for event in events:
        amount = 1 if cap.leads is not None else micros(event.price)
        segments[_segment(case, cap, event)].append((event.at, amount))
    for segment, sales in segments.items():
        least = min(amount for _, amount in sales)
        for held in fillings(sales, per=cap.per, limit=cap.limit(), zone=zone).values():
            yield Filling(contract=key, cap=cap, segment=segment, held=held, least=least)


def _segment(case: Case, cap: CapFact, event: Event) -> str:
    """The value of the cap's field: as the buyer received it, else as the seller sent it."""
    if cap.each is None:
        return ""
    lead = msgspec.json.decode(event.body).get("lead", {})
    for part in (lead, *case.sent_parts(event.lead_id)):
        if part.get(cap.each) is not None:
            return str(part[cap.each])
    raise Unjudged(f"nobody said the {cap.each} of lead {event.lead_id}")


def fillings(sales: Sequence[Sale], *, per: Per, limit: int, zone: ZoneInfo) -> dict[int, int]:
    """By window, what it holds at least when sales at its edges count where there is room."""
    fixed: defaultdict[int, int] = defaultdict(int)
    movable: defaultdict[int, int] = defaultdict(int)
    for at, amount in sales:
        earlier, later = window(per, at - SLACK, zone), window(per, at, zone)
        (fixed if earlier == later else movable)[earlier] += amount
        fixed[later] += 0
    held: dict[int, int] = {}
    carried = 0
    for number in sorted(fixed.keys() | movable.keys()):
        least = fixed[number] + carried
        stays = min(max(limit - least, 0), movable[number])
        carried = movable[number] - stays
        held[number] = least + stays
    return held


def window(per: Per, at: datetime, zone: ZoneInfo) -> int:
    """The number of the window that `at` falls in; later windows have higher numbers.

    Hours are UTC hours (an hour that a clock change repeats is two windows); days, weeks (from
    Monday) and months are those of the calendar in `zone`.
    """
    local = at.astimezone(zone)
    match per:
        case "hour":
            return int(at.timestamp() // 3600)
        case "day":
            return local.toordinal()
        case "week":
            return (local.toordinal() - 1) // 7  # day 1 of the calendar was a Monday
        case "month":
            return local.year * 12 + local.month
        case "total":
            return 0
