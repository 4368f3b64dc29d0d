"""The door: every call passes the same checks in the same order, key, rate, load, size, body, and
every way out is an answer in the one error shape.

A call behind the door is `async (Asked) -> web.StreamResponse`; it is handed the decoded body and
the caller.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import StreamReader, web

from exchange.api import errors
from exchange.core.messages import Refusal
from exchange.core.model import ApiKey, Role, Seller
from exchange.core.records import RequestRecord
from exchange.effects.clock import Clock
from exchange.effects.commits import CommitsDown
from exchange.effects.postgres import DatabaseDown
from exchange.flows.admission import Admission


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A call that passed the door. `began` is loop time when it was read."""

    request: web.Request
    key: ApiKey
    seller: Seller | None
    message: Any
    began: float


Call = Callable[[Asked], Awaitable[web.StreamResponse]]


class Limit:
    """How many calls of a kind may be under way; counts how often it bit."""

    def __init__(self, name: str, most: int) -> None:
        self.name, self.most, self.running, self.hits = name, most, 0, 0


class Door:
    """Guards calls; one per worker."""

    def __init__(
        self,
        *,
        clock: Clock,
        admission: Admission,
        recorded: Callable[[RequestRecord], None],
        failed: Callable[[str, str], None],
        limit_hit: Callable[[str], None],
        body_read_ms: int,
    ) -> None:
        self._clock, self._admission = clock, admission
        self._recorded, self._failed, self._limit_hit = recorded, failed, limit_hit
        self._body_read_s = body_read_ms / 1000

    def guarded(
        self,
        role: Role,
        call: Call,
        *,
        decoder: "msgspec.json.Decoder[Any] | None" = None,
        whole: int | None = None,
        limit: Limit | None = None,
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The aiohttp handler of a call. `decoder` reads the body (`None`: the call has none);
        `whole` hands it over as it came, up to so many bytes."""

        async def answer(request: web.Request) -> web.StreamResponse:
            began = self._clock.loop_time()
            if limit is not None:
                if limit.running >= limit.most:
                    limit.hits += 1
                    self._limit_hit(limit.name)
                    return self._refused(request, errors.OVERLOADED, began, None, 1)
                limit.running += 1
            try:
                return await self._answer(request, role, call, decoder, began, whole)
            finally:
                if limit is not None:
                    limit.running -= 1

        return answer

    @web.middleware
    async def unrouted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The middleware that tells in our own words what aiohttp refuses: no such path, no such
        method."""
        began = self._clock.loop_time()
        try:
            return await handler(request)
        except web.HTTPException as refused:
            answer = self._refused(request, errors.of_http(refused.status), began, None)
            if "Allow" in refused.headers:
                answer.headers["Allow"] = refused.headers["Allow"]
            return answer

    async def _answer(
        self,
        request: web.Request,
        role: Role,
        call: Call,
        decoder: "msgspec.json.Decoder[Any] | None",
        began: float,
        whole: int | None,
    ) -> web.StreamResponse:
        key = self._admission.caller(request.headers.get("Authorization"), role)
        if isinstance(key, Refusal):
            return self._refused(request, key, began, None)
        seller = None
        if role == "seller":
            admitted = self._admission.seller(key)
            if isinstance(admitted, Refusal):
                return self._refused(request, admitted, began, key)
            seller = admitted
            wait_s = self._admission.wait_s(seller)
            if wait_s:
                self._limit_hit("rate_per_s")
                refusal = errors.rate_limited(wait_s)
                return self._refused(request, refusal, began, key, int(wait_s) + 1)
        try:
            message: Any = None
            if whole is not None:
                message = await self._body(request, whole)
                if isinstance(message, Refusal):
                    return self._refused(request, message, began, key)
            elif decoder is not None:
                body = await self._body(request)
                if isinstance(body, Refusal):
                    return self._refused(request, body, began, key)
                message = decoder.decode(body)
        except errors.UNREADABLE as error:
            return self._refused(request, errors.bad_json(error), began, key)
        return await self._called(call, Asked(request, key, seller, message, began))

    async def _called(self, call: Call, asked: Asked) -> web.StreamResponse:
        """Make the call; what goes wrong inside is a bug, told by its kind and place alone, for an
        exception's own text may carry a consumer's data."""
        try:
            return await call(asked)
        except Refused as refused:
            return self._refused(
                asked.request, refused.refusal, asked.began, asked.key, refused.retry_after_s
            )
        except CommitsDown:
            return self._refused(asked.request, errors.DATABASE_DOWN, asked.began, asked.key, 1)
        except DatabaseDown:
            return self._refused(asked.request, errors.DATABASE_AWAY, asked.began, asked.key, 1)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames[-6:]))
            self._failed(type(error).__name__, place)
            return self._refused(asked.request, errors.BUG, asked.began, asked.key)

    async def _body(self, request: web.Request, whole: int | None = None) -> bytes | Refusal:
        """The body, within its size and its time. One that says it is too large is not read.
        `whole`: a list, which may be so large, and as much slower as it is larger than others."""
        if "Content-Encoding" in request.headers:
            return errors.ENCODED
        most = whole or request.client_max_size
        try:
            if request.content.is_eof():  # it came with the head: nothing to wait for
                body = request.content.read_nowait()
                if len(body) > most:
                    raise web.HTTPRequestEntityTooLarge(most)
                return body
            if (request.content_length or 0) > most:
                raise web.HTTPRequestEntityTooLarge(most)
            async with asyncio.timeout(self._body_read_s * max(1, most // request.client_max_size)):
                return await (request.read() if whole is None else _read(request.content, whole))
        except web.HTTPRequestEntityTooLarge:
            self._limit_hit("body_bytes_max" if whole is None else "bulk_bytes_max")
            return errors.TOO_LARGE
        except TimeoutError:
            self._limit_hit("body_read_ms")
            return errors.TOO_SLOW

    def _refused(
        self,
        request: web.Request,
        refusal: Refusal,
        began: float,
        key: ApiKey | None,
        retry_after_s: int | None = None,
    ) -> web.Response:
        resource = request.match_info.route.resource
        self._recorded(
            RequestRecord(
                route=resource.canonical if resource else "",
                status=refusal.status,
                problem=errors.slug(refusal.title),
                party_id=key.party_id if key else None,
                took_ms=(self._clock.loop_time() - began) * 1000,
            )
        )
        response = errors.problem_response(refusal, retry_after_s=retry_after_s)
        if refusal in (errors.TOO_LARGE, errors.TOO_SLOW):
            response.force_close()
        return response


async def _read(content: StreamReader, most: int) -> bytes:
    """All of it, or the exception aiohttp has for too much."""
    body = bytearray()
    while part := await content.readany():
        body += part
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(most)
    return bytes(body)


class Refused(Exception):
    """Raised by a call to answer with a refusal: the only exception a call means."""

    def __init__(self, refusal: Refusal, retry_after_s: int | None = None) -> None:
        super().__init__(refusal.title)
        self.refusal, self.retry_after_s = refusal, retry_after_s


def json_response(value: Any, *, status: int = 200) -> web.Response:
    """A value as JSON."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )
