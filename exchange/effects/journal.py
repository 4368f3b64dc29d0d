"""The journal: one row per ping, by COPY, in batches, never in a ping's way.

`put` appends to a bounded list and returns. A task takes what has gathered, at most 128 rows or
what came in 100 ms, hands the records to `on_batch` (metrics and the log count from there) and
writes the rows in one COPY without waiting for the disk. What is lost in a crash is one batch of
pings without an offer taken up: a sale carries what it needs of its ping in its own commit.

While Postgres is away the rows wait, up to `queue_max`; beyond it the oldest are dropped and
counted.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from exchange.core.fields import json_form
from exchange.core.records import PingRecord

BATCH_MAX: Final = 128
"""Rows of one COPY: large enough that its round trip costs little per row."""
GATHER_S: Final = 0.1
"""How long rows gather: the most a crash loses."""
RETRY_S: Final = 0.5
COLUMNS: Final = [
    "ping_id",
    "day",
    "seller_id",
    "source_id",
    "sub_id",
    "vertical_id",
    "external_id",
    "test",
    "direct",
    "received_at",
    "tmax_ms",
    "fields",
    "consent",
    "gated",
    "outcome",
    "reason",
    "payout_micros",
    "floor_micros",
    "currency",
    "expires_at",
    "eligible",
    "bids",
    "reason_counts",
    "book_version",
    "mask_id",
    "took_ms",
    "waited_ms",
    "added_ms",
    "late_ms",
    "worker",
]
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

Connect = Callable[[], Any]
"""Opens a connection of the role exchange_app: `await connect()`."""


class Journal:
    """The journal of one worker. `currency_of` names a vertical's currency."""

    def __init__(
        self,
        *,
        queue_max: int,
        on_batch: Callable[[Sequence[PingRecord]], None],
        connect: Connect,
        currency_of: Callable[[int], str | None],
    ) -> None:
        self._queue_max, self._on_batch = queue_max, on_batch
        self._connect, self._currency_of = connect, currency_of
        self._new: list[PingRecord] = []
        self._rows: list[tuple[Any, ...]] = []
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._connection: Any = None
        self._encoder = msgspec.json.Encoder()
        self.dropped = 0
        self.written = 0

    def put(self, record: PingRecord) -> None:
        """Take one record; never waits."""
        self._new.append(record)

    @property
    def queued(self) -> int:
        """Rows not written yet."""
        return len(self._new) + len(self._rows)

    async def start(self) -> None:
        """Begin writing. Raises what asyncpg raises when the database cannot be reached."""
        self._connection = await self._connect()
        self._task = asyncio.create_task(self._run(), name="journal")

    async def stop(self) -> None:
        """Write what is left, as far as the database takes it, and close."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        self._taken()
        with suppress(*_AWAY):
            while self._rows:
                await self._copied()
        if self._connection is not None:
            with suppress(*_AWAY):
                await self._connection.close(timeout=2)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._stopping.wait()
            self._taken()
            try:
                while self._rows:
                    await self._copied()
            except _AWAY:
                await self._reconnected()

    def _taken(self) -> None:
        """Count what is new and make its rows; drop the oldest beyond the limit."""
        records, self._new = self._new, []
        if records:
            self._on_batch(records)
            self._rows += [self._row(record) for record in records]
        over = len(self._rows) - self._queue_max
        if over > 0:
            del self._rows[:over]
            self.dropped += over

    async def _copied(self) -> None:
        batch = self._rows[:BATCH_MAX]
        await self._connection.copy_records_to_table("ping", records=batch, columns=COLUMNS)
        del self._rows[: len(batch)]
        self.written += len(batch)

    async def _reconnected(self) -> None:
        """A new connection, or a pause before the next try. A batch whose fate is unknown is
        dropped when its rows turn out to be there."""
        try:
            self._connection.terminate()
            self._connection = await self._connect()
            if self._rows and await self._is_written(self._rows[0]):
                del self._rows[:BATCH_MAX]
        except _AWAY:
            await asyncio.sleep(RETRY_S)

    async def _is_written(self, row: tuple[Any, ...]) -> bool:
        return bool(
            await self._connection.fetchval(
                "SELECT true FROM ping WHERE ping_id = $1 AND day = $2", row[0], row[1]
            )
        )

    def _row(self, record: PingRecord) -> tuple[Any, ...]:
        ping = record.ping
        expires_ms = record.expires_at_ms
        return (
            ping.ping_id,
            day_of(ping.ping_id),
            ping.seller_id,
            ping.source_id,
            ping.sub_id,
            ping.vertical_id,
            ping.external_id,
            ping.test,
            ping.direct,
            ping.received_at,
            ping.tmax_ms,
            json_form(ping.fields),
            ping.consent,
            list(ping.gated),
            record.outcome,
            record.reason,
            record.payout_micros,
            ping.floor_micros,
            self._currency_of(ping.vertical_id),
            None if expires_ms is None else datetime.fromtimestamp(expires_ms / 1000, UTC),
            record.eligible,
            self._encoder.encode({"answers": record.answers, "ranking": record.ranking}),
            {str(code): count for code, count in record.reason_counts.items()},
            record.book_version,
            record.mask_id,
            record.took_ms,
            record.waited_ms,
            record.added_ms,
            record.late_ms,
            record.worker,
        )


def day_of(uuid7: str) -> Any:
    """The UTC day in which a UUIDv7 was made: its partition."""
    at_ms = int(uuid7[:8] + uuid7[9:13], 16)
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()
