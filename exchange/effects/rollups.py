"""Daily balances: each account's debits and credits of a day of UTC, kept so that no balance sums
all history.

A day is rolled up once nobody can write it unnoticed any more (`SETTLED`). Whoever writes a
transfer of a day gone by raises that day's `asked` in the same transaction; the day is true again
when it has been summed by a look that saw the mark. So a reader takes what is true from here and
the rest from the transfers, and gets the same balance, whatever a job does meanwhile.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol

from exchange.effects.sql import queries

SETTLED: Final = timedelta(minutes=30)
"""How long a day must be over: twice what a stamp may be old before its writer marks its day."""


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def execute(self, sql: str, *args: Any) -> str: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class LeaseLost(Exception):
    """The job's lease moved on; nothing was written."""


class Rollups:
    """The daily balances of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("rollups")

    async def due(self, now: datetime, *, limit: int) -> tuple[date, ...]:
        """The next days to roll up, the oldest first."""
        last = (now - SETTLED).astimezone(UTC).date() - timedelta(days=1)
        rows = await self._database.fetch(self._sql["due"], last, limit)
        return tuple(row["day"] for row in rows)

    async def roll(self, day: date, *, lease: tuple[str, int] | None = None) -> None:
        """One day, from its transfers. `lease`: the job and epoch without which nothing is written
        (`LeaseLost`). Doing it again is harmless."""
        async with self._database.transaction() as connection:
            if lease is not None and not await connection.fetchval(self._sql["held"], *lease):
                raise LeaseLost(lease[0])
            await connection.execute(self._sql["roll"], day)

    async def again(self, connection: Any, day: date) -> None:
        """One day, within a transaction that has added to it; none that is yet to be rolled up."""
        if await connection.fetchval(self._sql["was_rolled"], day):
            await connection.execute(self._sql["roll"], day)

    async def ask_all(self) -> None:
        """Let every day be rolled up anew: for a database whose balances somebody has changed."""
        await self._database.execute(self._sql["ask_all"])
