"""Caps in Valkey: hold room for a sale, and say what became of it.

    reserved = await caps.reserve(buyer_id, token, windows, ttl_ms)     before INTENT
    await caps.commit(buyer_id, token, windows)                        after RESULT: sold
    await caps.release(buyer_id, token)                                no sale
    await caps.keep(buyer_id, token)                                   nobody knows yet
    await caps.undo(buyer_id, token, windows)                          a sale gives its room back

The token is the attempt's id, and each of these may be told twice. A hold expires by itself; a kept
one does not. The limits come with each call, so an edited cap never resets its counter.

*Valkey may forget, or remember an older state.* So the counters of a buyer are believed only in
the generation that Postgres issued for them, on the server and history (`Valkey.life`) they were
loaded in, and while their sequence does not fall. A market that changes which windows sales count
in forgets them too: they are recounted in Postgres first (`recount`), a process of a newer market
looks again, and one of an older market stays out until it has the newer; a post between reserve and
INTENT at that moment counts in its old windows alone. Otherwise the buyer is closed: one elected
rebuilder (the lock on its row of `cap_generation`) counts its sales and live attempts in Postgres
and loads them as a new generation, and the others wait for it, a bounded time. Of holds that are
not in Postgres yet (between reserve and INTENT), those that Valkey still has are carried over;
those that it lost are not counted again before their sale is committed. So `cap_mode = "fast"` may
exceed a cap by the posts that were in that moment when Valkey lost its memory; `strict` never does.

*What Valkey could not be told* (`False`) is told again by a task of this object until it is; when
the process dies first, reconcile tells it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import asyncpg
import msgspec

from exchange.core.caps import Window, ended, forget_at_ms, restored
from exchange.core.model import Fact
from exchange.effects.sql import queries

DAY_MS: Final = 86_400_000
TOMBSTONE_MS: Final = DAY_MS
"""How long a token's end is remembered: far longer than anything may tell it late."""
UNDONE_MS: Final = 35 * DAY_MS
"""How long an undone sale is remembered: longer than a return may take."""
IDLE_MS: Final = 40 * DAY_MS
"""When a buyer's counters expire unused: longer than a month's window. Their loss is a rebuild."""
ENDED_WITHIN_S: Final = 3_600
"""How late a commit may come after its sale: then a rebuild that counted the sale must know the
token. Reconcile tells what a dead process left untold within minutes."""
LOADED_AT_ONCE: Final = 250
"""How many items one call of a restore loads: some 20 us each would hold up other buyers."""
FAULTS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""What Postgres and Valkey raise when they are away (Valkey's are `ConnectionError`s)."""

Told = Literal["keep", "commit", "release", "undo"]


class Reserved(Fact, frozen=True, kw_only=True):
    """Room is held in every window. `sq` is the buyer's sequence, which never falls; 0 where there
    was nothing to hold."""

    sq: int


class Full(Fact, frozen=True, kw_only=True):
    """No room is held: this window is full."""

    win: str


class Unreadable(Fact, frozen=True, kw_only=True):
    """The caps cannot be checked, so nothing may be sold to this buyer. `detail` is for the log."""

    detail: str


BEHIND: Final = Unreadable(detail="the counters are of a newer market than this process")


class Rebuilt(Fact, frozen=True, kw_only=True):
    """Counters loaded anew from Postgres: the generation, how many windows and live holds."""

    generation: int
    windows: int
    holds: int


class Server(Protocol):
    """The part of Valkey used here: raises `ConnectionError`."""

    life: str

    @property
    def up(self) -> bool: ...

    async def script(
        self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any: ...


class Rows(Protocol):
    """The part of the database used here: raises one of `FAULTS`."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class Clock(Protocol):
    """The part of the clock used here."""

    def new_id(self) -> str: ...
    def now(self) -> datetime: ...


class Known(msgspec.Struct):
    """What this process believes of a buyer's counters, and by which market it does. `sq` is the
    highest sequence seen."""

    generation: int
    life: str
    sq: int
    market: int


async def _nothing_to_recount(_buyer_id: int, _at: datetime) -> None:
    """For those whose market never changes."""


class Caps:
    """The caps of all buyers, as one process sees them."""

    def __init__(
        self,
        valkey: Server,
        database: Rows,
        clock: Clock,
        *,
        recount: Callable[[int, datetime], Awaitable[None]] = _nothing_to_recount,
        market: Callable[[], int] = lambda: 0,
        wait_ms: int = 2_000,
        retell_ms: int = 200,
        untold_max: int = 10_000,
        rebuilds_max: int = 2,
    ) -> None:
        """`recount` counts a buyer's open windows anew in Postgres, at a moment; `market` says by
        which version this process goes. `wait_ms`: how long a caller waits for a rebuild before it
        fails closed. `retell_ms`: how often Valkey is told again what it could not be told, at most
        `untold_max` things (the oldest is dropped and counted in `dropped`). `rebuilds_max`: at
        once, in this process."""
        self._valkey, self._database, self._clock = valkey, database, clock
        self._recount, self._market = recount, market
        self._wait_s, self._retell_s, self._untold_max = (
            wait_ms / 1000,
            retell_ms / 1000,
            untold_max,
        )
        self._known: dict[int, Known] = {}
        self._refused: dict[int, int] = {}
        self._rebuilds: dict[int, asyncio.Task[Rebuilt | Unreadable]] = {}
        self._turns = asyncio.Semaphore(rebuilds_max)
        self._untold: dict[tuple[int, str], tuple[Told, tuple[Window, ...]]] = {}
        self._reteller: asyncio.Task[None] | None = None
        self._sql = queries("caps")
        self.dropped = 0
        self.rebuilds = 0

    async def reserve(
        self,
        buyer_id: int,
        token: str,
        windows: Sequence[Window],
        ttl_ms: int,
        *,
        is_retried: bool = False,
    ) -> Reserved | Full | Unreadable:
        """Hold room in all of the windows, or in none, for `ttl_ms`. The same token again is the
        same hold. Never raises for a server that is away: `Unreadable`, and nothing is sold. What
        may have been held all the same is released, and a released token never holds again; so one
        that `is_retried`, held before and perhaps asked for again, is left to expire."""
        args: list[str | int] = [token, ttl_ms, IDLE_MS]
        for one in windows:
            args += (one.win, one.limit, one.amount, forget_at_ms(one.win))
        if not self._valkey.up:
            return Unreadable(detail="Valkey is away")
        try:
            reply = await self._run("reserve", buyer_id, token, args)
        except (ConnectionError, asyncio.CancelledError) as fault:
            if not is_retried:
                self.release_soon(buyer_id, token)
            if isinstance(fault, asyncio.CancelledError):
                raise
            return Unreadable(detail=str(fault))
        if isinstance(reply, Unreadable):
            return reply
        if reply[0] == b"OK":
            return Reserved(sq=reply[1])
        if reply[0] == b"FULL":
            return Full(win=reply[1].decode())
        return Unreadable(detail="this token has ended before")

    async def keep(self, buyer_id: int, token: str) -> bool:
        """The hold never expires: nobody knows yet whether it was a sale. A hold that is gone is
        counted anew from the database."""
        return await self._tell("keep", buyer_id, token, ())

    async def commit(self, buyer_id: int, token: str, windows: Sequence[Window]) -> bool:
        """A sale, of these actual amounts: counted even if the hold had expired."""
        return await self._tell("commit", buyer_id, token, tuple(windows))

    async def release(self, buyer_id: int, token: str) -> bool:
        """No sale: the room is given back, also that of a reserve that is yet to arrive."""
        return await self._tell("release", buyer_id, token, ())

    def release_soon(self, buyer_id: int, token: str) -> None:
        """A release that is told at once, but not waited for."""
        self._remember(buyer_id, token, "release", ())

    async def undo(self, buyer_id: int, token: str, windows: Sequence[Window]) -> bool:
        """A sale gives its room back, in windows that still count."""
        return await self._tell("undo", buyer_id, token, tuple(windows))

    async def used(self, buyer_id: int, wins: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Used and held of each window; none when the counters cannot be read."""
        if not wins:
            return {}
        counts = await self._counts(buyer_id, wins)
        return {} if isinstance(counts, Unreadable) else counts

    async def counters(self, buyer_id: int) -> dict[str, tuple[int, int]] | Unreadable:
        """Used and held of every window that Valkey counts for a buyer."""
        return await self._counts(buyer_id, ())

    async def booked(self, buyer_id: int) -> dict[str, tuple[int, int]]:
        """The same by the database's own count. Raises what asyncpg raises."""
        rows = await self._database.fetch(self._sql["counted"], buyer_id, ENDED_WITHIN_S)
        counts: dict[str, tuple[int, int]] = {}
        for row in rows:
            used, held = counts.get(row["win"], (0, 0))
            if row["kind"] == "used":
                counts[row["win"]] = (used + row["amount"], held)
            elif row["kind"] == "hold":
                counts[row["win"]] = (used, held + row["amount"])
        return counts

    async def rebuild(self, buyer_id: int) -> Rebuilt | Unreadable:
        """Count the buyer anew from the database, whatever Valkey says."""
        known = self._known.pop(buyer_id, None)
        row = None
        try:
            row = await self._database.fetchrow(self._sql["generation"], buyer_id)
        except FAULTS as fault:
            return Unreadable(detail=f"Postgres: {type(fault).__name__}")
        at_least = max(known.generation if known else 0, row["generation"] if row else 0)
        self._refused[buyer_id] = max(self._refused.get(buyer_id, 0), at_least)
        return await asyncio.shield(self._rebuilding(buyer_id))

    async def close(self) -> None:
        """Stops telling and rebuilding; what is untold is left to reconcile."""
        tasks = {*self._rebuilds.values(), *filter(None, (self._reteller,))}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def untold(self) -> int:
        """How many ends of attempts Valkey is still to be told."""
        return len(self._untold)

    # --- asking Valkey ----------------------------------------------------------------------------

    async def _run(
        self, name: str, buyer_id: int, token: str | None, args: Sequence[str | int]
    ) -> list[Any] | Unreadable:
        """The reply of a script, from counters that may be believed. Raises `ConnectionError`."""
        keys = _keys(buyer_id) if token is None else (*_keys(buyer_id), _tombstone(buyer_id, token))
        for _ in range(3):
            known = self._believed(buyer_id)
            if known is None:
                trouble = await self._recovered(buyer_id)
                known = self._believed(buyer_id)
                if known is None:
                    return trouble or Unreadable(detail="Valkey has just changed")
            floor = known.sq
            reply: list[Any] = await self._valkey.script(name, keys, (known.generation, *args))
            sq = reply[1] if len(reply) > 1 and isinstance(reply[1], int) else floor
            if reply[0] != b"REBUILD" and sq >= floor:
                known.sq = max(known.sq, sq)
                return reply
            self._disbelieve(buyer_id, known)
        return Unreadable(detail="the counters change faster than they can be rebuilt")

    async def _counts(
        self, buyer_id: int, wins: Sequence[str]
    ) -> dict[str, tuple[int, int]] | Unreadable:
        try:
            reply = await self._run("counters", buyer_id, None, wins)
        except ConnectionError as fault:
            return Unreadable(detail=str(fault))
        if isinstance(reply, Unreadable):
            return reply
        triples = zip(reply[1::3], reply[2::3], reply[3::3], strict=True)
        return {win.decode(): (int(used), int(held)) for win, used, held in triples}

    # --- telling Valkey ---------------------------------------------------------------------------

    async def _tell(
        self, told: Told, buyer_id: int, token: str, windows: tuple[Window, ...]
    ) -> bool:
        self._untold.pop((buyer_id, token), None)
        if await self._was_told(told, buyer_id, token, windows):
            return True
        self._remember(buyer_id, token, told, windows)
        return False

    async def _was_told(
        self, told: Told, buyer_id: int, token: str, windows: tuple[Window, ...]
    ) -> bool:
        tombstone_ms = UNDONE_MS if told == "undo" else TOMBSTONE_MS
        args: list[str | int] = [token, told, tombstone_ms]
        for one in windows:
            args += (one.win, one.amount, forget_at_ms(one.win))
        try:
            reply = await self._run("settle", buyer_id, token, args)
        except ConnectionError:
            return False
        if isinstance(reply, Unreadable):
            return False
        if told == "keep" and reply[0] == b"GONE":
            # It had expired. The attempt is in the database, as a live one.
            return isinstance(await self.rebuild(buyer_id), Rebuilt)
        return True

    def _remember(self, buyer_id: int, token: str, told: Told, windows: tuple[Window, ...]) -> None:
        if len(self._untold) >= self._untold_max:
            self._untold.pop(next(iter(self._untold)))
            self.dropped += 1
        self._untold[buyer_id, token] = (told, windows)
        if self._reteller is None or self._reteller.done():
            self._reteller = asyncio.create_task(self._retell())

    async def _retell(self) -> None:
        while self._untold:
            for key, what in tuple(self._untold.items()):
                if not self._valkey.up:
                    break
                told, windows = what
                is_told = self._untold.get(key) is what and await self._was_told(
                    told, *key, windows
                )
                if is_told and self._untold.get(key) is what:
                    del self._untold[key]
            if self._untold:
                await asyncio.sleep(self._retell_s)

    # --- believing ------------------------------------------------------------------------------

    def _believed(self, buyer_id: int) -> Known | None:
        known = self._known.get(buyer_id)
        if known is None or known.life != self._valkey.life or known.market != self._market():
            return None
        return known

    def _disbelieve(self, buyer_id: int, known: Known) -> None:
        """These counters are wrong: only a newer generation will do."""
        if self._known.get(buyer_id) is known:
            del self._known[buyer_id]
        self._refused[buyer_id] = max(self._refused.get(buyer_id, 0), known.generation)

    def _fits(self, buyer_id: int, row: Any) -> bool:
        life = f"{row['run_id']}.{row['replication_id']}"
        is_counted = row["counted_version"] >= row["due_version"]
        is_newer = row["generation"] > self._refused.get(buyer_id, 0)
        return is_counted and is_newer and life == self._valkey.life

    def _is_behind(self, row: Any) -> bool:
        """Whether this process would name windows as they were before the market changed them."""
        versions: tuple[int, int] = row["due_version"], row["counted_version"]
        return max(versions) > self._market()

    async def _recovered(self, buyer_id: int) -> Unreadable | None:
        """Wait, a bounded time, until the buyer's counters may be believed; else why not."""
        task = self._rebuilding(buyer_id)
        await asyncio.wait({task}, timeout=self._wait_s)
        if not task.done() or task.cancelled():
            return Unreadable(detail="the counters are being rebuilt")
        result = task.result()
        return result if isinstance(result, Unreadable) else None

    def _rebuilding(self, buyer_id: int) -> "asyncio.Task[Rebuilt | Unreadable]":
        task = self._rebuilds.get(buyer_id)
        if task is None:
            task = self._rebuilds[buyer_id] = asyncio.create_task(self._recover(buyer_id))
            task.add_done_callback(lambda _: self._rebuilds.pop(buyer_id, None))
        return task

    async def _recover(self, buyer_id: int) -> Rebuilt | Unreadable:
        """Take over what another process has loaded, or load it as the elected one."""
        try:
            row = await self._database.fetchrow(self._sql["generation"], buyer_id)
            if row is not None and self._is_behind(row):
                return BEHIND
            if row is not None and self._fits(buyer_id, row):
                return self._adopt(buyer_id, row["generation"], row["sq"])
            async with self._turns:
                return await self._elected(buyer_id)
        except ConnectionError as fault:
            return Unreadable(detail=str(fault))
        except FAULTS as fault:
            return Unreadable(detail=f"Postgres: {type(fault).__name__}")

    async def _elected(self, buyer_id: int) -> Rebuilt | Unreadable:
        """Under the lock of the buyer's row, which elects one rebuilder over all processes: so this
        transaction awaits Valkey too, each call within its timeout. Were it cut off before its end,
        the counters stay shut and the next one begins anew."""
        async with self._database.transaction() as connection:
            await connection.execute(self._sql["generation_made"], buyer_id)
            lock_ms = int(self._wait_s * 1000)
            await connection.fetchval(self._sql["lock_timeout"], f"{lock_ms}ms")
            row = await connection.fetchrow(self._sql["generation_locked"], buyer_id)
            if row is None:
                return Unreadable(detail="the market has no such buyer")
            if self._is_behind(row):
                return BEHIND
            if self._fits(buyer_id, row):
                return self._adopt(buyer_id, row["generation"], row["sq"])
            life, market = self._valkey.life, self._market()
            rebuilt, sq = await self._load(connection, buyer_id, row)
            if life != self._valkey.life:
                return Unreadable(detail="Valkey changed during the rebuild")
            await connection.execute(
                self._sql["generation_moved"], buyer_id, rebuilt.generation, sq, *life.split(".")
            )
        self._known[buyer_id] = Known(rebuilt.generation, life, sq, market)
        self.rebuilds += 1
        return rebuilt

    def _adopt(self, buyer_id: int, generation: int, sq: int) -> Rebuilt:
        known, life = self._known.get(buyer_id), self._valkey.life
        if known is not None and (known.generation, known.life) == (generation, life):
            sq = max(sq, known.sq)
        self._known[buyer_id] = Known(generation, life, sq, self._market())
        return Rebuilt(generation=generation, windows=0, holds=0)

    async def _load(self, connection: Any, buyer_id: int, row: Any) -> tuple[Rebuilt, int]:
        """Shut the door, count, load, open. The count comes after the door is shut, so that every
        sale that had room is either counted or still held."""
        restore_id = self._clock.new_id()
        await self._restore(buyer_id, ("begin", restore_id, row["sq"]))
        if row["counted_version"] < row["due_version"]:
            await self._recount(buyer_id, self._clock.now())
        counted = await connection.fetch(self._sql["counted"], buyer_id, ENDED_WITHIN_S)
        loads, holds = restored(counted)
        await asyncio.gather(
            *(
                self._restore(
                    buyer_id, ("load", restore_id, *(text for item in part for text in item))
                )
                for part in _parts(loads)
            ),
            *(self._restore_ended(buyer_id, restore_id, part) for part in _parts(ended(counted))),
        )
        generation = row["generation"] + 1
        sq = await self._restore(buyer_id, ("open", restore_id, generation, IDLE_MS))
        windows = len(loads) - holds
        return Rebuilt(generation=generation, windows=windows, holds=holds), sq

    async def _restore_ended(
        self, buyer_id: int, restore_id: str, part: Sequence[tuple[str, str]]
    ) -> None:
        tombstones = [_tombstone(buyer_id, token) for token, _ in part]
        texts = [text for item in part for text in item]
        await self._restore(buyer_id, ("ended", restore_id, TOMBSTONE_MS, *texts), tombstones)

    async def _restore(
        self, buyer_id: int, args: Sequence[str | int], more_keys: Sequence[str] = ()
    ) -> int:
        reply = await self._valkey.script("restore", (*_keys(buyer_id), *more_keys), args)
        if reply[0] != b"OK":
            raise ConnectionError("another rebuild of this buyer's counters began")
        sq: int = reply[1]
        return sq


def _keys(buyer_id: int) -> tuple[str, str, str]:
    slot = f"{{b:{buyer_id}}}"
    return f"{slot}:c", f"{slot}:h", f"{slot}:x"


def _tombstone(buyer_id: int, token: str) -> str:
    return f"{{b:{buyer_id}}}:t:{token}"


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), LOADED_AT_ONCE):
        yield items[start : start + LOADED_AT_ONCE]
