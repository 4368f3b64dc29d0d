"""Tallies on the real Postgres, at a moment of the test's choosing."""

from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import msgspec

from exchange.core.ledger import TransferCode
from exchange.core.model import Candidate, ContractAnswer
from exchange.effects.clock import Clock
from exchange.effects.leases import Lease, Leases
from exchange.effects.postgres import Database
from exchange.effects.tallies import TallyStore
from exchange.flows.tallies import Tallies, TallyTurn

HOUSE_KINDS = ("margin", "bad_debt", "adjustment")
"""The accounts whose growth is what the house earns, and whose shrinking what it loses."""


class At(Clock):
    """A clock that stands where it is put."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


class Keeper:
    """The job, run by hand."""

    def __init__(self, database: Database, moment: datetime) -> None:
        self.database, self.clock = database, At(moment)
        self.store = TallyStore(database)
        self.tallies = Tallies(store=self.store, clock=self.clock)

    async def lease(self, boot_id: str = "keeper") -> Lease:
        lease = await Leases(self.database, boot_id=boot_id, ttl_s=60).acquire("tallies")
        assert lease is not None
        return lease

    async def turn(self, moment: datetime | None = None) -> TallyTurn | None:
        """One round, at a moment."""
        self.clock.moment = moment or self.clock.moment
        return await self.tallies.turn(await self.lease())

    async def sum(self, table: str, column: str, where: str = "true") -> int:
        sql = f"SELECT coalesce(sum({column}), 0)::bigint FROM {table} WHERE {where}"
        return int(await self.database.fetchval(sql))

    async def rows(self) -> dict[str, list[Any]]:
        """Every tally, whole, in one order."""
        tables = ("ping_daily", "trade_daily", "return_daily", "money_daily")
        return {
            one: sorted(tuple(row) for row in await self.database.fetch(f"TABLE {one}"))
            for one in tables
        }


def packed(*answers: tuple[int, int, int | None, int | None], best: int | None = None) -> bytes:
    """Bids as the journal packs them: contract, buyer, non-bid code, price."""
    told = [
        ContractAnswer(
            contract_id=contract, buyer_id=buyer, non_bid=code, price_micros=price, waited_ms=12.5
        )
        for contract, buyer, code, price in answers
    ]
    ranking = [
        Candidate(
            contract_id=one.contract_id, buyer_id=one.buyer_id, rank=1, price_micros=1,
            payout_micros=1, fee_micros=0,
        )
        for one in told if one.contract_id == best
    ]  # fmt: skip
    return msgspec.json.encode({"answers": told, "ranking": ranking})


async def earned(
    connection: asyncpg.Connection, first: date, last: date
) -> dict[str, dict[str, int]]:
    """What the transfers booked on these days come to, by currency, told without the tallies."""
    rows = await connection.fetch(
        """
        SELECT t.currency, t.code, t.amount_micros, d.kind AS debit, c.kind AS credit
        FROM transfer t JOIN account d ON d.id = t.debit_account
        JOIN account c ON c.id = t.credit_account
        WHERE (t.at AT TIME ZONE 'UTC')::date BETWEEN $1 AND $2
        """,
        first,
        last,
    )
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        sums = found.setdefault(
            row["currency"],
            dict.fromkeys(("revenue", "payouts", "credited", "clawed_back", "net"), 0),
        )
        amount = row["amount_micros"]
        buyer = amount * ((row["debit"] == "receivable") - (row["credit"] == "receivable"))
        seller = amount * ((row["credit"] == "payable") - (row["debit"] == "payable"))
        is_sale = row["code"] in (TransferCode.PAYOUT, TransferCode.FEE)
        sums["revenue"] += buyer if is_sale else 0
        sums["payouts"] += seller if is_sale else 0
        sums["credited"] -= 0 if is_sale else buyer
        sums["clawed_back"] -= 0 if is_sale else seller
        sums["net"] += amount * ((row["credit"] in HOUSE_KINDS) - (row["debit"] in HOUSE_KINDS))
    return found


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)
