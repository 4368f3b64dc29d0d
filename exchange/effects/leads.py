"""What the database knows of leads that a request must ask: a retried key, a consumer sold before,
a seller's own lead, and the posts in doubt. Reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from exchange.core.brake import Doubts
from exchange.core.records import PersonClaim
from exchange.effects.sql import queries


class Rows(Protocol):
    """The part of `postgres.Database` used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept: `reply` is `None` while it runs; `lead_state` may be ahead of it."""

    fingerprint: str
    state: str
    reply: dict[str, Any] | None
    lead_id: str
    lead_state: str | None
    currency: str | None


class Leads:
    """Questions about leads, asked of Postgres."""

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._sql = queries("leads")

    async def kept(self, seller_id: int, key: str) -> Kept | None:
        """What was asked and answered with this key; `None` when it was never used."""
        row = await self._database.fetchrow(self._sql["idem"], seller_id, key)
        if row is None:
            return None
        return Kept(
            fingerprint=row["fingerprint"].hex(),
            state=row["state"],
            reply=row["reply"],
            lead_id=str(row["lead_id"]),
            lead_state=row["lead_state"],
            currency=row["currency"],
        )

    async def of_seller(self, lead_id: str, seller_id: int) -> Any | None:
        """The seller's own lead, or `None` when it has no such lead."""
        return await self._database.fetchrow(self._sql["lead_of_seller"], lead_id, seller_id)

    async def was_sold_before(self, claims: Sequence[PersonClaim]) -> bool:
        """Whether the consumer of these claims of one lead (at least one) was sold as another."""
        one = claims[0]
        keys = [bytes.fromhex(claim.hmac.removeprefix("\\x")) for claim in claims]
        return bool(
            await self._database.fetchval(
                self._sql["sold_before"], one.vertical_id, keys, one.since, one.lead_id
            )
        )

    async def key(self, lead_id: str) -> tuple[int, bytes] | None:
        """`(key_epoch, wrapped_dek)` of a sealed record; `None` when it was erased or never
        kept."""
        row = await self._database.fetchrow(self._sql["key"], lead_id)
        return None if row is None else (row["key_epoch"], row["wrapped_dek"])

    async def doubts(self, since: datetime, *, count: int) -> dict[int, Doubts]:
        """The posts in doubt of every buyer since then, over all workers; for a buyer with at least
        `count` of them also when it last answered clearly after the one that braked it."""
        found: dict[int, Doubts] = {}
        for row in await self._database.fetch(self._sql["doubts"], since):
            unknown = tuple(row["unknown_ms"])
            reopened = 0
            if len(unknown) >= count:
                braked_at = datetime.fromtimestamp(unknown[count - 1] / 1000, since.tzinfo)
                reopened = await self._database.fetchval(
                    self._sql["answered_since"], row["buyer_id"], braked_at
                )
            found[row["buyer_id"]] = Doubts(unknown_ms=unknown, reopened_ms=reopened or 0)
        return found
