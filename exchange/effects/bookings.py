"""Transfers written within a transaction of the caller's: for what finance books by hand and what
the end of a period books."""

from collections.abc import Sequence
from typing import Any, Literal

from exchange.core.ledger import accounts
from exchange.core.records import TransferRow
from exchange.effects.sql import queries


class Bookings:
    """Writes transfers; the accounts they name are made where there is none yet."""

    def __init__(self) -> None:
        self._sql = queries("bookings")

    async def book(
        self,
        connection: Any,
        transfers: Sequence[TransferRow],
        *,
        subject: Literal["lead", "document"],
    ) -> None:
        """All of them, or an exception; those that stand there are left as they are."""
        if not transfers:
            return
        named = sorted({account for row in transfers for account in accounts(row)})
        columns = [list(column) for column in zip(*named, strict=True)]
        await connection.execute(self._sql["accounts"], *columns)
        await connection.execute(self._sql["book"], list(transfers), subject)
