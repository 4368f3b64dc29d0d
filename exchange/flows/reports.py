"""A report asked for: the right sums for its name, narrowed to who asks."""

from datetime import date, datetime, timedelta
from typing import Protocol

from exchange.core.model import Fact
from exchange.core.quality import PauseRule, Quality, Seen, qualities
from exchange.core.reports import BY, By, KeySums, Name, Report, report, wrong_question


class Sums(Protocol):
    """What is asked of the tallies."""

    async def trade(
        self, first: date, last: date, by: By, *, seller_id: int | None, buyer_id: int | None
    ) -> list[KeySums]: ...
    async def reasons(
        self, first: date, last: date, by: By, *, seller_id: int | None, buyer_id: int | None
    ) -> list[tuple[str | None, str, str, int]]: ...
    async def pnl(self, first: date, last: date, by: By) -> list[KeySums]: ...
    async def seen(self, first: date, last: date) -> list[Seen]: ...
    async def until(self) -> datetime | None: ...


class NoReport(Exception):
    """There is no such report; the message says why, in a sentence."""


class Question(Fact, frozen=True, kw_only=True):
    """What is asked: a report of whole UTC days. `by` left out: what the report is usually told
    by. A party asks for its own alone: `seller_id`, `buyer_id`."""

    name: Name
    first: date
    last: date
    by: By | None = None
    seller_id: int | None = None
    buyer_id: int | None = None


async def report_of(asked: Question, *, sums: Sums) -> Report:
    """The report. Raises `NoReport`."""
    by = asked.by or BY[asked.name][0]
    if wrong := wrong_question(asked.name, by, asked.first, asked.last):
        raise NoReport(wrong)
    first, last = asked.first, asked.last
    if asked.name == "pnl":
        return report(asked.name, by, first, last, await sums.pnl(first, last, by))
    whose = {"seller_id": asked.seller_id, "buyer_id": asked.buyer_id}
    found = await sums.trade(first, last, by, **whose)
    if asked.name not in ("returns", "selling", "buying") or by == "reason":
        return report(asked.name, by, first, last, found)
    reasons = await sums.reasons(first, last, by, **whose)
    return report(asked.name, by, first, last, found, reasons)


async def quality_of(
    first: date, last: date, *, sums: Sums, rule: PauseRule | None = None
) -> tuple[Quality, ...]:
    """How good each source was, at each contract and at all. Raises `NoReport`."""
    if wrong := wrong_question("funnel", "source", first, last):
        raise NoReport(wrong)
    return qualities(await sums.seen(first, last), rule)


def window(today: date, days: int) -> tuple[date, date]:
    """The days up to today, today included."""
    return today - timedelta(days=days - 1), today
