"""What a run came to, read from Postgres: counts, money by party, and the books' own proofs."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Protocol

import msgspec

from exchange.core.custody import stored_row, verify
from exchange.effects.sql import queries


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """One party's sales in one currency."""

    party: str
    currency: str
    sales: int
    price_micros: int
    payout_micros: int
    fee_micros: int


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A check of the books: how much was looked at, how much was wrong."""

    count: int
    violations: int


class Report:
    """Reads a run that began at `since`."""

    def __init__(self, database: Rows, since: datetime) -> None:
        self._database, self._since = database, since
        self._sql = queries("report")

    async def totals(self) -> dict[str, dict[str, int]]:
        """Counts by state of pings, leads and attempts."""
        found: dict[str, dict[str, int]] = {"ping": {}, "lead": {}, "attempt": {}}
        for row in await self._database.fetch(self._sql["totals"], self._since):
            found[row["what"]][row["state"]] = row["count"]
        return found

    async def unsold_pings(self) -> dict[int, int]:
        """How many pings had no offer, by reason code."""
        rows = await self._database.fetch(self._sql["unsold_pings"], self._since)
        return {row["reason"]: row["count"] for row in rows}

    async def money(self, by: str) -> list[Money]:
        """Sales by `buyer` or by `seller`."""
        rows = await self._database.fetch(self._sql[f"money_by_{by}"], self._since)
        return [msgspec.convert(dict(row), Money) for row in rows]

    async def custody(self) -> Proof:
        """Whether every lead's chain verifies and ends in the head the lead names."""
        rows = await self._database.fetch(self._sql["chains"], self._since)
        count = wrong = 0
        for _, events in groupby(rows, key=lambda row: row["lead_id"]):
            chain = list(events)
            count += 1
            is_whole = chain[-1]["hash"] == chain[0]["custody_head"]
            if verify([stored_row(row) for row in chain]) is not None or not is_whole:
                wrong += 1
        return Proof(count=count, violations=wrong)

    async def added_ms(self) -> dict[str, float]:
        """Latency the exchange added to pings: p50, p99, and how many answers were late."""
        row = await self._database.fetchrow(self._sql["added"], self._since)
        return {key: float(row[key] or 0) for key in ("p50", "p99", "late", "pings")}

    async def open_doubts(self) -> int:
        """Attempts whose outcome is still open."""
        return int(await self._database.fetchval(self._sql["open_doubts"]))

    async def happened(self) -> dict[str, int]:
        """What the run met: doubts, resolved ones, fallen through, contracts skipped as full."""
        return {
            key: int(value)
            for key, value in (await self._database.fetchrow(self._sql["happened"])).items()
        }
