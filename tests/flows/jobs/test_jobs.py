"""The jobs process: loops under leases, on the real Postgres. A failure is told and survived, a
lost lease cuts the round short, a stop is graceful."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from exchange.effects.leases import Boots, Lease, Leases
from exchange.flows.jobs import Job, beating, partitions, run

pytestmark = pytest.mark.real


class Told:
    """The log lines of a run, and a way to wait for one."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self._more = asyncio.Event()

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        self.lines.append((event, dict(fields)))
        self._more.set()

    async def heard(self, event: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                for name, fields in self.lines:
                    if name == event:
                        return fields
                self._more.clear()
                await self._more.wait()


async def running(stage: Any, boot_id: str, stop: asyncio.Event, told: Told, *jobs: Job) -> None:
    await run(
        jobs,
        leases=Leases(stage.database, boot_id=boot_id, ttl_s=30),
        boots=Boots(stage.database, dead_after_s=60),
        boot_id=boot_id,
        beat_every_s=0.05,
        stop=stop,
        say=told,
    )


async def test_a_job_that_fails_is_told_and_tried_again(stage: Any) -> None:
    stop, told = asyncio.Event(), Told()
    turns = iter((RuntimeError("first time"), RuntimeError("second"), None))

    async def turn(_lease: Lease) -> str:
        fault = next(turns)
        if fault is not None:
            raise fault
        stop.set()
        return "done at last"

    job = Job(name="brittle", every_s=0.01, turn=turn)
    await running(stage, "jobs-a", stop, told, job)
    assert [name for name, _ in told.lines] == ["job_failed", "job_failed", "job"]
    assert told.lines[0][1]["fault"] == "RuntimeError"
    assert told.lines[0][1]["at"].startswith("turn:")


async def test_one_failing_job_stops_no_other(stage: Any) -> None:
    stop, told = asyncio.Event(), Told()

    async def fails(_lease: Lease) -> None:
        raise ValueError("always")

    async def works(_lease: Lease) -> None:
        await told.heard("job_failed")
        stop.set()

    jobs = (Job(name="a", every_s=0.01, turn=fails), Job(name="b", every_s=0.01, turn=works))
    await running(stage, "jobs-b", stop, told, *jobs)
    assert stop.is_set()


async def test_a_job_runs_in_one_process_and_the_next_takes_over_when_it_stops(
    stage: Any,
) -> None:
    ran: list[str] = []
    first_stop, second_stop, told = asyncio.Event(), asyncio.Event(), Told()
    first_ran = asyncio.Event()

    async def first_turn(_lease: Lease) -> None:
        ran.append("first")
        first_ran.set()

    async def second_turn(_lease: Lease) -> None:
        ran.append("second")
        second_stop.set()

    first = asyncio.create_task(
        running(stage, "jobs-1", first_stop, told, Job(name="lone", every_s=0.01, turn=first_turn))
    )
    await first_ran.wait()
    second = asyncio.create_task(
        running(
            stage, "jobs-2", second_stop, told, Job(name="lone", every_s=0.01, turn=second_turn)
        )
    )
    first_ran.clear()
    await first_ran.wait()
    assert "second" not in ran
    first_stop.set()
    await first
    await second
    assert ran[-1] == "second"
    assert ran.index("second") == len(ran) - 1


async def test_a_round_is_cut_short_when_its_lease_is_lost(stage: Any) -> None:
    stop, told = asyncio.Event(), Told()
    began, cut = asyncio.Event(), asyncio.Event()

    async def hangs(_lease: Lease) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    leases = Leases(stage.database, boot_id="jobs-3", ttl_s=0.15)
    process = asyncio.create_task(
        run(
            [Job(name="cut", every_s=0.01, turn=hangs)],
            leases=leases,
            boots=stage.boots,
            boot_id="jobs-3",
            beat_every_s=1,
            stop=stop,
            say=told,
        )
    )
    await began.wait()
    await stage.database.execute(
        "UPDATE job_lease SET epoch = epoch + 1, boot_id = 'other',"
        " expires_at = now() + interval '1 hour' WHERE job = 'cut'"
    )
    assert (await told.heard("job_deposed"))["job"] == "cut"
    assert cut.is_set()
    stop.set()
    await process


async def test_a_process_beats_until_it_stops_and_then_leaves(stage: Any) -> None:
    stop, told = asyncio.Event(), Told()
    process = asyncio.create_task(
        beating(stage.boots, "beats", "serve", every_s=0.01, stop=stop, say=told)
    )
    first = None
    async with asyncio.timeout(10):
        while True:
            row = await stage.database.fetchrow("SELECT * FROM boot WHERE boot_id = 'beats'")
            if first and row and row["beat_at"] > first:
                break
            first = first or (row and row["beat_at"])
    assert row["ended_at"] is None
    assert row["process"] == "serve"
    stop.set()
    await process
    row = await stage.database.fetchrow("SELECT * FROM boot WHERE boot_id = 'beats'")
    assert row["ended_at"] is not None
    assert not told.lines


async def test_partitions_are_made_ahead_once(stage: Any) -> None:
    turn = partitions(stage.database, stage.clock, days_ahead=7)
    stage.clock.ahead += timedelta(days=3)
    lease = Lease(job="partitions", epoch=1)
    assert await turn(lease) > 0
    assert await turn(lease) == 0
