"""aiohttp's server, with our words where it would use its own, and a short way for the calls that
every lead makes.

Most requests of a seller have the same head, byte for byte. A head that came before, of a request
whole in one piece, is not parsed again: what it said then it says now (`Heads`).

What is no HTTP never reaches a call: aiohttp answers it with the bytes it could not read, and logs
them. Both may be a consumer's, so here neither happens.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from exchange.api import errors

Answering = Callable[[Any], Awaitable[web.StreamResponse]]
"""What aiohttp calls with a `web.Request`."""
HEADS_KNOWN_MAX: Final = 1_024
"""Heads remembered by a worker, 3 MB of the longest: when there are more, all are forgotten. A
seller has one for every length of its bodies; one with an id in it never comes again."""
HEAD_KNOWN_BYTES_MAX: Final = 1_024
"""Longer heads are not remembered."""


class Runner(web.AppRunner):
    """Runs an application on `Serving`. `head_read_s`: how long a new connection may take over the
    head of its first request; a later one ends with the keep-alive time, begun or not."""

    def __init__(self, app: web.Application, *, head_read_s: float, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._head_read_s = head_read_s

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        serving = Serving(
            _straight(self.app, made.request_handler),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        serving.head_read_s = self._head_read_s
        return serving


def _straight(app: web.Application, routed: Answering) -> Answering:
    """Posts to a fixed path go to their call without the router and the middleware, which cost a
    ping as much as its eligibility; everything else is `routed`."""
    straight: dict[str, UrlMappingMatchInfo] = {}
    for route in app.router.routes():
        if route.method == "POST" and isinstance(route.resource, web.PlainResource):
            match = straight[route.resource.canonical] = UrlMappingMatchInfo({}, route)
            match.add_app(app)
            match.freeze()

    async def answer(request: web.Request) -> web.StreamResponse:
        match = straight.get(request.raw_path)
        if match is None or request.method != "POST" or "Expect" in request.headers:
            return await routed(request)
        request._match_info = match
        return await match.handler(request)

    return answer


class Written(web.StreamResponse):
    """A 200 of JSON to a POST that is written as it is: none of what `web.Response` can do, at a
    fifth of its cost."""

    def __init__(self, body: bytes) -> None:
        self._bytes, self._stays = body, True

    @property
    def status(self) -> int:
        return 200

    @property
    def keep_alive(self) -> bool:
        return self._stays

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Write everything. Raises `ConnectionResetError` when the client has gone."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self._stays = request.keep_alive and request.version == HttpVersion11
        transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %b\r\n%b"
            b"Content-Length: %d\r\n\r\n%b"
            % (
                rfc822_formatted_time().encode("ascii"),
                b"" if self._stays else b"Connection: close\r\n",
                len(self._bytes),
                self._bytes,
            )
        )
        if request.protocol._paused:  # the client does not read
            await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


class Serving(web.Server):
    """A server whose connections are `Connection`s."""

    head_read_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heads: dict[bytes, tuple[RawRequestMessage, int]] = {}
        """What heads said, and how long their bodies are; parsed once, by aiohttp."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(RequestHandler):
    """One connection of a client. aiohttp's own loop over its requests sleeps while a request with
    a known head is answered (`_at_once`)."""

    __slots__ = ("_early", "_is_at_once", "_is_whole", "_looping")

    def __init__(self, manager: Serving, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._is_whole, self._is_at_once = True, False
        self._looping: Any = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """aiohttp sets its keep-alive timer here already, but heeds it only after an answer, so a
        first head might take for ever. Here it runs out with the time of that head."""
        super().connection_made(transport)
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        serving: Any = self._manager
        self._keepalive_handle = self._loop.call_later(serving.head_read_s, self._first_head_due)

    def _process_keepalive(self) -> None:
        """A connection whose request is being answered is not idle."""
        if self._is_at_once:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def _first_head_due(self) -> None:
        if self._request_count:
            self._process_keepalive()
        else:
            self._keepalive_handle = None
            self.force_close()

    def data_received(self, data: bytes) -> None:
        """While the server stops, aiohttp hears no client any more; but the rest of a body that is
        being waited for belongs to a request that is still answered."""
        if self._close or self._force_close:
            self._heard_while_closing(data)
        elif self._is_at_once:
            self._early += data  # of the next request
            self.transport.pause_reading()  # type: ignore[union-attr]  # it has just been read
        elif not self._is_whole:
            super().data_received(data)
        else:
            waiter = self._waiter
            body_at = data.find(b"\r\n\r\n") + 4
            known = self._manager.heads.get(data[:body_at])  # type: ignore[union-attr]
            if (
                known is not None
                and len(data) == body_at + known[1]
                and waiter is not None
                and not (waiter.done() or self._messages)
            ):
                self._begin(known[0], data[body_at:])
            else:
                self._parsed(data, body_at)

    def _heard_while_closing(self, data: bytes) -> None:
        request, deaf = self._current_request, (self._close, self._force_close)
        if request is None or request.content.is_eof():
            return
        self._close = self._force_close = False
        try:
            super().data_received(data)
        finally:
            self._close, self._force_close = deaf

    def _parsed(self, data: bytes, body_at: int) -> None:
        """Let aiohttp parse, and learn the head of a post that came alone and in one piece. Once
        anything else has come, the parser may hold the half of it: this connection then stays with
        aiohttp."""
        messages, before = self._messages, len(self._messages)
        super().data_received(data)
        self._is_whole = False
        if len(messages) != before + 1:
            return
        message, payload = messages[-1]
        if not isinstance(message, RawRequestMessage) or message.upgrade or not payload.is_eof():
            return
        body_bytes = len(data) - body_at
        self._is_whole = message.headers.get("Content-Length", "0") == str(body_bytes)
        if (
            self._is_whole
            and message.method == "POST"
            and message.version == HttpVersion11
            and body_at <= HEAD_KNOWN_BYTES_MAX
            and body_bytes <= self._read_bufsize
            and not (message.should_close or message.chunked or message.compression)
            and "Expect" not in message.headers
        ):
            heads = self._manager.heads  # type: ignore[union-attr]
            if len(heads) >= HEADS_KNOWN_MAX:
                heads.clear()
            heads[data[:body_at]] = message, body_bytes

    # --- a request with a known head --------------------------------------------------------------

    def _begin(self, message: RawRequestMessage, body: bytes) -> None:
        """Answer a request in a task of its own, which stands in for aiohttp's loop until then: a
        server that stops waits for it."""
        self._is_at_once = True
        self._request_count += 1
        self._manager.requests_count += 1  # type: ignore[union-attr]
        content = StreamReader(self, self._read_bufsize, loop=self._loop)
        if body:
            content.feed_data(body)
        content.feed_eof()
        self._looping = self._task_handler
        writer = StreamWriter(self, self._loop)
        make, answer = self._request_factory, self._request_handler
        request = make(message, content, self, writer, self._looping)  # type: ignore[misc]
        self._task_handler = self._loop.create_task(self._at_once(request, answer))

    async def _at_once(self, request: BaseRequest, answer: Any) -> None:
        """What aiohttp's loop does around one request."""
        stays = False
        try:
            response, gone = await self._handle_request(request, None, answer)
            stays = bool(response.keep_alive) and not gone
        except ConnectionError:
            self.log_debug("the client has gone")
        finally:
            self._is_at_once = False
            if self._task_handler is not None:  # else the connection is lost
                self._task_handler = self._looping
            self._looping = None
            self._ended(stays=stays)

    def _ended(self, *, stays: bool) -> None:
        """Close the connection, or wait for its next request, which may have come already."""
        self._keepalive = stays
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if not stays or self._close or self._force_close:
            transport.close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        if self._early:
            early, self._early = self._early, b""
            transport.resume_reading()
            self.data_received(early)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, or to a fault outside every call. `message` repeats what
        was sent, so it is left unsaid."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun: another cannot be sent")
        if status >= 500 and exc is not None:
            self.log_exception("request", exc_info=exc)
        response = errors.problem_response(errors.of_http(status))
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Say the kind of a fault alone: its text may carry a consumer's data."""
        fault = kw.get("exc_info")
        kind = type(fault).__name__ if isinstance(fault, BaseException) else "unknown"
        self.logger.error("a request failed outside its call: %s", kind)
