"""What the house forgets, when, and who may make it: idempotency keys and sealed records."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from exchange.core.doubt import Finding
from exchange.effects.leads import Leads
from exchange.effects.leases import Lease
from exchange.effects.postgres import Database
from exchange.effects.retention import Forgetting
from exchange.flows.replies import Replies
from exchange.flows.retention import Retention, RetentionLimits, first_id_of

pytestmark = pytest.mark.real

LIMITS = RetentionLimits(
    idem_kept_days=7, sealed_unsold_days=30, sealed_ended_days=365, batch_max=2
)


@pytest.fixture
async def pruner(database_url: str) -> AsyncIterator[Database]:
    pruner = await Database.open(database_url, role="exchange_pruner", size=1)
    yield pruner
    await pruner.close()


@pytest.fixture
async def retention(stage: Any, pruner: Database) -> Retention:
    forgetting = Forgetting(app=stage.database, sealed=stage.sealed, pruner=pruner)
    return Retention(forgetting=forgetting, clock=stage.clock, limits=LIMITS)


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    owner = await asyncpg.connect(database_url)
    yield owner
    await owner.close()


async def boot(stage: Any, *, is_dead: bool = False) -> str:
    return str(await stage.boot(stage.clock.new_id(), is_dead=is_dead))


async def leased(stage: Any, job: str) -> Lease:
    lease = await stage.leases.acquire(job)
    assert lease is not None
    return lease  # type: ignore[no-any-return]


async def keys(stage: Any) -> set[str]:
    return {row["lead_id"].hex for row in await stage.database.fetch("SELECT lead_id FROM idem")}


async def sealed(stage: Any, *lead_ids: str) -> list[bool]:
    """Whether each lead's record can still be opened."""
    found = []
    for lead_id in lead_ids:
        row = await stage.sealed.fetchrow(
            "SELECT wrapped_dek, sealed FROM lead_private WHERE lead_id = $1", lead_id
        )
        assert (row["wrapped_dek"] is None) == (row["sealed"] is None)
        found.append(row["sealed"] is not None)
    return found


# --- keys -----------------------------------------------------------------------------------------


async def test_answered_keys_are_forgotten_after_their_days_and_running_ones_are_not(
    stage: Any, retention: Retention, owner: asyncpg.Connection
) -> None:
    lease = await leased(stage, "forget_keys")
    alive = await boot(stage)
    ended, running = [await stage.begin(alive) for _ in range(5)], await stage.begin(alive)
    for began in ended:
        await stage.sold_untold(began)
    assert await retention.forget_keys(lease) == 0
    # answered as long ago as the clock is then put ahead
    await owner.execute(
        "UPDATE idem SET done_at = done_at - interval '7 days' WHERE state = 'done'"
    )
    stage.clock.ahead += timedelta(days=7, seconds=1)
    late = await stage.begin(alive)
    assert await retention.forget_keys(lease) >= 5
    left = await keys(stage)
    gone = {began.lead.lead_id.replace("-", "") for began in ended}
    assert not gone & left
    assert {one.lead.lead_id.replace("-", "") for one in (running, late)} <= left


async def test_a_key_is_refused_to_be_forgotten_while_a_retry_may_come(
    stage: Any, pruner: Database
) -> None:
    alive = await boot(stage)
    running, ended = await stage.begin(alive), await stage.begin(alive)
    await stage.sold_untold(ended)
    for began in (running, ended):
        with pytest.raises(asyncpg.RestrictViolationError):
            await pruner.execute("DELETE FROM idem WHERE lead_id = $1", began.lead.lead_id)


async def test_who_prunes_keys_can_do_nothing_else(stage: Any, pruner: Database) -> None:
    await stage.begin(await boot(stage))
    for statement in (
        "SELECT reply FROM idem",
        "UPDATE idem SET state = 'done'",
        "SELECT 1 FROM lead",
        "DELETE FROM person_key",
        "SELECT wrapped_dek FROM lead_private",
        "UPDATE job_lease SET epoch = 9",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pruner.execute(statement)


async def test_a_deposed_holder_forgets_nothing(
    stage: Any, retention: Retention, owner: asyncpg.Connection
) -> None:
    held = await leased(stage, "forget_keys")
    began = await stage.begin(await boot(stage))
    await stage.refused(began)
    lead_id = await stage.received(await boot(stage, is_dead=True))
    await stage.turn()
    await owner.execute(
        "UPDATE idem SET done_at = done_at - interval '7 days' WHERE state = 'done'"
    )
    stage.clock.ahead += timedelta(days=400)
    before, old = await keys(stage), Lease(job=held.job, epoch=held.epoch - 1)
    assert await retention.forget_keys(old) == 0
    assert await keys(stage) == before
    assert await retention.shred(old) == 0
    assert await sealed(stage, lead_id) == [True]


async def test_a_lead_whose_key_is_forgotten_is_told_from_its_own_row(
    stage: Any, retention: Retention, owner: asyncpg.Connection
) -> None:
    began = await stage.begin(await boot(stage))
    await stage.sold_untold(began)
    await owner.execute(
        "UPDATE idem SET done_at = done_at - interval '7 days' WHERE state = 'done'"
    )
    stage.clock.ahead += timedelta(days=7, seconds=1)
    await retention.forget_keys(await leased(stage, "forget_keys"))
    replies = Replies(vault=stage.vault, leads=Leads(stage.database))
    assert await replies.replayed(2, began.lead.lead_id, "ab" * 16) is None
    told = await replies.lead(began.lead.lead_id, 2, stage.desk.book)
    sale = {"sale_id": began.attempt.attempt_id, "payout": "21.25", "buyer": "acme"}
    assert told == {
        "lead_id": began.lead.lead_id, "status": "sold", "currency": "USD", "payout": "21.25",
        "sales": [sale],
    }  # fmt: skip


# --- sealed records -------------------------------------------------------------------------------


async def test_a_record_is_shredded_when_its_leads_time_is_over(
    stage: Any, retention: Retention
) -> None:
    alive = await boot(stage)
    nobody = await stage.received(await boot(stage, is_dead=True))
    refused = await stage.begin(alive)
    await stage.refused(refused)
    stage.clock.ahead += timedelta(seconds=181)
    await stage.turn()
    sold, doubtful, lost = [await stage.begin(alive) for _ in range(3)]
    await stage.sold_untold(sold)
    await stage.doubt(doubtful)
    await stage.doubt(lost)
    [case] = await stage.doubts.cases([lost.attempt.attempt_id])
    await stage.endings.end(case, Finding(outcome="written_off", by="policy"))
    ids = [nobody, *(one.lead.lead_id for one in (refused, sold, lost, doubtful))]
    lease = await leased(stage, "shred")
    await retention.shred(lease)
    assert await sealed(stage, *ids) == [True] * 5
    stage.clock.ahead += timedelta(days=31)
    await retention.shred(lease)
    assert await sealed(stage, *ids) == [False, False, True, True, True]
    assert await hashes(stage, nobody) == 0
    stage.clock.ahead += timedelta(days=335)
    await retention.shred(lease)
    assert await sealed(stage, *ids) == [False] * 4 + [True], "a lead in doubt keeps its record"
    states = await stage.database.fetch(
        "SELECT state FROM lead WHERE lead_id = ANY($1::uuid[]) ORDER BY lead_id", ids[:4]
    )
    assert sorted(row["state"] for row in states) == ["sold", "unsold", "unsold", "unsold"]


async def hashes(stage: Any, lead_id: str) -> int:
    """How many keyed hashes a lead's consumer is known by."""
    sql = "SELECT count(*) FROM person_key WHERE lead_id = $1"
    return int(await stage.database.fetchval(sql, lead_id))


def test_the_first_id_of_a_moment_parts_what_was_made_before_it(stage: Any) -> None:
    made = stage.clock.new_id()
    moment = stage.clock.now()
    assert first_id_of(moment - timedelta(seconds=1)) < made
    assert made < first_id_of(moment + timedelta(milliseconds=1))
