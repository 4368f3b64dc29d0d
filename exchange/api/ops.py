"""What operators' machines call: health, readiness, metrics, and the documentation."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from exchange.api.docs import page
from exchange.api.door import json_response
from exchange.api.errors import KINDS, ProblemDetails, slug
from exchange.api.openapi import document
from exchange.api.routes import Route


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`ok`, or what is not."""

    status: str
    missing: list[str] = []


ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        operation="healthz",
        group="Operation",
        role=None,
        summary="Whether the process answers",
        response=Health,
    ),
    Route(
        method="GET",
        path="/readyz",
        operation="readyz",
        group="Operation",
        role=None,
        summary="Whether it should be sent traffic: book in force, Postgres there, not draining",
        response=Health,
        problems=(503,),
    ),
    Route(
        method="GET",
        path="/metrics",
        operation="metrics",
        group="Operation",
        role=None,
        summary="Prometheus metrics of all workers",
        media_type="text/plain",
    ),
)


class OpsApi:
    """Serves `ROUTES`, `/openapi.json` and `/docs`."""

    def __init__(
        self,
        *,
        missing: Callable[[], list[str]],
        scrape: Callable[[str], Awaitable[tuple[bytes, str]]],
        routes: Sequence[Route],
        version: str,
    ) -> None:
        self._missing, self._scrape = missing, scrape
        self._document = document(routes, version=version, problem=ProblemDetails)
        problems = [(slug(title), title, words) for title, words in KINDS]
        self._page = page(self._document, problems)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_get("/healthz", self._health)
        router.add_get("/readyz", self._ready)
        router.add_get("/metrics", self._metrics)
        router.add_get("/openapi.json", self._openapi)
        router.add_get("/docs", self._docs)

    async def _health(self, _: web.Request) -> web.Response:
        return json_response(Health(status="ok"))

    async def _ready(self, _: web.Request) -> web.Response:
        missing = self._missing()
        if missing:
            return json_response(Health(status="not ready", missing=missing), status=503)
        return json_response(Health(status="ok"))

    async def _metrics(self, request: web.Request) -> web.Response:
        text, kind = await self._scrape(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": kind})

    async def _openapi(self, _: web.Request) -> web.Response:
        return json_response(self._document)

    async def _docs(self, _: web.Request) -> web.Response:
        text: Any = self._page
        return web.Response(text=str(text), content_type="text/html")
