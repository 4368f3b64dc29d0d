"""The tallies on the real Postgres: they come to what the facts do, once, however the job is cut
short; what came too late is found, and any day can be made anew."""

from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import pytest

from exchange.core.ledger import REVERSAL, TransferCode
from exchange.core.quality import factor_rows
from exchange.effects.leases import Deposed
from exchange.effects.postgres import Database
from exchange.effects.sums import SumStore
from exchange.flows.quality import Qualities
from exchange.flows.tallies import FactsGone
from tests.books.reporting import Keeper, earned, packed, utc
from tests.books.trade import Trade, trade, uuid7
from tests.conftest import run_apart
from tests.effects.conftest import Rows

pytestmark = pytest.mark.real

DAY = date(2026, 9, 2)
TERMS = Trade(sales=900, sellers=4, buyers=6, first=date(2026, 9, 1), days=3)
"""Booked within the first six days of September; nothing of it is test or doubt."""
AFTER = utc(2026, 9, 9, 6)
CHANCE = Random(7)


@pytest.fixture(scope="module")
def traded(database_url: str) -> Any:
    found: list[Any] = []

    async def made() -> None:
        found.append(await trade(database_url, TERMS, keep=True))

    run_apart(made())
    return found[0]


@pytest.fixture
async def keeper(database_url: str, traded: Any) -> AsyncIterator[Keeper]:
    database = await Database.open(database_url, role="exchange_app", size=2)
    yield Keeper(database, AFTER)
    await database.close()


async def pinged(keeper: Keeper, at: datetime, bids: bytes, **more: Any) -> None:
    """A ping in the journal."""
    async with keeper.database.transaction() as connection:
        source = await connection.fetchrow("SELECT id, seller_id FROM source ORDER BY id LIMIT 1")
        vertical = await connection.fetchval("SELECT min(id) FROM vertical")
        await Rows(connection).add(
            "ping",
            ping_id=uuid7(at, CHANCE),
            seller_id=source["seller_id"],
            source_id=source["id"],
            vertical_id=vertical,
            received_at=at,
            bids=bids,
            **more,
        )


async def test_everything_is_added_once(keeper: Keeper, traded: Any) -> None:
    await keeper.turn()
    before = await keeper.rows()
    assert await keeper.turn(AFTER + timedelta(minutes=5)) is None
    assert await keeper.rows() == before
    assert await keeper.sum("trade_daily", "accepted") == traded.sales
    assert await keeper.sum("trade_daily", "price_micros") == sum(traded.price_micros.values())
    assert await keeper.sum("ping_daily", "leads") == traded.sales
    assert await keeper.sum("return_daily", "granted") == traded.returns
    assert await keeper.tallies.wrong(TERMS.first, date(2026, 9, 9)) == {}


async def test_money_comes_to_what_the_transfers_do_on_every_day(keeper: Keeper) -> None:
    await keeper.turn()
    columns = {
        "revenue": "revenue_micros", "payouts": "payout_micros", "credited": "credit_micros",
        "clawed_back": "clawback_micros", "net": "net_micros",
    }  # fmt: skip
    for n in range(8):
        day = TERMS.first + timedelta(days=n)
        async with keeper.database.transaction() as connection:
            truth = await earned(connection, day, day)
        for currency, sums in truth.items():
            where = f"day = '{day}' AND currency = '{currency}'"
            told = {
                name: await keeper.sum("report_pnl", column, where)
                for name, column in columns.items()
            }
            assert told == sums, (day, currency)


async def test_a_day_made_anew_is_the_same(keeper: Keeper) -> None:
    await keeper.turn()
    before = await keeper.rows()
    seen: list[date] = []
    await keeper.tallies.rebuild(TERMS.first, TERMS.first + timedelta(days=6), tick=seen.append)
    assert len(seen) == 7
    assert await keeper.rows() == before


async def test_pings_are_counted_by_source_and_their_answers_by_contract(keeper: Keeper) -> None:
    bids = packed((1, 21, None, 20_000_000), (2, 22, None, 9_000_000), (3, 23, 101, None), best=1)
    at = AFTER + timedelta(hours=1)
    await pinged(keeper, at, bids, outcome="offer", payout_micros=17_000_000)
    await pinged(keeper, at, packed((1, 21, 0, None)))
    await pinged(keeper, at, bids, test=True)
    await keeper.turn(at + timedelta(hours=1))
    where = f"day = '{at.date()}'"
    pings = [await keeper.sum("ping_daily", one, where) for one in ("pings", "offers")]
    assert pings == [2, 1]
    assert await keeper.sum("ping_daily", "offered_micros", where) == 17_000_000
    rows = await keeper.database.fetch(
        "SELECT contract_id, currency, invited, bids, bid_micros, no_bids, timeouts, wins"
        f" FROM trade_daily WHERE {where} ORDER BY 1"
    )
    currency = rows[0]["currency"]
    assert currency in ("USD", "CAD", "GBP")
    assert [tuple(row) for row in rows] == [
        (1, currency, 2, 1, 20_000_000, 1, 0, 1),
        (2, currency, 1, 1, 9_000_000, 0, 0, 0),
        (3, currency, 1, 0, 0, 0, 1, 0),
    ]


async def test_what_came_too_late_is_found_when_its_day_is_over(keeper: Keeper) -> None:
    noon, day = utc(2026, 9, 14, 12), date(2026, 9, 14)
    await pinged(keeper, noon, packed((1, 21, 0, None)))
    await keeper.turn(noon + timedelta(hours=1))
    await pinged(keeper, noon - timedelta(hours=1), packed((1, 21, 0, None)))
    await keeper.turn(noon + timedelta(hours=2))
    assert await keeper.sum("ping_daily", "pings", f"day = '{day}'") == 1
    assert await keeper.tallies.wrong(day, day) == {day: {"pings": (2, 1)}}
    assert await keeper.turn(utc(2026, 9, 15, 0, 59)) is None
    done = await keeper.turn(utc(2026, 9, 15, 1, 1))
    assert done is not None
    assert done.mended == (day,)
    assert await keeper.sum("ping_daily", "pings", f"day = '{day}'") == 2
    assert await keeper.tallies.wrong(day, day) == {}


async def test_a_day_whose_facts_were_dropped_for_their_age_keeps_its_tally(
    keeper: Keeper,
) -> None:
    await keeper.turn()
    day = date(2026, 3, 5)
    await keeper.database.execute(
        "INSERT INTO ping_daily (day, seller_id, source_id, vertical_id, currency, pings)"
        " VALUES ($1, 1, 1, 1, 'USD', 7)",
        day,
    )
    with pytest.raises(FactsGone, match="2026-03-05 has no pings any more"):
        await keeper.tallies.rebuild(day, day)
    assert await keeper.sum("ping_daily", "pings", f"day = '{day}'") == 7


async def test_a_market_at_rest_is_counted_to_the_moment(keeper: Keeper) -> None:
    at, day = utc(2026, 9, 18, 12), date(2026, 9, 18)
    await pinged(keeper, at, packed((1, 21, 0, None)))
    keeper.clock.moment = at + timedelta(seconds=5)
    await keeper.tallies.rebuild(day, day)
    assert await keeper.sum("ping_daily", "pings", f"day = '{day}'") == 0
    await keeper.tallies.rebuild(day, day, to_the_moment=True)
    assert await keeper.sum("ping_daily", "pings", f"day = '{day}'") == 1


async def test_a_keeper_that_lost_its_lease_adds_nothing(keeper: Keeper) -> None:
    at = utc(2026, 9, 20, 12)
    await keeper.turn(at)
    stale = await keeper.lease()
    await keeper.lease()  # under a new epoch
    await pinged(keeper, at + timedelta(minutes=1), packed((1, 21, 0, None)))
    before = await keeper.rows()
    keeper.clock.moment = at + timedelta(hours=1)
    with pytest.raises(Deposed):
        await keeper.tallies.turn(stale)
    assert await keeper.rows() == before
    await keeper.turn(at + timedelta(hours=1))
    assert await keeper.sum("ping_daily", "pings", "day = '2026-09-20'") == 1


async def test_a_return_that_is_decided_later_moves_in_its_leads_day(
    keeper: Keeper, traded: Any
) -> None:
    await keeper.turn()
    sale = next(one for one in traded.sold if not one.credited_micros)
    asked = utc(2026, 9, 21, 12)
    async with keeper.database.transaction() as connection:
        attempt = await connection.fetchrow(
            "SELECT * FROM attempt WHERE attempt_id = $1", sale.attempt_id
        )
        await Rows(connection).add(
            "return_case",
            **{name: attempt[name] for name in (
                "lead_id", "attempt_id", "seller_id", "buyer_id", "contract_id", "currency",
            )},
            reason="language",
            requested_at=asked,
        )  # fmt: skip
    where = f"day = '{sale.at.date()}' AND reason = 'language'"
    await keeper.turn(asked + timedelta(hours=1))
    assert await keeper.sum("return_daily", "waiting", where) == 1
    await keeper.database.execute(
        "UPDATE return_case SET state = 'granted', credit_micros = 5, decided_at = $2"
        " WHERE attempt_id = $1",
        sale.attempt_id,
        asked + timedelta(hours=2),
    )
    await keeper.turn(asked + timedelta(hours=3))
    counts = [await keeper.sum("return_daily", one, where) for one in ("asked", "waiting")]
    assert counts == [1, 0]
    assert await keeper.sum("return_daily", "credit_micros", where) == 5


async def test_a_tally_that_does_not_balance_is_refused_by_the_database(keeper: Keeper) -> None:
    with pytest.raises(Exception, match="balances"):
        await keeper.database.execute("UPDATE money_daily SET house_micros = house_micros + 1")


async def test_workers_rank_by_what_the_job_saved_and_forgotten_pairs_by_their_vertical(
    keeper: Keeper,
) -> None:
    await keeper.turn()
    sums, clock = SumStore(keeper.database), keeper.clock
    clock.moment = AFTER
    lease = await keeper.lease()
    assert await Qualities(sums=sums, clock=clock).turn(lease) > 0
    assert await Qualities(sums=sums, clock=clock).turn(lease) == 0
    factors = {one[:3]: one[3] for one in await sums.factors()}
    verticals = {vertical for vertical, source, _ in factors if not source}
    pairs = [key for key in factors if key[1]]
    assert verticals == {vertical for vertical, _, _ in pairs}
    assert {0 < factor <= 1_000_000 for factor in factors.values()} == {True}
    seen = await sums.seen(TERMS.first, AFTER.date())
    await sums.save_factors(factor_rows(seen[1:]))
    gone = (seen[0].vertical_id, seen[0].source_id, seen[0].contract_id)
    after = {one[:3]: one[3] for one in await sums.factors()}
    assert after[gone] == after[gone[0], 0, 0]


async def test_every_transfer_is_some_kind_of_money(keeper: Keeper) -> None:
    kinds = {
        "sale": {TransferCode.PAYOUT, TransferCode.FEE},
        "return": {TransferCode.RETURN_BORNE, TransferCode.CLAWBACK_KEPT},
        "payment": {
            TransferCode.PAYMENT, TransferCode.PAID_OUT, TransferCode.PREPAID,
            TransferCode.PREPAID_USED, TransferCode.REFUND,
        },
        "bad_debt": {TransferCode.BAD_DEBT},
        "reserve": {TransferCode.RESERVE},
        "terms": {TransferCode.GUARANTEE, TransferCode.TERMS},
    }  # fmt: skip
    said = {code: kind for kind, codes in kinds.items() for code in codes}
    for code in TransferCode:
        kind = said.get(code, "adjustment")
        reversed_kind = "return" if kind in ("sale", "return") else kind
        for number, expected in ((code, kind), (code + REVERSAL, reversed_kind)):
            found = await keeper.database.fetchval("SELECT money_kind($1)", int(number))
            assert found == expected, number
