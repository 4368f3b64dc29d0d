"""What Postgres holds of posts that nobody finished: reads, and the one write that says when to
look again. Ends are written by the commit writer alone.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from exchange.core.model import Fact
from exchange.core.records import AttemptRow
from exchange.core.resolution import Case, LeadNow
from exchange.effects.sql import queries


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...


class Doubt(Fact, frozen=True, kw_only=True):
    """One post in doubt, as an operator lists it. `windows`: the cap windows it holds, as
    `[win, limit, amount]`."""

    attempt_id: str
    lead_id: str
    buyer_id: int
    contract_id: int
    seller_id: int
    price_micros: int
    payout_micros: int
    currency: str
    windows: list[list[Any]]
    deadline_at: datetime
    next_check_at: datetime | None
    checks: int
    test: bool
    since: datetime


class DoubtFilter(Fact, frozen=True, kw_only=True):
    """Which doubts; `None` narrows nothing. `ids` are of attempts or leads."""

    buyer_id: int | None = None
    contract_id: int | None = None
    seller_id: int | None = None
    since_before: datetime | None = None
    ids: tuple[str, ...] | None = None
    limit: int = 1_000


class Untold(Fact, frozen=True, kw_only=True):
    """An attempt whose end Valkey may not know."""

    attempt_id: str
    buyer_id: int
    state: str
    windows: list[list[Any]]


class Doubts:
    """Questions about open posts, asked of Postgres."""

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._sql = queries("doubts")

    async def stuck(
        self, dead_boots: Sequence[str], *, deadline_before: datetime, limit: int
    ) -> tuple[Case, ...]:
        """Attempts in `posting` that nobody will finish."""
        rows = await self._database.fetch(
            self._sql["stuck"], list(dead_boots), deadline_before, limit
        )
        return await self.cases(row["attempt_id"] for row in rows)

    async def due(self, now: datetime, *, limit: int) -> tuple[Case, ...]:
        """Attempts in doubt that it is time to look at again."""
        rows = await self._database.fetch(self._sql["due"], now, limit)
        return await self.cases(row["attempt_id"] for row in rows)

    async def cases(self, attempt_ids: Iterable[Any]) -> tuple[Case, ...]:
        """These attempts with their leads, whatever state they are in; unknown ids are left out."""
        ids = [str(attempt_id) for attempt_id in attempt_ids]
        if not ids:
            return ()
        attempts = await self._database.fetch(self._sql["attempts_now"], ids)
        leads = await self._leads([row["lead_id"] for row in attempts])
        by_id = {lead.lead_id: lead for lead in leads}
        return tuple(
            Case(
                attempt=AttemptRow(**{name: row[name] for name in AttemptRow.__struct_fields__}),
                state=row["state"],
                since=row["since"],
                lead=by_id[row["lead_id"]],
                ping_id=row["ping_id"],
            )
            for row in attempts
            if row["lead_id"] in by_id
        )

    async def orphans(
        self, dead_boots: Sequence[str], *, idle_before: datetime, limit: int
    ) -> tuple[LeadNow, ...]:
        """Open leads that nobody will finish, with no attempt under way."""
        rows = await self._database.fetch(
            self._sql["orphans"], list(dead_boots), idle_before, limit
        )
        return await self._leads([str(row["lead_id"]) for row in rows])

    async def _leads(self, lead_ids: Sequence[str]) -> tuple[LeadNow, ...]:
        if not lead_ids:
            return ()
        rows = await self._database.fetch(self._sql["leads_now"], list(set(lead_ids)))
        return tuple(msgspec.convert(dict(row), LeadNow) for row in rows)

    async def postpone(self, case: Case, until: datetime, *, job: str, epoch: int) -> bool:
        """Look again at `until`; false when the doubt has ended or the lease of `job` moved on."""
        done = await self._database.fetchval(
            self._sql["postpone"],
            case.lead.lead_id,
            case.attempt.attempt_id,
            until,
            job,
            epoch,
        )
        return bool(done)

    async def lately_dead(self, *, dead_after_s: float, within_s: float) -> tuple[str, ...]:
        """Boots that died within the last `within_s`, with or without anything open."""
        rows = await self._database.fetch(self._sql["lately_dead"], dead_after_s, within_s)
        return tuple(row["boot_id"] for row in rows)

    async def untold(self, boots: Sequence[str], *, before_death_s: float) -> tuple[Untold, ...]:
        """What these boots ended so shortly before they died that Valkey may not have heard."""
        rows = await self._database.fetch(self._sql["untold"], list(boots), before_death_s)
        return tuple(Untold(**dict(row)) for row in rows)

    async def listing(self, narrowed: DoubtFilter) -> tuple[Doubt, ...]:
        """The posts in doubt, oldest first."""
        rows = await self._database.fetch(
            self._sql["listing"],
            narrowed.buyer_id,
            narrowed.contract_id,
            narrowed.seller_id,
            narrowed.since_before,
            None if narrowed.ids is None else list(narrowed.ids),
            narrowed.limit,
        )
        return tuple(Doubt(**dict(row)) for row in rows)

    async def audit(self, *, by: str, action: str, subject: str, detail: dict[str, Any]) -> None:
        """Remember who did it and why."""
        await self._database.execute(self._sql["audit"], by, action, subject, detail)


class SealedLeads:
    """Sealed records, read with the role that may."""

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._sql = queries("doubts")

    async def sealed(self, lead_id: str) -> tuple[int, bytes, bytes] | None:
        """`(key_epoch, wrapped_dek, sealed)`, or `None` when it was erased or never kept."""
        row = await self._database.fetchrow(self._sql["sealed"], lead_id)
        return None if row is None else (row["key_epoch"], row["wrapped_dek"], row["sealed"])
