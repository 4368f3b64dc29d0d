"""Months of a seller with tiers on the real Postgres: settled once, again after returns, and fenced
whoever writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
import pytest
import uuid_utils

from exchange.core.statements import Period, statements
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits
from exchange.effects.leases import Leases
from exchange.effects.postgres import Database
from exchange.effects.proof import proven
from exchange.effects.settlements import LeaseLost, Settlements
from exchange.effects.statements import PartyBooks
from exchange.flows.settling import CannotSettle, Settling, ended
from tests.effects.bookkeeping import REGISTRY, returned
from tests.effects.sales import PAYOUT, PRICE, SELLER, Sale, add_parties

pytestmark = pytest.mark.real
TIERS = {"margin": {"percent": 15}, "payout": {"tiers": [{"leads": 3, "percent": 5}]}}
ADDED = PRICE * 10 // 100


class Later(Clock):
    """The real clock, put forward past the month's end."""

    ahead = timedelta(days=40)

    def now(self) -> datetime:
        return super().now() + self.ahead


class Books:
    """A seller with tiers, its sales, and the flow that settles them."""

    def __init__(self, admin: asyncpg.Connection, commits: Commits, database: Database) -> None:
        self.admin, self.commits, self.database = admin, commits, database
        self.clock = Later()
        self.settling = Settling(settlements=Settlements(database), clock=self.clock)
        self.month = f"{datetime.now(UTC):%Y-%m}"

    async def sold(self, count: int) -> list[Any]:
        made = []
        for _ in range(count):
            sale = Sale()
            await self.commits.commit(sale.intent())
            await self.commits.commit(sale.result())
            made.append(sale.attempt)
        return made

    async def settled(self, **more: Any) -> list[tuple[int, int, int]]:
        """Leads counted, due, and booked now, of each currency."""
        found = await self.settling.settle(self.month, by="tests", **more)
        return [(one.due.leads, one.due.due_micros, one.booked_micros) for one in found]

    async def wrong(self) -> set[str]:
        return {check.name for check in (await proven(self.admin)).checks if check.wrong}


@pytest.fixture
async def books(database_url: str) -> AsyncIterator[Books]:
    async with AsyncExitStack() as stack:
        admin = await asyncpg.connect(database_url)
        stack.push_async_callback(admin.close)
        database = await Database.open(database_url, role="exchange_app", size=4)
        stack.push_async_callback(database.close)
        commits = await Commits.open(database_url)
        stack.push_async_callback(commits.close)
        await add_parties(admin)
        await admin.execute(REGISTRY)
        await admin.execute(
            "INSERT INTO market_version (version, toml, source, by) VALUES (1, '', 'file', 't')"
            " ON CONFLICT DO NOTHING"
        )
        await admin.execute(
            "INSERT INTO seller_version (seller_id, version, market_version, doc)"
            " VALUES (2, 1, 1, $1) ON CONFLICT DO NOTHING",
            msgspec.json.encode(TIERS | {"time_zone": "UTC"}).decode(),
        )
        yield Books(admin, commits, database)


async def test_a_month_is_settled_once_and_again_after_a_return(books: Books) -> None:
    sales = await books.sold(3)
    before = await books.settled(dry_run=True)
    assert before == [(3, 3 * ADDED, 3 * ADDED)]
    assert await books.settled() == before
    assert await books.settled() == [(3, 3 * ADDED, 0)]
    await books.sold(1)
    assert await books.settled() == [(4, 4 * ADDED, ADDED)]
    await returned(books.admin, sales[0], PRICE, PAYOUT, datetime.now(UTC))
    assert await books.settled() == [(3, 3 * ADDED, -ADDED)]
    await returned(books.admin, sales[1], PRICE, PAYOUT, datetime.now(UTC))
    assert await books.settled() == [(2, 0, -3 * ADDED)]
    assert await books.wrong() == set()
    booked = await books.admin.fetchval("SELECT sum(booked_micros) FROM terms_settlement")
    assert booked == 0


async def test_settlers_at_once_book_one_part(books: Books) -> None:
    await books.sold(4)
    await asyncio.gather(*(books.settled() for _ in range(4)))
    assert (await books.settled())[0][2] == 0
    assert await books.wrong() == set()


async def test_the_job_settles_what_is_over_under_its_lease(books: Books) -> None:
    await books.sold(4)
    leases = Leases(books.database, boot_id="jobs", ttl_s=30)
    lease = await leases.acquire("terms")
    assert lease is not None
    await books.settled()
    await books.sold(1)
    assert await books.settling.turn(lease) == 1
    assert await books.settling.turn(lease) == 0
    with pytest.raises(LeaseLost):
        await books.settling.turn(msgspec.structs.replace(lease, epoch=lease.epoch + 1))


async def test_a_month_under_way_and_a_seller_without_tiers_are_refused(books: Books) -> None:
    books.clock.ahead = timedelta(0)
    with pytest.raises(CannotSettle, match="is not over for s"):
        await books.settled()
    await books.settled(dry_run=True)
    with pytest.raises(CannotSettle, match="nobody has no tiers"):
        await books.settled(only=["nobody"])
    books.month = "2026-13"
    with pytest.raises(CannotSettle, match="is no month"):
        await books.settled()


async def test_the_sellers_statement_names_the_month_and_the_step(books: Books) -> None:
    await books.sold(4)
    await books.settled()
    today = datetime.now(UTC).date()
    period = Period(first=today, last=today + timedelta(days=60), zone=ZoneInfo("UTC"))
    async with books.admin.transaction():
        reader = PartyBooks(books.admin)
        (party,) = [one.party for one in await reader.parties("s")]
        entries = await reader.entries(party, period.since, period.until)
    (said,) = statements(party, period, [], entries)
    lines = [line for line in said.lines if line.kind == "terms"]
    assert lines
    assert all(line.reference.startswith(books.month) for line in lines)
    assert any("5 % from 3 leads on" in line.reference for line in lines)
    assert "terms" in said.kinds
    assert said.closing_micros == said.opening_micros + sum(said.totals.values())


PART = (
    "INSERT INTO terms_settlement SELECT $1::uuid, 2, '2020-01', 'UTC', 'USD', $2::smallint, 1, 1,"
    " $3::bigint, $4::bigint, 'w', 't', now()"
)


@pytest.mark.parametrize(("part", "due", "booked"), [(2, 5, 5), (1, 5, 4), (1, 4, 5)])
async def test_parts_that_do_not_add_up_are_refused_by_the_database(
    books: Books, part: int, due: int, booked: int
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await books.database.execute(PART, str(uuid_utils.uuid7()), part, due, booked)


async def test_a_settlement_without_its_transfer_fails_the_proof(books: Books) -> None:
    transaction = books.admin.transaction()
    await transaction.start()
    await books.admin.execute(PART, str(uuid_utils.uuid7()), 1, 5, 5)
    assert await books.wrong() == {"terms_as_settled"}
    for change in ("UPDATE terms_settlement SET words = 'x'", "DELETE FROM terms_settlement"):
        with pytest.raises(asyncpg.RestrictViolationError):
            async with books.admin.transaction():
                await books.admin.execute(change)
    await transaction.rollback()


async def test_a_guarantee_paid_to_nobody_or_twice_fails_the_proof(books: Books) -> None:
    (sale,) = await books.sold(1)
    transaction = books.admin.transaction()
    await transaction.start()
    await books.admin.execute(
        "INSERT INTO transfer (transfer_id, lead_id, day, code, debit_account, credit_account,"
        " amount_micros, currency, at) SELECT $1, $2, lead_day($2), 50, d.id, c.id, 5, 'USD', now()"
        " FROM account d, account c WHERE (d.kind, d.party_id, d.currency) = ('margin', 1, 'USD')"
        " AND (c.kind, c.party_id, c.currency) = ('payable', $3, 'USD')",
        str(uuid_utils.uuid7()),
        sale.lead_id,
        SELLER,
    )
    assert await books.wrong() == {"guaranteed_once"}
    await transaction.rollback()


def test_the_last_months_are_the_zones() -> None:
    now = datetime(2026, 3, 1, 3, tzinfo=UTC)
    assert ended(now, "UTC", 2) == ("2026-02", "2026-01")
    assert ended(now, "America/Chicago", 2) == ("2026-01", "2025-12")
