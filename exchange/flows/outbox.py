"""Telling sellers what became of their leads, and buyers what was decided on their returns: signed
webhooks (Standard Webhooks), at least once.

The id of a notice is constant over its tries, so a receiver drops repeats. Nothing personal is in
it: status, money and the lead's id. Addresses stand under the same rules as buyers' (no private
networks, no redirects), for they go through the same engine.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec
import orjson

from exchange.core.book import Book
from exchange.core.model import Buyer, Seller
from exchange.core.wire import Answer, HttpReply
from exchange.dialects import json as house
from exchange.effects.buyers import Buyers, Endpoint
from exchange.effects.clock import Clock
from exchange.effects.leases import Deposed, Lease
from exchange.effects.outbox import Notice, Outbox, Tried

RETRY_AFTER: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""Waits between tries: the schedule the Standard Webhooks specification recommends, about three
days in all. After the last the notice is dead, and its receiver learns the outcome by GET."""
GONE: Final = 410
"""The receiver says it wants no more of these."""


class WebhookLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`answer_s`: how long a receiver may take. `at_once_max`: how many are told at a time."""

    answer_s: float = 10.0
    at_once_max: int = 32
    in_flight_max: int = 8


class Webhooks:
    """The outbox as a job: call `turn` again and again."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        buyers: Buyers,
        book: Callable[[], Book],
        secret: Callable[[str], bytes | None],
        clock: Clock,
        limits: WebhookLimits,
    ) -> None:
        self._outbox, self._buyers, self._book = outbox, buyers, book
        self._secret, self._clock, self._limits = secret, clock, limits

    async def turn(self, lease: Lease) -> int:
        """Tells what is due; how many notices were tried. Raises `Deposed` when the lease was
        lost."""
        notices = await self._outbox.due(self._clock.now())
        gate = asyncio.Semaphore(self._limits.at_once_max)

        async def one(notice: Notice) -> bool:
            async with gate:
                tried = await self._told(notice)
            return await self._outbox.mark(notice, tried, job=lease.job, epoch=lease.epoch)

        marked = await asyncio.gather(*(one(notice) for notice in notices))
        if not all(marked):
            raise Deposed(f"the lease of {lease.job} was taken over")
        return len(notices)

    async def _told(self, notice: Notice) -> Tried:
        book = self._book()
        party = book.sellers.get(notice.party_id) or book.buyers.get(notice.party_id)
        if party is None or party.terms.webhook_url is None:
            return self._tried(notice, "dead", "there is no webhook address")
        body = webhook_body(notice)
        headers = house.post_headers(
            attempt_id=notice.outbox_id,
            timestamp=int(self._clock.now().timestamp()),
            body=body,
            secret=self._secret_of(party),
        )
        answer = await self._buyers.send(
            self._endpoint(party, party.terms.webhook_url),
            headers=headers,
            body=body,
            deadline=self._clock.loop_time() + self._limits.answer_s,
        )
        return self._judged(notice, answer)

    def _judged(self, notice: Notice, answer: Answer) -> Tried:
        if isinstance(answer, HttpReply):
            if 200 <= answer.status < 300:
                return self._tried(notice, "sent", str(answer.status))
            if answer.status == GONE:
                return self._tried(notice, "dead", str(answer.status))
            return self._tried(notice, "pending", str(answer.status))
        return self._tried(notice, "pending", answer.kind.name.lower())

    def _tried(self, notice: Notice, state: str, result: str) -> Tried:
        """What is written of a try; one more failure than there are waits is the end."""
        now = self._clock.now()
        if state == "sent":
            return Tried(state="sent", next_try_at=now, at=now, result=result)
        if state == "dead" or notice.tries >= len(RETRY_AFTER):
            return Tried(state="dead", next_try_at=now, at=now, result=result)
        wait = RETRY_AFTER[notice.tries]
        return Tried(state="pending", next_try_at=now + wait, at=now, result=result)

    def _secret_of(self, party: Seller | Buyer) -> bytes | None:
        name = party.terms.webhook_secret
        return self._secret(name) if name else None

    def _endpoint(self, party: Seller | Buyer, url: str) -> Endpoint:
        return self._buyers.endpoint(
            key=f"{party.id}.webhook",
            url=url,
            headers={},
            in_flight_max=self._limits.in_flight_max,
            tls_ca=None,
            pool="post",
        )


def webhook_body(notice: Notice) -> bytes:
    """The bytes of a notice: the same at every try."""
    return orjson.dumps({"type": notice.kind, "timestamp": _iso(notice.at), "data": notice.body})


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
