"""How long a client may take over the head of a request, on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from exchange.api.serving import Connection, Runner

pytestmark = pytest.mark.real

SHORT_S = 0.05
LONG_S = 3_600.0
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def call(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="served")


@asynccontextmanager
async def serving(head_read_s: float, answer: Answer = call) -> AsyncIterator[Runner]:
    app = web.Application()
    app.router.add_get("/", answer)
    runner = Runner(app, head_read_s=head_read_s, keepalive_timeout=LONG_S, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner
    await runner.cleanup()


async def connected(runner: Runner) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])


async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request is answered on this connection."""
    writer.write(REQUEST)
    assert (await reader.readuntil(b"served")).startswith(b"HTTP/1.1 200 ")


def connection_of(runner: Runner) -> Connection:
    assert runner.server is not None
    [connection] = runner.server.connections
    assert isinstance(connection, Connection)
    return connection


@pytest.mark.parametrize("sent", [b"", REQUEST[:1], REQUEST[:-2]])
async def test_a_connection_whose_first_head_does_not_come_whole_is_closed(sent: bytes) -> None:
    async with serving(SHORT_S) as runner:
        reader, writer = await connected(runner)
        writer.write(sent)
        assert await reader.read() == b"", "closed without a word"
        writer.close()


async def test_once_a_request_was_read_the_keep_alive_time_is_what_counts() -> None:
    async with serving(LONG_S) as runner:
        reader, writer = await connected(runner)
        await served(reader, writer)
        connection = connection_of(runner)
        first, loop = connection._keepalive_handle, asyncio.get_running_loop()
        assert first is not None
        first.cancel()
        connection._first_head_due()  # the time of the first head runs out
        then = connection._keepalive_handle
        assert then is not None
        assert then is not first
        assert then.when() > loop.time() + LONG_S / 2
        await served(reader, writer)
        writer.close()


async def test_a_request_that_is_being_answered_is_no_late_head() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        begun.set()
        await go_on.wait()
        return web.Response(text="served")

    async with serving(LONG_S, slow) as runner:
        reader, writer = await connected(runner)
        writer.write(REQUEST)
        await begun.wait()
        connection_of(runner)._first_head_due()
        go_on.set()
        assert (await reader.readuntil(b"served")).startswith(b"HTTP/1.1 200 ")
        writer.close()
