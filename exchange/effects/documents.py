"""Documents in Postgres: the lines a period comes to, read as one stream; and papers, issued.

Issuing decides *inside* its transaction: first the rows of the numbers are locked, then what is in
force is read, then a function handed in makes the documents, then they are written. So numbers have
no gap, and whoever comes second finds the period covered. The database holds both rules itself.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from exchange.core.documents import (
    KINDS,
    Billed,
    Document,
    DocumentKind,
    DocumentLine,
    InForce,
    billed_of,
)
from exchange.core.model import Fact
from exchange.core.statements import Party, Period, kind_of
from exchange.effects.sql import queries

ROWS_AT_ONCE: Final = 10_000
"""Rows fetched per round trip of a stream."""
SORT_MEMORY: Final = "256MB"
"""For the one query that sorts a month by party; without it the sort goes to disk in pieces."""

Make = Callable[[Mapping[DocumentKind, int], Sequence[InForce]], list[Document]]
"""What makes documents from the last numbers taken and from what is in force."""


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class Listed(Fact, frozen=True, kw_only=True):
    """A document as a listing has it. `paid_micros` is what payments cover of it."""

    document_id: str
    kind: DocumentKind
    number: str
    party: str
    party_kind: str
    currency: str
    first_day: date
    last_day: date
    zone: str
    total_micros: int
    line_count: int
    issued_on: date
    due_on: date
    cites: tuple[str, ...]
    issued_at: datetime
    issued_by: str
    hash: str
    cancelled_by: str | None
    paid_micros: int


class Kept(Fact, frozen=True, kw_only=True):
    """A document with its bytes, as it was issued."""

    document: Document
    hash: bytes
    cancelled_by: str | None

    def content(self) -> dict[str, Any]:
        """What it says."""
        found: dict[str, Any] = msgspec.json.decode(self.document.content)
        return found


class PeriodBooks:
    """Reads a period through one connection inside a transaction, which makes it one snapshot."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sql = queries("documents")

    async def parties(self, keys: Sequence[str] | None = None) -> tuple[Billed, ...]:
        """Buyers and sellers with their terms, in the order in which their lines come."""
        rows = await self._connection.fetch(self._sql["parties"], keys)
        return tuple(
            billed_of(
                Party(id=row["id"], kind=row["kind"], key=row["key"], name=row["name"]), row["doc"]
            )
            for row in rows
        )

    async def weight(self, period: Period) -> int:
        """About how many sales a period has."""
        count: int = await self._connection.fetchval(self._sql["weight"], *_moments(period))
        return count

    async def lines(
        self, period: Period, parties: Sequence[int]
    ) -> AsyncIterator[tuple[int, str, DocumentLine]]:
        """`(party, currency, line)` of these parties, a party's together, in the order of ids."""
        await self._connection.execute(f"SET LOCAL work_mem = '{SORT_MEMORY}'")
        cursor = self._connection.cursor(
            self._sql["lines"], *_moments(period), list(parties), prefetch=ROWS_AT_ONCE
        )
        async for row in cursor:
            yield row["party_id"], row["currency"], _line(row)

    async def in_force(self, parties: Sequence[int]) -> tuple[InForce, ...]:
        """What documents of these parties cover."""
        rows = await self._connection.fetch(self._sql["in_force"], list(parties))
        return tuple(InForce(**dict(row)) for row in rows)


class Fenced(Exception):
    """The database refused what was to be issued; nothing was. The message is its own."""


class DocumentStore:
    """Issues documents, and finds them again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("documents")

    async def issue(
        self, year: int, parties: Sequence[int], make: Make, *, by: str, action: str = "issue"
    ) -> list[Document]:
        """Let `make` say what to issue, given the numbers taken and what is in force, and write it:
        all of it or nothing. Raises `Fenced`."""
        try:
            return await self._issued(year, parties, make, by=by, action=action)
        except asyncpg.RestrictViolationError as refused:
            raise Fenced(refused.message) from None

    async def _issued(
        self, year: int, parties: Sequence[int], make: Make, *, by: str, action: str
    ) -> list[Document]:
        kinds = sorted(KINDS)
        async with self._database.transaction() as connection:
            await connection.execute(self._sql["numbers"], kinds, year)
            rows = await connection.fetch(self._sql["last_numbers"], year, kinds)
            last = {row["kind"]: row["last"] for row in rows}
            found = await connection.fetch(self._sql["in_force"], list(parties))
            made = make(last, [InForce(**dict(row)) for row in found])
            if made:
                await connection.executemany(self._sql["insert"], [_row(one) for one in made])
                await connection.executemany(
                    self._sql["audit"],
                    [(by, f"document.{action}", one.number, _audited(one)) for one in made],
                )
        return made

    async def listing(
        self,
        *,
        party_id: int | None = None,
        kind: str | None = None,
        before: str | None = None,
        limit: int = 100,
        first: date | None = None,
        last: date | None = None,
    ) -> tuple[Listed, ...]:
        """Documents, the newest first; `before` is the number the page before ended with."""
        seen = None if before is None else await self._seen(before)
        rows = await self._database.fetch(
            self._sql["listing"],
            party_id,
            kind,
            *(seen or (None, None)),
            limit,
            first,
            last,
        )
        return tuple(msgspec.convert(dict(row), Listed) for row in rows)

    async def one(self, number: str, party_id: int | None = None) -> Kept | None:
        """A document by its number; `None` when there is none (of this party)."""
        row = await self._database.fetchrow(self._sql["one"], number, party_id)
        return None if row is None else _kept(row)

    async def party(self, key: str) -> tuple[Party, ...]:
        """The buyer and the seller of this key, or of `buyer:KEY`; there may be both."""
        kind, is_said, name = key.partition(":")
        rows = await self._database.fetch(
            self._sql["party_of"], name if is_said else key, kind if is_said else None
        )
        return tuple(Party(**dict(row)) for row in rows)

    async def _seen(self, number: str) -> tuple[datetime, str] | None:
        row = await self._database.fetchrow(self._sql["last_seen"], number)
        return None if row is None else (row["issued_at"], str(row["document_id"]))


def _moments(period: Period) -> tuple[datetime, datetime, date]:
    return period.since, period.until, period.until.astimezone(UTC).date()


def _line(row: Any) -> DocumentLine:
    of_lead = row["subject"] == "lead"
    return DocumentLine(
        at=row["at"],
        kind=kind_of(row["subject"], row["code"]),
        document=row["attempt_id"] or row["lead_id"],
        lead_id=row["lead_id"] if of_lead else "",
        item=row["item"],
        reference=row["reference"],
        amount_micros=row["micros"],
        sold_at=row["sold_at"],
    )


def _row(one: Document) -> tuple[Any, ...]:
    return (
        *(one.document_id, one.kind, one.year, one.serial, one.party_id, one.currency),
        *(one.first_day, one.last_day, one.zone, one.since, one.until),
        *(one.total_micros, one.line_count, one.issued_on, one.due_on),
        *(list(one.cites), list(one.cites.values()), one.cancels, one.content, one.issued_by),
    )


def _audited(one: Document) -> dict[str, Any]:
    return {
        "party_id": one.party_id,
        "currency": one.currency,
        "first_day": one.first_day,
        "last_day": one.last_day,
        "total_micros": one.total_micros,
    }


def _kept(row: Any) -> Kept:
    document = Document(
        document_id=row["document_id"],
        kind=row["kind"],
        year=row["year"],
        serial=row["serial"],
        party_id=row["party_id"],
        currency=row["currency"],
        first_day=row["first_day"],
        last_day=row["last_day"],
        zone=row["zone"],
        since=row["since"],
        until=row["until"],
        total_micros=row["total_micros"],
        line_count=row["line_count"],
        issued_on=row["issued_on"],
        due_on=row["due_on"],
        cites={},
        cancels=None,
        content=row["content"],
        issued_by=row["issued_by"],
    )
    return Kept(document=document, hash=row["hash"], cancelled_by=row["cancelled_by"])
