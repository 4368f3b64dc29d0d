"""Valkey over one multiplexed connection: the commands of one loop turn leave in one write, and
replies are matched by their order.

    valkey = await Valkey.open("unix:///run/valkey.sock", queue_max=10_000, timeout_ms=500)
    reply = await valkey.call(key, "SET", key, value, "PX", 1000)
    reply = await valkey.script("reserve", keys, arguments)

- A caller that goes away, or whose deadline passes, leaves its place in the queue behind: the late
  reply is read and dropped, so nobody ever gets another's reply and no connection is lost.
- Nothing is sent twice. A command whose connection broke, or whose time ran out, may have been
  carried out; scripts are idempotent by token, and who calls them decides. One exception: a script
  that the server does not know (NOSCRIPT) has not run, so it is loaded and called again.
- The connection reconnects by itself. `life` names the server and its history: another one after a
  reconnect means that what was counted may be gone or older than it was.
- `call` takes the key beside the command. Today there is one connection; a Cluster routes by it.

Exceptions: `ConnectionError` > `ValkeyError` > `ValkeyDown` (no connection, it broke, no reply in
time), `ValkeyBusy` (the queue is full), `ValkeyRefused` (the server answered an error).
"""

import asyncio
import hashlib
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from urllib.parse import SplitResult, unquote, urlsplit

import hiredis

from exchange.effects import lua

Argument = str | bytes | int
Reply = Any
"""bytes, int, None, or a list of them, as RESP2 says."""


class ValkeyError(ConnectionError):
    """No usable reply. A `ConnectionError`, so that those who are handed a `Valkey` need not import
    this module to catch it."""


class ValkeyDown(ValkeyError):
    """No connection, or it broke, or no reply in time: the command may have been carried out."""


class ValkeyBusy(ValkeyError):
    """More commands wait for their replies than the queue may hold; this one was not sent."""


class ValkeyRefused(ValkeyError):
    """The server answered an error."""


class Link(asyncio.Protocol):
    """One connection: a queue of futures in the order of their commands."""

    def __init__(self, *, queue_max: int, timeout_s: float, stall_s: float) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._queue_max, self._timeout_s, self._stall_s = queue_max, timeout_s, stall_s
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[Reply], float]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def call(self, args: tuple[Argument, ...]) -> "asyncio.Future[Reply]":
        """Queue a command for the write at the end of this loop turn."""
        if self._transport is None:
            raise ValkeyDown("not connected")
        if len(self._waiting) >= self._queue_max:
            raise ValkeyBusy(f"{self._queue_max} commands wait for their replies")
        packed = hiredis.pack_command(args)  # type: ignore[arg-type]  # its stub knows one element
        future: asyncio.Future[Reply] = self._loop.create_future()
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)
        self._waiting.append((future, self._loop.time()))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._expire)
        return future

    def abort(self) -> None:
        """Break the connection: whoever waits hears `ValkeyDown`."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None

    @property
    def queued(self) -> int:
        """How many commands wait for their replies."""
        return len(self._waiting)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(b"".join(out))

    def _expire(self) -> None:
        """Time is up for the oldest commands. Their places stay, for replies that still come."""
        self._timer = None
        now = self._loop.time()
        for future, sent_at in self._waiting:
            left_s = sent_at + self._timeout_s - now
            if left_s > 0:
                self._timer = self._loop.call_later(left_s, self._expire)
                break
            if not future.done():
                future.set_exception(ValkeyDown("no reply in time"))
        if not self._waiting:
            return
        stalled_s = self._waiting[0][1] + self._stall_s - now
        if stalled_s <= 0:
            self.abort()  # a connection that died without saying so
        elif self._timer is None:
            self._timer = self._loop.call_later(min(stalled_s, self._timeout_s), self._expire)

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._answer(reply)
        except (hiredis.ProtocolError, IndexError):
            self.abort()  # not RESP, or a reply that nobody asked for

    def _answer(self, reply: Reply) -> None:
        future, _ = self._waiting.popleft()
        if future.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            future.set_exception(ValkeyRefused(str(reply)))
        else:
            future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(ValkeyDown("the connection broke"))
        if not self.closed.done():
            self.closed.set_result(None)


class Valkey:
    """The exchange's connection to Valkey, kept up by a task of its own until `close`."""

    def __init__(
        self,
        url: str,
        *,
        queue_max: int,
        timeout_ms: int,
        connect_timeout_ms: int,
        backoff_ms: tuple[int, int],
        jitter: Callable[[], float],
        on_new_life: Callable[[str], None] | None,
    ) -> None:
        self._url = urlsplit(url)
        self._queue_max, self._timeout_s = queue_max, timeout_ms / 1000
        self._connect_timeout_s = connect_timeout_ms / 1000
        self._backoff_ms, self._jitter, self._on_new_life = backoff_ms, jitter, on_new_life
        self._link: Link | None = None
        self._scripts: dict[str, tuple[str, str]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self.life = ""
        """Which server this is, and which history of its data: `run_id.replication_id`."""
        self.connects = 0

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        queue_max: int,
        timeout_ms: int,
        connect_timeout_ms: int = 1_000,
        backoff_ms: tuple[int, int] = (20, 2_000),
        jitter: Callable[[], float] = random.random,
        on_new_life: Callable[[str], None] | None = None,
    ) -> "Valkey":
        """Connects once, so that a wrong URL is found at once: `ValkeyDown`. URLs are
        `unix:///path`, `redis://` and `rediss://` (TLS) `[user:password@]host[:port][/db]`.

        `timeout_ms` is how long a reply is awaited. Between attempts to reconnect the wait doubles
        from the first to the second of `backoff_ms`; `jitter()` in [0, 1) takes up to half of it.
        `on_new_life` is called with `life` when a reconnect finds another one.
        """
        valkey = cls(
            url,
            queue_max=queue_max,
            timeout_ms=timeout_ms,
            connect_timeout_ms=connect_timeout_ms,
            backoff_ms=backoff_ms,
            jitter=jitter,
            on_new_life=on_new_life,
        )
        try:
            link = await valkey._connected()
        except (OSError, TimeoutError) as fault:
            raise ValkeyDown(f"cannot connect to Valkey: {type(fault).__name__}") from fault
        valkey._keeper = asyncio.create_task(valkey._keep_up(link))
        return valkey

    @property
    def up(self) -> bool:
        """Whether commands can be sent now."""
        return self._link is not None and self._link.is_open

    @property
    def queued(self) -> int:
        """How many commands wait for their replies."""
        return 0 if self._link is None else self._link.queued

    def call(self, key: Argument, *args: Argument) -> "asyncio.Future[Reply]":
        """The future reply of a command; `key` says where it belongs. Raises `ValkeyDown` or
        `ValkeyBusy` at once; the future raises `ValkeyDown` or `ValkeyRefused`."""
        return self._link_of(key).call(args)

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Reply:
        """Runs `exchange/effects/lua/<name>.lua` by its hash; its keys lie in one slot. Raises as
        `call` does."""
        sha, text = self._script(name)
        link = self._link_of(keys[0])
        command = ("EVALSHA", sha, len(keys), *keys, *args)
        try:
            return await link.call(command)
        except ValkeyRefused as fault:
            if not str(fault).startswith("NOSCRIPT"):
                raise
        # On the same connection: after a reconnect the server may be another one.
        load = link.call(("SCRIPT", "LOAD", text))
        return (await asyncio.gather(load, link.call(command)))[1]

    async def close(self) -> None:
        """Ends the connection. Whoever still waits hears `ValkeyDown`."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._link is not None:
            link, self._link = self._link, None
            link.abort()
            await link.closed

    def _link_of(self, key: Argument) -> Link:
        if self._link is None:
            raise ValkeyDown("not connected")
        return self._link

    def _script(self, name: str) -> tuple[str, str]:
        known = self._scripts.get(name)
        if known is None:
            text = lua.script(name)
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            known = self._scripts[name] = (sha, text)
        return known

    # --- staying connected ------------------------------------------------------------------------

    async def _keep_up(self, link: Link) -> None:
        while True:
            await asyncio.shield(link.closed)  # cancelled with us, it would tell nobody else
            self._link = None
            link = await self._reconnected()

    async def _reconnected(self) -> Link:
        least_ms, most_ms = self._backoff_ms
        wait_ms = least_ms
        while True:
            await asyncio.sleep(wait_ms * (1 - self._jitter() / 2) / 1000)
            try:
                return await self._connected()
            except (OSError, TimeoutError):
                wait_ms = min(2 * wait_ms, most_ms)

    async def _connected(self) -> Link:
        """A link that has said who the server is, in force from here on."""
        async with asyncio.timeout(self._connect_timeout_s):
            link = await self._dial()
            try:
                life = await self._greeted(link)
            except BaseException:
                link.abort()
                raise
        before, self.life, self._link = self.life, life, link
        self.connects += 1
        if before and before != life and self._on_new_life is not None:
            self._on_new_life(life)
        return link

    async def _dial(self) -> Link:
        loop, url = asyncio.get_running_loop(), self._url
        if url.scheme == "unix":
            _, link = await loop.create_unix_connection(self._new_link, unquote(url.path))
        elif url.scheme in ("redis", "rediss"):
            secure = ssl.create_default_context() if url.scheme == "rediss" else None
            _, link = await loop.create_connection(
                self._new_link, url.hostname or "127.0.0.1", url.port or 6379, ssl=secure
            )
        else:
            raise ValueError(f"not a Valkey URL: its scheme is {url.scheme!r}")
        return link

    def _new_link(self) -> Link:
        return Link(
            queue_max=self._queue_max,
            timeout_s=self._timeout_s,
            stall_s=STALL_TIMEOUTS * self._timeout_s,
        )

    async def _greeted(self, link: Link) -> str:
        for command in _greeting(self._url):
            await link.call(command)
        server = _info(await link.call(("INFO", "server")))
        replication = _info(await link.call(("INFO", "replication")))
        try:
            return f"{server['run_id']}.{replication['master_replid']}"
        except KeyError:
            raise ValkeyRefused("INFO names no run id and replication id") from None


STALL_TIMEOUTS: Final = 8
"""A connection that has not answered for this many timeouts is broken off: half-open connections
would otherwise stay for the kernel's quarter of an hour. A slow command of someone else's is given
that much time."""


def _greeting(url: SplitResult) -> list[tuple[Argument, ...]]:
    commands: list[tuple[Argument, ...]] = []
    if url.password:
        user = (unquote(url.username),) if url.username else ()
        commands.append(("AUTH", *user, unquote(url.password)))
    if url.scheme != "unix" and url.path.strip("/"):
        commands.append(("SELECT", url.path.strip("/")))
    return commands


def _info(reply: bytes) -> dict[str, str]:
    lines = reply.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
