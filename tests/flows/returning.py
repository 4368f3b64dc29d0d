"""Sales that can be returned, on the real Postgres: a contract of its own for each test, sold from
as the exchange sells, and the flow that decides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any

import asyncpg
import msgspec
from msgspec.structs import replace

from exchange.core.book import EMPTY, Book, book_of
from exchange.core.custody import Chain
from exchange.core.reasons import ReturnReason
from exchange.core.records import AttemptRow, PersonClaim, ReturnRecord
from exchange.core.returns import ReturnClaim
from exchange.core.terms import (
    BuyerTerms,
    ContractTerms,
    FieldTerms,
    MarketDoc,
    ReturnTerms,
    SellerTerms,
)
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits
from exchange.effects.postgres import Database
from exchange.effects.returns import ReturnStore
from exchange.flows.returns import Answered, Asking, ReturnLimits, Returns
from tests.effects.sales import BUYER, OTHER_BUYER, SELLER, Sale

PRICE, PAYOUT = 10_000_000, 8_500_000
FIELDS = {
    "zip": FieldTerms(type="us_zip", ping=True, required=True),
    "phone": FieldTerms(type="us_phone", required=True),
}


def terms(**given: Any) -> ReturnTerms:
    """Terms as a market file writes them: no limit but those given."""
    said = {"reasons": {"wrong_person": {"to_person": False}}, "max_rate": 1.0} | given
    return msgspec.convert(said, ReturnTerms, strict=False)


class Later(Clock):
    """The real clock, put forward."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


HOOKED = book_of(
    MarketDoc(
        sellers={"s": SellerTerms(sources=("web",), webhook_url="https://s.example/hook")},
        buyers={
            "b": BuyerTerms(
                ping_url="https://b.example/ping",
                post_url="https://b.example/post",
                webhook_url="https://b.example/hook",
            )
        },
    )
)
"""The market as the flow sees it when both sides have a webhook: the seller is 2, the buyer 3."""


class SaleOf(Sale):
    """A sale of a contract of its own."""

    def __init__(
        self,
        contract_id: int,
        consumer: str,
        *,
        received: dict[str, Any] | None = None,
        **terms: Any,
    ) -> None:
        super().__init__(consumer=consumer)
        if received is not None:
            chain = Chain.begin(self.lead_id).append("received", self.at, received)
            self.selling = replace(self.selling, chain=chain)
        self.terms = {"contract_id": contract_id} | terms

    def _claims(self) -> tuple[PersonClaim, ...]:
        return ()  # one consumer may be sold twice: that is what a return may be asked for

    def _attempt(self, *given: Any) -> AttemptRow:
        return replace(super()._attempt(*given), **self.terms)


class Trade:
    """A seller, two buyers, and what is sold between them."""

    def __init__(self, database: Database, commits: Commits, admin: asyncpg.Connection) -> None:
        self.database, self.commits, self.admin = database, commits, admin
        self.clock = Later()
        self.records: list[ReturnRecord] = []
        self.book: Book = EMPTY
        self.returns = self.flow(database)

    def flow(self, database: Any, **limits: Any) -> Returns:
        return Returns(
            store=ReturnStore(database, had_before_days=90),
            clock=self.clock,
            book=lambda: self.book,
            recorded=self.records.append,
            limits=ReturnLimits(**limits),
        )

    async def contract(self, returns: ReturnTerms | None, **more: Any) -> int:
        """A new contract on these terms."""
        doc = ContractTerms(buyer="b", vertical="auto", returns=returns, **more)
        contract_id = await self.admin.fetchval(
            "INSERT INTO contract (key, buyer_id, vertical_id)"
            " VALUES ('c' || (SELECT count(*) FROM contract), $1, 1) RETURNING id",
            BUYER,
        )
        await self.admin.execute(
            "INSERT INTO contract_version (contract_id, version, market_version, doc)"
            " VALUES ($1, 1, 1, $2)",
            contract_id,
            msgspec.json.encode(doc).decode(),
        )
        return int(contract_id)

    async def sold(
        self,
        contract_id: int,
        count: int = 1,
        *,
        consumer: str | None = None,
        buyer_ref: str | None = None,
        received: dict[str, Any] | None = None,
        **terms: Any,
    ) -> list[AttemptRow]:
        """So many sales of a contract to the first buyer, of somebody new each or of a consumer;
        `terms` are laid over the attempt's."""

        async def one() -> AttemptRow:
            sale = SaleOf(
                contract_id, consumer or "\\x" + token_hex(32), received=received, **terms
            )
            assert (await self.commits.commit(sale.intent())).kind == "done"
            assert (await self.commits.commit(sale.result(buyer_ref=buyer_ref))).kind == "done"
            assert sale.attempt is not None
            return sale.attempt

        return list(await asyncio.gather(*(one() for _ in range(count))))

    async def ask(
        self,
        sale: AttemptRow,
        reason: ReturnReason = ReturnReason.WRONG_PERSON,
        *,
        key: str | None = None,
        buyer_id: int = BUYER,
        evidence: dict[str, str] | None = None,
    ) -> Any:
        claim = ReturnClaim(
            reason=reason, evidence={"call_log": "CL-1"} if evidence is None else evidence
        )
        asking = Asking(buyer_id=buyer_id, of=sale.attempt_id, claim=claim, idem_key=key)
        return await self.returns.ask(asking)

    async def asked(self, sale: AttemptRow, **more: Any) -> Answered:
        """An ask that must be taken."""
        answered = await self.ask(sale, **more)
        assert isinstance(answered, Answered), answered
        return answered

    async def moved(self, sale: AttemptRow) -> dict[str, int]:
        """What the transfers of a sale come to: by party and account, debits less credits."""
        rows = await self.admin.fetch(
            """
            SELECT p.kind || '.' || a.kind AS account, sum(amount)::bigint AS micros
            FROM (SELECT debit_account AS id, amount_micros AS amount FROM transfer
                  WHERE attempt_id = $1
                  UNION ALL SELECT credit_account, -amount_micros FROM transfer
                  WHERE attempt_id = $1) side
            JOIN account a USING (id) JOIN party p ON p.id = a.party_id GROUP BY 1
            """,
            sale.attempt_id,
        )
        return {row["account"]: row["micros"] for row in rows}


@asynccontextmanager
async def trading(database_url: str, *, connections: int = 8) -> AsyncIterator[Trade]:
    """A trade on this database; its registry is made once."""
    admin = await asyncpg.connect(database_url)
    database = await Database.open(database_url, role="exchange_app", size=connections, by_key=True)
    commits = await Commits.open(database_url)
    try:
        await _registry(admin)
        yield Trade(database, commits, admin)
    finally:
        await commits.close()
        await database.close()
        await admin.close()


async def _registry(admin: asyncpg.Connection) -> None:
    if await admin.fetchval("SELECT count(*) FROM market_version"):
        return
    await admin.execute(
        f"""
        INSERT INTO party (id, kind, key) VALUES
            ({SELLER}, 'seller', 's'), ({BUYER}, 'buyer', 'b'), ({OTHER_BUYER}, 'buyer', 'c');
        INSERT INTO seller (id, key) VALUES ({SELLER}, 's');
        INSERT INTO buyer (id, key) VALUES ({BUYER}, 'b'), ({OTHER_BUYER}, 'c');
        INSERT INTO vertical (key) VALUES ('auto');
        INSERT INTO source (seller_id, key) VALUES ({SELLER}, 'web');
        INSERT INTO market_version (version, toml, source, by) VALUES (1, '', 'file', 'tests');
        """
    )
    docs = {
        "vertical": (1, {"currency": "USD", "fields": msgspec.to_builtins(FIELDS)}),
        "seller": (SELLER, {"clawback": {"window_hours": 48, "share": "0.8"}}),
        "buyer": (BUYER, {"time_zone": "America/Chicago"}),
    }
    for noun, (number, doc) in docs.items():
        await admin.execute(
            f"INSERT INTO {noun}_version ({noun}_id, version, market_version, doc)"
            " VALUES ($1, 1, 1, $2)",
            number,
            msgspec.json.encode(doc).decode(),
        )
