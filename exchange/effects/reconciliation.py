"""Our side of a reconciliation: a buyer's sales as they pass, from one snapshot of the database."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from exchange.core.model import Fact
from exchange.core.partner_lines import OurLine
from exchange.effects.sql import queries


class Partner(Fact, frozen=True, kw_only=True):
    """A buyer to be reconciled with. `time_zone`: what its contract with the house says, if
    anything."""

    id: int
    name: str
    time_zone: str | None


class Sales:
    """Reads through one connection inside a transaction, which makes everything one snapshot."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sql = queries("reconciliation")

    async def partner(self, buyer_key: str) -> Partner | None:
        """The buyer of this key; `None` when there is none."""
        row = await self._connection.fetchrow(self._sql["buyer"], buyer_key)
        return Partner(**dict(row)) if row is not None else None

    async def peppers(self) -> tuple[int, ...]:
        """The epochs of the keys that persons are hashed with."""
        rows = await self._connection.fetch(self._sql["peppers"])
        return tuple(row["epoch"] for row in rows)

    async def count(self, buyer_id: int, since: datetime, until: datetime) -> int:
        """About how many lines `batches` will give."""
        return int(await self._connection.fetchval(self._sql["count"], buyer_id, since, until))

    async def batches(
        self, buyer_id: int, since: datetime, until: datetime, *, size: int
    ) -> AsyncIterator[list[OurLine]]:
        """The buyer's lines between two moments, so many at a time, by a cursor of the server's."""
        statement = await self._connection.prepare(self._sql["sales"])
        cursor = await statement.cursor(buyer_id, since, until)
        while rows := await cursor.fetch(size):
            yield [_line(row) for row in rows]


def _line(row: Any) -> OurLine:
    kinds: Sequence[str] = row["kinds"]
    return OurLine(
        attempt_id=row["attempt_id"],
        lead_id=row["lead_id"],
        buyer_ref=row["buyer_ref"],
        persons=tuple(zip(kinds, row["hashes"], strict=True)),
        sold_at=row["sold_at"],
        price_micros=row["price_micros"],
        credited_micros=row["credited_micros"],
        currency=row["currency"],
        status=row["status"],
    )
