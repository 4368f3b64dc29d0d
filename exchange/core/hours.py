"""When a contract buys: a week of opening spans in a zone.

A day that is not written is closed, once any day is written; no hours at all means always open.
Hours are civil time, so a span keeps its wall clock through a change of daylight saving.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")

Spans = tuple[tuple[int, int], ...]
"""Open spans of one day in minutes since midnight, the end exclusive."""
Week = tuple[Spans, ...]
"""Seven days, Monday first."""


class BadHours(ValueError):
    """The text is no opening hours; the message says why in a sentence."""


def week_of(hours: Mapping[Any, str]) -> Week | None:
    """The week of a contract's `hours`; `None` when it is always open. Raises `BadHours`."""
    if not hours:
        return None
    return tuple(_spans(hours.get(day, "closed")) for day in DAYS)


def is_open(week: Week, zone: str, at: datetime) -> bool:
    """Whether the week is open at an aware moment, in the zone's civil time."""
    local = at.astimezone(ZoneInfo(zone))
    minute = local.hour * 60 + local.minute
    return any(start <= minute < end for start, end in week[local.weekday()])


def _spans(text: str) -> Spans:
    if text.strip() == "closed":
        return ()
    return tuple(_span(part.strip()) for part in text.split(","))


def _span(text: str) -> tuple[int, int]:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise BadHours('hours are written "09:00-17:00", several comma-separated, or "closed"')
    h1, m1, h2, m2 = map(int, match.groups())
    start, end = h1 * 60 + m1, h2 * 60 + m2
    if end > 24 * 60:
        raise BadHours("a day ends at 24:00")
    if end <= start:
        raise BadHours(
            'a span ends after it starts; write a night as two: "22:00-24:00", then "00:00-06:00" '
            "on the next day"
        )
    return start, end
