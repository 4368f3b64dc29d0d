"""Books that documents are made of, and a clock that is as late as a test says."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from exchange.core.records import AttemptRow
from exchange.core.statements import Period
from exchange.core.terms import HouseTerms
from exchange.effects.clock import Clock
from exchange.effects.documents import DocumentStore, PeriodBooks
from exchange.effects.postgres import Database
from exchange.effects.vault import Vault
from exchange.flows.documents import Asked, Told, issue
from tests.effects.bookkeeping import bought, returned

TODAY = datetime.now(UTC).date()
HOUSE = HouseTerms(name="The exchange")


class Later(Clock):
    """The real clock, so many days on."""

    def __init__(self, days: int = 0, hours: int = 0) -> None:
        self._by = timedelta(days=days, hours=hours)

    def now(self) -> datetime:
        return super().now() + self._by


def days(first: int = 0, last: int = 0, zone: str = "UTC") -> Period:
    """Whole days around today."""
    return Period(
        first=TODAY + timedelta(days=first),
        last=TODAY + timedelta(days=last),
        zone=ZoneInfo(zone),
    )


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


async def traded(
    database_url: str,
    folder: Path,
    *,
    sales: int,
    returns: Iterable[tuple[int, int, int, datetime]],
) -> list[AttemptRow]:
    """Sales at buyer `b` of seller `s`, now; of those by number, a return of so much, with such a
    clawback, at that moment."""
    vault = Vault.open_file(folder / "master", create=True)
    phones = [f"+1310555{number:04d}" for number in range(sales)]
    made = await bought(database_url, vault, phones)
    connection = await asyncpg.connect(database_url)
    for number, credit, clawback, at in returns:
        await returned(connection, made[number], credit, clawback, at)
    await connection.close()
    return made


async def issued(
    database: Database, reader: asyncpg.Connection, asked: Asked, *, clock: Clock | None = None
) -> list[Told]:
    """What a run tells; two days later where no clock is given."""
    told: list[Told] = []
    async with reader.transaction():
        await issue(
            asked,
            books=PeriodBooks(reader),
            store=DocumentStore(database),
            clock=clock or Later(days=2),
            house=HOUSE,
            tell=told.append,
        )
    return told


def short(told: Iterable[Told]) -> list[tuple[Any, ...]]:
    return [(one.kind, one.party, one.currency, one.total_micros, one.new) for one in told]
