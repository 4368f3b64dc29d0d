"""Who may read what of the tallies: the house everything, a party its own side."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from exchange.effects.postgres import Database, connect
from tests.books.reporting import Keeper, utc
from tests.books.trade import Trade, trade
from tests.conftest import run_apart

pytestmark = pytest.mark.real

TERMS = Trade(sales=120, sellers=2, buyers=3)
TABLES = ("ping_daily", "trade_daily", "return_daily", "money_daily", "quality_factor")


@pytest.fixture(scope="module")
def traded(database_url: str) -> Any:
    found: list[Any] = []

    async def made() -> None:
        found.append(await trade(database_url, TERMS, keep=True))
        database = await Database.open(database_url, role="exchange_app", size=2)
        await Keeper(database, utc(2026, 12, 1)).turn()
        await database.close()

    run_apart(made())
    return found[0]


@pytest.fixture
async def app(database_url: str, traded: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database_url, role="exchange_app", application_name="tests")
    yield connection
    await connection.close()


@asynccontextmanager
async def reader(url: str, party: int | None) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(
        url, role="exchange_reader", application_name="tests", party_id=party
    )
    yield connection
    await connection.close()


async def party(app: asyncpg.Connection, key: str) -> int:
    return int(await app.fetchval("SELECT id FROM party WHERE key = $1", key))


async def test_the_house_reads_everything(database_url: str, app: Any, traded: Any) -> None:
    async with reader(database_url, 1) as house:
        assert await house.fetchval("SELECT sum(accepted) FROM report_trade") == traded.sales
        net = await house.fetchval("SELECT sum(net_micros) FROM report_pnl")
        assert net == await app.fetchval("SELECT sum(house_micros) FROM money_daily")


async def test_a_seller_reads_what_it_earned_and_no_price(
    database_url: str, app: Any, traded: Any
) -> None:
    mine = [one for one in traded.sold if one.seller == "s0"]
    async with reader(database_url, await party(app, "s0")) as seller:
        row = await seller.fetchrow(
            "SELECT sum(sales) AS sales, sum(payout_micros) AS payout,"
            " sum(clawback_micros) AS clawback FROM report_my_sources"
        )
        assert tuple(row) == (
            len(mine),
            sum(one.payout_micros for one in mine),
            sum(one.clawback_micros for one in mine),
        )
        assert await seller.fetchval("SELECT count(*) FROM report_my_contracts") == 0
        for view in ("trade_daily", "return_daily", "money_daily", "report_pnl"):
            assert await seller.fetchval(f"SELECT count(*) FROM {view}") == 0, view
        assert await seller.fetchval("SELECT sum(price_micros) FROM report_trade") == 0


async def test_a_buyer_reads_what_it_spent_and_no_payout(
    database_url: str, app: Any, traded: Any
) -> None:
    mine = [one for one in traded.sold if one.buyer == "b1"]
    async with reader(database_url, await party(app, "b1")) as buyer:
        row = await buyer.fetchrow(
            "SELECT sum(sales) AS sales, sum(price_micros) AS price, sum(credit_micros) AS credit"
            " FROM report_my_contracts"
        )
        assert tuple(row) == (
            len(mine),
            sum(one.price_micros for one in mine),
            sum(one.credited_micros for one in mine),
        )
        for view in ("report_my_sources", *TABLES, "report_trade", "report_pnl"):
            assert await buyer.fetchval(f"SELECT count(*) FROM {view}") == 0, view


@pytest.mark.parametrize(
    ("view", "hidden"),
    [
        (
            "report_my_sources",
            ("price_micros", "bid_micros", "credit_micros", "fee_micros", "buyer"),
        ),
        ("report_my_contracts", ("payout_micros", "clawback_micros", "fee_micros", "seller")),
    ],
)
async def test_a_partys_view_has_no_column_of_the_other_side(
    app: Any, view: str, hidden: tuple[str, ...]
) -> None:
    columns = await app.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0", view
    )
    assert not {row["attname"] for row in columns} & set(hidden)


async def test_who_has_named_no_party_reads_nothing(database_url: str, traded: Any) -> None:
    async with reader(database_url, None) as nobody:
        for view in ("report_my_sources", "report_my_contracts", "report_trade", "report_pnl"):
            assert await nobody.fetchval(f"SELECT count(*) FROM {view}") == 0, view


@pytest.mark.parametrize("table", [*TABLES, "tally_progress"])
async def test_a_tally_is_never_deleted(app: Any, database_url: str, table: str) -> None:
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)
    owner = await connect(database_url, role="exchange_owner", application_name="tests")
    try:
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute(f"TRUNCATE {table}")
    finally:
        await owner.close()
