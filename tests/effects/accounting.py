"""Periods and transfers of days gone by, for the suites that close books."""

from datetime import UTC, date, datetime, timedelta

import asyncpg

from exchange.core.accruals import dated_id
from exchange.core.records import TransferRow
from tests.effects.bookkeeping import transferred
from tests.effects.sales import BUYER, SELLER, new_id

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
ACCOUNTS = (
    (1, "margin"), (1, "reserve"), (1, "adjustment"), (1, "bad_debt"), (1, "cash"),
    (SELLER, "payable"), (SELLER, "clawback"), (BUYER, "receivable"), (BUYER, "prepaid"),
)  # fmt: skip


async def add_accounts(connection: asyncpg.Connection, *currencies: str) -> None:
    """The accounts of a buyer, a seller and the house."""
    for party_id, kind in ACCOUNTS:
        for currency in currencies or ("USD",):
            await connection.execute(
                "INSERT INTO account (party_id, kind, currency) VALUES ($1, $2, $3)"
                " ON CONFLICT DO NOTHING",
                *(party_id, kind, currency),
            )


async def opened(
    connection: asyncpg.Connection, days: int = 31, *, zone: str = "UTC"
) -> tuple[int, datetime, datetime]:
    """The next period, from 2025 on: its id, its first moment and the first one after it."""
    first = await connection.fetchval("SELECT max(to_day) FROM period") or date(2025, 1, 1)
    row = await connection.fetchrow(
        "INSERT INTO period (from_day, to_day, zone) VALUES ($1, $2, $3)"
        " RETURNING id, since, until",
        *(first, first + timedelta(days=days), zone),
    )
    assert row is not None
    return row["id"], row["since"], row["until"]


async def closed(connection: asyncpg.Connection, period_id: int) -> None:
    """A period that is locked, without a look at its checklist."""
    await connection.fetchval("SELECT settle_period($1)", period_id)
    await connection.execute(
        "UPDATE period SET closed_at = now(), closed_by = 'tests' WHERE id = $1", period_id
    )


def dated(at: datetime, micros: int = 1_000_000, *, code: int = 20) -> TransferRow:
    """A transfer of a moment, from the buyer to the seller."""
    return TransferRow(
        transfer_id=new_id(), lead_id=dated_id(at, new_id()), attempt_id=None, code=code,
        debit_party=BUYER, debit_kind="receivable", credit_party=SELLER, credit_kind="payable",
        amount_micros=micros, currency="USD", reverses=None, at=at,
    )  # fmt: skip


async def book(connection: asyncpg.Connection, at: datetime, micros: int = 1_000_000) -> None:
    """A transfer of a moment, written."""
    await transferred(connection, dated(at, micros))
