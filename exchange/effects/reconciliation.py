"""Our side of a reconciliation: what we hold of a partner's sales as they pass, from one snapshot
of the database."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from exchange.core.model import Fact
from exchange.core.partner_lines import OurLine, Side
from exchange.effects.sql import queries


class Partner(Fact, frozen=True, kw_only=True):
    """A buyer or seller to be reconciled with. `time_zone`: what its terms with the house name, if
    anything; `accounts`: where what is owed between us stands."""

    id: int
    side: Side
    name: str
    time_zone: str | None
    accounts: tuple[int, ...]


class Sales:
    """Reads through one connection inside a transaction, which makes everything one snapshot."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sql = queries("reconciliation")

    async def partner(self, side: Side, key: str) -> Partner | None:
        """The buyer or seller of this key; `None` when there is none."""
        row = await self._connection.fetchrow(self._sql["partner"], side, key)
        if row is None:
            return None
        return Partner(**dict(row) | {"side": side, "accounts": tuple(row["accounts"])})

    async def peppers(self) -> tuple[int, ...]:
        """The epochs of the keys that persons are hashed with."""
        rows = await self._connection.fetch(self._sql["peppers"])
        return tuple(row["epoch"] for row in rows)

    async def count(self, partner: Partner, since: datetime, until: datetime) -> int:
        """About how many lines `batches` will give."""
        text = self._sql[f"count_of_{partner.side}"]
        return int(await self._connection.fetchval(text, partner.id, since, until))

    async def batches(
        self, partner: Partner, since: datetime, until: datetime, *, size: int
    ) -> AsyncIterator[list[OurLine]]:
        """The partner's lines between two moments, so many at a time, by a cursor of the
        server's."""
        statement = await self._connection.prepare(self._sql[f"lines_of_{partner.side}"])
        cursor = await statement.cursor(partner.id, since, until, list(partner.accounts))
        while rows := await cursor.fetch(size):
            yield [_line(row) for row in rows]


def _line(row: Any) -> OurLine:
    kinds: Sequence[str] = row["kinds"]
    return OurLine(
        attempt_id=row["attempt_id"] or row["lead_id"],
        lead_id=row["lead_id"],
        reference=row["reference"],
        persons=tuple(zip(kinds, row["hashes"], strict=True)),
        sold_at=row["sold_at"],
        price_micros=row["price_micros"],
        credited_micros=row["credited_micros"],
        currency=row["currency"],
        status=row["status"],
        parts=tuple(row["parts"]),
        note=row["note"],
    )
