"""Incidents in Postgres. What makes a sale good is written by `effects/returns.py`, which marks the
incident's sale in the same transaction; so each is booked once, whoever tries and whenever."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import msgspec

from exchange.core.incidents import MOVES, AffectedSale, Incident, State
from exchange.core.model import Fact
from exchange.core.return_cases import AuditRow
from exchange.effects.sql import queries

FIRST: Final = "00000000-0000-0000-0000-000000000000"
"""Before every id."""


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class IncidentPause(Fact, frozen=True, kw_only=True):
    """The pause that an incident makes."""

    pause_id: str
    source_id: int
    sub_id: str | None
    incident_id: str
    since: datetime
    by: str
    why: str


class PayoutHold(Fact, frozen=True, kw_only=True):
    """A payout that is held: an amount of a currency, or (both `None`) all of it."""

    hold_id: str
    party_id: int
    incident_id: str | None
    currency: str | None
    amount_micros: int | None
    since: datetime
    by: str
    why: str


class IncidentEvent(Fact, frozen=True, kw_only=True):
    """That an incident came to a state."""

    state: State
    at: datetime
    by: str
    why: str
    detail: Mapping[str, Any] = {}


class Progress(Fact, frozen=True, kw_only=True):
    """Sales of an incident by what became of them (`due`: not yet booked), buyer and currency."""

    state: Literal["due", "credited", "recovered", "nothing_left"]
    buyer_id: int
    currency: str
    sales: int
    credit_micros: int
    clawback_micros: int


class DueSale(Fact, frozen=True, kw_only=True):
    """A sale that an approved incident still has to make good."""

    lead_id: str
    attempt_id: str
    buyer_id: int


class Affected(Fact, frozen=True, kw_only=True):
    """The sales of an incident, and how many posts of its leads are in doubt."""

    sales: tuple[AffectedSale, ...]
    in_doubt: int


class Notice(Fact, frozen=True, kw_only=True):
    """What the seller is told when all is booked."""

    outbox_id: str
    party_id: int
    body: Any


class IncidentStore:
    """Writes incidents and reads what they are about."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("incidents")

    # --- moves ------------------------------------------------------------------------------------

    async def open(
        self,
        incident: Incident,
        pause: IncidentPause,
        holds: Sequence[PayoutHold],
        detail: dict[str, Any],
    ) -> None:
        """A new incident with its pause and holds."""
        event = {
            "incident_id": incident.incident_id,
            "state": incident.state,
            "at": incident.opened_at,
            "by": incident.opened_by,
            "why": incident.why,
            "detail": detail,
        }
        audit = AuditRow(
            by=incident.opened_by,
            action="incident.open",
            subject=incident.incident_id,
            detail=detail | {"why": incident.why},
        )
        document = msgspec.to_builtins(
            {"incident": incident, "event": event, "pause": pause, "holds": holds, "audit": audit}
        )
        await self._database.execute(self._sql["open"], document)

    async def approve(self, incident_id: str, event: IncidentEvent) -> bool:
        """Fix the sales of an open incident; false when it is not open."""
        async with self._database.transaction() as connection:
            moved = await self._moved(connection, incident_id, "open", event)
            if moved:
                await connection.execute(self._sql["fix"], incident_id)
        return moved

    async def booked(self, incident_id: str, event: IncidentEvent, notice: Notice | None) -> bool:
        """All sales of an approved incident are booked; its seller is told. False when it was."""
        async with self._database.transaction() as connection:
            moved = await self._moved(connection, incident_id, "approved", event)
            if moved and notice is not None:
                told = notice.outbox_id, notice.party_id, notice.body, event.at
                await connection.execute(self._sql["tell"], incident_id, *told)
        return moved

    async def end(
        self, incident_id: str, was: State, event: IncidentEvent, *, keep_pause: str | None
    ) -> bool:
        """Close or cancel: holds end, and so does the pause; with `keep_pause`, the id of a new
        one, the source stays paused by whoever ended this. False when it is in another state."""
        async with self._database.transaction() as connection:
            moved = await self._moved(connection, incident_id, was, event)
            if moved:
                await connection.execute(
                    self._sql["lift"],
                    incident_id,
                    event.at,
                    event.by,
                    event.why,
                    keep_pause is None,
                    keep_pause,
                )
        return moved

    async def _moved(
        self, connection: Any, incident_id: str, was: State, event: IncidentEvent
    ) -> bool:
        return bool(
            await connection.fetchval(
                self._sql["move"],
                incident_id,
                was,
                event.state,
                event.at,
                event.by,
                event.why,
                event.detail,
            )
        )

    async def nothing_left(self, incident_id: str, sale: DueSale, at: datetime) -> None:
        """A sale that needs nothing any more."""
        await self._database.execute(
            self._sql["nothing_left"], incident_id, sale.lead_id, sale.attempt_id, at
        )

    # --- reading ----------------------------------------------------------------------------------

    async def find(self, incident_id: str) -> Incident | None:
        """One incident."""
        row = await self._database.fetchrow(self._sql["find"], incident_id)
        return None if row is None else msgspec.convert(row["doc"], Incident)

    async def listing(
        self, states: Sequence[str] | None, *, limit: int = 1_000
    ) -> tuple[Incident, ...]:
        """Incidents in these states (`None`: all), the newest first."""
        asked = list(MOVES if states is None else states)
        rows = await self._database.fetch(self._sql["listing"], asked, limit)
        return tuple(msgspec.convert(row["doc"], Incident) for row in rows)

    async def events(self, incident_id: str) -> tuple[IncidentEvent, ...]:
        """What happened to an incident."""
        rows = await self._database.fetch(self._sql["events"], incident_id)
        return tuple(IncidentEvent(**dict(row)) for row in rows)

    async def affected(self, incident: Incident) -> Affected:
        """The incident's sales as they stand now."""
        asked = incident.source_id, incident.sub_id, incident.since, incident.until
        rows = await self._database.fetch(self._sql["affected"], *asked)
        paid = {
            row["currency"]: row["through"]
            for row in await self._database.fetch(self._sql["paid_through"], incident.seller_id)
        }
        sold = tuple(_sale(row, paid) for row in rows if row["state"] == "sold")
        return Affected(sales=sold, in_doubt=len(rows) - len(sold))

    async def progress(self, incident_id: str) -> tuple[Progress, ...]:
        """What became of an approved incident's sales so far."""
        rows = await self._database.fetch(self._sql["progress"], incident_id)
        return tuple(Progress(**dict(row)) for row in rows)

    async def due(self, incident_id: str, *, after: str = FIRST, limit: int) -> tuple[DueSale, ...]:
        """The next sales to make good."""
        rows = await self._database.fetch(self._sql["due"], incident_id, after, limit)
        return tuple(DueSale(**dict(row)) for row in rows)

    async def later(self, incident_id: str) -> int:
        """How many sales came after the approval (posts that were in doubt then)."""
        return int(await self._database.fetchval(self._sql["later"], incident_id))


def _sale(row: Any, paid_through: dict[str, datetime]) -> AffectedSale:
    through = paid_through.get(row["currency"])
    known = {name: row[name] for name in row.keys() if name != "state"}  # noqa: SIM118
    is_paid = through is not None and row["sold_at"] <= through
    return msgspec.convert(known | {"is_paid": is_paid}, AffectedSale)
