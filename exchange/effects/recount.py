"""Counting a buyer's open cap windows anew, by when its sales were made.

A sale names the windows it counts in, and keeps them. When the market gives a contract another
time zone, the bounds of its windows move; when it gives it another kind of cap, windows open that
no sale names. So what a window counts of sales that do not name it is written beside them
(`carried`), and everyone who counts adds it: a rebuild of the counters, the fence of strict caps.

Carried amounts are totals, not additions: a recount may be done again at any time. What it carried
of an attempt that then ends without a sale stays until the next recount: a little less is sold,
never more.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from exchange.core.book import contract_of
from exchange.core.caps import NoZone, SalesThen, recounted
from exchange.core.model import Buyer, Contract
from exchange.core.terms import BuyerTerms, ContractTerms
from exchange.effects.sql import queries

LONGEST: Final = timedelta(days=33)
"""Before this no sale counts in any open window but a total's: the longest month, in any zone."""
EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...


class Recounts:
    """Counts anew, in Postgres alone."""

    def __init__(self, database: Rows) -> None:
        self._database, self._sql = database, queries("recount")

    async def recount(self, buyer_id: int, at: datetime) -> None:
        """Counts the windows that are open at `at`, of every contract of the buyer, by the newest
        market. Raises what asyncpg raises."""
        rows = await self._database.fetch(self._sql["contracts"], buyer_id)
        contracts = [contract for row in rows if (contract := _contract(buyer_id, row))]
        caps = [cap for contract in contracts for cap in contract.caps]
        since = EVER if any(cap.per == "total" for cap in caps) else at - LONGEST
        fields = sorted({cap.each for cap in caps if cap.each is not None})
        counted = await self._database.fetch(self._sql["counted"], buyer_id, since, fields)
        sales, named = _told_apart(counted)
        carried: dict[str, int] = {}
        for contract in contracts:
            carried |= _carried(contract, sales[contract.id], named, at)
            await asyncio.sleep(0)
        wins = sorted(carried)
        await self._database.fetch(
            self._sql["carried"], buyer_id, wins, [carried[win] for win in wins]
        )


def _carried(
    contract: Contract, sales: Sequence[SalesThen], named: Mapping[str, int], at: datetime
) -> dict[str, int]:
    try:
        counts = recounted(contract, sales, at=at, zone=contract.time_zone)
    except NoZone:  # such a market does not come into force
        return {}
    return {win: count - named.get(win, 0) for win, count in counts.items()}


def _told_apart(rows: Sequence[Any]) -> tuple[Mapping[int, list[SalesThen]], dict[str, int]]:
    """Sales by contract, and what the windows count by their names."""
    sales: defaultdict[int, list[SalesThen]] = defaultdict(list)
    named: dict[str, int] = {}
    for row in rows:
        if row["win"] is not None:
            named[row["win"]] = row["micros"]
        else:
            sales[row["contract_id"]].append(
                SalesThen(
                    at=row["at"],
                    leads=row["leads"],
                    micros=row["micros"],
                    fields=row["fields"],
                    segments=row["segments"],
                )
            )
    return sales, named


def _contract(buyer_id: int, row: Any) -> Contract | None:
    """The contract; `None` for a row that cannot be read, which no book has either."""
    try:
        terms = msgspec.convert(row["buyer_doc"], BuyerTerms)
        buyer = Buyer(id=buyer_id, key=row["buyer_key"], terms=terms)
        return contract_of(
            row["id"],
            row["key"],
            msgspec.convert(row["doc"], ContractTerms),
            buyer=buyer,
            vertical_id=row["vertical_id"],
        )
    except (ValueError, KeyError):
        return None
