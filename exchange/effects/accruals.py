"""The accrual of expected returns in the database: the terms, what was sold under them, and what
was set aside before."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from exchange.core.accruals import (
    ENDED_DAYS,
    WINDOW_DAYS_MAX,
    Accrual,
    Exposure,
    dated_id,
    open_since,
)
from exchange.core.ledger import HOUSE
from exchange.core.periods import PeriodRow
from exchange.core.records import TransferRow
from exchange.core.return_policy import millionths
from exchange.core.terms import ClawbackTerms, ReturnTerms
from exchange.effects.sql import queries

HOUSE_ZONE: Final = "UTC"
"""Whose days terms have that name no zone."""


class Accrued(Exposure, frozen=True, kw_only=True):
    """What was accrued for a contract, with its key."""

    contract: str
    vertical_rate: int
    rate: int
    amount_micros: int


class Accruals:
    """Reads and writes through a connection of the caller's, inside its transaction."""

    def __init__(self) -> None:
        self._sql = queries("accruals")

    async def exposures(self, connection: Any, until: datetime) -> tuple[Exposure, ...]:
        """What was sold before a moment, by contract: with windows open then, and with windows
        closed. A sale's moment is its post's; zones and what sellers give back are those of their
        newest terms, for an estimate has no use for older ones."""
        since = until - timedelta(days=ENDED_DAYS + WINDOW_DAYS_MAX)
        versions = [
            (row["contract_id"], row["version"], _open_since(row["returns"], row["zone"], until))
            for row in await connection.fetch(self._sql["contracts"], HOUSE_ZONE)
        ]
        sellers = []
        for row in await connection.fetch(self._sql["sellers"], HOUSE_ZONE):
            gives = msgspec.convert(row["clawback"], ClawbackTerms, strict=False)
            first = open_since(gives, row["zone"], until)
            sellers.append((row["seller_id"], first, millionths(gives.share)))
        oldest = min((first for _, _, first in versions), default=until)
        rows = await connection.fetch(
            self._sql["exposures"],
            until,
            max(since, oldest - timedelta(days=ENDED_DAYS)),
            *_columns(versions, 3),
            *_columns(sellers, 3),
        )
        return tuple(Exposure(**dict(row)) for row in rows)

    async def write(self, connection: Any, period_id: int, accrued: Sequence[Accrual]) -> None:
        """How the figure came about, by contract."""
        rows = [
            asdict(one.exposure)
            | {"vertical_rate": one.vertical_rate, "rate": one.rate}
            | {"amount_micros": one.amount_micros}
            for one in accrued
        ]
        await connection.execute(self._sql["write"], period_id, rows)

    async def set_aside(self, connection: Any, period: PeriodRow) -> tuple[TransferRow, ...]:
        """What a period set aside, as far as it was not taken back."""
        document = dated_id(period.last_moment, f"period {period.id}")
        rows = await connection.fetch(self._sql["set_aside"], document)
        return tuple(
            TransferRow(
                **dict(row),
                attempt_id=None,
                debit_party=HOUSE,
                debit_kind="margin",
                credit_party=HOUSE,
                credit_kind="reserve",
                reverses=None,
            )
            for row in rows
        )

    async def of_period(self, database: Any, period_id: int) -> tuple[Accrued, ...]:
        """How the accrual of a closed period came about."""
        rows = await database.fetch(self._sql["of_period"], period_id)
        return tuple(
            Accrued(**{name: row[name] for name in Accrued.__struct_fields__}) for row in rows
        )


def _open_since(returns: Any, zone: str, until: datetime) -> datetime:
    return open_since(msgspec.convert(returns, ReturnTerms, strict=False), zone, until)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[number] for row in rows] for number in range(width)]
