"""Accounting periods in the database: what stands against closing one, and the transaction that
closes it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import date, datetime
from typing import Any, Final, Protocol

import asyncpg

from exchange.core.model import Fact
from exchange.core.periods import NAMED_MAX, Found, LineName, PeriodRow
from exchange.effects.sql import queries

BY_END: Final[tuple[LineName, ...]] = (
    *("in_doubt", "returns", "documents", "payments", "incidents", "negative", "rollups"),
)
"""The lines that look at everything before the period's end."""


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app, with time to sum."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class Waiver(Fact, frozen=True, kw_only=True):
    """A line that was let pass: what it said, by whom and why."""

    line: str
    found: str
    by: str
    why: str
    at: datetime


class Balance(Fact, frozen=True, kw_only=True):
    """What an account had before a moment: debits less credits."""

    party: str
    party_kind: str
    kind: str
    currency: str
    debit_micros: int
    credit_micros: int
    balance_micros: int


class Closing(Fact, frozen=True, kw_only=True):
    """What an account did in a closed period."""

    party: str
    party_kind: str
    kind: str
    currency: str
    opening_micros: int
    debit_micros: int
    credit_micros: int
    closing_micros: int
    transfers: int


class Refused(Exception):
    """The database refuses these days: somebody else opened a period meanwhile."""


class Busy(Exception):
    """Somebody holds transfers open; nothing was done, and it may be tried again."""


class Changed(Exception):
    """What the checklist saw has changed since; nothing was written."""


class Periods:
    """The periods of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("periods")

    # --- reading ----------------------------------------------------------------------------------

    async def all(self) -> tuple[PeriodRow, ...]:
        """Every period, the oldest first."""
        rows = await self._database.fetch(self._sql["all"])
        return tuple(PeriodRow(**dict(row)) for row in rows)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Any]:
        """A connection that sees one moment of the books, and writes nothing."""
        async with self._database.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection

    async def found(self, connection: Any, period: PeriodRow) -> dict[LineName, Found]:
        """What stands against closing, by line of the checklist."""
        return {name: await self._found(connection, name, period.until) for name in BY_END}

    async def transfers(self, connection: Any, period: PeriodRow) -> int:
        """How many transfers the period has."""
        sql = self._sql["transfers"]
        return int(await connection.fetchval(sql, period.since, period.until))

    async def waivers(self, period_id: int) -> tuple[Waiver, ...]:
        """What was let pass when it closed."""
        rows = await self._database.fetch(self._sql["waivers"], period_id)
        return tuple(Waiver(**dict(row)) for row in rows)

    async def closing(self, period_id: int) -> tuple[Closing, ...]:
        """What every account did in a closed period."""
        rows = await self._database.fetch(self._sql["closing"], period_id)
        return tuple(Closing(**dict(row)) for row in rows)

    async def balances(self, before: datetime, party: str | None = None) -> tuple[Balance, ...]:
        """What the accounts (of one party) have before a moment."""
        rows = await self._database.fetch(self._sql["balances_now"], before, party)
        return tuple(Balance(**dict(row)) for row in rows)

    # --- writing ----------------------------------------------------------------------------------

    async def open(self, first: date, last: date, zone: str, *, by: str) -> int:
        """A new period; its id. Raises `Refused`, also for a zone that Postgres does not know."""
        try:
            async with self._database.transaction() as connection:
                made = int(await connection.fetchval(self._sql["open"], first, last, zone, by))
                detail = {"first": str(first), "last": str(last), "zone": zone}
                await self._audit(connection, by, "period.open", made, detail)
        except asyncpg.ExclusionViolationError as refused:
            raise Refused(refused.message) from None
        return made

    async def settle(self, period_id: int) -> None:
        """Wait for whoever is writing transfers. Raises `Busy` rather than hold them up."""
        try:
            await self._database.fetchval(self._sql["settle"], period_id)
        except asyncpg.LockNotAvailableError:
            raise Busy("somebody is writing transfers and does not end") from None

    @asynccontextmanager
    async def held(self, period: PeriodRow, *, transfers: int) -> AsyncIterator[Any]:
        """The transaction that closes the period: nothing dated in it is written meanwhile. Raises
        `Changed` when it has not the transfers that the checklist saw, or is closed."""
        async with self._database.transaction() as connection:
            if await connection.fetchval(self._sql["hold"], period.id) is not None:
                raise Changed("it is closed")
            if await self.transfers(connection, period) != transfers:
                raise Changed("it has other transfers than the checklist saw")
            yield connection

    async def close(
        self,
        connection: Any,
        period: PeriodRow,
        *,
        waived: Mapping[str, str],
        by: str,
        why: str,
    ) -> None:
        """Within `held`: write the closing balances, what was waived (line and what it said), and
        lock it."""
        sql = self._sql
        await connection.execute(sql["balances"], period.id, period.since, period.until)
        await connection.execute(
            sql["waive"], period.id, list(waived), list(waived.values()), by, why
        )
        try:
            await connection.execute(sql["close"], period.id, by)
        except asyncpg.RestrictViolationError as refused:  # by its own clock it is too early
            raise Changed(refused.message) from None
        detail = {"first": str(period.first), "last": str(period.last), "why": why}
        await self._audit(
            connection, by, "period.close", period.id, detail | {"waived": dict(waived)}
        )

    async def _audit(
        self, connection: Any, by: str, action: str, period_id: int, detail: Mapping[str, Any]
    ) -> None:
        subject = f"period {period_id}"
        await connection.execute(self._sql["audit"], by, action, subject, detail)

    async def _found(self, connection: Any, name: str, until: datetime) -> Found:
        row = await connection.fetchrow(self._sql[name], until, NAMED_MAX)
        return Found(wrong=row["wrong"], first=tuple(row["first"]))
