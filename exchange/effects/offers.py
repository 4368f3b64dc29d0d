"""Offers in Valkey: what a seller was promised, until it posts.

An offer is one string, `SELLER DOCUMENT`, under `{o:PING}`. It is bound to its seller and taken by
one idempotency key, atomically; that key may take it again. It stays a while past its expiry, so
that a late post hears `expired` and not `unknown`. It holds nothing personal.

Offers share Valkey's memory with the caps, and are by far the most of it. So each worker counts the
offers it keeps there, from its own puts and the times when they go, and promises no more beyond
`open_max`: that must bite long before the server's `maxmemory`. Should the memory be spent all the
same, the server refuses a put; the scripts of caps and of taking an offer it lets through.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from exchange.core.model import Offer
from exchange.core.reasons import Reason

OFFER_BYTES_MAX: Final = 16_384
"""The most an offer may take. At the default limits (10 bids, 50 invited) it takes under 4 KiB."""
KEPT_MS: Final = 600_000
"""How long past its expiry an offer is still known: longer than any seller's retries of a post."""
OPEN_MAX: Final = 500_000
"""How many offers one worker keeps: 2 GB of the largest, and 700 a second on and on."""


class Server(Protocol):
    """The part of Valkey used here: raises `ConnectionError`."""

    def call(self, key: str, *args: str | bytes | int) -> "asyncio.Future[Any]": ...

    async def script(
        self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any: ...


class Offers:
    """The offers of all workers. `answer_s`: the connection itself lets no command wait longer, so
    only a nearer deadline needs a timer (which costs a ping more than the command does).
    `limit_hit` is told the name of a limit that bit: `offers_max` (this worker's `open_max`),
    `offer_bytes_max`, `maxmemory` (the server's own)."""

    def __init__(
        self,
        valkey: Server,
        *,
        bytes_max: int = OFFER_BYTES_MAX,
        kept_ms: int = KEPT_MS,
        answer_s: float = math.inf,
        open_max: int = OPEN_MAX,
        limit_hit: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._valkey, self._bytes_max, self._kept_ms = valkey, bytes_max, kept_ms
        self._answer_s = answer_s
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Offer)
        self._open_max, self._limit_hit = open_max, limit_hit
        self._going: deque[list[int]] = deque()  # second of the loop's clock, offers gone by then
        self.open = 0
        """Offers of this worker in Valkey, those past their expiry or taken included."""

    async def put(self, offer: Offer, *, ttl_ms: int, deadline: float | None = None) -> bool:
        """Keep an offer for `ttl_ms`, and by `deadline` (loop time) at the latest. False: it is not
        known to be kept, so nothing may be promised: Valkey is away or slow, or a limit bit."""
        document, now = self._encoder.encode(offer), asyncio.get_running_loop().time()
        if len(document) > self._bytes_max:
            self._limit_hit("offer_bytes_max")
            return False
        if not self._has_room(now):
            self._limit_hit("offers_max")
            return False
        key = _key(offer.ping_id)
        value = b"%d %b" % (offer.seller_id, document)
        try:
            reply = self._valkey.call(key, "SET", key, value, "PX", ttl_ms + self._kept_ms)
            self._count(int(now) + (ttl_ms + self._kept_ms) // 1000 + 1)
            if deadline is None or deadline - now > self._answer_s:
                await reply
            else:
                async with asyncio.timeout_at(deadline):
                    await reply
        except (ConnectionError, TimeoutError) as fault:
            if str(fault).startswith("OOM"):
                self._limit_hit("maxmemory")
            return False
        return True

    def _has_room(self, now: float) -> bool:
        while self._going and self._going[0][0] <= now:
            self.open -= self._going.popleft()[1]
        return self.open < self._open_max

    def _count(self, gone_s: int) -> None:
        """One more, in the bucket of the second by which it is gone; one that goes a little earlier
        than those before it is counted as long as they are."""
        self.open += 1
        if self._going and self._going[-1][0] >= gone_s:
            self._going[-1][1] += 1
        else:
            self._going.append([gone_s, 1])

    async def take(self, ping_id: str, seller_id: int, idempotency_key: str) -> Offer | Reason:
        """The offer, now taken by this key; or why not: `OFFER_UNKNOWN` (also another seller's),
        `OFFER_EXPIRED`, `OFFER_TAKEN` by another key, `OFFERS_UNAVAILABLE`."""
        key = _key(ping_id)
        try:
            reply = await self._valkey.script(
                "take", (key, _mark(key)), (seller_id, idempotency_key, self._kept_ms)
            )
        except ConnectionError:
            return Reason.OFFERS_UNAVAILABLE
        if reply[0] == b"OK":
            return self._decoder.decode(reply[1])
        return _REASONS[reply[0]]

    async def give_back(self, ping_id: str, idempotency_key: str) -> bool:
        """Let another key take the offer: the post that took it was refused before anything was
        done. False when this key did not have it, or Valkey could not be told."""
        mark = _mark(_key(ping_id))
        try:
            return bool(await self._valkey.script("give_back", (mark,), (idempotency_key,)))
        except ConnectionError:
            return False


_REASONS: Final = {
    b"UNKNOWN": Reason.OFFER_UNKNOWN,
    b"EXPIRED": Reason.OFFER_EXPIRED,
    b"TAKEN": Reason.OFFER_TAKEN,
}


def _key(ping_id: str) -> str:
    return f"{{o:{ping_id}}}"


def _mark(key: str) -> str:
    return f"{key}:k"
