"""The jobs process: everything the exchange does when nobody waits for it.

Each job runs in one process at a time, under its own lease; the others stand by and take over when
it expires. The top of each job's loop catches everything, says it in one line and goes on: a job
that fails is tried again at its next turn, and no job stops another.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Any, Protocol

import msgspec

from exchange.effects.clock import Clock
from exchange.effects.leases import Boots, Deposed, Lease, Leases

Say = Callable[[str, Mapping[str, Any]], None]
"""One log line: an event and its fields, nothing personal."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Something done again and again: `turn` does one round under the lease and answers what is
    worth a log line (falsy: nothing). `every_s`: the pause between rounds, in seconds."""

    name: str
    every_s: float
    turn: Callable[[Lease], Awaitable[Any]]


class Partitioned(Protocol):
    """The part of the database that partitions need."""

    async def fetchval(self, sql: str, *args: Any) -> Any: ...


def partitions(database: Partitioned, clock: Clock, *, days_ahead: int) -> Callable[..., Any]:
    """The job that keeps `days_ahead` days of partitions (yesterday's too: a lead minted just
    before midnight commits just after); answers how many it made."""

    async def turn(_lease: Lease) -> int:
        today: date = clock.now().date()
        return int(
            await database.fetchval(
                "SELECT ensure_partitions($1::date - 1, $2::integer)", today, days_ahead + 2
            )
        )

    return turn


async def run(
    jobs: Sequence[Job],
    *,
    leases: Leases,
    boots: Boots,
    boot_id: str,
    beat_every_s: float,
    stop: asyncio.Event,
    say: Say,
) -> None:
    """Runs until `stop` is set; the rounds under way are finished, the leases given up."""
    async with asyncio.TaskGroup() as group:
        heart = group.create_task(
            beating(boots, boot_id, "jobs", every_s=beat_every_s, stop=stop, say=say)
        )
        loops = [group.create_task(_loop(job, leases, stop, say)) for job in jobs]
        await asyncio.gather(*loops, heart)


async def beating(
    boots: Boots, boot_id: str, kind: str, *, every_s: float, stop: asyncio.Event, say: Say
) -> None:
    """Registers this process and beats until `stop` is set; then it leaves in good order, so that
    nobody waits for it to be missed. Every process of the exchange runs this, and stops it only
    when it has drained: what a boot that left has open is taken up by reconcile at once."""
    is_known = False
    while not stop.is_set():
        try:
            if is_known:
                await boots.beat(boot_id)
            else:
                await boots.register(boot_id, kind)
                is_known = True
        except Exception as fault:
            say("beat_missed", {"boot_id": boot_id, **_fault(fault)})
        await _pause(stop, every_s)
    if not await boots.leave(boot_id):
        say("leave_missed", {"boot_id": boot_id})


async def _loop(job: Job, leases: Leases, stop: asyncio.Event, say: Say) -> None:
    """One job, for as long as the process lives."""
    lease: Lease | None = None
    while not stop.is_set():
        try:
            lease = await _held(job, leases, lease)
            if lease is not None:
                done = await _turned(job, leases, lease)
                if done:
                    say("job", {"job": job.name, "epoch": lease.epoch, "done": str(done)})
        except Deposed:
            say("job_deposed", {"job": job.name, "epoch": lease.epoch if lease else 0})
            lease = None
        except Exception as fault:
            say("job_failed", {"job": job.name, **_fault(fault)})
        await _pause(stop, job.every_s)
    if lease is not None and not await leases.give_up(lease):
        say("give_up_missed", {"job": job.name})


async def _held(job: Job, leases: Leases, lease: Lease | None) -> Lease | None:
    """The lease for the next round: renewed, or taken if it is free."""
    if lease is None:
        return await leases.acquire(job.name)
    await leases.renew(lease)
    return lease


async def _turned(job: Job, leases: Leases, lease: Lease) -> Any:
    """One round, its lease renewed as long as it takes; cut short when the lease is lost, for then
    another process has begun the same round."""
    turn = asyncio.ensure_future(job.turn(lease))
    try:
        while True:
            done, _ = await asyncio.wait({turn}, timeout=leases.renew_every_s)
            if done:
                return turn.result()
            await leases.renew(lease)
    finally:
        turn.cancel()
        await asyncio.wait({turn})


def _fault(fault: Exception) -> dict[str, str]:
    """What may be logged of a fault: its kind and where it came up, never its message."""
    frame = traceback.extract_tb(fault.__traceback__)[-1]
    return {"fault": type(fault).__name__, "at": f"{frame.name}:{frame.lineno}"}


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Waits, but not past `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
