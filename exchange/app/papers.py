"""What commands about documents and payments stand on: a few connections, the clock, the house."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import typer

from exchange.app.commands import err, plainly, settings_of, used_wrongly
from exchange.app.documents import house_of
from exchange.app.processes import servers
from exchange.core.messages import Refusal
from exchange.core.money import AMOUNT_MICROS_MAX, BadMoney, micros_of
from exchange.core.statements import Period
from exchange.core.terms import HouseTerms
from exchange.effects.clock import Clock
from exchange.effects.documents import DocumentStore, PeriodBooks
from exchange.effects.payments import PaymentStore
from exchange.effects.postgres import Database, connect
from exchange.flows.payments import Payments

T = TypeVar("T")
TIMEOUT_MS = 1_800_000
"""A month-end takes a minute or two; half an hour is a mistake."""
HOUSE_ZONE = "UTC"
"""Whose days papers have where neither the command nor a period says."""

First = Annotated[
    datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the period.")
]
Last = Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")]
Zone = Annotated[str | None, typer.Option(help="Whose days.  [default: the house's]")]


class Papers:
    """The parts of such a command."""

    def __init__(self, url: str, database: Database, house: HouseTerms) -> None:
        self._url = url
        self.database, self.house, self.clock = database, house, Clock()
        self.documents = DocumentStore(database)
        self.payments = PaymentStore(database)
        self.paying = Payments(store=self.payments, documents=self.documents, clock=self.clock)

    @asynccontextmanager
    async def period_books(self) -> AsyncIterator[PeriodBooks]:
        """The books in one snapshot."""
        async with self.snapshot() as connection:
            yield PeriodBooks(connection)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Any]:
        """A connection that reads one snapshot, as long as it takes, and writes nothing. Not the
        reader's: its rule of rows is asked of every transfer of the month."""
        connection = await connect(
            self._url,
            role="exchange_app",
            application_name="papers",
            statement_timeout_ms=TIMEOUT_MS,
        )
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection
        finally:
            await connection.close()

    async def zone(self, named: str | None) -> ZoneInfo:
        """The zone named, else that of the house's periods. Raises `typer.Exit`."""
        if named is None:
            named = await self.database.fetchval(
                "SELECT to_jsonb(p) ->> 'zone' FROM period p ORDER BY to_day DESC LIMIT 1"
            )
        try:
            return ZoneInfo(named or HOUSE_ZONE)
        except (KeyError, ValueError, OSError):
            raise used_wrongly(f"there is no time zone {named}") from None

    async def period(self, first: datetime, last: datetime, zone: str | None) -> Period:
        """The period asked for. Raises `typer.Exit`."""
        try:
            return Period(first=first.date(), last=last.date(), zone=await self.zone(zone))
        except ValueError as bad:
            raise used_wrongly(str(bad)) from None

    async def day_end(self, day: date, zone: str | None) -> datetime:
        """The moment a day has ended."""
        return Period(first=day, last=day, zone=await self.zone(zone)).until


def with_papers(data_dir: str | None, work: Callable[[Papers], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on the books of this data folder or database."""
    with plainly():
        settings = settings_of(data_dir=data_dir)
        house = house_of(settings)
        with servers(settings) as urls:
            return asyncio.run(_worked(urls.database_url, house, work))


async def _worked(
    url: str, house: HouseTerms, work: Callable[[Papers], Coroutine[Any, Any, T]]
) -> T:
    database = await Database.open(
        url,
        role="exchange_app",
        size=2,
        application_name="papers",
        statement_timeout_ms=TIMEOUT_MS,
    )
    try:
        return await work(Papers(url, database, house))
    finally:
        await database.close()


def amount_of(text: str) -> int:
    """An amount as finance types it. Raises `typer.Exit`."""
    try:
        return micros_of(text.replace(",", ""), most_micros=AMOUNT_MICROS_MAX)
    except BadMoney as bad:
        raise used_wrongly(f"{bad}, such as 1250.00") from None


def refused(refusal: Refusal) -> typer.Exit:
    """Says why; raise what it answers."""
    for one in refusal.problems:
        hint = f" ({one.hint})" if one.hint else ""
        err.print(f"[red]refused[/] {one.field}: {one.message}{hint}", highlight=False)
    if not refusal.problems:
        err.print(f"[red]refused[/] {refusal.detail}", highlight=False)
    return typer.Exit(1)
