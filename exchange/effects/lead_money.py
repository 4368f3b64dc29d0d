"""What single leads came to: the buyer's, the seller's and the house's side, which sum to zero."""

from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Any

from exchange.core.ledger import REVERSAL, TransferCode
from exchange.core.model import Fact
from exchange.effects.sql import queries


class Leg(Fact, frozen=True, kw_only=True):
    """A transfer of a lead: what it is for, and what it moves on each side (debits less
    credits)."""

    at: datetime
    what: str
    sale_id: str | None
    currency: str
    buyer_micros: int
    seller_micros: int
    house_micros: int
    buyer: str
    seller: str


class LeadMoney(Fact, frozen=True, kw_only=True):
    """A sale with everything that was booked of it since; the three sides sum to zero."""

    lead_id: str
    sale_id: str
    at: datetime
    buyer: str
    seller: str
    currency: str
    price: int
    payout: int
    returned: int
    clawed_back: int
    corrected: int
    buyer_micros: int
    seller_micros: int
    house_micros: int


class LeadBooks:
    """Reads through one connection inside a transaction, which makes everything one snapshot."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sql = queries("lead_money")

    async def legs(self, lead_id: str) -> tuple[Leg, ...]:
        """Every transfer of a lead, in order."""
        rows = await self._connection.fetch(self._sql["lead"], lead_id)
        return tuple(_leg(row) for row in rows)

    async def sales(self, first: date, last: date) -> AsyncIterator[LeadMoney]:
        """The sales of the leads of some days (UTC, both included), a few in memory at a time."""
        async for row in self._connection.cursor(self._sql["leads"], first, last, prefetch=1_000):
            yield LeadMoney(**dict(row))


def _leg(row: Any) -> Leg:
    sides = {"buyer": 0, "seller": 0, "house": 0}
    named = {"buyer": "", "seller": "", "house": ""}
    for side, sign in (("debit", 1), ("credit", -1)):
        kind = row[f"{side}_party_kind"]
        sides[kind] += sign * row["amount_micros"]
        named[kind] = row[f"{side}_party"]
    return Leg(
        at=row["at"],
        what=_what(row["code"]),
        sale_id=row["attempt_id"],
        currency=row["currency"],
        buyer_micros=sides["buyer"],
        seller_micros=sides["seller"],
        house_micros=sides["house"],
        buyer=named["buyer"],
        seller=named["seller"],
    )


def _what(code: int) -> str:
    """A code in words: `payout`, `fee back`."""
    plain = code - REVERSAL if code >= REVERSAL else code
    words = TransferCode(plain).name.lower().replace("_", " ")
    return f"{words} back" if code >= REVERSAL else words
