"""Returns in Postgres: a sale as it was made, and decisions, each one transaction.

A decision is made *inside* its transaction, by a function handed in: first comes the lock of the
contract and cycle, then what may have changed, then the function, then the writing. So a limit
holds however many ask at once, and whoever comes second sees what the first came to. Everything
that is written is checked by compare-and-set as well; what was found otherwise undoes it all, and
it is decided anew.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime
from typing import Any, Final, Protocol, TypeVar

import asyncpg
import msgspec
from msgspec.structs import replace

from exchange.core.ledger import AccountName, accounts
from exchange.core.lifecycle import RETURN
from exchange.core.model import Fact, Value
from exchange.core.records import TransferRow
from exchange.core.return_cases import ReturnCase, ReturnSale, ReturnUnit, Room
from exchange.core.returns import CycleCount
from exchange.core.sale_checks import ConsentCheck, PhoneCheck
from exchange.core.terms import ClawbackTerms, ContractTerms, FieldTerms
from exchange.effects.sql import queries

TRIES_MAX: Final = 5
"""How often a decision is made anew when what it saw had changed before it was written. Under the
lock only a commit of the same lead, or the same key used for another sale, can do that."""
LATE_DAYS: Final = 9
"""A sale that was in doubt is booked up to so many days after it was begun."""
COUNTS_KEPT_MAX: Final = 10_000
"""Contracts and cycles whose sales are remembered; beyond, all are counted again."""
SALES_MANY: Final = 1 << 40
"""More sales than a cycle ever has."""
HOUSE_ZONE: Final = "UTC"
"""Whose days a contract has that names no zone, nor its buyer."""
T = TypeVar("T")


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app, best `by_key`."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class _Body(msgspec.Struct, frozen=True):
    commitments: dict[str, str]
    phone: PhoneCheck | None = None
    consent: ConsentCheck | None = None


class _Received(msgspec.Struct, frozen=True):
    """The first event of a lead's chain, as far as it is read here."""

    body: _Body


class Listed(Fact, frozen=True, kw_only=True):
    """A case with the sale it is of."""

    case: ReturnCase
    price_micros: int
    payout_micros: int
    sold_at: datetime | None


class Contended(Exception):
    """What a decision saw had changed each time before it was written. Nothing was."""


class _Stale(Exception):
    """What the decision saw has changed; the transaction is rolled back."""


class LeaseLost(Exception):
    """The job's lease moved on; nothing was written."""


class ReturnStore:
    """Reads sales and cases, and settles decisions."""

    def __init__(self, database: Database, *, had_before_days: int) -> None:
        self._database, self._had_before_days = database, had_before_days
        self._sql = queries("returns")
        self._accounts: dict[AccountName, int] = {}
        self._sales: dict[tuple[int, str], int] = {}

    # --- reading ----------------------------------------------------------------------------------

    async def sale(self, sale_or_lead_id: str, buyer_id: int) -> ReturnSale | None:
        """A buyer's sale; `None` when it has none of this id."""
        row = await self._database.fetchrow(
            self._sql["sale"], sale_or_lead_id, buyer_id, self._had_before_days
        )
        return None if row is None else _sale(row)

    async def case(self, return_id: str, buyer_id: int | None) -> ReturnCase | None:
        """A case; `None` when there is none (of this buyer)."""
        row = await self._database.fetchrow(self._sql["case"], return_id, buyer_id)
        return None if row is None else _case(row["doc"])

    async def listing(
        self,
        *,
        buyer_id: int | None,
        states: Sequence[str] | None,
        before: str | None,
        limit: int,
    ) -> tuple[Listed, ...]:
        """Cases, the newest first; `before` is the last one of the page before."""
        asked = list(RETURN if states is None else states), before, limit
        if buyer_id is None:
            rows = await self._database.fetch(self._sql["listing"], *asked)
        else:
            rows = await self._database.fetch(self._sql["listing_of_buyer"], *asked, buyer_id)
        return tuple(_listed(row) for row in rows)

    async def listed(self, return_id: str) -> Listed | None:
        """One case with the sale it is of."""
        row = await self._database.fetchrow(self._sql["listed"], return_id)
        return None if row is None else _listed(row)

    async def due(self, now: datetime, *, limit: int) -> tuple[ReturnCase, ...]:
        """Referred cases that nobody decided in time, the longest overdue first."""
        rows = await self._database.fetch(self._sql["due"], now, limit)
        return tuple(_case(row["doc"]) for row in rows)

    # --- deciding ---------------------------------------------------------------------------------

    async def settle(
        self,
        sale: ReturnSale,
        reason: str,
        choose: Callable[[Room], ReturnUnit | T],
        *,
        return_id: str | None = None,
        idem_key: str | None = None,
        lease: tuple[str, int] | None = None,
    ) -> ReturnUnit | T:
        """Let `choose` decide on what is true now, and write the unit that it answers; anything
        else it answers is handed back and nothing is written. `choose` is called more than once.

        `return_id` is the case that is decided on, which does not count against itself; `lease` the
        job and epoch without which nothing is written (`LeaseLost`). Raises `Contended`."""
        for _ in range(TRIES_MAX):
            try:
                async with self._database.transaction() as connection:
                    if lease is not None and not await connection.fetchval(
                        self._sql["held"], *lease
                    ):
                        raise LeaseLost(lease[0])
                    lock = self._sql["lock"], sale.contract_id, sale.cycle.name
                    await connection.execute(*lock)  # and only then look
                    room = await self._room(connection, sale, reason, return_id, idem_key)
                    chosen = await self._chosen(connection, sale, room, choose)
                    made: dict[AccountName, int] = {}
                    if isinstance(chosen, ReturnUnit):
                        made = await self._write(connection, chosen)
            except (_Stale, asyncpg.UniqueViolationError):
                continue
            self._accounts |= made  # not before: what was undone has no id
            return chosen
        raise Contended(sale.attempt_id)

    async def foreseen(
        self,
        sale: ReturnSale,
        reason: str,
        choose: Callable[[Room], ReturnUnit | T],
        *,
        idem_key: str | None = None,
    ) -> ReturnUnit | T:
        """What `settle` would come to now: nothing is locked and nothing written."""
        room = await self._room(self._database, sale, reason, None, idem_key)
        return await self._chosen(self._database, sale, room, choose)

    async def _chosen(
        self,
        connection: Any,
        sale: ReturnSale,
        room: Room,
        choose: Callable[[Room], ReturnUnit | T],
    ) -> ReturnUnit | T:
        """What is chosen, with the cycle's sales counted only if it turns on them.

        Sales only grow, so those counted before are a lower bound; and more sales only give more
        room. What is the same for that bound and for more sales than there are is the same for
        their true number.
        """
        known = sale.contract_id, sale.cycle.name
        chosen = choose(_with_sales(room, self._sales.get(known, 0)))
        if chosen == choose(_with_sales(room, SALES_MANY)):
            return chosen
        cycle = sale.cycle
        sales = await connection.fetchval(
            self._sql["sales"],
            sale.buyer_id,
            sale.contract_id,
            cycle.starts_at,
            cycle.ends_at,
            LATE_DAYS,
        )
        if len(self._sales) >= COUNTS_KEPT_MAX:
            self._sales.clear()
        self._sales[known] = sales
        return choose(_with_sales(room, sales))

    async def _room(
        self,
        connection: Any,
        sale: ReturnSale,
        reason: str,
        return_id: str | None,
        idem_key: str | None,
    ) -> Room:
        """What may have changed, in a snapshot of its own."""
        row = await connection.fetchrow(
            self._sql["room"],
            sale.lead_id,
            sale.attempt_id,
            sale.contract_id,
            sale.cycle.name,
            reason,
            return_id,
            idem_key,
        )
        return Room(
            credited_micros=row["credited_micros"],
            custody_seq=row["custody_seq"],
            custody_head=row["custody_head"],
            count=CycleCount(
                sales=0,  # counted only if it matters
                returns=row["returns"],
                of_reason=row["of_reason"],
                on_trust=row["on_trust"],
            ),
            cases=tuple(_case(doc) for doc in row["cases"]),
            keyed=_case(row["keyed"]) if row["keyed"] else None,
        )

    async def _write(self, connection: Any, unit: ReturnUnit) -> dict[AccountName, int]:
        made = await self._made_accounts(connection, unit.transfers)
        ids = self._accounts | made
        case = msgspec.to_builtins(unit.case)
        document = {
            "made": case if unit.was is None else None,
            "moved": None if unit.was is None else case,
            "was": unit.was,
            "credited_micros": unit.credited_micros,
            "credit_micros": unit.case.credit_micros,
            "custody_seq": unit.custody_seq,
            "custody": unit.custody,
            "transfers": [_transfer(row, ids) for row in unit.transfers],
            "outbox": unit.outbox,
            "audit": unit.audit,
        }
        found = await connection.fetchrow(
            self._sql["write"], document, unit.case.lead_id, unit.case.attempt_id
        )
        if (found["cases"], found["credited"], found["chained"]) != (1, 1, 1):
            raise _Stale
        if unit.incident_id is not None and not await self._made_good(connection, unit):
            raise _Stale
        return made

    async def _made_good(self, connection: Any, unit: ReturnUnit) -> bool:
        case = unit.case
        return bool(
            await connection.fetchval(
                self._sql["made_good"],
                unit.incident_id,
                case.lead_id,
                case.attempt_id,
                case.return_id,
                case.credit_micros,
                case.clawback_micros,
                case.decided_at,
            )
        )

    async def _made_accounts(
        self, connection: Any, transfers: Sequence[TransferRow]
    ) -> dict[AccountName, int]:
        """The accounts of these transfers whose ids are not known yet."""
        named = {account for row in transfers for account in accounts(row)}
        missing = sorted(named - self._accounts.keys())
        if not missing:
            return {}
        columns = [list(column) for column in zip(*missing, strict=True)]
        await connection.execute(self._sql["accounts"], *columns)
        rows = await connection.fetch(self._sql["accounts_found"], *columns)
        return {(row["party_id"], row["kind"], row["currency"]): row["id"] for row in rows}


def _transfer(row: TransferRow, ids: Mapping[AccountName, int]) -> dict[str, Any]:
    debit, credit = accounts(row)
    return msgspec.structs.asdict(row) | {
        "debit_account": ids[debit],
        "credit_account": ids[credit],
    }


def _with_sales(room: Room, sales: int) -> Room:
    return replace(room, count=replace(room.count, sales=sales))


# --- rows to facts --------------------------------------------------------------------------------


def _case(doc: Mapping[str, Any]) -> ReturnCase:
    return msgspec.convert(doc, ReturnCase)


def _listed(row: Any) -> Listed:
    return Listed(
        case=_case(row["doc"]),
        price_micros=row["price_micros"],
        payout_micros=row["payout_micros"],
        sold_at=row["sold_at"],
    )


def _sale(row: Any) -> ReturnSale:
    contract = msgspec.convert(row["contract"], ContractTerms)
    fields = msgspec.convert(row["fields"] or {}, dict[str, FieldTerms])
    received = _received(row["received"])
    return ReturnSale(
        attempt_id=row["attempt_id"],
        lead_id=row["lead_id"],
        seller_id=row["seller_id"],
        buyer_id=row["buyer_id"],
        contract_id=row["contract_id"],
        price_micros=row["price_micros"],
        payout_micros=row["payout_micros"],
        fee_micros=row["fee_micros"],
        currency=row["currency"],
        test=row["test"],
        sold_at=row["sold_at"],
        zone=contract.time_zone or row["buyer_zone"] or HOUSE_ZONE,
        terms=contract.returns,
        clawback=msgspec.convert(row["clawback"], ClawbackTerms | None),
        net_of_returns=bool(row["net_of_returns"]),
        seller_zone=row["seller_zone"],
        where=contract.where,
        types={name: terms.type for name, terms in fields.items()},
        known=_known(row, fields),
        required=frozenset(name for name, terms in fields.items() if terms.required),
        delivered=frozenset(received.commitments) if received and row["fields"] else None,
        bought_before=row["bought_before"],
        listed=row["listed"],
        has_list=row["has_list"],
        phone=received.phone if received else None,
        consent=received.consent if received else None,
    )


def _known(row: Any, fields: Mapping[str, FieldTerms]) -> dict[str, Value | None]:
    """Who sent the lead, and what was pinged of it; pseudonyms say nothing."""
    pinged = {
        name: date.fromisoformat(value)
        if name in fields and fields[name].type == "date" and isinstance(value, str)
        else value
        for name, value in (row["pinged"] or {}).items()
        if name not in fields or fields[name].ping != "pseudonym"
    }
    return {**pinged, "seller": row["seller"], "source": row["source"], "sub_id": row["sub_id"]}


def _received(received: bytes | None) -> _Body | None:
    """What the lead's first custody event says: which fields it commits to, what was checked."""
    return None if received is None else msgspec.json.decode(received, type=_Received).body
