"""What the tallies say, read for reports: sums by a key, never a row of the journal."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Protocol

from exchange.core.quality import Quality, Seen
from exchange.core.reports import By, KeySums
from exchange.effects.sql import queries

REASONS = "reasons"


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...


class SumStore:
    """Reads the tallies; whoever asks for one party names it."""

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._sql = queries("sums")

    async def trade(
        self,
        first: date,
        last: date,
        by: By,
        *,
        seller_id: int | None = None,
        buyer_id: int | None = None,
    ) -> list[KeySums]:
        """What became of the days' leads."""
        rows = await self._database.fetch(self._sql["trade"], first, last, by, seller_id, buyer_id)
        return [_sums(row) for row in rows]

    async def reasons(
        self,
        first: date,
        last: date,
        by: By,
        *,
        seller_id: int | None = None,
        buyer_id: int | None = None,
    ) -> list[tuple[str | None, str, str, int]]:
        """Granted returns by reason: key, currency, reason, how many; the most first."""
        rows = await self._database.fetch(
            self._sql["reasons"], first, last, by, seller_id, buyer_id
        )
        return [tuple(row) for row in rows]

    async def pnl(self, first: date, last: date, by: By) -> list[KeySums]:
        """What was booked on the days."""
        rows = await self._database.fetch(self._sql["pnl"], first, last, by)
        return [_sums(row) for row in rows]

    async def seen(self, first: date, last: date) -> list[Seen]:
        """Posts and returns of the days' leads, by source and contract."""
        rows = await self._database.fetch(self._sql["quality"], first, last)
        return [Seen(**dict(row)) for row in rows]

    async def until(self) -> datetime | None:
        """Up to when everything is in; `None` before the tallies began."""
        found: datetime | None = await self._database.fetchval(self._sql["freshness"])
        return found

    async def factors(self) -> list[tuple[int, int, int, int]]:
        """What of a payout remains: vertical, source, contract, millionths."""
        return [tuple(row) for row in await self._database.fetch(self._sql["factors"])]

    async def save_factors(self, found: Sequence[Quality]) -> int:
        """Factors made anew; how many changed."""
        rows = [
            (
                one.vertical_id,
                one.source_id,
                one.contract_id,
                round(one.accept_shrunk * 1_000_000),
                round(one.return_shrunk * 1_000_000),
                one.factor_millionths,
            )
            for one in found
        ]
        if not rows:
            return 0
        columns = [list(column) for column in zip(*rows, strict=True)]
        saved = await self._database.execute(self._sql["save_factors"], *columns)
        forgotten = await self._database.execute(self._sql["forget_factors"], *columns[:3])
        return sum(int(done.rpartition(" ")[2]) for done in (saved, forgotten))


def _sums(row: Any) -> KeySums:
    columns = dict(row)
    key, currency = columns.pop("key"), columns.pop("currency")
    return KeySums(key=key, currency=currency, sums=columns)
