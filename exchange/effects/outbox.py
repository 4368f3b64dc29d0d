"""The outbox table: what is owed to parties after a commit, until they have it or it is dead."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from exchange.core.model import Fact
from exchange.effects.sql import queries


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...


class Notice(Fact, frozen=True, kw_only=True):
    """Something to be told to a party. `tries`: how often that was tried before."""

    outbox_id: str
    lead_id: str
    party_id: int
    kind: str
    body: dict[str, Any]
    at: datetime
    tries: int


class Tried(Fact, frozen=True, kw_only=True):
    """How a try went. `result` is for people: a status or what stood in the way."""

    state: Literal["sent", "pending", "dead"]
    next_try_at: datetime
    at: datetime
    result: str


class Outbox:
    """Reads what is due and marks what was tried."""

    def __init__(self, database: Rows, *, per_party_max: int, batch_max: int) -> None:
        self._database = database
        self._per_party_max, self._batch_max = per_party_max, batch_max
        self._sql = queries("outbox")

    async def due(self, now: datetime) -> tuple[Notice, ...]:
        """The notices whose time has come."""
        rows = await self._database.fetch(
            self._sql["due"], now, self._per_party_max, self._batch_max
        )
        return tuple(Notice(**dict(row)) for row in rows)

    async def mark(self, notice: Notice, tried: Tried, *, job: str, epoch: int) -> bool:
        """Writes down a try; false when the lease of `job` moved on (then it may be told twice:
        receivers know a repeat by its id)."""
        done = await self._database.fetchval(
            self._sql["mark"],
            notice.lead_id,
            notice.outbox_id,
            tried.state,
            tried.next_try_at,
            tried.result,
            tried.at,
            job,
            epoch,
        )
        return bool(done)
