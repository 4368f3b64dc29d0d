"""Wallets in Postgres: what moved them, and how they stand."""

from collections.abc import Sequence
from typing import Any, Protocol

from exchange.core.model import Fact
from exchange.core.wallets import left_micros
from exchange.effects.sql import queries


class Move(Fact, frozen=True, kw_only=True):
    """A transfer beside sales that moved a wallet. `delta_micros` above zero took from it."""

    transfer_id: str
    buyer_id: int
    win: str
    delta_micros: int


class Wallet(Fact, frozen=True, kw_only=True):
    """One wallet. `taken_micros` is what its window counts, `owed_micros` what the ledger says the
    buyer owes (below zero: has paid ahead), `held_micros` what live attempts hold."""

    buyer_id: int
    buyer: str
    currency: str
    win: str
    taken_micros: int
    owed_micros: int
    held_micros: int

    @property
    def left_micros(self) -> int:
        """What the buyer may still spend, by the window that sales are fenced with."""
        return left_micros(self.taken_micros)

    @property
    def difference_micros(self) -> int:
        """What the window says beyond the ledger; 0 when both agree."""
        return self.left_micros + self.owed_micros + self.held_micros


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...


class WalletStore:
    """Reads wallets and marks what was told."""

    def __init__(self, database: Rows) -> None:
        self._database, self._sql = database, queries("wallets")

    async def untold(self, most: int) -> list[Move]:
        """What Valkey has not heard of, the oldest first."""
        return [Move(**dict(row)) for row in await self._database.fetch(self._sql["untold"], most)]

    async def told(self, transfer_ids: Sequence[str]) -> None:
        """Valkey heard of these."""
        await self._database.fetch(self._sql["told"], transfer_ids)

    async def wallets(self, buyer: str | None = None) -> list[Wallet]:
        """All wallets, or a buyer's."""
        rows = await self._database.fetch(self._sql["wallets"], buyer)
        return [Wallet(**dict(row)) for row in rows]

    async def recount(self, buyer: str) -> int:
        """Count a buyer's wallets anew by the ledger; how many there are."""
        return len(await self._database.fetch(self._sql["recounted"], buyer))
