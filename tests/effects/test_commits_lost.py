"""The group-commit writer when its connection is lost: before, inside and after a commit, with the
old session still at work, and with Postgres itself killed. Nothing acknowledged is missing, nothing
is written twice, nothing refused is there."""

import asyncio
import functools
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import asyncpg
import pytest

from exchange.core.records import CommitAnswer, CommitUnit
from exchange.effects.commits import Commits, CommitsDown
from exchange.embedded import Servers
from tests.effects.sales import PRICE, Sale, add_parties, state_of

pytestmark = pytest.mark.real

NAME = "commits-under-test"


class Wire:
    """A door to Postgres that can lose what comes back, or close on both sides unevenly."""

    def __init__(self, url: str, folder: Path) -> None:
        host = parse_qs(urlsplit(url).query)["host"][0]
        port = parse_qs(urlsplit(url).query)["port"][0]
        self._real = f"{unquote(host)}/.s.PGSQL.{port}"
        self._door = folder / f".s.PGSQL.{port}"
        self.url = re.sub(r"host=[^&]+", f"host={quote(str(folder), safe='')}", url)
        self.is_open, self.loses_answers = True, False
        self._writers: list[asyncio.StreamWriter] = []
        self._server_sides: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._met, self._door)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut(both=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, *, both: bool) -> None:
        """Ends every connection for the client; for Postgres too only if `both`."""
        for writer in [*self._writers, *(self._server_sides if both else ())]:
            writer.transport.abort()
        self._writers.clear()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_open:
            writer.transport.abort()
            return
        from_server, to_server = await asyncio.open_unix_connection(self._real)
        self._writers.append(writer)
        self._server_sides.append(to_server)
        for source, sink, is_answer in ((reader, to_server, False), (from_server, writer, True)):
            task = asyncio.create_task(self._carry(source, sink, is_answer))
            self._tasks.add(task)

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool
    ) -> None:
        try:
            while data := await source.read(65_536):
                if is_answer and self.loses_answers:
                    self.loses_answers = False
                    self.cut(both=False)
                    return
                sink.write(data)
            sink.close()
        except OSError:
            return


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await add_parties(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def wire(database_url: str, tmp_path: Path) -> AsyncIterator[Wire]:
    wire = Wire(database_url, tmp_path)
    await wire.open()
    yield wire
    await wire.close()


@pytest.fixture
async def commits(wire: Wire, database: asyncpg.Connection) -> AsyncIterator[Commits]:
    commits = await Commits.open(wire.url, application_name=NAME)
    yield commits
    await commits.close()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await is_so():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def turns(count: int) -> None:
    """Lets everybody else go on for so many turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def waits_for_a_lock(database: asyncpg.Connection) -> bool:
    return bool(
        await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE application_name = $1 AND wait_event_type = 'Lock'",
            NAME,
        )
    )


async def end_sessions(database: asyncpg.Connection) -> None:
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", NAME
    )


async def sold_once(database: asyncpg.Connection, sale: Sale) -> bool:
    found = await state_of(database, sale.lead_id)
    return (found["state"], found["transferred"], found["events"], found["facts"]) == (
        "sold", PRICE, 3, 2,
    )  # fmt: skip


async def blocked(
    commits: Commits, database: asyncpg.Connection, database_url: str, sale: Sale
) -> tuple["asyncio.Task[CommitAnswer]", asyncpg.Connection]:
    """A RESULT that hangs inside its statement, at its last insert, and whoever blocks it."""
    blocker = await asyncpg.connect(database_url)
    await blocker.execute("BEGIN; LOCK TABLE transfer IN EXCLUSIVE MODE")
    task = asyncio.create_task(commits.commit(sale.result()))
    await until(lambda: waits_for_a_lock(database))
    return task, blocker


async def test_a_session_ended_inside_a_commit_is_replaced_and_the_commit_carried_out(
    commits: Commits, database: asyncpg.Connection, database_url: str
) -> None:
    sale = Sale()
    await commits.commit(sale.intent())
    task, blocker = await blocked(commits, database, database_url, sale)
    await end_sessions(database)
    await blocker.close()
    assert (await task).kind == "done"
    assert await sold_once(database, sale)
    assert commits.stats.lost == 1


async def test_a_commit_whose_answer_was_lost_is_found_and_not_repeated(
    commits: Commits, database: asyncpg.Connection, wire: Wire
) -> None:
    sale, other = Sale(), Sale()
    await commits.commit(sale.intent())
    await commits.commit(other.intent())
    await commits.commit(other.result())  # the accounts are known: a RESULT is one round trip
    result = sale.result()
    units = commits.stats.units
    wire.loses_answers = True
    assert (await commits.commit(result)).kind == "done"
    assert await sold_once(database, sale)
    assert (commits.stats.lost, commits.stats.units - units) == (1, 1)


async def test_a_lost_session_still_at_work_is_ended_before_anything_is_asked(
    commits: Commits, database: asyncpg.Connection, database_url: str, wire: Wire
) -> None:
    sale = Sale()
    await commits.commit(sale.intent())
    task, blocker = await blocked(commits, database, database_url, sale)
    wire.cut(both=False)
    await until(lambda: asyncio.sleep(0, commits.stats.lost == 1 and commits.up))
    await blocker.close()
    assert (await task).kind == "done"
    assert await sold_once(database, sale)


async def test_what_happened_waits_for_the_database_and_what_would_begin_is_refused(
    commits: Commits, database: asyncpg.Connection, wire: Wire
) -> None:
    sale, late = Sale(), Sale()
    await commits.commit(sale.intent())
    wire.is_open = False
    wire.cut(both=True)
    await until(lambda: asyncio.sleep(0, not commits.up))
    with pytest.raises(CommitsDown, match="away"):
        await commits.commit(late.intent())
    task = asyncio.create_task(commits.commit(sale.result()))
    await asyncio.sleep(0)
    assert (task.done(), commits.queued) == (False, 1)
    wire.is_open = True
    assert (await task).kind == "done"
    assert await sold_once(database, sale)
    assert await state_of(database, late.lead_id) == {}


async def test_a_caller_who_gave_up_during_an_outage_does_not_stop_the_commit(
    commits: Commits, database: asyncpg.Connection, wire: Wire
) -> None:
    sale = Sale()
    await commits.commit(sale.intent())
    wire.is_open = False
    wire.cut(both=True)
    task = asyncio.create_task(commits.commit(sale.result()))
    await until(lambda: asyncio.sleep(0, not commits.up and commits.queued == 1))
    task.cancel()
    wire.is_open = True
    await commits.drain()
    assert await sold_once(database, sale)


async def test_closing_while_the_database_is_away_tells_everybody_something(
    wire: Wire, database: asyncpg.Connection
) -> None:
    commits = await Commits.open(wire.url, application_name=NAME)
    sale = Sale()
    await commits.commit(sale.intent())
    wire.is_open = False
    wire.cut(both=True)
    task = asyncio.create_task(commits.commit(sale.result()))
    await asyncio.sleep(0)
    await commits.close(timeout_s=0.01)
    with pytest.raises((CommitsDown, asyncio.CancelledError)):
        await task


# --- many at once ---------------------------------------------------------------------------------


class Ledger:
    """Who was told what, for comparing with what is there."""

    def __init__(self) -> None:
        self.sales: list[Sale] = []
        self.done: set[str] = set()
        self.refused: set[str] = set()

    async def sell(self, commits: Commits) -> None:
        """A lead through both commits, as a post does it; an INTENT that is refused ends it."""
        sale = Sale()
        self.sales.append(sale)
        for unit in (sale.intent(), sale.result()):
            if not await self._told(commits, unit):
                return

    async def _told(self, commits: Commits, unit: CommitUnit) -> bool:
        marker = ":".join(unit.marker)
        try:
            answer = await commits.commit(unit)
        except CommitsDown:
            self.refused.add(marker)
            return False
        assert answer.kind == "done", answer
        self.done.add(marker)
        return True

    async def agrees_with(self, database: asyncpg.Connection) -> bool:
        rows = await database.fetch(
            "SELECT attempt_id::text || ':' || state AS marker FROM attempt_event "
            "WHERE lead_id = ANY($1::uuid[])",
            [sale.lead_id for sale in self.sales],
        )
        there = [row["marker"] for row in rows]
        money = await database.fetchval(
            "SELECT coalesce(sum(amount_micros), 0) FROM transfer WHERE lead_id = ANY($1::uuid[])",
            [sale.lead_id for sale in self.sales],
        )
        sold = sum(marker.endswith(":sold") for marker in there)
        return (
            len(there) == len(set(there))
            and set(there) == self.done
            and not self.refused & set(there)
            and money == sold * PRICE
        )


async def test_sessions_ended_at_random_lose_and_repeat_nothing(
    database_url: str, database: asyncpg.Connection, seed: int
) -> None:
    writers = [await Commits.open(database_url, application_name=NAME) for _ in range(2)]
    chance, ledger = random.Random(seed), Ledger()

    async def seller(number: int) -> None:
        for _ in range(12):
            await ledger.sell(writers[number % 2])
            await turns(chance.randrange(40))

    async def nemesis() -> None:
        while len(ledger.done) < 200:
            await turns(chance.randrange(200))
            await end_sessions(database)
            await until(lambda: asyncio.sleep(0, all(writer.up for writer in writers)))

    sellers = [asyncio.create_task(seller(number)) for number in range(24)]
    trouble = asyncio.create_task(nemesis())
    await asyncio.gather(*sellers)
    trouble.cancel()
    await asyncio.wait([trouble])
    for writer in writers:
        await writer.drain()
        await writer.close()
    assert await ledger.agrees_with(database), f"seed {seed}"
    assert ledger.done


async def test_postgres_killed_and_started_again_loses_and_repeats_nothing(
    database_url: str, servers: Servers
) -> None:
    database = await asyncpg.connect(database_url)
    await add_parties(database)
    writers = [await Commits.open(database_url, application_name=NAME) for _ in range(2)]
    ledger, is_over = Ledger(), False

    async def has_done(count: int) -> bool:
        await asyncio.sleep(0)
        return len(ledger.done) >= count

    async def seller(number: int) -> None:
        while not is_over:
            await ledger.sell(writers[number % 2])
            await until(lambda: asyncio.sleep(0, is_over or writers[number % 2].up))

    sellers = [asyncio.create_task(seller(number)) for number in range(16)]
    for _ in range(2):
        goal = len(ledger.done) + 80
        await until(functools.partial(has_done, goal))
        await asyncio.to_thread(servers.kill, "postgres")
        await asyncio.to_thread(servers.restart, "postgres")
        await until(lambda: asyncio.sleep(0, all(writer.up for writer in writers)))
    is_over = True
    await asyncio.gather(*sellers)
    for writer in writers:
        await writer.drain()
        await writer.close()
    database.terminate()
    database = await asyncpg.connect(database_url)
    assert await ledger.agrees_with(database)
    await database.close()
