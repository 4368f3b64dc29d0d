"""Requests whose head is known, on a real socket: answered as aiohttp would answer them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.api import serving
from exchange.api.serving import Runner, Written

pytestmark = pytest.mark.real
LIMIT_S = 5.0


class House:
    """A server whose one call says what it was sent. `open` false: it waits with its answer."""

    def __init__(self) -> None:
        self.open, self.begun = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.answered = 0
        app = web.Application(client_max_size=1_000)
        app.router.add_post("/echo", self._echo)
        app.router.add_get("/look", self._look)
        self.runner = Runner(
            app, head_read_s=LIMIT_S, access_log=None, keepalive_timeout=0.2, shutdown_timeout=5.0
        )

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        self.begun.set()
        await self.open.wait()
        body = await request.read()
        self.answered += 1
        return Written(b"%b|%b" % (request.headers.get("X-Mark", "").encode(), body))

    async def _look(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"looked")

    @property
    def heads(self) -> dict[bytes, object]:
        server = self.runner.server
        assert isinstance(server, serving.Serving)
        return dict(server.heads)


@contextlib.asynccontextmanager
async def housed() -> AsyncIterator[tuple[House, int]]:
    house = House()
    await house.runner.setup()
    await web.TCPSite(house.runner, "127.0.0.1", 0).start()
    try:
        yield house, house.runner.addresses[0][1]
    finally:
        house.open.set()
        await house.runner.cleanup()


def post(body: bytes, *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in ("Host: x", *lines, f"Content-Length: {len(body)}"))
    return f"POST /echo HTTP/1.1\r\n{head}\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(LIMIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head.split(b" ", 2)[1] + b" " + await reader.readexactly(length)


REQUESTS = (
    post(b"{}"),
    post(b"[]"),
    post(b"{}", "X-Mark: a"),
    post(b"", "X-Mark: b"),
    post(b"\r\n\r\n", "X-Mark: c"),
    b"GET /look HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    post(b"x" * 2_000),
)
WANTED = (
    b"200 |{}", b"200 |[]", b"200 a|{}", b"200 b|", b"200 c|\r\n\r\n", b"200 looked", b"200 |{}",
)  # fmt: skip
"""The last is too large and closes the connection."""


async def told(port: int, pieces: Sequence[bytes], count: int) -> list[bytes]:
    """The first so many answers on one connection to which these pieces are sent one by one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return [await answer(reader) for _ in range(count)]
    finally:
        writer.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    asked=st.lists(st.integers(0, len(WANTED) - 1), min_size=1, max_size=12),
    cuts=st.lists(st.integers(1, 200), max_size=8),
)
def test_however_requests_are_cut_they_are_answered_in_order(
    asked: list[int], cuts: list[int]
) -> None:
    async def check() -> None:
        whole = [REQUESTS[one] for one in asked]
        wanted = [WANTED[one] for one in asked]
        text, pieces = b"".join(whole), []
        for cut in cuts:
            pieces.append(text[:cut])
            text = text[cut:]
        async with housed() as (_, port):
            assert await told(port, whole, len(asked)) == wanted
            assert await told(port, whole, len(asked)) == wanted  # the heads are known now
            assert await told(port, [*pieces, text], len(asked)) == wanted

    asyncio.run(check())


async def test_a_head_is_known_once_a_whole_post_had_it() -> None:
    async with housed() as (house, port):
        await told(port, [REQUESTS[5]], 1)
        await told(port, [REQUESTS[6]], 1)
        assert not house.heads, "neither a GET nor a body in chunks is learned"
        await told(port, [REQUESTS[0][:-1], REQUESTS[0][-1:]], 1)
        assert await told(port, [REQUESTS[0]], 1) == [b"200 |{}"]
        assert list(house.heads) == [REQUESTS[0][:-2]]


@pytest.mark.parametrize("line", ["Connection: close", "Expect: 100-continue", "X: " + "x" * 1_100])
async def test_a_head_that_says_more_than_the_usual_is_not_learned(line: str) -> None:
    async with housed() as (house, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"{}", line))
        await reader.readuntil(b"|{}")
        assert not house.heads
        writer.close()


async def test_heads_are_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "HEADS_KNOWN_MAX", 3)
    async with housed() as (house, port):
        for number in range(10):
            assert await told(port, [post(b"{}", f"X-Mark: {number}")], 1)
            assert len(house.heads) <= 3


async def test_a_body_over_the_limit_is_refused_under_a_known_head_too() -> None:
    async with housed() as (_, port):
        for _ in range(2):
            assert (await told(port, [REQUESTS[7]], 1))[0].startswith(b"413 ")


async def test_a_stopping_server_answers_what_it_began_and_closes() -> None:
    async with housed() as (house, port):
        await told(port, [REQUESTS[0]], 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUESTS[0])
        await answer(reader)
        house.open.clear()
        house.begun.clear()
        writer.write(REQUESTS[0])
        await house.begun.wait()
        stopping = asyncio.create_task(house.runner.cleanup())
        await asyncio.sleep(0)
        house.open.set()
        assert await answer(reader) == b"200 |{}"
        assert await reader.read() == b""
        await stopping
        writer.close()


async def test_a_client_that_goes_takes_nothing_with_it_and_the_server_waits_for_its_call() -> None:
    async with housed() as (house, port):
        await told(port, [REQUESTS[0]], 1)
        house.open.clear()
        house.begun.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUESTS[0])
        await house.begun.wait()
        writer.transport.abort()
        await asyncio.sleep(0)
        stopping = asyncio.create_task(house.runner.cleanup())
        await asyncio.sleep(0)
        assert not stopping.done()
        house.open.set()
        await stopping
        assert house.answered == 2


async def test_a_long_answer_outlives_the_keep_alive_time_and_an_idle_connection_does_not() -> None:
    async with housed() as (house, port):
        await told(port, [REQUESTS[0]], 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUESTS[0])
        await answer(reader)
        house.open.clear()
        house.begun.clear()
        writer.write(REQUESTS[0])
        await house.begun.wait()
        await asyncio.wait([asyncio.create_task(house.open.wait())], timeout=0.5)
        house.open.set()
        assert await answer(reader) == b"200 |{}"
        async with asyncio.timeout(LIMIT_S):
            assert await reader.read() == b"", "closed once it had idled"
        writer.close()
