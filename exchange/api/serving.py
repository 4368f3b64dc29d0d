"""aiohttp's server, with our words where it would use its own.

What is no HTTP never reaches a call: aiohttp answers it with the bytes it could not read, and logs
them. Both may be a consumer's, so here neither happens.
"""

from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from exchange.api import errors


class Runner(web.AppRunner):
    """Runs an application on `Serving`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Serving(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


class Serving(web.Server):
    """A server whose connections are `Connection`s."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(RequestHandler):
    """One connection of a client."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """While the server stops, aiohttp hears no client any more; but the rest of a body that is
        being waited for belongs to a request that is still answered."""
        request, deaf = self._current_request, (self._close, self._force_close)
        if not any(deaf) or request is None or request.content.is_eof():
            super().data_received(data)
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
