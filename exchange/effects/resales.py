"""Returned leads, read for whoever offers them again, and what came to nothing, written. What comes
to an INTENT is written by the commit writer alone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from exchange.core.model import is_id
from exchange.core.records import ResaleRow
from exchange.core.resale import ReturnedLead
from exchange.effects.sql import queries


class Resales:
    """`database` acts as exchange_app."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._sql = queries("resales")

    async def due(self, since: datetime, reasons: Sequence[str], *, limit: int) -> tuple[str, ...]:
        """Leads returned since a moment for one of these reasons, not looked at yet: the one that
        waits longest first."""
        rows = await self._database.fetch(self._sql["due"], since, list(reasons), limit)
        return tuple(row["lead_id"] for row in rows)

    async def lead(self, lead_id: str, *, by_hand: bool) -> ReturnedLead | None:
        """A lead as it stands; `None` when there is none of this id."""
        if not is_id(lead_id):
            return None
        row = await self._database.fetchrow(self._sql["lead"], lead_id, by_hand)
        return None if row is None else msgspec.convert(dict(row), ReturnedLead)

    async def note(self, row: ResaleRow) -> None:
        """That it was looked at, and why it came to nothing."""
        await self._database.execute(self._sql["note"], row)

    async def audit(self, *, by: str, lead_id: str, why: str) -> None:
        """Who offered it again by hand."""
        await self._database.execute(self._sql["audit"], by, lead_id, {"why": why})
