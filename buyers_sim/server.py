"""HTTP on raw transports: a reset, a drip or half an answer needs the socket itself.

One `Connection` per client, requests answered one after the other. A connection that is left
hanging stays open until the client gives up.

    POST   /<buyer>/ping, /<buyer>/post     the house dialect
    GET    /<buyer>/status?attempt_id=      what the buyer's books say
    POST   /control/<buyer>                 lay a partial behaviour over the rules in force
    DELETE /control/<buyer>                 back to the profile
    GET    /control/stats                   what every buyer did, by kind and word
"""

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import httptools
import msgspec

from .answers import Plan, json_plan, rendered
from .buyer import Buyer, Request
from .profile import ProfileError

BODY_BYTES_MAX = 1_048_576
"""A lead has a few KiB; more than this is a fault of the exchange, and is refused with 413."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing sends RST instead of FIN."""


class Cast:
    """All buyers in play, by name, and the control of them."""

    def __init__(self, buyers: Mapping[str, Buyer]) -> None:
        self.buyers = buyers
        self.connections: set[Connection] = set()

    def plan(self, request: Request) -> Plan:
        """The answer to a request, and its truth written."""
        name, _, service = request.path.strip("/").partition("/")
        if name == "control":
            return self._control(request, service)
        buyer = self.buyers.get(name)
        services = {
            ("POST", "ping"): Buyer.ping,
            ("POST", "post"): Buyer.post,
            ("GET", "status"): Buyer.status,
        }
        if buyer is None or service not in ("ping", "post", "status"):
            return json_plan("nobody", {"error": "no such buyer or service"}, http=404)
        answer = services.get((request.method, service))
        if answer is None:
            return json_plan("method", {"error": "method not allowed"}, http=405)
        return answer(buyer, request)

    def addressee(self, path: str) -> Buyer | None:
        """The buyer a path belongs to, if any."""
        return self.buyers.get(path.strip("/").partition("/")[0])

    def _control(self, request: Request, name: str) -> Plan:
        if name == "stats" and request.method == "GET":
            return json_plan("stats", self.stats())
        buyer = self.buyers.get(name)
        if buyer is None:
            return json_plan("nobody", {"error": f"no buyer `{name}`"}, http=404)
        try:
            change = None if request.method == "DELETE" else _change(request.body)
            return json_plan("changed", buyer.change(change))
        except (ProfileError, msgspec.MsgspecError) as error:
            return json_plan("refused", {"error": str(error)}, http=422)

    def stats(self) -> dict[str, dict[str, dict[str, int]]]:
        """`{buyer: {kind: {word: count}}}`."""
        counts: dict[str, dict[str, dict[str, int]]] = {}
        for name, buyer in self.buyers.items():
            kinds = counts.setdefault(name, {})
            for (kind, word), count in sorted(buyer.answered.items()):
                kinds.setdefault(kind, {})[word] = count
        return counts

    async def close(self) -> None:
        """Drop every connection, let what was half received be recorded, close the truth files."""
        open_now = tuple(self.connections)
        for connection in open_now:
            connection.drop()
        await asyncio.gather(*(connection.lost for connection in open_now))
        for buyer in self.buyers.values():
            buyer.close()


def _change(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])


class Connection(asyncio.Protocol):
    """One client's connection: parses requests, plays their plans in turn."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Plan, bool]] = deque()
        self._playing = False
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.on_message_begin()

    # --- the transport ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's class is its own
        self._cast.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._refused:
                self._refuse(json_plan("unreadable", {"error": "not HTTP"}, http=400))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._url:
            self._record_fragment()
        self._transport = None
        self._cast.connections.discard(self)
        self.lost.set_result(None)

    def drop(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- the parser -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        self._body.append(body)
        if self._size > BODY_BYTES_MAX and not self._refused:
            self._refuse(json_plan("too_large", {"error": "too large"}, http=413))

    def on_message_complete(self) -> None:
        if self._refused:
            return
        parts = httptools.parse_url(self._url)
        request = Request(
            method=self._method(),
            path=parts.path.decode("latin-1"),
            query=dict(parse_qsl((parts.query or b"").decode("latin-1"))),
            headers={
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in self._headers
            },
            head=self._head(),
            body=b"".join(self._body),
        )
        self._url = b""
        self._enqueue(self._cast.plan(request), self._parser.should_keep_alive())

    def _method(self) -> str:
        return self._parser.get_method().decode("latin-1")

    def _head(self) -> str:
        lines = [self._method().encode() + b" " + self._url]
        lines += [name + b": " + value for name, value in self._headers]
        return b"\r\n".join(lines).decode("latin-1")

    def _record_fragment(self) -> None:
        buyer = self._cast.addressee(self._url.partition(b"?")[0].decode("latin-1"))
        if buyer is not None:
            buyer.fragment(head=self._head(), body=b"".join(self._body))
        self._url = b""

    def _refuse(self, plan: Plan) -> None:
        """Answer once more, then end the connection: what follows cannot be told apart."""
        self._refused = True
        self._enqueue(plan, False)

    # --- the playing of plans ---------------------------------------------------------------------

    def _enqueue(self, plan: Plan, keep_alive: bool) -> None:
        self._waiting.append((plan, keep_alive))
        if not self._playing:
            self._play_next()

    def _play_next(self) -> None:
        self._playing = bool(self._waiting)
        if not self._waiting:
            return
        plan, keep_alive = self._waiting.popleft()
        if plan.manner == "hang":
            return
        self._after(plan.delay_ms, lambda: self._play(plan, keep_alive))

    def _after(self, delay_ms: float, act: Callable[[], None]) -> None:
        if delay_ms <= 0:
            act()
        else:
            self._timer = self._loop.call_later(delay_ms / 1000, act)

    def _play(self, plan: Plan, keep_alive: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if plan.manner == "reset":
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
            return
        if plan.manner == "drip":
            self._drip(plan, rendered(plan), 0, keep_alive)
            return
        transport.write(rendered(plan))
        self._played(keep_alive and plan.manner == "whole")

    def _drip(self, plan: Plan, answer: bytes, sent: int, keep_alive: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if sent == len(answer):
            self._played(keep_alive)
            return
        self._transport.write(answer[sent : sent + 1])
        self._after(plan.pause_ms, lambda: self._drip(plan, answer, sent + 1, keep_alive))

    def _played(self, keep_alive: bool) -> None:
        if keep_alive:
            self._play_next()
        elif self._transport is not None:
            self._transport.close()


async def listen(
    cast: Cast, *, host: str, port: int, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.Server, int]:
    """Serve `cast` on `host`; the port that was taken comes back (0 asks for a free one)."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(cast), host=host, port=port, ssl=tls, backlog=4_096
    )
    return server, server.sockets[0].getsockname()[1]
