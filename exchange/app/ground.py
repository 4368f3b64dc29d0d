"""What every process of the exchange stands on: connections, the book in force, a heartbeat."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from exchange.config import Settings, shown
from exchange.dialects import dialects
from exchange.effects.book import BookStore
from exchange.effects.buyers import Buyers
from exchange.effects.caps import Caps
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits
from exchange.effects.leases import Boots
from exchange.effects.logs import Log
from exchange.effects.metrics import Metrics
from exchange.effects.postgres import Database
from exchange.effects.valkey import Valkey
from exchange.effects.vault import Vault
from exchange.flows.jobs import beating
from exchange.flows.standing import Standing

BEAT_S = 1.0
"""A process says that it lives once a second; after `DEAD_AFTER_S` of silence it is dead."""
DEAD_AFTER_S = 5.0


class Urls(msgspec.Struct, frozen=True, kw_only=True):
    """Where Postgres and Valkey are; never shown, for the first holds a password."""

    database_url: str
    valkey_url: str

    def __repr__(self) -> str:
        return "Urls(...)"


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


@asynccontextmanager
async def ground(
    settings: Settings, urls: Urls, *, kind: str, number: int, beats: bool = True
) -> AsyncIterator[Ground]:
    """The ground of a process: connected, the book in force and kept so, the heart beating
    (`beats` is false for a command that answers nobody)."""
    clock, limits = Clock(), settings.limits
    boot_id = clock.new_id()
    worker = f"{kind}-{number}"
    async with AsyncExitStack() as stack:
        log = Log(
            clock=clock,
            target=settings.log,
            no_offer_share=settings.log_no_offer_share,
            queue_max=limits.log_queue_max,
            worker=worker,
        )
        stack.callback(log.close)
        say = log.events(boot_id=boot_id).info
        vault = Vault.open_file(settings.key_file(), create=settings.is_embedded)
        database = await Database.open(
            urls.database_url, role="exchange_app", application_name=worker
        )
        stack.push_async_callback(database.close)
        valkey = await Valkey.open(
            urls.valkey_url,
            queue_max=limits.valkey_queue_max,
            timeout_ms=limits.valkey_timeout_ms,
        )
        stack.push_async_callback(valkey.close)
        store = BookStore(database)
        book = await store.load()
        metrics = Metrics(
            clock=clock,
            folder=Path(settings.data_dir) / "metrics",
            party=lambda one: _key(standing.book.buyers, one),
            vertical=lambda one: _key(standing.book.verticals, one),
        )
        stack.callback(metrics.close)
        commits = await Commits.open(
            urls.database_url,
            batch_max=limits.commit_batch_max,
            queue_max=limits.commit_queue_max,
        )
        stack.push_async_callback(commits.close)
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
        caps = Caps(valkey, database, clock)
        stack.push_async_callback(caps.close)
        secrets = Secrets(store, vault)
        await secrets.refresh()
        _background(stack, _books(store, standing, secrets, clock, say), "book")
        _background(stack, metrics.run(), "metrics")
        if beats:
            await _heart(stack, Boots(database, dead_after_s=DEAD_AFTER_S), boot_id, kind, say)
        say("started", kind=kind, book_version=book.version, settings=shown(settings))
        stack.callback(say, "stopped", kind=kind)
        yield Ground(
            clock,
            boot_id,
            database,
            valkey,
            vault,
            store,
            commits,
            caps,
            buyers,
            standing,
            metrics,
            log,
            say,
            secrets.read,
        )


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
