"""Who is calling, and may it call now: keys by their hash, sellers' rates by GCRA in this process.

A seller's agreed rate is shared evenly over the workers; a worker lets bursts of up to a second of
its share through.
"""

from hashlib import sha256
from hmac import compare_digest

from exchange.core.messages import Refusal
from exchange.core.model import ApiKey, Role, Seller
from exchange.effects.clock import Clock
from exchange.flows.standing import Standing

KEY_PREFIX = "ex_live_"
BURST_S = 1.0
"""How far ahead of its rate a seller may run: one second's worth of requests."""
NO_KEY = Refusal(
    status=401,
    title="No valid key",
    detail="Send `Authorization: Bearer ex_live_<id>_<secret>` with a key that is in force.",
)


class Admission:
    """Keys and rates of one worker."""

    def __init__(self, *, clock: Clock, standing: Standing, workers: int) -> None:
        self._clock, self._standing, self._workers = clock, standing, workers
        self._next_at: dict[int, float] = {}

    def caller(self, authorization: str | None, role: Role) -> ApiKey | Refusal:
        """The key behind an `Authorization` header, if it is in force and has this role."""
        if authorization is None or not authorization.startswith("Bearer " + KEY_PREFIX):
            return NO_KEY
        key_id, _, secret = authorization[len("Bearer " + KEY_PREFIX) :].partition("_")
        key = self._standing.book.keys.get(key_id)
        digest = sha256(secret.encode(errors="surrogateescape")).digest()
        if key is None or not compare_digest(digest, key.secret_sha256):
            return NO_KEY
        if key.expires_at is not None and key.expires_at <= self._clock.now():
            return NO_KEY
        if key.role != role:
            return Refusal(
                status=403,
                title="Wrong role",
                detail=f"This call needs a key of the role {role}; yours is {key.role}.",
            )
        return key

    def seller(self, key: ApiKey) -> Seller | Refusal:
        """The seller a key speaks for."""
        seller = self._standing.book.sellers.get(key.party_id or 0)
        if seller is None or seller.terms.paused:
            return Refusal(
                status=403, title="Seller paused", detail="This seller is not trading now."
            )
        return seller

    def wait_s(self, seller: Seller) -> float:
        """0 when the seller may call now (and the call is counted); else seconds until it may."""
        gap = self._workers / max(1, seller.terms.rate_per_s)
        now = self._clock.loop_time()
        due = max(self._next_at.get(seller.id, now), now)
        if due - now > BURST_S:
            return due - now - BURST_S
        self._next_at[seller.id] = due + gap
        return 0.0
