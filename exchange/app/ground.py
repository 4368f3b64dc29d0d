"""What every process of the exchange stands on: connections, the book in force, a heartbeat."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec

from exchange.config import Limits, Settings, shown
from exchange.core.book import Book
from exchange.dialects import dialects
from exchange.effects.book import BookStore
from exchange.effects.buyers import Buyers
from exchange.effects.caps import Caps
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits
from exchange.effects.epochs import Epochs
from exchange.effects.failpoints import At, failpoints, nowhere
from exchange.effects.leads import Leads
from exchange.effects.leases import Boots
from exchange.effects.logs import Log
from exchange.effects.metrics import Metrics
from exchange.effects.postgres import Database
from exchange.effects.recount import Recounts
from exchange.effects.valkey import Valkey, ValkeyDown
from exchange.effects.vault import NoKey, Vault
from exchange.flows.jobs import beating
from exchange.flows.replies import Replies
from exchange.flows.standing import Standing

BEAT_S = 1.0
"""A process says that it lives once a second; after `DEAD_AFTER_S` of silence it is dead."""
DEAD_AFTER_S = 5.0
WAIT_S = 0.5
"""Between tries to connect at start."""
AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValkeyDown)
"""What a server that is away, or only just starting, makes a connection raise."""
T = TypeVar("T")


class Urls(msgspec.Struct, frozen=True, kw_only=True):
    """Where Postgres and Valkey are; never shown, for the first holds a password."""

    database_url: str
    valkey_url: str

    def __repr__(self) -> str:
        return "Urls(...)"


class Patient:
    """Waits for servers that are away: a worker that restarts in an outage must not give up, or the
    outage would take the whole exchange with it. Without `say`, for commands, it does not wait."""

    def __init__(self, say: Callable[..., Any] | None) -> None:
        self._say = say

    async def until(self, what: str, step: Callable[[], Awaitable[T]]) -> T:
        """What `step` answers, tried again until its servers are there."""
        while True:
            try:
                return await step()
            except AWAY as fault:
                if self._say is None:
                    raise
                self._say("waiting", step=what, fault=type(fault).__name__)
                await asyncio.sleep(WAIT_S)


class Ground(msgspec.Struct, frozen=True):
    """What every process of the exchange stands on."""

    clock: Clock
    boot_id: str
    database: Database
    valkey: Valkey
    vault: Vault
    store: BookStore
    commits: Commits
    caps: Caps
    buyers: Buyers
    standing: Standing
    metrics: Metrics
    log: Log
    say: Callable[..., Any]
    secret: Callable[[str], bytes | None]
    at: At


@asynccontextmanager
async def ground(
    settings: Settings, urls: Urls, *, kind: str, number: int, beats: bool = True
) -> AsyncIterator[Ground]:
    """The ground of a process: connected, the book in force and kept so, the heart beating
    (`beats` is false for a command that answers nobody)."""
    clock, boot_id = Clock(), Clock().new_id()
    async with AsyncExitStack() as stack:
        log = _log(stack, settings, clock, f"{kind}-{number}")
        say = log.events(boot_id=boot_id).info
        vault = Vault.open_file(settings.key_file(), create=settings.is_embedded)
        patient = Patient(say if kind != "command" else None)
        links = await _connected(stack, settings.limits, urls, kind, patient)
        await patient.until("keys", lambda: _known_keys(links.database, vault))
        store = BookStore(links.database)
        book = await patient.until("book", store.load)
        buyers, standing = _market(stack, settings, book, number, clock)
        secrets = Secrets(store, vault)
        await patient.until("secrets", secrets.refresh)
        metrics = _metrics(stack, settings, standing, clock, is_command=kind == "command")
        commits = await _commits(stack, settings.limits, urls, patient, metrics)
        caps = Caps(
            links.valkey,
            links.database,
            clock,
            recount=Recounts(links.database).recount,
            market=lambda: standing.book.version,
        )
        stack.push_async_callback(caps.close)
        _background(stack, _books(store, standing, secrets, clock, say), "book")
        if beats:
            boots = Boots(links.database, dead_after_s=DEAD_AFTER_S)
            await _heart(stack, boots, boot_id, kind, say)
        say("started", kind=kind, book_version=standing.book.version, settings=shown(settings))
        stack.callback(say, "stopped", kind=kind)
        yield Ground(
            clock=clock,
            boot_id=boot_id,
            database=links.database,
            valkey=links.valkey,
            vault=vault,
            store=store,
            commits=commits,
            caps=caps,
            buyers=buyers,
            standing=standing,
            metrics=metrics,
            log=log,
            say=say,
            secret=secrets.read,
            at=failpoints(Path(settings.failpoints)) if settings.failpoints else nowhere,
        )


class Links(msgspec.Struct, frozen=True):
    """The connections of a process, but for the one that commits."""

    database: Database
    valkey: Valkey


async def _connected(
    stack: AsyncExitStack, limits: Limits, urls: Urls, name: str, patient: Patient
) -> Links:
    """Connect to both servers."""
    database = await patient.until(
        "postgres",
        lambda: Database.open(urls.database_url, role="exchange_app", application_name=name),
    )
    stack.push_async_callback(database.close)
    valkey = await patient.until(
        "valkey",
        lambda: Valkey.open(
            urls.valkey_url,
            queue_max=limits.valkey_queue_max,
            timeout_ms=limits.valkey_timeout_ms,
        ),
    )
    stack.push_async_callback(valkey.close)
    return Links(database, valkey)


async def _known_keys(database: Database, vault: Vault) -> None:
    """Write down which keys there are. Raises `NoKey` when one is missing that is in use: what it
    sealed could not be opened, and a lead's post in doubt not be sent again."""
    missing = await Epochs(app=database, sealed=database).known(vault.epochs)
    if missing:
        lines = ", ".join(map(str, missing))
        raise NoKey(f"the key file has no line for epoch {lines}, which is in use")


async def _commits(
    stack: AsyncExitStack, limits: Limits, urls: Urls, patient: Patient, metrics: Metrics
) -> Commits:
    """The writer of commits; it tells metrics of every batch."""
    commits = await patient.until(
        "commits",
        lambda: Commits.open(
            urls.database_url,
            batch_max=limits.commit_batch_max,
            queue_max=limits.commit_queue_max,
            on_batch=metrics.commit_batch,
        ),
    )
    stack.push_async_callback(commits.close)
    return commits


def _market(
    stack: AsyncExitStack, settings: Settings, book: Book, number: int, clock: Clock
) -> tuple[Buyers, Standing]:
    """The fan-out, and what this process knows of the market."""
    limits = settings.limits
    buyers = Buyers(
        reply_bytes_max=limits.reply_bytes_max,
        lab=settings.lab,
        connect_timeout_ms=limits.connect_timeout_ms,
        dns_ttl_s=limits.dns_ttl_s,
    )
    stack.push_async_callback(buyers.close)
    standing = Standing(
        book,
        buyers=buyers,
        dialects=dialects(),
        brake_count=limits.doubt_brake_count,
        brake_s=limits.doubt_brake_s,
        trial_s=limits.doubt_trial_s,
        worker_number=number,
    )
    standing.adopt(book, clock.now())
    return buyers, standing


def _log(stack: AsyncExitStack, settings: Settings, clock: Clock, worker: str) -> Log:
    log = Log(
        clock=clock,
        target=settings.log,
        no_offer_share=settings.log_no_offer_share,
        queue_max=settings.limits.log_queue_max,
        worker=worker,
    )
    stack.callback(log.close)
    return log


def _metrics(
    stack: AsyncExitStack,
    settings: Settings,
    standing: Standing,
    clock: Clock,
    *,
    is_command: bool,
) -> Metrics:
    """What this process counts; a command counts for nobody."""
    metrics = Metrics(
        clock=clock,
        folder=None if is_command else Path(settings.data_dir) / "metrics",
        party=lambda one: _key(standing.book.buyers, one),
        vertical=lambda one: _key(standing.book.verticals, one),
    )
    stack.callback(metrics.close)
    if not is_command:
        _background(stack, metrics.run(), "metrics")
    return metrics


def replies_of(base: Ground) -> Replies:
    """Who seals and opens stored replies."""
    return Replies(vault=base.vault, leads=Leads(base.database))


def tools(settings: Settings, urls: Urls) -> AbstractAsyncContextManager[Ground]:
    """The ground of a command: the same parts, no heartbeat, and no log."""
    quiet = msgspec.structs.replace(settings, log=os.devnull)
    return ground(quiet, urls, kind="command", number=1023, beats=False)


async def _heart(
    stack: AsyncExitStack, boots: Boots, boot_id: str, kind: str, say: Callable[..., Any]
) -> None:
    """Say once a second that this process lives, until the stack unwinds."""
    stop = asyncio.Event()
    beat = beating(boots, boot_id, kind, every_s=BEAT_S, stop=stop, say=saying(say))
    stack.push_async_callback(_stopped, stop, asyncio.create_task(beat, name="heart"))


class Secrets:
    """Buyers' secrets, opened once and kept in memory; read again when the market changes."""

    def __init__(self, store: BookStore, vault: Vault) -> None:
        self._store, self._vault = store, vault
        self._known: dict[str, bytes] = {}

    async def refresh(self) -> None:
        """Read every secret again."""
        self._known = await self._store.secrets(self._vault.open_secret)

    def read(self, name: str) -> bytes | None:
        """The secret of this name, `None` when none was set."""
        return self._known.get(name)


async def _books(
    store: BookStore, standing: Standing, secrets: Secrets, clock: Clock, say: Callable[..., Any]
) -> None:
    """Take in every new book; secrets too, for a new buyer may bring one."""
    async for book in store.watch(standing.book):
        await secrets.refresh()
        standing.adopt(book, clock.now())
        say("book", version=book.version, contracts=len(book.contracts))


def _background(stack: AsyncExitStack, work: Any, name: str) -> None:
    """Run `work` until the stack unwinds."""
    task = asyncio.create_task(work, name=name)
    stack.push_async_callback(cancelled, task)


async def cancelled(task: "asyncio.Task[None]") -> None:
    """Cancel a background task and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _stopped(stop: asyncio.Event, task: "asyncio.Task[None]") -> None:
    stop.set()
    await task


def saying(say: Callable[..., Any]) -> Callable[[str, Any], None]:
    """A logger that takes its fields as one mapping."""
    return lambda event, fields: say(event, **dict(fields))


def _key(things: Any, one: int) -> str:
    known = things.get(one)
    return str(known.key) if known else str(one)
