"""Reports over HTTP on the real Postgres: each side its own, the house everything."""

import csv
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exchange.api.door import Asked, Refused
from exchange.api.errors import problem_response
from exchange.api.reports import ReportsApi
from exchange.core.model import ApiKey
from exchange.core.money import text_of
from exchange.effects.postgres import Database
from exchange.effects.sums import SumStore
from tests.books.reporting import Keeper, utc
from tests.books.trade import Trade, trade
from tests.conftest import run_apart

pytestmark = pytest.mark.real

DAYS = "from=2026-09-01&to=2026-11-30"
TERMS = Trade(sales=150, sellers=2, buyers=3)


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


class OpenDoor:
    """Lets everyone in who says which party it is."""

    def guarded(
        self, role: Any, call: Any, **_: Any
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            party = request.headers.get("Party")
            key = ApiKey(id="k", role=role, party_id=party and int(party), secret_sha256=b"")
            try:
                told: web.StreamResponse = await call(Asked(request, key, None, None, 0.0))
            except Refused as refused:
                return problem_response(refused.refusal)
            return told

        return answer


class Asking:
    """Asks as some party."""

    def __init__(self, client: Any, database: Database) -> None:
        self._client, self._database = client, database

    async def __call__(self, path: str, party: str | None = None) -> Any:
        headers = {}
        if party is not None:
            found = await self._database.fetchval("SELECT id FROM party WHERE key = $1", party)
            headers["Party"] = str(found)
        return await self._client.get(path, headers=headers)


@pytest.fixture
async def ask(database_url: str, traded: Any) -> AsyncIterator[Asking]:
    database = await Database.open(database_url, role="exchange_app", size=2)
    app, door = web.Application(client_max_size=1), OpenDoor()
    keeper = Keeper(database, utc(2026, 12, 1))
    ReportsApi(sums=SumStore(database), clock=keeper.clock).add_to(app.router, door)  # type: ignore[arg-type]
    async with TestClient(TestServer(app)) as client:
        yield Asking(client, database)
    await database.close()


async def test_a_seller_is_told_its_own_sales_and_earnings(ask: Asking, traded: Any) -> None:
    told = await (await ask(f"/v1/reports/selling?{DAYS}", "s1")).json()
    mine = [one for one in traded.sold if one.seller == "s1"]
    assert sum(one["sales"] for one in told["totals"]) == len(mine)
    for total in told["totals"]:
        earned = sum(one.payout_micros for one in mine if one.currency == total["currency"])
        assert total["earned"] == text_of(earned)
    assert (told["zone"], told["from"]) == ("UTC", "2026-09-01")
    text = str(told)
    assert not [buyer for buyer in ("b0", "b1", "b2") if buyer in text]
    assert not {column["name"] for column in told["columns"]} & {"margin", "revenue", "average_bid"}


async def test_a_buyer_is_told_its_own_spend_and_nothing_of_sellers(
    ask: Asking, traded: Any
) -> None:
    told = await (await ask(f"/v1/reports/buying?{DAYS}", "b2")).json()
    mine = [one for one in traded.sold if one.buyer == "b2"]
    (total,) = told["totals"]
    assert total["sales"] == len(mine)
    assert total["spent"] == text_of(sum(one.price_micros for one in mine))
    assert total["credited"] == text_of(sum(one.credited_micros for one in mine))
    assert "s0" not in str(told)
    assert not {column["name"] for column in told["columns"]} & {"margin", "payouts", "clawed_back"}


@pytest.mark.parametrize("path", ["/v1/finance/reports", "/v1/admin/reports"])
async def test_the_house_is_told_everything(ask: Asking, traded: Any, path: str) -> None:
    told = await (await ask(f"{path}/pnl?{DAYS}&by=seller")).json()
    for total in told["totals"]:
        assert total["revenue"] == text_of(traded.price_micros[total["currency"]])
        assert total["clawed_back"] == text_of(traded.clawback_micros[total["currency"]])
    quality = await (await ask(f"{path}/quality?{DAYS}")).json()
    assert {row["source"].partition("/")[0] for row in quality["rows"]} == {"s0", "s1"}
    assert (await ask(f"{path}/secrets?{DAYS}")).status == 404


async def test_a_report_comes_as_a_file_too(ask: Asking, traded: Any) -> None:
    answer = await ask(f"/v1/finance/reports/buyers?{DAYS}&format=csv")
    assert answer.content_type == "text/csv"
    rows = list(csv.DictReader((await answer.text()).splitlines()))
    assert [row["buyer"] for row in rows] == ["b0", "b1", "b2"]
    assert sum(int(row["sales"]) for row in rows) == traded.sales


async def test_everything_wrong_with_a_question_is_told_at_once(ask: Asking) -> None:
    answer = await ask("/v1/finance/reports/pnl?from=yesterday&to=2026-13-01&format=pdf")
    assert answer.status == 422
    told = await answer.json()
    assert [one["field"] for one in told["errors"]] == ["to", "from", "format"]
    assert "yesterday" not in str(told)
    wrong = await (await ask(f"/v1/reports/selling?{DAYS}&by=buyer", "s0")).json()
    assert wrong["errors"][0]["message"] == "selling is told by source, vertical, day"
    late = await (await ask("/v1/finance/reports/quality?from=2026-09-02&to=2026-09-01")).json()
    assert late["errors"][0]["message"] == "the last day is before the first"
