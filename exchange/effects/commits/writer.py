"""The group-commit writer: the only one that writes INTENT and RESULT, and the truth about whether
a unit is durable.

```
commit(unit) ─► queue ─► one batch: what has piled up while the last one was being written
                          │  at most one unit of a lead; no timer, the disk's latency is the window
                          ▼
              one statement, one round trip, one transaction ─► every future is resolved, once
```
*A caller may give up; the unit is carried out all the same.* Requests await a future and never own
the connection, so no cancellation reaches it.

*What the answer means.* `done`: durable. All else (`stale`, `conflict`, `duplicate`, `cap`):
nothing of it was written. A batch that collides is rolled back whole and halved, until the unit
that collides stands alone.

*Nothing is guessed.* When the connection is lost inside a batch, its fate is unknown: the writer
makes sure that the old session is gone, asks which units are there, and carries out the others.
`CommitsDown` is raised only for what is known not to be written.

*What has happened is taken even while the database is away*: a unit that only ends attempts waits
for its return. A unit that begins something is refused at once, so that nothing is begun blindly.

Several workers are several writers; every one locks in the same order (see `sql/commits.sql`).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self

import asyncpg
import msgspec

from exchange.core.records import CommitAnswer, CommitUnit
from exchange.effects.commits.session import Answers, Session

TRIES_MAX = 4
"""A unit whose batch was lost or deadlocked this often is given up: it may be what breaks it."""
PAUSE_S = (0.05, 0.1, 0.2, 0.4)
"""Between attempts to connect, the last one repeated: an attempt costs little, and whoever has sold
something meanwhile waits."""
DONE = CommitAnswer(kind="done")

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
)
_RACE = ("40001", "40P01")  # serialization failure, deadlock: as if it had never run
_ITS_OWN_FAULT = ("22", "23", "44", "P0")  # classes: bad value, constraint, view check, raised
_SLOW = ("55P03", "57014")  # lock not had in time, statement not done in time


class CommitsDown(Exception):
    """The unit is not written and will not be: the queue is full, or the database is away."""


class CommitStats(msgspec.Struct):
    """Counts since the start, for metrics."""

    units: int = 0
    batches: int = 0
    """Statements sent; `units / batches` is the mean size of a batch, `units_max` the largest."""
    units_max: int = 0
    commit_us: int = 0
    """Time from handing over a batch to its answer, summed over batches."""
    stale: int = 0
    conflicts: int = 0
    duplicates: int = 0
    caps: int = 0
    fenced: int = 0
    """Batches whose strict caps were allotted one by one, a window being nearly full."""
    halved: int = 0
    lost: int = 0
    """Batches whose fate had to be asked for after the connection was lost."""
    down: int = 0
    """Units refused with `CommitsDown`."""


class _Waiting:
    """A unit and whoever waits for it."""

    __slots__ = ("answered", "tries", "unit")

    def __init__(self, unit: CommitUnit, answered: "asyncio.Future[CommitAnswer]") -> None:
        self.unit, self.answered, self.tries = unit, answered, 0

    @property
    def begins(self) -> bool:
        """Whether it begins something, rather than telling what has happened."""
        return bool(self.unit.attempts) or self.unit.lead is not None


class _Group(NamedTuple):
    """Units that go to Postgres together; `fenced`: their strict caps are allotted one by one."""

    units: list[_Waiting]
    fenced: bool = False


class Commits:
    """One writer over one connection. Open with `Commits.open`, end with `close`."""

    def __init__(
        self,
        url: str,
        *,
        batch_max: int,
        queue_max: int,
        answer_s: float,
        application_name: str,
        on_batch: Callable[[int, float], None],
    ) -> None:
        self._url, self._name, self._on_batch = url, application_name, on_batch
        self._batch_max, self._queue_max, self._answer_s = batch_max, queue_max, answer_s
        self._queue: deque[_Waiting] = deque()
        self._in_doubt: list[_Waiting] = []
        self._session: Session | None = None
        self._lost: Session | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._writing: list[_Waiting] = []
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None
        self.stats = CommitStats()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        batch_max: int = 256,
        queue_max: int = 2_000,
        answer_s: float = 10.0,
        application_name: str = "exchange-commits",
        on_batch: Callable[[int, float], None] = lambda units, took_ms: None,
    ) -> Self:
        """Connects and starts writing. `answer_s`: after so long without an answer the connection
        counts as lost. `on_batch` hears of every batch that was answered: how many units, how many
        ms. Raises what asyncpg raises when the database cannot be reached."""
        commits = cls(
            url,
            batch_max=batch_max,
            queue_max=queue_max,
            answer_s=answer_s,
            application_name=application_name,
            on_batch=on_batch,
        )
        commits._session = await commits._connected()
        commits._task = asyncio.create_task(commits._run(), name="commits")
        return commits

    @property
    def up(self) -> bool:
        """Whether the database can be written to, as far as is known."""
        return self._session is not None and not self._session.is_closed

    @property
    def queued(self) -> int:
        """Units not yet answered."""
        return len(self._queue) + len(self._writing) + len(self._in_doubt)

    async def commit(self, unit: CommitUnit) -> CommitAnswer:
        """Makes the unit durable and says what became of it. May be given up at any time: the unit
        is still carried out. Raises `CommitsDown`."""
        waiting = _Waiting(unit, asyncio.get_running_loop().create_future())
        if self._is_closing:
            raise CommitsDown("the exchange is stopping")
        if self.queued >= self._queue_max:
            self.stats.down += 1
            raise CommitsDown("too many commits are waiting")
        if waiting.begins and not self.up:
            self.stats.down += 1
            raise CommitsDown("the database is away")
        self._queue.append(waiting)
        self._idle.clear()
        self._wake.set()
        return await waiting.answered

    async def drain(self) -> None:
        """Returns once every unit is answered. While the database is away that may take forever."""
        if self.queued:
            await self._idle.wait()

    async def close(self, *, timeout_s: float = 10.0) -> None:
        """Takes no more units, answers those it has if that can be done in time, and disconnects.
        Whoever still waits then hears `CommitsDown`, or, where the fate is unknown,
        `CancelledError`, which says nothing."""
        self._is_closing = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.drain()
        except TimeoutError:
            pass
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for waiting in (*self._writing, *self._in_doubt):
            waiting.answered.cancel()
        _refuse(self._queue, "the exchange is stopping")
        if self._session is not None:
            self._session.terminate()

    # --- the loop ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except _LOST:
                self._lose()
            except Exception:  # a bug must not end the writer; what it did is asked for like a loss
                self._lose()
                await asyncio.sleep(PAUSE_S[-1])

    async def _turn(self) -> None:
        session = self._session or await self._reconnected()
        if not self._queue:
            self._wake.clear()
            if not self.queued:
                self._idle.set()
            await self._wake.wait()
        if session.is_closed:
            self._lose()
            return
        self._writing = self._batch()
        await self._write(session)

    def _batch(self) -> list[_Waiting]:
        """What has piled up, in order, at most one unit of a lead, and one that claims a consumer:
        within a statement neither of two would see the other."""
        batch: list[_Waiting] = []
        kept: list[_Waiting] = []
        leads: set[str] = set()
        consumers: set[tuple[int, str]] = set()
        while self._queue and len(batch) < self._batch_max:
            waiting = self._queue.popleft()
            unit = waiting.unit
            claimed = {(claim.vertical_id, claim.hmac) for claim in unit.claims}
            is_apart = unit.lead_id in leads or not claimed.isdisjoint(consumers)
            (kept if is_apart else batch).append(waiting)
            leads.add(unit.lead_id)
            consumers |= claimed
        self._queue.extendleft(reversed(kept))
        return batch

    async def _write(self, session: Session) -> None:
        """Carries out `_writing`; whatever of it is not answered when this raises is in doubt."""
        loop = asyncio.get_running_loop()
        groups = deque([_Group(self._writing)]) if self._writing else deque()
        self.stats.units += len(self._writing)
        self.stats.units_max = max(self.stats.units_max, len(self._writing))
        while groups:
            group = groups.popleft()
            began = loop.time()
            self.stats.batches += 1
            try:
                async with asyncio.timeout(self._answer_s):
                    answers = await session.write(
                        [one.unit for one in group.units], fenced=group.fenced
                    )
            except (asyncpg.PostgresError, ValueError, TypeError) as error:
                if _is_lost(error):
                    raise TimeoutError from error
                groups.extendleft(reversed(self._after(error, group)))
            else:
                groups.extendleft(reversed(self._settle(group, answers)))
            took_s = loop.time() - began
            self.stats.commit_us += int(took_s * 1e6)
            self._on_batch(len(group.units), took_s * 1e3)
        self._writing = []

    def _settle(self, group: _Group, answers: Answers) -> list[_Group]:
        """Answers a written group; units whose strict caps are short of room go to the fence."""
        short: list[_Waiting] = []
        for waiting in group.units:
            answer = answers.get(waiting.unit.lead_id, DONE)
            if answer is None:
                short.append(waiting)
            else:
                self._answer(waiting, answer)
        if not short:
            return []
        self.stats.fenced += 1
        return [_Group(short, fenced=True)]

    def _after(self, error: Exception, group: _Group) -> list[_Group]:
        """What to do with a group that Postgres rolled back."""
        code = str(getattr(error, "sqlstate", None) or "22000")
        constraint = getattr(error, "constraint_name", None)
        is_race = code in _RACE or constraint == "cap_window_pkey"  # two writers made one window
        if is_race and group.units[0].tries < TRIES_MAX:
            for waiting in group.units:
                waiting.tries += 1
            return [group]
        is_own_fault = code[:2] in _ITS_OWN_FAULT
        if len(group.units) > 1 and (is_own_fault or is_race or code in _SLOW):
            self.stats.halved += 1
            half = len(group.units) // 2
            return [
                _Group(group.units[:half], group.fenced),
                _Group(group.units[half:], group.fenced),
            ]
        if is_own_fault:
            self._answer(group.units[0], CommitAnswer(kind="conflict", detail=constraint or code))
        else:
            self._give_up(group.units, f"Postgres refused ({code})")
        return []

    def _answer(self, waiting: _Waiting, answer: CommitAnswer) -> None:
        match answer.kind:
            case "stale":
                self.stats.stale += 1
            case "conflict":
                self.stats.conflicts += 1
            case "duplicate":
                self.stats.duplicates += 1
            case "cap":
                self.stats.caps += 1
            case "done":
                pass
        if not waiting.answered.done():
            waiting.answered.set_result(answer)
        self._writing = [one for one in self._writing if one is not waiting]

    def _give_up(self, units: Sequence[_Waiting], why: str) -> None:
        self.stats.down += len(units)
        _refuse(units, why)
        self._writing = [one for one in self._writing if one not in units]

    # --- when the connection is lost --------------------------------------------------------------

    def _lose(self) -> None:
        """The connection is gone. What was being written is in doubt; what has not begun and waits
        is refused; what has happened waits on."""
        if self._session is not None:
            self._session.terminate()
            self._session, self._lost = None, self._session
        if self._writing:
            self.stats.lost += 1
        self._in_doubt += self._writing
        self._writing = []
        beginnings = [waiting for waiting in self._queue if waiting.begins]
        self._queue = deque(waiting for waiting in self._queue if not waiting.begins)
        self._give_up(beginnings, "the database is away")

    async def _reconnected(self) -> Session:
        """Connects again and clears up every doubt before anything new is written."""
        pauses = iter(PAUSE_S)
        while self._session is None:
            try:
                self._session = await self._connected()
            except (*_LOST, asyncpg.PostgresError):
                await asyncio.sleep(next(pauses, PAUSE_S[-1]))
        session = self._session
        async with asyncio.timeout(self._answer_s):
            found = await session.committed([waiting.unit for waiting in self._in_doubt])
        doubtful, self._in_doubt = self._in_doubt, []
        absent = []
        for waiting in doubtful:
            waiting.tries += 1
            if waiting.unit.lead_id in found:
                self._answer(waiting, DONE)
            elif waiting.tries >= TRIES_MAX:
                self._give_up([waiting], "it was lost too often")
            else:
                absent.append(waiting)
        self._queue.extendleft(reversed(absent))
        return session

    async def _connected(self) -> Session:
        session = await Session.open(
            self._url,
            after=self._lost,
            statement_timeout_ms=int(self._answer_s * 800),
            application_name=self._name,
        )
        self._lost = None
        session.on_end(self._wake.set)
        return session


def _refuse(units: Iterable[_Waiting], why: str) -> None:
    for waiting in units:
        if not waiting.answered.done():
            waiting.answered.set_exception(CommitsDown(why))


def _is_lost(error: Exception) -> bool:
    """A connection that ends tells so with a FATAL error; a mere ERROR is a rollback."""
    return isinstance(error, _LOST) or getattr(error, "severity", None) in ("FATAL", "PANIC")
