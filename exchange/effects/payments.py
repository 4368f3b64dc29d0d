"""Payments in Postgres: each act decided inside its transaction, under the lock of its party, by a
function handed in; then written whole. Facts only."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime
from typing import Any, Final, Protocol, TypeVar

import msgspec

from exchange.core.accounting import Moved
from exchange.core.ageing import Balance, Open, Paper, open_papers
from exchange.core.model import Fact
from exchange.core.payments import Booking, Match, Payment, Recorded, Way
from exchange.core.payout_run import Hold, Payable
from exchange.core.statements import Period
from exchange.effects.sql import queries

T = TypeVar("T")
OF_BUYERS: Final = ("invoice", "credit_memo")
OF_SELLERS: Final = ("payout_statement",)
EVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""After everything that was done so far."""


class Database(Protocol):
    """The part of `postgres.Database` used here; it acts as exchange_app."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class Known(Fact, frozen=True, kw_only=True):
    """What is true of a party when an act is decided: the payment with the act's key, the payments
    asked for with their matches, the documents that are open, whether the payout asked for came
    back."""

    keyed: Payment | None
    payments: tuple[tuple[Payment, tuple[Match, ...]], ...]
    papers: tuple[Open, ...]
    came_back: bool = False


class ListedPayment(Fact, frozen=True, kw_only=True):
    """A payment with its party and what it covers. `rest_micros` covers nothing so far."""

    payment: Payment
    party: str
    party_kind: str
    matches: tuple[Match, ...]
    rest_micros: int


class PaymentStore:
    """Reads payments and writes acts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("payments")

    async def act(
        self,
        party_id: int,
        currency: str,
        way: Way,
        decide: Callable[[Known], Recorded | T],
        *,
        by: str,
        action: str,
        key: str | None = None,
        payment_id: str | None = None,
    ) -> Recorded | T:
        """Let `decide` say what to write, given what is true now, and write it; anything else it
        answers is handed back and nothing is written. `payment_id`: the payment the act is about,
        else all that a buyer paid."""
        async with self._database.transaction() as connection:
            await connection.execute(self._sql["lock"], party_id)
            known = await self._known(connection, party_id, currency, way, key, payment_id)
            decided = decide(known)
            if isinstance(decided, Recorded):
                await self._write(connection, decided, by=by, action=action)
        return decided

    async def one(self, payment_id: str) -> Payment | None:
        """A payment; `None` when there is none of this id."""
        row = await self._database.fetchrow(self._sql["one"], payment_id)
        return None if row is None else Payment(**dict(row))

    async def matches(self, payment_id: str) -> tuple[Match, ...]:
        """What a payment covers, and covered."""
        rows = await self._database.fetch(self._sql["matches"], [payment_id])
        return tuple(Match(**dict(row)) for row in rows)

    async def listing(
        self,
        *,
        party_id: int | None = None,
        with_rest: bool = False,
        before: str | None = None,
        limit: int = 100,
    ) -> tuple[ListedPayment, ...]:
        """Payments, the newest first; `before` is the last one of the page before."""
        rows = await self._database.fetch(self._sql["listing"], party_id, with_rest, before, limit)
        found = await _matches(self._database, self._sql, [row["payment_id"] for row in rows])
        return tuple(_listed(row, found.get(row["payment_id"], ())) for row in rows)

    async def papers(
        self, *, party_id: int | None = None, before: datetime = EVER
    ) -> tuple[Paper, ...]:
        """Buyers' documents in force as they stood before a moment."""
        rows = await self._database.fetch(
            self._sql["papers"], party_id, list(OF_BUYERS), None, before
        )
        return tuple(_paper(row) for row in rows)

    async def balances(
        self, before: datetime, *, party_id: int | None = None
    ) -> tuple[Balance, ...]:
        """What the ledger says of buyers before a moment."""
        day = before.astimezone(UTC).date()
        rows = await self._database.fetch(self._sql["balances"], party_id, before, day)
        return tuple(Balance(**dict(row)) for row in rows)

    async def payables(self, day: date, before: datetime) -> tuple[Payable, ...]:
        """What sellers are owed before a moment by statements that are due on a day."""
        rows = await self._database.fetch(
            self._sql["payables"], before, before.astimezone(UTC).date(), day
        )
        return tuple(Payable(**dict(row)) for row in rows)

    async def holds(self) -> tuple[Hold, ...]:
        """What incidents keep back."""
        rows = await self._database.fetch(self._sql["holds"])
        return tuple(Hold(**dict(row)) for row in rows)

    async def moved(self, period: Period) -> tuple[Moved, ...]:
        """What a period's transfers moved between accounts, by day."""
        until = period.until
        rows = await self._database.fetch(
            self._sql["moved"], period.since, until, until.astimezone(UTC).date(), str(period.zone)
        )
        return tuple(Moved(**dict(row)) for row in rows)

    async def _known(
        self,
        connection: Any,
        party_id: int,
        currency: str,
        way: Way,
        key: str | None,
        payment_id: str | None,
    ) -> Known:
        keyed = await connection.fetchrow(self._sql["by_key"], key) if key else None
        if payment_id is not None:
            rows = [await connection.fetchrow(self._sql["one"], payment_id)]
        elif way == "refund":
            rows = await connection.fetch(self._sql["of_buyer"], party_id, currency)
        else:
            rows = []
        found = await _matches(connection, self._sql, [row["payment_id"] for row in rows])
        kinds = OF_SELLERS if way in ("paid_out", "returned") else OF_BUYERS
        papers = await connection.fetch(self._sql["papers"], party_id, list(kinds), currency, EVER)
        return Known(
            keyed=None if keyed is None else Payment(**dict(keyed)),
            payments=tuple(
                (Payment(**dict(row)), found.get(row["payment_id"], ())) for row in rows
            ),
            papers=open_papers(_paper(row) for row in papers),
            came_back=payment_id is not None
            and bool(await connection.fetchval(self._sql["came_back"], payment_id)),
        )

    async def _write(self, connection: Any, done: Recorded, *, by: str, action: str) -> None:
        for match in done.undone:
            await connection.execute(
                self._sql["unmatch"], match.payment_id, match.part, match.by, done.why, match.at
            )
        payment = done.payment
        if payment is not None:
            await connection.execute(self._sql["record"], *_payment_row(payment))
        for match in done.matches:
            await connection.execute(self._sql["match"], *_match_row(match))
        for booking in done.bookings:
            await self._book(connection, booking)
        subject = payment.payment_id if payment else (done.matches or done.undone)[0].payment_id
        await connection.execute(
            self._sql["audit"], by, f"payment.{action}", subject, _audited(done)
        )

    async def _book(self, connection: Any, one: Booking) -> None:
        for party_id, kind in (one.debit, one.credit):
            await connection.execute(self._sql["account"], party_id, kind, one.currency)
        await connection.execute(
            self._sql["book"],
            *(one.transfer_id, one.payment_id, one.code, *one.debit, *one.credit),
            *(one.amount_micros, one.currency, one.reverses, one.part, one.at),
        )


class _Fetches(Protocol):
    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...


async def _matches(
    database: _Fetches, sql: dict[str, str], payment_ids: Sequence[str]
) -> dict[str, tuple[Match, ...]]:
    rows = await database.fetch(sql["matches"], list(payment_ids)) if payment_ids else []
    found: dict[str, list[Match]] = {}
    for row in rows:
        found.setdefault(row["payment_id"], []).append(Match(**dict(row)))
    return {payment_id: tuple(matches) for payment_id, matches in found.items()}


def _payment_row(one: Payment) -> tuple[Any, ...]:
    return (
        *(one.payment_id, one.key, one.way, one.party_id, one.currency, one.amount_micros),
        *(one.value_day, one.reference, one.by, one.at, one.returns),
    )


def _match_row(one: Match) -> tuple[Any, ...]:
    return (
        *(one.payment_id, one.part, one.document_id, one.refund_id, one.amount_micros),
        *(one.code, one.by, one.at),
    )


def _audited(done: Recorded) -> dict[str, Any]:
    return {
        "payment": None if done.payment is None else msgspec.to_builtins(done.payment),
        "matched": _shown(done.matches),
        "undone": _shown(done.undone),
        "why": done.why,
    }


def _shown(matches: Iterable[Match]) -> list[list[Any]]:
    return [[one.part, one.number or one.refund_id, one.amount_micros] for one in matches]


def _paper(row: Any) -> Paper:
    return Paper(
        document_id=row["document_id"],
        number=row["number"],
        kind=row["kind"],
        party_id=row["party_id"],
        currency=row["currency"],
        issued_on=row["issued_on"],
        due_on=row["due_on"],
        total_micros=row["total_micros"],
        paid_micros=row["paid_micros"],
        cites=dict(zip(row["cites"], row["cited_micros"], strict=True)),
    )


def _listed(row: Any, matches: tuple[Match, ...]) -> ListedPayment:
    known = {name: row[name] for name in Payment.__struct_fields__}
    payment = Payment(**known)
    live = sum(match.amount_micros for match in matches if not match.undone)
    over = payment.way in ("refund", "returned") or row["came_back"]
    return ListedPayment(
        payment=payment,
        party=row["party"],
        party_kind=row["party_kind"],
        matches=matches,
        rest_micros=0 if over else payment.amount_micros - live,
    )
