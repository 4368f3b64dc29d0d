"""aiohttp's server, with our words where it would use its own, and a short way for the calls that
every lead makes.

What is no HTTP never reaches a call: aiohttp answers it with the bytes it could not read, and logs
them. Both may be a consumer's, so here neither happens.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from exchange.api import errors

Answering = Callable[[Any], Awaitable[web.StreamResponse]]
"""What aiohttp calls with a `web.Request`."""


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

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(RequestHandler):
    """One connection of a client."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """aiohttp sets its keep-alive timer here already, but heeds it only after an answer, so a
        first head might take for ever. Here it runs out with the time of that head."""
        super().connection_made(transport)
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        serving: Any = self._manager
        self._keepalive_handle = self._loop.call_later(serving.head_read_s, self._first_head_due)

    def _first_head_due(self) -> None:
        if self._request_count:
            self._process_keepalive()
        else:
            self._keepalive_handle = None
            self.force_close()

    def data_received(self, data: bytes) -> None:
        """While the server stops, aiohttp hears no client any more; but the rest of a body that is
        being waited for belongs to a request that is still answered."""
        if not (self._close or self._force_close):
            super().data_received(data)
            return
        request, deaf = self._current_request, (self._close, self._force_close)
        if request is None or request.content.is_eof():
            return
        self._close = self._force_close = False
        try:
            super().data_received(data)
        finally:
            self._close, self._force_close = deaf

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
