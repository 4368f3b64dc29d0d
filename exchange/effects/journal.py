"""The journal: one row per ping, written behind the answer and never in its way.

```
put(record) ─► queue ─► a batch (128 records or 100 ms) ─┬─► on_batch: metrics and log lines
                                                         └─► backlog ─► Postgres, one statement
```
Before a batch its masks are saved (the cleared bits that its pings were filtered with), by the same
connection: no row ever names a mask that is not there, after a crash neither.

Saving does not wait for the disk (`synchronous_commit = off`). The stated loss in a crash is what
is in the queue and some milliseconds of the server's: pings without an offer taken up, since a sale
carries what it needs of its ping. While Postgres is away the backlog grows to its limit, then the
newest batches are dropped and counted; metrics and log lines see every record all the same.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import msgspec

from exchange.core.records import PingRecord
from exchange.effects.sql import queries

ROLE = "exchange_app"
BATCH_MAX = 128
BATCH_MS = 100
"""A record is in metrics and log after at most so long; a hundred statements a second at most."""
PAUSE_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Between attempts to connect, the last one repeated."""

_JSON = msgspec.json.Encoder()
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # seen when a server is killed under a statement
    asyncpg.PostgresConnectionError,
)


class Journal:
    """Takes records of one worker. `queue_max` bounds records in the queue, and in the backlog.
    `masks` hands over the masks that are not saved yet."""

    def __init__(
        self,
        *,
        queue_max: int = 20_000,
        on_batch: Callable[[Sequence[PingRecord]], None] = lambda records: None,
        masks: Callable[[], Sequence[Any]] = tuple,
        batch_max: int = BATCH_MAX,
        batch_ms: int = BATCH_MS,
        answer_s: float = 10.0,
    ) -> None:
        self._queue_max, self._on_batch, self._new_masks = queue_max, on_batch, masks
        self._masks: list[Any] = []
        self._batch_max, self._batch_s, self._answer_s = batch_max, batch_ms / 1000, answer_s
        self._queue: deque[PingRecord] = deque()
        self._backlog: deque[Sequence[PingRecord]] = deque()
        self._filling, self._full, self._due = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._saved = asyncio.Event()
        self._connection: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._sql = queries("journal")
        self._url = ""
        self._is_stopping = False
        self.dropped = 0
        """Records (and masks) that will never be rows: no room, or Postgres refused them."""
        self.saved = 0
        """Records handed to Postgres."""
        self.faults = 0
        """Batches that `on_batch` failed on."""

    @property
    def queued(self) -> int:
        """Records not yet handed to Postgres."""
        return len(self._queue) + sum(map(len, self._backlog))

    def put(self, record: PingRecord) -> None:
        """Takes a record; never waits, never fails."""
        if len(self._queue) >= self._queue_max:
            self.dropped += 1
            return
        self._queue.append(record)
        if len(self._queue) == 1:
            self._filling.set()
        elif len(self._queue) == self._batch_max:
            self._full.set()

    async def start(self, database_url: str) -> None:
        """Starts writing. Postgres may still be away: the backlog waits for it."""
        self._url = database_url
        self._tasks = [
            asyncio.create_task(self._batching(), name="journal-batching"),
            asyncio.create_task(self._saving(), name="journal-saving"),
        ]

    async def stop(self, *, timeout_s: float = 5.0) -> None:
        """Saves what it has, if that can be done in time, and disconnects. What is left counts as
        dropped."""
        self._is_stopping = True
        self._filling.set()
        self._full.set()
        if self._tasks:
            batching, saving = self._tasks
            await asyncio.wait([batching])
            await self._drained(timeout_s)
            saving.cancel()
            await asyncio.wait([saving])
        self.dropped += self.queued
        self._backlog.clear()
        if self._connection is not None:
            self._connection.terminate()

    async def _drained(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while self._backlog:
                    self._saved.clear()
                    await self._saved.wait()
        except TimeoutError:
            return

    # --- batching ---------------------------------------------------------------------------------

    async def _batching(self) -> None:
        while self._queue or not self._is_stopping:
            await self._filled()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
            if not self._queue:
                self._filling.clear()
            try:
                self._on_batch(batch)
            except Exception:  # a fault in metrics or log must not end the journal
                self.faults += 1
            self._keep(batch)
            await asyncio.sleep(0)

    async def _filled(self) -> None:
        """Returns when a batch is full, or its time is over, or the journal stops."""
        await self._filling.wait()
        if len(self._queue) < self._batch_max and not self._is_stopping:
            self._full.clear()
            try:
                async with asyncio.timeout(self._batch_s):
                    await self._full.wait()
            except TimeoutError:
                return

    def _keep(self, batch: Sequence[PingRecord]) -> None:
        if sum(map(len, self._backlog)) + len(batch) > self._queue_max:
            self.dropped += len(batch)
        elif batch:
            self._backlog.append(batch)
            self._due.set()

    # --- saving -----------------------------------------------------------------------------------

    async def _saving(self) -> None:
        while True:
            if not self._backlog:
                self._due.clear()
                await self._due.wait()
            try:
                await self._save(self._backlog[0])
            except _LOST:
                if self._connection is not None:
                    self._connection.terminate()
                self._connection = None
            else:
                self._backlog.popleft()
                self._saved.set()

    async def _save(self, batch: Sequence[PingRecord]) -> None:
        """Saves a batch; rows that Postgres refuses are dropped. Raises when the connection is
        lost: the batch is then saved again, which is harmless."""
        if self._connection is None:
            self._connection = await self._connected()
        try:
            async with asyncio.timeout(self._answer_s):
                await self._save_masks()
                await self._connection.execute(self._sql["save"], _JSON.encode(batch))
            self.saved += len(batch)
        except (asyncpg.PostgresError, ValueError, TypeError) as error:
            if _is_lost(error):
                raise TimeoutError from error
            if len(batch) == 1:
                self.dropped += 1
                return
            half = len(batch) // 2
            await self._save(batch[:half])
            await self._save(batch[half:])

    async def _save_masks(self) -> None:
        """Saves what batches refer to, or raises as `_save`; a refused mask costs no batch."""
        self._masks += self._new_masks()
        if not self._masks:
            return
        try:
            await self._connection.execute(self._sql["save_masks"], _JSON.encode(self._masks))
        except (asyncpg.PostgresError, ValueError, TypeError) as error:
            if _is_lost(error):
                raise
            self.dropped += len(self._masks)
        self._masks = []

    async def _connected(self) -> Any:
        pauses = iter(PAUSE_S)
        while True:
            try:
                return await _connect(self._url)
            except (*_LOST, asyncpg.PostgresError):
                await asyncio.sleep(next(pauses, PAUSE_S[-1]))


async def _connect(url: str) -> Any:
    return await asyncpg.connect(
        url,
        timeout=5.0,
        command_timeout=None,
        statement_cache_size=8,
        server_settings={
            "role": ROLE,
            "application_name": "exchange-journal",
            "synchronous_commit": "off",
            "statement_timeout": "8000",
            "jit": "off",
            "timezone": "UTC",
        },
    )


def _is_lost(error: Exception) -> bool:
    """A connection that ends says so with a FATAL error; a mere ERROR is a rollback."""
    return isinstance(error, _LOST) or getattr(error, "severity", None) in ("FATAL", "PANIC")
