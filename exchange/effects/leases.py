"""Who is alive, and who may run which job.

A *boot* is one life of one process: it registers, beats, and is dead once it has missed its beats
(then reconcile may finish what it began). A *lease* is the right to run a job, held by one boot
until it expires. Every takeover raises the lease's `epoch`, and the writes of a job check that the
epoch is still theirs: a holder that slept through its lease is refused by the database, whatever it
believes. All times are Postgres's own, so hosts' clocks do not matter.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import asyncpg
import msgspec

from exchange.effects.sql import queries

_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...


class Deposed(Exception):
    """The lease was lost: another process runs the job now, and nothing was written."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to run `job`, while `epoch` is the newest."""

    job: str
    epoch: int


class Boots:
    """The heartbeats of processes. A boot that missed its beats for `dead_after_s` is dead; one
    that left in good order is dead at once, for whatever it left open nobody else will finish."""

    def __init__(self, database: Rows, *, dead_after_s: float) -> None:
        self._database = database
        self._dead_after_s = dead_after_s
        self._sql = queries("leases")

    async def register(self, boot_id: str, kind: str) -> None:
        """This process is alive from now on; `kind` says what it does (`serve`, `jobs`)."""
        await self._database.execute(self._sql["boot_register"], boot_id, kind)

    async def beat(self, boot_id: str) -> None:
        """Still alive. To be called several times per `dead_after_s`."""
        await self._database.execute(self._sql["boot_beat"], boot_id)

    async def leave(self, boot_id: str) -> bool:
        """This process has drained and stops: nothing of it is under way. False when the database
        is away; then it is missed by its beats."""
        try:
            await self._database.execute(self._sql["boot_leave"], boot_id)
        except _AWAY:
            return False
        return True

    async def dead_boots(self) -> tuple[str, ...]:
        """Boots that no longer beat and may have left something open. Empty while Postgres itself
        has only just started: nobody could beat while it was away."""
        rows = await self._database.fetch(self._sql["boots_dead"], self._dead_after_s)
        return tuple(row["boot_id"] for row in rows)


class Leases:
    """Leases of one process. `ttl_s`: how long a lease holds without renewal, in seconds."""

    def __init__(self, database: Rows, *, boot_id: str, ttl_s: float) -> None:
        self._database = database
        self._boot_id = boot_id
        self._ttl_s = ttl_s
        self._sql = queries("leases")

    @property
    def renew_every_s(self) -> float:
        """How often a holder renews: two may fail before the lease is lost."""
        return self._ttl_s / 3

    async def acquire(self, job: str) -> Lease | None:
        """The lease of the job under a new epoch, or `None` while another process holds it."""
        epoch = await self._database.fetchval(
            self._sql["lease_acquire"], job, self._boot_id, self._ttl_s
        )
        return None if epoch is None else Lease(job=job, epoch=epoch)

    async def renew(self, lease: Lease) -> None:
        """Holds the lease for another `ttl_s`. Raises `Deposed`."""
        epoch = await self._database.fetchval(
            self._sql["lease_renew"], lease.job, lease.epoch, self._ttl_s
        )
        if epoch is None:
            raise Deposed(f"the lease of {lease.job} was taken over")

    async def give_up(self, lease: Lease) -> bool:
        """Lets the next process take the job at once. Harmless when it was lost already; false when
        the database is away, and the lease expires by itself."""
        try:
            await self._database.execute(self._sql["lease_give_up"], lease.job, lease.epoch)
        except _AWAY:
            return False
        return True
