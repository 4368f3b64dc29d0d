"""The tallies in Postgres: what is in, the facts that are not yet, and the sums they add to.

Everything of one step is one transaction: the facts read, the sums written, and how far it got. So
a step that is cut short never happened, and one that is done is never done twice.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any, Final, Literal, Protocol

from exchange.core.tallies import Currencies, Folded, Journaled
from exchange.effects.sql import queries

Name = Literal["pings", "leads", "posts", "returns", "money", "settled"]
NAMES: Final[tuple[Name, ...]] = ("pings", "leads", "posts", "returns", "money", "settled")
ROWS_AT_ONCE: Final = 2_000
"""Journal rows decoded in one go: some eight milliseconds in which the jobs process does nothing
else."""
CLEARED: Final = ("clear_pings", "clear_trade", "clear_money")


class Transactions(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> Any: ...


class TallyStore:
    """The tallies, for the job that keeps them and for the command that makes a day anew."""

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._sql = queries("tallies")

    async def progress(self) -> dict[str, datetime]:
        """How far each kind of fact is in; empty before the first start."""
        rows = await self._database.fetch(self._sql["progress"])
        return {row["name"]: row["until"] for row in rows}

    async def begin(self) -> datetime | None:
        """The first moment there can be a fact of; `None` when there are none."""
        found: datetime | None = await self._database.fetchval(self._sql["begin"])
        return found

    async def start(self, at: Mapping[Name, datetime]) -> None:
        """Begin from these moments; harmless when it has begun."""
        await self._database.execute(self._sql["start"], list(at), list(at.values()))

    @asynccontextmanager
    async def step(self) -> AsyncIterator["Step"]:
        """One step: all of it or nothing."""
        async with self._database.transaction() as connection:
            yield Step(connection, self._sql)


class Step:
    """A step under way. The moments of `add_*` include the first and not the last."""

    def __init__(self, connection: Any, sql: Mapping[str, str]) -> None:
        self._connection, self._sql = connection, sql

    async def advance(
        self, name: Name, old: datetime, new: datetime, *, lease: tuple[str, int] | None
    ) -> bool:
        """From `old` on to `new`; false when somebody else has moved on, or the lease (job, epoch)
        is lost."""
        moved = await self._connection.fetchval(
            self._sql["advance"], name, old, new, *(lease or (None, None))
        )
        return moved is not None

    async def held(self) -> dict[str, datetime]:
        """How far each kind of fact is in, and stays until this step ends."""
        rows = await self._connection.fetch(self._sql["progress_held"])
        return {row["name"]: row["until"] for row in rows}

    async def add_pings(self, since: datetime, until: datetime) -> int:
        """Pings and their answers, of a part of one UTC day; how many pings."""
        versions = await self._connection.fetch(self._sql["currencies"])
        currencies = Currencies(tuple(row) for row in versions)
        folded = Folded()
        rows = await self._connection.cursor(self._sql["pings"], since.date(), since, until)
        while found := await rows.fetch(ROWS_AT_ONCE):
            folded.add(_journaled(found, currencies))
        await self._write(since.date(), folded)
        return sum(sums.pings for sums in folded.pings.values())

    async def _write(self, day: date, folded: Folded) -> None:
        if folded.pings:
            by_ping = [(*k, s.pings, s.offers, s.offered_micros, s.late)
                       for k, s in folded.pings.items()]  # fmt: skip
            await self._connection.execute(self._sql["add_pings"], day, *_columns(by_ping))
        if folded.bids:
            by_bid = [(*k, s.invited, s.bids, s.bid_micros, s.below_floor, s.no_bids, s.timeouts,
                       s.errors, s.wins, round(s.waited_ms))
                      for k, s in folded.bids.items()]  # fmt: skip
            await self._connection.execute(self._sql["add_bids"], day, *_columns(by_bid))

    async def add_leads(self, since: datetime, until: datetime) -> None:
        """Leads of a part of one UTC day."""
        await self._connection.execute(self._sql["add_leads"], since.date(), since, until)

    async def add_posts(self, since: datetime, until: datetime, day: date | None = None) -> None:
        """What happened to attempts, of leads of one day or of any."""
        first = last = day
        if day is None:
            found = await self._connection.fetchrow(self._sql["days_of"], since, until)
            first, last = found["first"], found["last"]
        if first is not None:
            await self._connection.execute(self._sql["add_posts"], since, until, first, last)

    async def add_money(self, since: datetime, until: datetime) -> None:
        """What was booked."""
        await self._connection.execute(self._sql["add_money"], since, until)

    async def returned_days(self, since: datetime) -> tuple[date, ...]:
        """The days of leads whose returns may have moved since."""
        rows = await self._connection.fetch(self._sql["returned_days"], since)
        return tuple(row["day"] for row in rows)

    async def recount_returns(self, day: date) -> None:
        """The returns of a day's leads as they stand."""
        await self._connection.execute(self._sql["recount_returns"], day)

    async def clear(self, day: date) -> None:
        """A day counts nothing, to be added again within this step."""
        for name in CLEARED:
            await self._connection.execute(self._sql[name], day)

    async def counts(self, day: date, at: Mapping[str, datetime]) -> tuple[dict[str, int], ...]:
        """What a day's facts count, those that are in by `at`, and what its tallies count."""
        facts = await self._connection.fetchrow(
            self._sql["facts_of_day"], day, at["pings"], at["leads"], at["posts"], at["money"]
        )
        tally = await self._connection.fetchrow(self._sql["tally_of_day"], day)
        return dict(facts), dict(tally)


def _journaled(rows: Iterable[Any], currencies: Currencies) -> Iterable[Journaled]:
    for seller_id, source_id, vertical_id, version, has_offer, payout, is_late, bids in rows:
        currency = currencies.of(vertical_id, version)
        yield Journaled(
            seller_id, source_id, vertical_id, currency, has_offer, payout, is_late, bids
        )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
