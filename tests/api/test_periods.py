"""Accounting periods over HTTP on the real Postgres: opened, checked, refused line by line, closed
once."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exchange.api.periods import PeriodsApi
from exchange.effects.clock import Clock
from exchange.effects.periods import Periods
from exchange.effects.postgres import Database
from exchange.effects.rollups import Rollups
from exchange.flows.periods import Accounting
from exchange.flows.rollups import roll_up
from tests.api.test_documents import Door
from tests.books.trade import Trade, trade
from tests.conftest import run_apart

pytestmark = pytest.mark.real
OCTOBER = {"first_day": "2025-10-01", "last_day": "2025-10-31", "by": "Dana"}


@pytest.fixture(scope="module", autouse=True)
def traded(database_url: str) -> None:
    async def made() -> None:
        first = datetime(2025, 10, 1, tzinfo=UTC).date()
        terms = Trade(sales=40, sellers=1, buyers=2, days=20, currencies=("USD",), first=first)
        await trade(database_url, terms)

    run_apart(made())


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url, role="exchange_app", size=2)
    yield database
    await database.close()


@pytest.fixture
async def client(database: Database) -> AsyncIterator[Any]:
    app, door, clock = web.Application(), Door(), Clock()
    accounting = Accounting(database, clock=clock)
    anybody: Any = door
    PeriodsApi(accounting=accounting, periods=Periods(database), clock=clock).add_to(
        app.router, anybody
    )
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_a_month_is_opened_checked_and_closed_once(client: Any, database: Database) -> None:
    opened = await client.post("/v1/finance/periods", json=OCTOBER)
    period = await opened.json()
    again = await client.post("/v1/finance/periods", json=OCTOBER)
    assert (again.headers["Idempotent-Replayed"], await again.json()) == ("true", period)
    path = f"/v1/finance/periods/{period['id']}"

    refused = await client.post(f"{path}/close", json={"by": "Dana"})
    assert refused.status == 409
    named = {one["field"] for one in (await refused.json())["errors"]}
    assert named == {"documents", "rollups"}
    await roll_up(Rollups(database), datetime.now(UTC), tick=lambda _done, _of: None)
    checked = await (await client.get(f"{path}/check")).json()
    assert [line["name"] for line in checked["lines"] if not line["holds"]] == ["documents"]

    asked = {"by": "Dana", "waive": ["documents"], "why": "papers are sent by hand"}
    closed = await client.post(f"{path}/close", json=asked)
    told = await closed.json()
    assert (closed.status, told["waived"]) == (200, {"documents": "papers are sent by hand"})
    again = await client.post(f"{path}/close", json=asked)
    assert (again.headers["Idempotent-Replayed"], await again.json()) == ("true", told)
    assert await (await client.get(path)).json() == told
    listed = await (await client.get("/v1/finance/periods")).json()
    assert [one["closed_by"] for one in listed["periods"]] == ["Dana"]


async def test_balances_are_those_of_the_ledger(client: Any) -> None:
    told = await (await client.get("/v1/finance/balances?party=b0")).json()
    assert {(one["party"], one["account"]) for one in told["balances"]} == {("b0", "receivable")}


@pytest.mark.parametrize("path", ["999", "999/check", "x"])
async def test_a_period_that_is_not_there_is_404(client: Any, path: str) -> None:
    assert (await client.get(f"/v1/finance/periods/{path}")).status == 404


async def test_days_that_leave_a_gap_are_refused(client: Any) -> None:
    await client.post("/v1/finance/periods", json=OCTOBER)
    asked = OCTOBER | {"first_day": "2025-12-01", "last_day": "2025-12-31"}
    refused = await client.post("/v1/finance/periods", json=asked)
    assert refused.status == 422
    assert "begins on 2025-11-01" in (await refused.json())["errors"][0]["message"]
