"""Offers in Valkey: what a seller was promised, until it posts.

An offer is one string, `SELLER DOCUMENT`, under `{o:PING}`. It is bound to its seller and taken by
one idempotency key, atomically; that key may take it again. It stays a while past its expiry, so
that a late post hears `expired` and not `unknown`. It holds nothing personal.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from exchange.core.model import Offer
from exchange.core.reasons import Reason

OFFER_BYTES_MAX: Final = 16_384
"""The most an offer may take. At the default limits (10 bids, 50 invited) it takes under 4 KiB."""
KEPT_MS: Final = 600_000
"""How long past its expiry an offer is still known: longer than any seller's retries of a post."""


class Server(Protocol):
    """The part of Valkey used here: raises `ConnectionError`."""

    def call(self, key: str, *args: str | bytes | int) -> "asyncio.Future[Any]": ...

    async def script(
        self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any: ...


class Offers:
    """The offers of all workers. `answer_s`: the connection itself lets no command wait longer, so
    only a nearer deadline needs a timer (which costs a ping more than the command does)."""

    def __init__(
        self,
        valkey: Server,
        *,
        bytes_max: int = OFFER_BYTES_MAX,
        kept_ms: int = KEPT_MS,
        answer_s: float = math.inf,
    ) -> None:
        self._valkey, self._bytes_max, self._kept_ms = valkey, bytes_max, kept_ms
        self._answer_s = answer_s
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Offer)
        self.refused = 0

    async def put(self, offer: Offer, *, ttl_ms: int, deadline: float | None = None) -> bool:
        """Keep an offer for `ttl_ms`, and by `deadline` (loop time) at the latest. False: it is not
        known to be kept, so nothing may be promised (Valkey is away or slow, or the offer is larger
        than `bytes_max`, counted in `refused`)."""
        document = self._encoder.encode(offer)
        if len(document) > self._bytes_max:
            self.refused += 1
            return False
        key = _key(offer.ping_id)
        value = b"%d %b" % (offer.seller_id, document)
        try:
            reply = self._valkey.call(key, "SET", key, value, "PX", ttl_ms + self._kept_ms)
            if deadline is None or deadline - asyncio.get_running_loop().time() > self._answer_s:
                await reply
            else:
                async with asyncio.timeout_at(deadline):
                    await reply
        except (ConnectionError, TimeoutError):
            return False
        return True

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
