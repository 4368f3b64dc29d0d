"""The market in Postgres: its versions, API keys, switches and secrets.

A version is written in one transaction and never changed; an object that did not change gets no new
row. Reading takes the latest row of each object up to a version, so the same code loads the market
at boot, what changed since, and the market of any moment for `explain`.

`watch` is how a change comes into force in every worker: it asks for the newest version number
twice a second and makes the next book in slices, so the loop is free between them.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Literal, Protocol, TypeVar

import asyncpg
import msgspec

from exchange.core.book import (
    EMPTY,
    Book,
    Rows,
    compile_book,
    contract_of,
    edited,
    seller_of,
    source_of,
)
from exchange.core.fields import Schema
from exchange.core.model import ApiKey, Buyer, Contract, Role, Seller, Source, Vertical
from exchange.core.plan import KINDS, Change, Kind, Objects
from exchange.core.source_pauses import SourcePause, SourcePauses, pauses_of
from exchange.core.terms import BuyerTerms, ContractTerms, SellerTerms, SourceTerms, VerticalTerms
from exchange.effects.sql import queries

AnyFact = TypeVar("AnyFact")

KEYS_ACTIVE_MAX: Final = 2
"""Keys of one party and role that work at once: one in use, one for its rotation."""
POLL_MS: Final = 500
"""How often a worker asks for a newer market: one query over an index."""
SLICE_MS: Final = 1.0
"""Longest run of the loop while a new book is made; a single step may take a little longer."""


_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What asyncpg raises when the database cannot be asked."""


class Store(Protocol):
    """The part of `postgres.Database` used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class Sealed(Protocol):
    """A sealed secret, as the vault makes it."""

    @property
    def key_epoch(self) -> int: ...
    @property
    def wrapped_dek(self) -> bytes: ...
    @property
    def sealed(self) -> bytes: ...


class SealedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed secret as it is kept."""

    key_epoch: int
    wrapped_dek: bytes
    sealed: bytes


class Moved(Exception):
    """The market is no longer at the version the change was made for; `.newest` is."""

    def __init__(self, newest: int) -> None:
        super().__init__(f"the market is at version {newest} by now")
        self.newest = newest


class TooManyKeys(Exception):
    """The party already has as many working keys of this role as it may: revoke one first."""


class BookStore:
    """The market's tables. `database` acts as exchange_app."""

    def __init__(
        self, database: Store, *, poll_ms: int = POLL_MS, slice_ms: float = SLICE_MS
    ) -> None:
        self._database = database
        self._poll_s, self._slice_s = poll_ms / 1000, slice_ms / 1000
        self._sql = queries("book")
        self.polls_failed = 0

    # --- reading ----------------------------------------------------------------------------------

    async def load(self) -> Book:
        """The book in force, compiled at once: for boot, before any ping."""
        return await self.load_version(await self._database.fetchval(self._sql["newest"]))

    async def load_version(self, version: int) -> Book:
        """The book of a version, with today's keys and switches."""
        return compile_book(await self._rows(EMPTY, version, loose=True))

    async def objects(self, version: int | None = None) -> tuple[int, Objects]:
        """A version (the newest by default) and its open objects in JSON form."""
        if version is None:
            version = await self._database.fetchval(self._sql["newest"])
        objects: Objects = {}
        sellers: dict[int, str] = {}
        for kind in KINDS:
            for row in await self._database.fetch(self._sql[f"{kind}s"], 0, version):
                key = row["key"]
                if kind == "seller":
                    sellers[row["id"]] = key
                if kind == "source":
                    key = f"{sellers[row['seller_id']]}/{key}"
                if not row["closed"]:
                    objects[kind, key] = row["doc"]
        return int(version or 0), objects

    async def identities(self) -> dict[str, tuple[str, str]]:
        """Contract key -> the buyer and vertical it was made with, closed ones too."""
        rows = await self._database.fetch(self._sql["identities"])
        return {row["key"]: (row["buyer"], row["vertical"]) for row in rows}

    async def file_version(self) -> int:
        """The newest version that was applied from a file; 0 if none was."""
        version: int = await self._database.fetchval(self._sql["file_version"])
        return version

    async def watch(self, current: Book) -> AsyncIterator[Book]:
        """Every newer book, as it is ready to come into force; again the same book when only
        secrets changed. Never ends: while the database cannot be asked, `polls_failed` counts and
        the book in force stays."""
        seen: tuple[int, int] | None = None
        while True:
            try:
                stamp = await self._database.fetchrow(self._sql["stamp"])
                now = (stamp["version"], stamp["loose"])
                if now != seen:
                    rows = await self._rows(current, stamp["version"], loose=True)
                    fresh = seen is not None or not _is_same(current, rows)
                    seen = now
                    if fresh:
                        current = await self._edited(current, rows)
                        yield current
            except _AWAY:
                self.polls_failed += 1
            await asyncio.sleep(self._poll_s)

    async def _edited(self, book: Book, rows: Rows) -> Book:
        """The next book, made in slices: other work runs at least once a `slice_ms`."""
        steps = edited(book, rows)
        clock = asyncio.get_running_loop().time
        until = clock() + self._slice_s
        while True:
            try:
                next(steps)
            except StopIteration as end:
                made: Book = end.value
                return made
            if clock() >= until:
                await asyncio.sleep(0)
                until = clock() + self._slice_s

    async def _rows(self, book: Book, version: int, *, loose: bool) -> Rows:
        """What changed from a book to a version; with `loose`, keys, switches and pauses too."""
        found = {
            kind: await self._database.fetch(self._sql[f"{kind}s"], book.version, version)
            for kind in KINDS
        }
        refused: list[str] = []
        buyers = _facts(found["buyer"], _buyer, refused)
        every = {**book.buyers, **{buyer.id: buyer for buyer in buyers}}
        contracts = _facts(
            found["contract"], lambda row: _contract(row, every[row["buyer_id"]]), refused
        )
        return Rows(
            version=version,
            verticals=_facts(found["vertical"], _vertical, refused),
            sellers=_facts(found["seller"], _seller, refused),
            sources=_facts(found["source"], _source, refused),
            buyers=buyers,
            contracts=(*contracts, *_rezoned(book, buyers, contracts)),
            keys=await self._keys() if loose else None,
            switched_off=await self._switched_off() if loose else None,
            pauses=await self._pauses() if loose else None,
            refused=tuple(refused),
        )

    async def _keys(self) -> tuple[ApiKey, ...]:
        rows = await self._database.fetch(self._sql["keys"])
        return tuple(ApiKey(**dict(row)) for row in rows)

    async def _switched_off(self) -> frozenset[tuple[str, int]]:
        rows = await self._database.fetch(self._sql["switched_off"])
        return frozenset((row["scope"], row["target_id"]) for row in rows)

    async def _pauses(self) -> SourcePauses:
        rows = await self._database.fetch(self._sql["pauses"])
        return pauses_of(SourcePause(*row.values()) for row in rows)

    # --- writing ----------------------------------------------------------------------------------

    async def write(
        self,
        changes: Sequence[Change],
        objects: Objects,
        *,
        toml: str,
        source: Literal["file", "api"],
        by: str,
        why: str,
        base_version: int,
    ) -> int:
        """Put a market in force: one new version with `changes`, whose terms stand in `objects`.
        All or nothing; returns the version. Raises `Moved` when the newest version is not
        `base_version`."""
        sql = self._sql
        async with self._database.transaction() as connection:
            await connection.fetchval(sql["lock"])
            newest = await connection.fetchval(sql["newest"])
            if newest != base_version:
                raise Moved(newest)
            version: int = newest + 1
            await connection.execute(
                sql["write_version"], version, toml, source, by, why, base_version or None
            )
            for kind in KINDS:
                mine = [change for change in changes if change.kind == kind]
                if mine:
                    await self._make(connection, kind, mine, objects)
                    await self._write(connection, kind, version, mine, objects)
            await connection.execute(sql["recounts_due"], version)
            await connection.fetch(sql["wallets_due"], version)
            detail = {"version": version, "changes": [_told(change) for change in changes]}
            await connection.execute(sql["audit"], by, "market.apply", f"version {version}", detail)
        return version

    async def _make(
        self, connection: Any, kind: Kind, changes: Sequence[Change], objects: Objects
    ) -> None:
        """The identities that are not there yet."""
        open_keys = [change.key for change in changes if change.what != "closed"]
        terms = [objects[kind, key] for key in open_keys]
        if kind in ("seller", "buyer"):
            names = [each.get("name", "") for each in terms]
            await connection.execute(self._sql["make_parties"], kind, open_keys, names)
        args: list[list[Any]] = [open_keys]
        if kind == "contract":
            args += [[each["buyer"] for each in terms], [each["vertical"] for each in terms]]
        await connection.execute(self._sql[f"make_{kind}s"], *args)

    async def _write(
        self, connection: Any, kind: Kind, version: int, changes: Sequence[Change], objects: Objects
    ) -> None:
        """The version rows. A closed object keeps its last terms."""
        keys = [change.key for change in changes]
        closed = [change.what == "closed" for change in changes]
        docs = [objects.get((kind, key)) for key in keys]
        await connection.execute(self._sql[f"write_{kind}s"], version, keys, docs, closed)

    async def switch(self, scope: str, target_id: int, *, paused: bool, by: str, why: str) -> None:
        """Pause or resume one object by hand (`house`, 0: everything), beside the market file."""
        async with self._database.transaction() as connection:
            await connection.execute(self._sql["flip"], scope, target_id, paused, by, why)
            await connection.execute(
                self._sql["audit"],
                by,
                "switch.pause" if paused else "switch.resume",
                f"{scope} {target_id}",
                {"why": why},
            )

    # --- keys and secrets -------------------------------------------------------------------------

    async def party_id(self, kind: str, key: str) -> int | None:
        """The id of a seller or buyer; `None` for an unknown one."""
        party: int | None = await self._database.fetchval(self._sql["party"], kind, key)
        return party

    async def add_key(
        self,
        key_id: str,
        role: Role,
        party_id: int | None,
        secret_sha256: bytes,
        *,
        by: str,
        expires_at: datetime | None = None,
    ) -> None:
        """Keep a new API key. Raises `TooManyKeys`."""
        async with self._database.transaction() as connection:
            await connection.fetchval(self._sql["lock_keys"])
            active = await connection.fetchval(self._sql["active_keys"], role, party_id)
            if active >= KEYS_ACTIVE_MAX:
                raise TooManyKeys
            await connection.execute(
                self._sql["write_key"], key_id, role, party_id, secret_sha256, by, expires_at
            )
            await connection.execute(
                self._sql["audit"], by, "key.create", key_id, {"role": role, "party_id": party_id}
            )

    async def revoke_key(self, key_id: str, *, by: str) -> bool:
        """End a key in every worker within two seconds; `False` when no such key works."""
        async with self._database.transaction() as connection:
            revoked = await connection.fetchval(self._sql["revoke_key"], key_id)
            if revoked is not None:
                await connection.execute(self._sql["audit"], by, "key.revoke", key_id, {})
        return revoked is not None

    async def set_secret(self, name: str, sealed: Sealed, *, by: str) -> None:
        """Keep a secret, sealed by the vault for this name."""
        async with self._database.transaction() as connection:
            await connection.execute(
                self._sql["write_secret"],
                name,
                sealed.key_epoch,
                sealed.wrapped_dek,
                sealed.sealed,
                by,
            )
            await connection.execute(self._sql["audit"], by, "secret.set", name, {})

    async def secrets(self, open_secret: Callable[[str, Any], bytes]) -> dict[str, bytes]:
        """Every secret, opened by the vault. Raises what the vault raises."""
        rows = await self._database.fetch(self._sql["secrets"])
        return {row["name"]: open_secret(row["name"], _sealed(row)) for row in rows}


def _told(change: Change) -> dict[str, Any]:
    return {"kind": change.kind, "key": change.key, "what": change.what}


def _is_same(book: Book, rows: Rows) -> bool:
    """Whether the rows say nothing new."""
    same_keys = rows.keys is None or {key.id: key for key in rows.keys} == book.keys
    same_off = rows.switched_off in (None, book.parties.switched_off)
    same_pauses = rows.pauses in (None, book.pauses)
    return rows.version == book.version and same_keys and same_off and same_pauses


def _rezoned(
    book: Book, buyers: Sequence[Buyer], changed: Sequence[Contract]
) -> tuple[Contract, ...]:
    """Contracts that live in their buyer's time zone, where that has changed."""
    moved = {
        buyer.id: buyer
        for buyer in buyers
        if buyer.id in book.buyers
        and book.buyers[buyer.id].terms.time_zone != buyer.terms.time_zone
    }
    if not moved:
        return ()
    known = {contract.id for contract in changed}
    return tuple(
        msgspec.structs.replace(contract, time_zone=moved[contract.buyer_id].terms.time_zone)
        for contract in book.contracts.values()
        if contract.buyer_id in moved
        and contract.id not in known
        and contract.terms.time_zone is None
    )


# --- rows to facts --------------------------------------------------------------------------------


def _facts(
    rows: Sequence[Any], fact_of: Callable[[Any], AnyFact], refused: list[str]
) -> tuple[AnyFact, ...]:
    """The facts of the rows; a row that cannot be read is left out and said why, so that one bad
    row never keeps the market from loading."""
    facts = []
    for row in rows:
        try:
            facts.append(fact_of(row))
        except (ValueError, KeyError, re.error) as error:
            refused.append(f"{row['key']}: {type(error).__name__}: {error}")
    return tuple(facts)


def _checked(terms: VerticalTerms) -> VerticalTerms:
    """The terms, if they compile."""
    Schema(terms)
    return terms


def _vertical(row: Any) -> Vertical:
    return Vertical(
        id=row["id"],
        key=row["key"],
        terms=_checked(msgspec.convert(row["doc"], VerticalTerms)),
        version=row["version"],
        closed=row["closed"],
    )


def _seller(row: Any) -> Seller:
    terms = msgspec.convert(row["doc"], SellerTerms)
    return seller_of(row["id"], row["key"], terms, version=row["version"], closed=row["closed"])


def _source(row: Any) -> Source:
    return source_of(
        row["id"],
        row["seller_id"],
        row["key"],
        msgspec.convert(row["doc"], SourceTerms),
        version=row["version"],
        closed=row["closed"],
    )


def _buyer(row: Any) -> Buyer:
    return Buyer(
        id=row["id"],
        key=row["key"],
        terms=msgspec.convert(row["doc"], BuyerTerms),
        version=row["version"],
        closed=row["closed"],
    )


def _contract(row: Any, buyer: Buyer) -> Contract:
    return contract_of(
        row["id"],
        row["key"],
        msgspec.convert(row["doc"], ContractTerms),
        buyer=buyer,
        vertical_id=row["vertical_id"],
        version=row["version"],
        closed=row["closed"],
    )


def _sealed(row: Any) -> SealedRow:
    return SealedRow(
        key_epoch=row["key_epoch"],
        wrapped_dek=row["wrapped_dek"] or b"",
        sealed=row["sealed"],
    )
