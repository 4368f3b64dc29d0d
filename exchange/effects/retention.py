"""What may be forgotten, in the database: idempotency keys, and the sealed records of leads. Each
is done by the one role that has the right to."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Protocol

from exchange.effects.sql import queries


class Rows(Protocol):
    """The part of `postgres.Database` used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...


class Forgetting:
    """`app` reads which leads have ended, `sealed` destroys their records, `pruner` deletes keys;
    each a database under the role of that name."""

    def __init__(self, *, app: Rows, sealed: Rows, pruner: Rows) -> None:
        self._app, self._sealed, self._pruner = app, sealed, pruner
        self._sql = queries("retention")

    async def forget_keys(
        self, before_id: str, before: datetime, limit: int, *, job: str, epoch: int
    ) -> int:
        """Deletes up to `limit` answered keys of leads older than both; how many. None once the
        lease has moved on."""
        sql = self._sql["forget_keys"]
        return int(await self._pruner.fetchval(sql, before_id, before, limit, job, epoch))

    async def expired(
        self, after_id: str, unsold_before: str, ended_before: str, limit: int, *, until: date
    ) -> tuple[str, ...]:
        """The next leads, by id, whose sealed records' time is over; `until`: the last day that one
        may be of."""
        sql = self._sql["expired"]
        rows = await self._app.fetch(sql, after_id, unsold_before, ended_before, limit, until)
        return tuple(row["lead_id"] for row in rows)

    async def shred(
        self, lead_ids: Sequence[str], first: date, last: date, *, job: str, epoch: int
    ) -> int:
        """Destroys these leads' records and their keys; how many. None once the lease has moved
        on."""
        sql = self._sql["shred"]
        return int(await self._sealed.fetchval(sql, list(lead_ids), first, last, job, epoch))
