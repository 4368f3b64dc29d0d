"""Pauses of sources in Postgres. `effects/book.py` reads those in force for every worker."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from exchange.core.auto_pause import AutoRule, ReturnRate
from exchange.core.model import Fact
from exchange.core.records import OutboxRow
from exchange.core.return_cases import AuditRow
from exchange.effects.sql import queries


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...


class PauseRow(Fact, frozen=True, kw_only=True):
    """A pause to be made. `incident_id`: the incident that holds it."""

    pause_id: str
    source_id: int
    sub_id: str | None
    buyer_id: int | None
    since: datetime
    by: str
    why: str
    incident_id: str | None = None
    lift_at: datetime | None = None


class ListedPause(Fact, frozen=True, kw_only=True):
    """A pause as people read it, by keys. `buyer` `None`: everywhere."""

    pause_id: str
    seller: str
    source: str
    sub_id: str | None
    buyer: str | None
    incident_id: str | None
    since: datetime
    by: str
    why: str
    lift_at: datetime | None
    lifted_at: datetime | None
    lifted_by: str | None
    lifted_why: str | None


class PauseStore:
    """Makes, lifts and lists pauses."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("pauses")

    async def pause(
        self, pause: PauseRow, audit: AuditRow, outbox: Sequence[OutboxRow] = ()
    ) -> bool:
        """Make a pause; false when the same one stands already."""
        document = msgspec.to_builtins({"pause": pause, "outbox": outbox, "audit": audit})
        return bool(await self._database.fetchval(self._sql["pause"], document))

    async def lift(
        self,
        source_id: int,
        sub_id: str | None,
        buyer_id: int | None,
        *,
        at: datetime,
        why: str,
        audit: AuditRow,
    ) -> int:
        """End what a person or a rule paused here; how many. What an incident holds stays."""
        return int(
            await self._database.fetchval(
                self._sql["lift"],
                source_id,
                sub_id,
                buyer_id,
                at,
                audit.by,
                why,
                msgspec.to_builtins(audit),
            )
        )

    async def lift_due(self, now: datetime, *, job: str, epoch: int) -> int:
        """End the pauses whose days are over; how many."""
        return int(await self._database.fetchval(self._sql["lift_due"], now, job, epoch))

    async def rates(self, rule: AutoRule, now: datetime) -> tuple[ReturnRate, ...]:
        """What came back of each source under a rule; of what was paused before, only of the sales
        made since that ended."""
        terms = rule.terms
        rows = await self._database.fetch(
            self._sql["rates"],
            rule.buyer_id,
            rule.contract_id,
            now - timedelta(days=terms.days),
            list(terms.reasons) or None,
            terms.count_open,
            terms.each == "sub_id",
        )
        return tuple(ReturnRate(**dict(row)) for row in rows)

    async def listing(
        self, source_id: int | None = None, *, lifted: bool = False, limit: int = 1_000
    ) -> tuple[ListedPause, ...]:
        """Pauses, those in force first, the newest first; with `lifted`, ended ones too."""
        rows = await self._database.fetch(self._sql["listing"], source_id, lifted, limit)
        return tuple(ListedPause(**dict(row)) for row in rows)
