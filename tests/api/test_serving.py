"""The short way of posts to a fixed path, byte by byte on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from exchange.api.serving import Runner, Written

pytestmark = pytest.mark.real
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def call(request: web.Request) -> web.StreamResponse:
        assert request.match_info.route.resource is not None
        body = await request.read()
        return Written(b'{"path":"%b","read":%d}' % (request.path.encode(), len(body)))

    async def refused(request: web.Request) -> web.StreamResponse:
        raise web.HTTPConflict

    @web.middleware
    async def marked(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        assert isinstance(answer, Written)
        answer._bytes += b"routed"
        return answer

    app = web.Application(middlewares=[marked])
    app.router.add_post("/fixed", call)
    app.router.add_post("/refused", refused)
    app.router.add_post("/of/{name}", call)
    runner = Runner(app, head_read_s=5.0, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def said(port: int, *requests: bytes) -> list[tuple[bytes, bytes]]:
    """Head and body of each answer on one connection; the last request closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answers.append((head, await reader.readexactly(length)))
    assert await reader.read() == b"", "nothing follows the last answer, and the server closes"
    writer.close()
    return answers


def post(path: str, *lines: str, version: str = "1.1", body: bytes = b"{}") -> bytes:
    head = "".join(f"{line}\r\n" for line in ("Host: x", f"Content-Length: {len(body)}", *lines))
    return f"POST {path} HTTP/{version}\r\n{head}\r\n".encode() + body


CLOSE = "Connection: close"


async def test_a_connection_stays_open_until_one_side_wants_it_closed(port: int) -> None:
    first, last = await said(port, post("/fixed"), post("/fixed", CLOSE))
    assert first[1] == last[1] == b'{"path":"/fixed","read":2}'
    assert b"connection:" not in first[0].lower()
    assert b"Connection: close\r\n" in last[0]
    assert b"Date: " in first[0]
    assert b"Content-Type: application/json\r\n" in first[0]


async def test_a_client_of_http_1_0_is_answered_and_the_connection_closed(port: int) -> None:
    ((head, body),) = await said(port, post("/fixed", "Connection: keep-alive", version="1.0"))
    assert body == b'{"path":"/fixed","read":2}'
    assert b"Connection: close\r\n" in head


@pytest.mark.parametrize(
    "request_",
    [post("/of/one", CLOSE), post("/fixed?x=1", CLOSE)],
    ids=["a path with a name in it", "a query"],
)
async def test_whatever_is_no_plain_post_to_a_fixed_path_is_routed(
    port: int, request_: bytes
) -> None:
    ((_, body),) = await said(port, request_)
    assert body.endswith(b"routed")


async def test_a_client_that_waits_to_be_told_so_is_told_to_go_on(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    whole = post("/fixed", "Expect: 100-continue", CLOSE)
    writer.write(whole[:-2])
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(whole[-2:])
    assert b'"read":2' in await reader.read()
    writer.close()


async def test_a_refusal_of_the_http_layer_is_still_one(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post("/refused", CLOSE))
    assert (await reader.read()).startswith(b"HTTP/1.1 409 ")
    writer.close()


async def test_an_answer_to_a_client_that_has_gone_is_written_nowhere() -> None:
    class Gone:
        transport = None

    with pytest.raises(ConnectionResetError):
        await Written(b"{}").prepare(Gone())  # type: ignore[arg-type]
