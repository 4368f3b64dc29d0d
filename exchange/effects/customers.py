"""Buyers' lists of customers in Postgres: keyed hashes, each with the time it stood on the list."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from exchange.core.customer_list import Customers
from exchange.core.model import Fact
from exchange.effects.sql import queries

BATCH: Final = 5_000
"""Keys written by one statement: some tens of milliseconds."""
Way = Literal["whole", "more"]


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app."""

    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class Standing(Fact, frozen=True, kw_only=True):
    """A buyer's list as it stands: how many keyed hashes, and its newest upload."""

    keys: int
    way: Way
    kinds: Sequence[str]
    by: str
    at: datetime


class CustomerLists:
    """Writes and tells lists."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("customers")

    async def standing(self, buyer_id: int) -> Standing | None:
        """The list of a buyer, `None` when it never uploaded one."""
        row = await self._database.fetchrow(self._sql["standing"], buyer_id)
        return None if row is None else Standing(**dict(row))

    async def write(
        self,
        list_id: str,
        buyer_id: int,
        customers: Customers,
        *,
        way: Way,
        pepper_epoch: int,
        by: str,
        at: datetime,
    ) -> None:
        """One list, whole or not at all."""
        persons, kinds = sorted(customers.persons), list(customers.kinds)
        async with self._database.transaction() as connection:
            await connection.execute(self._sql["lock"], buyer_id)
            told = (list_id, buyer_id, way, kinds, pepper_epoch, len(persons), by, at)
            await connection.execute(self._sql["list"], *told)
            for begin in range(0, len(persons), BATCH):
                some, hashes = zip(*persons[begin : begin + BATCH], strict=True)
                columns = list(some), list(hashes)
                await connection.execute(
                    self._sql["keys"], buyer_id, pepper_epoch, *columns, list_id, at
                )
            if way == "whole":
                await connection.execute(self._sql["leave"], buyer_id, list_id, at)
