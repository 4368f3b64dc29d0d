"""Months of sellers with tiers, read and settled in Postgres.

One transaction counts, compares with what was booked, and books the difference; an advisory lock
and the table's own fence let one settlement at a time do so. What it reads may change while it
reads: then the next one books the rest.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from exchange.core.model import Fact, Payout
from exchange.core.payouts import PLAIN, payout_of
from exchange.core.terms import SellerTerms, SourceTerms
from exchange.core.tiers import Due, Month, Sales, due, terms_transfer
from exchange.effects.sql import queries

LATE_DAYS: Final = 31
"""A sale booked after a doubt was begun at most so many days before."""
TIMEOUT_MS: Final = 600_000
"""A month of millions of sales takes longer than what anybody waits for at a door."""

Versions = Mapping[int, tuple[list[int], list[Any]]]
"""By id: the market versions from which terms hold, and the terms, in order."""


class Tiered(Fact, frozen=True, kw_only=True):
    """A seller with tiers, now or once, and the zone of its months."""

    id: int
    key: str
    zone: str


class Settled(Fact, frozen=True, kw_only=True):
    """One seller's month in one currency: what it came to, what had been booked of it, and what was
    booked now (nothing: `part` is 0)."""

    seller: str
    month: str
    zone: str
    currency: str
    due: Due
    before_micros: int
    booked_micros: int
    part: int
    settlement_id: str | None = None


class LeaseLost(Exception):
    """The job's lease moved on; nothing was written."""


class Settlements:
    """Settles months. `database` acts as exchange_app."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._sql = queries("settlements")

    async def tiered(self) -> tuple[Tiered, ...]:
        """Every seller that has tiers, or had."""
        rows = await self._database.fetch(self._sql["tiered"])
        return tuple(Tiered(id=row["id"], key=row["key"], zone=row["zone"]) for row in rows)

    async def settle(
        self,
        sellers: Sequence[Tiered],
        month: str,
        *,
        at: datetime,
        by: str,
        new_id: Callable[[], str],
        dry_run: bool = False,
        lease: tuple[str, int] | None = None,
    ) -> tuple[Settled, ...]:
        """Book what the month adds and was not booked yet; with `dry_run` only say it. Raises
        `LeaseLost` when the job's lease is another's."""
        async with self._database.transaction() as connection:
            if lease is not None and not await connection.fetchval(
                "SELECT true FROM job_lease WHERE job = $1 AND epoch = $2 FOR SHARE", *lease
            ):
                raise LeaseLost(lease[0])
            await connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
            await connection.execute(self._sql["lock"])
            found = await self._found(connection, sellers, month)
            if dry_run:
                return found
            return tuple(
                [await self._booked(connection, sellers, one, at, by, new_id) for one in found]
            )

    async def _found(
        self, connection: Any, sellers: Sequence[Tiered], month: str
    ) -> tuple[Settled, ...]:
        ids = [one.id for one in sellers]
        booked = {
            (row["seller_id"], row["currency"]): row
            for row in await connection.fetch(self._sql["booked"], ids, month)
        }
        zones = {seller_id: row["zone"] for (seller_id, _), row in booked.items()}
        months = [Month(name=month, zone=zones.get(one.id, one.zone)) for one in sellers]
        sales = await self._sales(connection, ids, months)
        made = []
        for seller, of in zip(sellers, months, strict=True):
            currencies = {currency for id, currency in (*booked, *sales) if id == seller.id}
            for currency in sorted(currencies):
                row = booked.get((seller.id, currency))
                counted = due(sales.get((seller.id, currency), ()))
                before, parts = (row["booked_micros"], row["parts"]) if row else (0, 0)
                rest = counted.due_micros - before
                made.append(
                    Settled(
                        seller=seller.key, month=month, zone=of.zone, currency=currency,
                        due=counted, before_micros=before, booked_micros=rest,
                        part=parts + 1 if rest else 0,
                    )
                )  # fmt: skip
        return tuple(made)

    async def _sales(
        self, connection: Any, ids: Sequence[int], months: Sequence[Month]
    ) -> dict[tuple[int, str], list[Sales]]:
        rows = await connection.fetch(
            self._sql["sales"],
            ids,
            [one.since for one in months],
            [one.until for one in months],
            LATE_DAYS,
        )
        of_sellers = await connection.fetch(self._sql["seller_versions"], ids)
        of_sources = await connection.fetch(self._sql["source_versions"], ids)
        sellers = _versions(of_sellers, "seller_id", SellerTerms)
        sources = _versions(of_sources, "source_id", SourceTerms)
        found: dict[tuple[int, str], list[Sales]] = {}
        for row in rows:
            one = Sales(
                count=row["count"],
                price_micros=row["price_micros"],
                payout_micros=row["payout_micros"],
                credited_micros=row["credited_micros"],
                terms=_terms(row, sellers, sources),
            )
            found.setdefault((row["seller_id"], row["currency"]), []).append(one)
        return found

    async def _booked(
        self,
        connection: Any,
        sellers: Sequence[Tiered],
        found: Settled,
        at: datetime,
        by: str,
        new_id: Callable[[], str],
    ) -> Settled:
        if not found.booked_micros:
            return found
        settlement_id = new_id()
        seller_id = next(one.id for one in sellers if one.key == found.seller)
        transfer = terms_transfer(
            settlement_id=settlement_id,
            seller_id=seller_id,
            booked_micros=found.booked_micros,
            currency=found.currency,
            at=at,
        )
        await connection.execute(
            self._sql["accounts"],
            *(transfer.debit_party, transfer.debit_kind),
            *(transfer.credit_party, transfer.credit_kind),
            found.currency,
        )
        part = {
            "settlement_id": settlement_id,
            "seller_id": seller_id,
            "month": found.month,
            "zone": found.zone,
            "currency": found.currency,
            "part": found.part,
            "leads": found.due.leads,
            "money_micros": found.due.money_micros,
            "due_micros": found.due.due_micros,
            "booked_micros": found.booked_micros,
            "words": found.due.words or "no step reached any more",
            "by": by,
            "at": at,
        }
        await connection.fetchval(self._sql["write"], part, transfer)
        return msgspec.structs.replace(found, settlement_id=settlement_id)


def _versions(rows: Iterable[Any], of: str, kind: Any) -> Versions:
    found: dict[int, tuple[list[int], list[Any]]] = {}
    for row in rows:
        since, terms = found.setdefault(row[of], ([], []))
        since.append(row["market_version"])
        terms.append(msgspec.convert(row["doc"], kind))
    return found


def _terms(row: Any, sellers: Versions, sources: Versions) -> Payout:
    """The terms that a sale was made on."""
    seller = _at(sellers, row["seller_id"], row["book_version"])
    source = _at(sources, row["source_id"], row["book_version"])
    return PLAIN if seller is None else payout_of(seller, source)


def _at(versions: Versions, id: int, market_version: int) -> Any:
    since, terms = versions.get(id, ([], []))
    place = bisect_right(since, market_version)
    return terms[place - 1] if place else None
