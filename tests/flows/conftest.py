"""Scripted buyers over real HTTP, and the small market they stand in, for flows on the real
servers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from exchange.core.terms import MarketDoc

MARKET = """
[verticals.auto]
currency = "USD"
fields.state = {{ type = "enum", values = ["CA", "NV"], ping = true }}
fields.age = {{ type = "int", ping = true }}
fields.phone = {{ type = "us_phone", personal = true }}
[sellers.bright]
margin = {{ percent = 15 }}
sources = ["search"]
webhook_url = "{webhook}"
webhook_secret = "bright-hook"
[buyers.acme]
time_zone = "America/Chicago"
ping_url = "{acme}/ping"
post_url = "{acme}/post"
status_url = "{acme}/status"
webhook_url = "{acme}/hook"
webhook_secret = "acme-hook"
[buyers.beacon]
time_zone = "America/Chicago"
ping_url = "{beacon}/ping"
post_url = "{beacon}/post"
[contracts.acme-auto]
buyer = "acme"
vertical = "auto"
where = {{ state = ["CA"] }}
caps = [ {{ leads = 500, per = "day" }}, {{ money = "50000.00", per = "month" }} ]
in_doubt = {{ policy = {policy}, write_off_hours = 24, hold_s = 600 }}
[contracts.beacon-auto]
buyer = "beacon"
vertical = "auto"
caps = [ {{ leads = 1, per = "day" }} ]
[contracts.acme-nevada]
buyer = "acme"
vertical = "auto"
where = {{ state = ["NV"] }}
"""


class ScriptedBuyer:
    """A buyer that keeps what it was posted and answers by its script.

    `on_post(attempt_id, first)` is the JSON it answers to a post, an int for a bare status, `None`
    for a hang-up; a post it was given counts as had, whatever it answers. `bought` says what its
    status address tells of a post it has; `status_up` false: it answers 503; `thinks`: it answers
    nothing before this is set. `bids`: what its contracts bid, by their keys.
    """

    def __init__(self) -> None:
        self.had: dict[str, int] = {}
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.bought: dict[str, Any] = {"status": "accepted", "ref": "b-1"}
        self.on_post: Callable[[str, bool], Any] = lambda _id, _first: self.bought
        self.bids: dict[str, str] = {}
        self.pinged: list[dict[str, Any]] = []
        self.status_up = True
        self.thinks: asyncio.Event | None = None
        self.asked = 0
        self.server = TestServer(self._app())

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/ping", self._ping)
        app.router.add_post("/post", self._post)
        app.router.add_get("/status", self._status)
        app.router.add_post("/hook", self._hook)
        return app

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        self.pinged.append(msgspec.json.decode(await request.read()))
        bid = self.bids.get(self.pinged[-1]["contract"])
        return web.Response(status=204) if bid is None else web.json_response({"bid": bid})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        attempt_id = msgspec.json.decode(body)["attempt_id"]
        first = attempt_id not in self.had
        self.had[attempt_id] = self.had.get(attempt_id, 0) + 1
        return self._said(request, self.on_post(attempt_id, first))

    async def _status(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.thinks is not None:
            await self.thinks.wait()
        if not self.status_up:
            return web.Response(status=503)
        if request.query["attempt_id"] not in self.had:
            return web.Response(status=404)
        return web.json_response(self.bought)

    async def _hook(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append(dict(request.headers))
        return self._said(request, self.on_post("", True))

    @staticmethod
    def _said(request: web.Request, said: Any) -> web.StreamResponse:
        if said is None and request.transport is not None:
            request.transport.abort()
            return web.Response()
        if isinstance(said, int):
            return web.Response(status=said)
        return web.json_response(said)


class Scripts(msgspec.Struct):
    """The two buyers, and the market with them in it."""

    acme: ScriptedBuyer
    beacon: ScriptedBuyer

    def market(self, *, policy: tuple[str, ...] = ("inquire", "write_off")) -> MarketDoc:
        text = MARKET.format(
            acme=self.acme.url,
            beacon=self.beacon.url,
            webhook=f"{self.beacon.url}/hook",
            policy=list(policy),
        )
        return msgspec.toml.decode(text, type=MarketDoc, strict=False)


@pytest.fixture
async def scripts() -> AsyncIterator[Scripts]:
    acme, beacon = ScriptedBuyer(), ScriptedBuyer()
    await acme.server.start_server()
    await beacon.server.start_server()
    yield Scripts(acme, beacon)
    await acme.server.close()
    await beacon.server.close()
