"""The journal: every ping becomes a row behind its answer; nothing of it ever waits or fails."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import msgspec
import pytest
import uuid_utils

from exchange.core.model import Candidate, ContractAnswer, Ping, PingConsent
from exchange.core.records import PingRecord
from exchange.effects.journal import Journal
from exchange.embedded import Servers
from exchange.flows.standing import MaskDoc

pytestmark = pytest.mark.real

ANSWERS = tuple(
    ContractAnswer(contract_id=n, buyer_id=n + 10, non_bid=None, price_micros=5_000_000 + n)
    for n in range(10)
)
RANKING = (
    Candidate(contract_id=9, buyer_id=19, rank=1, price_micros=9, payout_micros=8, fee_micros=1),
)


def mask(mask_id: int, *, code: str = "507") -> MaskDoc:
    return MaskDoc(
        mask_id=mask_id,
        vertical_id=1,
        book_version=3,
        gates={code: "2a"},
        segments=[("state", "CA", "1")],
    )


def record(sub_id: str | None = None, *, mask_id: int = 2**40) -> PingRecord:
    ping = Ping(
        ping_id=str(uuid_utils.uuid7()), seller_id=2, source_id=1, vertical_id=1,
        fields={"zip": "94105", "age": 33, "moved": date(2025, 1, 2)}, sub_id=sub_id,
        received_at=datetime(2026, 3, 1, 12, tzinfo=UTC), tmax_ms=500,
        consent=PingConsent(kind="tcpa"), gated=("phone", "email"),
    )  # fmt: skip
    return PingRecord(
        ping=ping, outcome="offer", reason=None, answers=ANSWERS, ranking=RANKING,
        payout_micros=8, expires_at_ms=1_900_000_000_000, eligible=12,
        reason_counts={503: 900, 507: 2}, book_version=3, mask_id=mask_id, took_ms=33.5,
        waited_ms=30.25, added_ms=0.5, late_ms=0.0, worker="w1",
    )  # fmt: skip


async def row_of(database: asyncpg.Connection, ping_id: str) -> dict[str, Any]:
    found = await database.fetchrow("SELECT * FROM ping WHERE ping_id = $1", ping_id)
    return dict(found) if found is not None else {}


async def until(is_so: Any) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def test_a_ping_becomes_a_row_that_says_all_of_it(
    database_url: str, database: asyncpg.Connection
) -> None:
    journal = Journal()
    await journal.start(database_url)
    one = record(sub_id="a")
    journal.put(one)
    await journal.stop()
    row = await row_of(database, one.ping.ping_id)
    assert {name: row[name] for name in ("sub_id", "gated", "outcome", "mask_id", "added_ms")} == {
        "sub_id": "a", "gated": ["phone", "email"], "outcome": "offer", "mask_id": 2**40,
        "added_ms": 0.5,
    }  # fmt: skip
    assert msgspec.json.decode(row["fields"]) == {"zip": "94105", "age": 33, "moved": "2025-01-02"}
    assert row["received_at"] == one.ping.received_at
    assert row["expires_at"] == datetime.fromtimestamp(1_900_000_000, UTC)
    assert msgspec.json.decode(row["reason_counts"]) == {"503": 900, "507": 2}
    bids = msgspec.json.decode(row["bids"])
    assert msgspec.convert(bids["answers"], tuple[ContractAnswer, ...]) == ANSWERS
    assert msgspec.convert(bids["ranking"], tuple[Candidate, ...]) == RANKING


async def test_batches_have_at_most_their_size_and_every_record_is_passed_on_once(
    database_url: str, database: asyncpg.Connection
) -> None:
    seen: list[Sequence[PingRecord]] = []
    journal = Journal(batch_max=50, on_batch=seen.append)
    await journal.start(database_url)
    records = [record() for _ in range(220)]
    for one in records:
        journal.put(one)
    await journal.stop()
    assert [len(batch) for batch in seen] == [50, 50, 50, 50, 20]
    assert [one for batch in seen for one in batch] == records
    ids = [one.ping.ping_id for one in records]
    count = await database.fetchval("SELECT count(*) FROM ping WHERE ping_id = ANY($1)", ids)
    assert (count, journal.saved, journal.dropped, journal.queued) == (220, 220, 0, 0)


UNKNOWN_MASKS = "SELECT count(*) FROM ping WHERE mask_id NOT IN (SELECT mask_id FROM closed_mask)"


async def test_a_mask_is_saved_before_the_rows_that_name_it_and_once(
    database_url: str, database: asyncpg.Connection
) -> None:
    new = [mask(2**40)]
    journal = Journal(masks=lambda: [new.pop()] if new else [], batch_max=2)
    await journal.start(database_url)
    for _ in range(4):
        journal.put(record())
    await journal.stop()
    row = await database.fetchrow("SELECT * FROM closed_mask WHERE mask_id = $1", 2**40)
    assert (row["vertical_id"], row["book_version"]) == (1, 3)
    assert msgspec.json.decode(row["gates"]) == {"507": "2a"}
    assert msgspec.json.decode(row["segments"]) == [["state", "CA", "1"]]
    assert (journal.saved, journal.dropped) == (4, 0)


async def test_a_mask_that_postgres_refuses_does_not_cost_the_rows(database_url: str) -> None:
    new = [mask(2**41, code="bad\x00")]
    journal = Journal(masks=lambda: [new.pop()] if new else [])
    await journal.start(database_url)
    journal.put(record())
    await journal.stop()
    assert (journal.saved, journal.dropped) == (1, 1)


async def test_a_row_that_postgres_refuses_is_dropped_alone(database_url: str) -> None:
    journal = Journal()
    await journal.start(database_url)
    for number in range(20):
        journal.put(record(sub_id="bad\x00" if number == 7 else "good"))
    await journal.stop()
    assert (journal.saved, journal.dropped) == (19, 1)


async def test_a_fault_of_who_is_told_ends_nothing(database_url: str) -> None:
    def fails(records: Sequence[PingRecord]) -> None:
        raise RuntimeError("metrics are broken")

    journal = Journal(on_batch=fails)
    await journal.start(database_url)
    journal.put(record())
    await journal.stop()
    assert (journal.saved, journal.faults) == (1, 1)


async def test_a_full_queue_drops_and_counts() -> None:
    journal = Journal(queue_max=3)
    for _ in range(5):
        journal.put(record())
    assert (journal.queued, journal.dropped) == (3, 2)


async def test_a_batch_saved_twice_is_there_once(
    database_url: str, database: asyncpg.Connection
) -> None:
    one = record()
    for _ in range(2):
        journal = Journal()
        await journal.start(database_url)
        journal.put(one)
        await journal.stop()
        assert journal.dropped == 0
    count = await database.fetchval(
        "SELECT count(*) FROM ping WHERE ping_id = $1", one.ping.ping_id
    )
    assert count == 1


async def test_postgres_away_fills_the_backlog_up_to_its_limit_while_metrics_go_on(
    database_url: str, servers: Servers
) -> None:
    seen: list[int] = []
    masks: list[MaskDoc] = []

    def new_masks() -> list[MaskDoc]:
        taken, masks[:] = masks[:], []
        return taken

    def known(number: int) -> PingRecord:
        """A ping of a mask of its own."""
        masks.append(mask(2**42 + number))
        return record(mask_id=2**42 + number)

    journal = Journal(
        queue_max=30,
        batch_max=10,
        batch_ms=1,
        on_batch=lambda batch: seen.append(len(batch)),
        masks=new_masks,
    )
    await journal.start(database_url)
    journal.put(known(50))
    await until(lambda: journal.saved == 1)
    await asyncio.to_thread(servers.kill, "postgres")
    kept = [known(number) for number in range(50)]
    for ten in range(0, 50, 10):
        for one in kept[ten : ten + 10]:
            journal.put(one)
        await until(lambda ten=ten: sum(seen) == ten + 11)
    assert (journal.queued, journal.dropped) == (30, 20)
    await asyncio.to_thread(servers.restart, "postgres")
    await until(lambda: journal.saved == 31)
    await journal.stop()
    database = await asyncpg.connect(database_url)
    for number, one in enumerate(kept):
        assert bool(await row_of(database, one.ping.ping_id)) == (number < 30)
    assert await database.fetchval(UNKNOWN_MASKS + " AND mask_id >= $1", 2**42) == 0
    await database.close()
    assert journal.dropped == 20
