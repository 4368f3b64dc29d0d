"""What the database says when it is looked at: work that is open, and whether leads' books hold."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Protocol

from exchange.core.custody import stored_row, verify
from exchange.core.model import Fact
from exchange.effects.sql import queries


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...


class OpenAttempts(Fact, frozen=True, kw_only=True):
    """One buyer's attempts in one state (`posting` or `unknown`) and currency. `holds`: how many
    hold room under caps."""

    buyer_id: int
    state: str
    currency: str
    attempts: int
    holds: int
    price_micros: int
    oldest: datetime


class Proven(Fact, frozen=True, kw_only=True):
    """A lead that was looked at: whether its attempts are booked as they ended, and whether its
    custody chain holds up to the head the lead names."""

    lead_id: str
    is_booked: bool
    is_chained: bool


class Looks:
    """Looks, and changes nothing."""

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._sql = queries("inspection")

    async def open_attempts(self) -> tuple[OpenAttempts, ...]:
        """Attempts under way or in doubt."""
        rows = await self._database.fetch(self._sql["open_attempts"])
        return tuple(OpenAttempts(**dict(row)) for row in rows)

    async def outbox(self) -> tuple[int, datetime | None]:
        """How many webhooks are owed, and since when the oldest."""
        row = await self._database.fetchrow(self._sql["outbox"])
        return row["pending"], row["oldest"]

    async def proven(self, after: str, before: str, *, limit: int) -> tuple[Proven, ...]:
        """The next leads between two ids, exclusive, proven again from what is stored."""
        bookings = await self._database.fetch(self._sql["bookings"], after, before, limit)
        if not bookings:
            return ()
        ids = [row["lead_id"] for row in bookings]
        rows = await self._database.fetch(self._sql["chains"], ids)
        chained = {
            lead_id: _holds(list(events))
            for lead_id, events in groupby(rows, key=lambda row: row["lead_id"])
        }
        return tuple(
            Proven(
                lead_id=row["lead_id"],
                is_booked=row["misbooked"] == 0,
                is_chained=chained.get(row["lead_id"], False),
            )
            for row in bookings
        )


def _holds(rows: Sequence[Mapping[str, Any]]) -> bool:
    """A lead has at least the event of its receipt."""
    head = (rows[0]["custody_seq"], rows[0]["custody_head"])
    events = [stored_row(row) for row in rows if row["seq"] is not None]
    return bool(events) and verify(events, head=head) is None
