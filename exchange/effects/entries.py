"""What finance books by hand, in the database: each in one transaction with its reason."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from exchange.core.entries import CorrectedSale, Correction, Entry
from exchange.core.money import text_of
from exchange.core.statements import Party
from exchange.effects.sql import queries


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class CreditedMeanwhile(Exception):
    """A return credited the sale at the same moment; nothing was written."""


class Entries:
    """Reads and writes what finance books by hand."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("entries")

    async def parties(self, key: str) -> tuple[Party, ...]:
        """The buyer and the seller of this key; there may be both."""
        rows = await self._database.fetch(self._sql["party"], key)
        return tuple(Party(**dict(row)) for row in rows)

    @asynccontextmanager
    async def alone_with(self, party_id: int) -> AsyncIterator[Any]:
        """A transaction in which nobody else books or matches what this party owes."""
        async with self._database.transaction() as connection:
            await connection.execute(self._sql["lock"], party_id)
            yield connection

    @asynccontextmanager
    async def alone_with_sale(self, attempt_id: str) -> AsyncIterator[Any]:
        """A transaction in which nobody else corrects this sale."""
        async with self._database.transaction() as connection:
            await connection.execute(self._sql["lock_sale"], attempt_id)
            yield connection

    async def keyed(self, connection: Any, key: str) -> Entry | None:
        """What was booked under a key."""
        row = await connection.fetchrow(self._sql["keyed"], key)
        return None if row is None else Entry(**dict(row))

    async def owed(self, connection: Any, party: Party, currency: str) -> int:
        """What a party owes the house; below zero where it is the other way round."""
        is_buyer = party.kind == "buyer"
        return int(await connection.fetchval(self._sql["owed"], party.id, is_buyer, currency))

    async def add(self, connection: Any, entry: Entry) -> None:
        """The entry, and who booked it why. Its transfers are written beside."""
        await connection.execute(
            self._sql["entry"],
            *(entry.entry_id, entry.key, entry.kind, entry.party_id, entry.currency),
            *(entry.amount_micros, entry.cites, entry.by, entry.why, entry.at),
        )
        detail = {
            "party_id": entry.party_id, "amount": text_of(entry.amount_micros),
            "currency": entry.currency, "cites": entry.cites, "why": entry.why,
        }  # fmt: skip
        subject = f"entry {entry.entry_id}"
        await connection.execute(
            self._sql["audit"], entry.by, f"ledger.{entry.kind}", subject, detail
        )

    async def sale(self, connection: Any, attempt_id: str) -> CorrectedSale | None:
        """A sale with its former corrections."""
        row = await connection.fetchrow(self._sql["sale"], attempt_id)
        return None if row is None else CorrectedSale(**dict(row))

    async def correction(self, connection: Any, key: str) -> Correction | None:
        """What was corrected under a key."""
        row = await connection.fetchrow(self._sql["correction_keyed"], key)
        return None if row is None else Correction(**dict(row))

    async def correct(self, connection: Any, sale: CorrectedSale, made: Correction) -> None:
        """The correction and the sale's credit. Raises `CreditedMeanwhile`."""
        await connection.execute(
            self._sql["correct"],
            *(made.correction_id, made.key, made.lead_id, made.attempt_id),
            *(made.raised_micros, made.credited_micros, made.by, made.why, made.at),
        )
        credited = await connection.fetchval(
            self._sql["credit"],
            *(sale.lead_id, sale.attempt_id, sale.credited_micros, made.credited_micros),
        )
        if credited is None:
            raise CreditedMeanwhile(sale.attempt_id)
        detail = {
            "from": text_of(sale.stands_at), "currency": sale.currency, "why": made.why,
            "to": text_of(sale.stands_at + made.raised_micros - made.credited_micros),
        }  # fmt: skip
        subject = f"sale {sale.attempt_id}"
        await connection.execute(self._sql["audit"], made.by, "ledger.correct", subject, detail)
