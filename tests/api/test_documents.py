"""Documents and payments over HTTP on the real Postgres: each side its own, finance everything."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exchange.api.documents import DocumentsApi
from exchange.api.door import Asked, Refused
from exchange.api.errors import problem_response
from exchange.api.payments import PaymentsApi
from exchange.core.model import ApiKey
from exchange.core.terms import HouseTerms
from exchange.effects.clock import Clock
from exchange.effects.documents import DocumentStore
from exchange.effects.payments import PaymentStore
from exchange.effects.postgres import Database
from exchange.flows.payments import Payments
from tests.books.trade import Trade, trade
from tests.conftest import run_apart

pytestmark = pytest.mark.real

TERMS = Trade(sales=60, sellers=1, buyers=2, days=3, currencies=("USD",))
PERIOD = {"first_day": "2026-09-01", "last_day": "2026-09-30", "by": "Dana"}


@pytest.fixture(scope="module")
def traded(database_url: str) -> Any:
    found: list[Any] = []

    async def made() -> None:
        found.append(await trade(database_url, TERMS))

    run_apart(made())
    return found[0]


class Door:
    """Lets everyone in who says which party it is, and decodes what is sent."""

    def guarded(
        self, role: Any, call: Any, *, decoder: Any = None, **_: Any
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            party = request.headers.get("Party")
            key = ApiKey(id="k", role=role, party_id=party and int(party), secret_sha256=b"")
            said = decoder and decoder.decode(await request.read())
            try:
                told: web.StreamResponse = await call(Asked(request, key, None, said, 0.0))
            except Refused as refused:
                return problem_response(refused.refusal)
            return told

        return answer


@pytest.fixture
async def client(traded: Any, database_url: str) -> AsyncIterator[Any]:
    database = await Database.open(database_url, role="exchange_app", size=4)
    store, paid, clock = DocumentStore(database), PaymentStore(database), Clock()
    app = web.Application(client_max_size=65_536)
    door: Any = Door()
    DocumentsApi(store=store, database=database, clock=clock, house=HouseTerms()).add_to(
        app.router, door
    )
    payments = Payments(store=paid, documents=store, clock=clock)
    PaymentsApi(payments=payments, store=paid, clock=clock).add_to(app.router, door)
    async with TestClient(TestServer(app)) as client:
        client.party = {  # type: ignore[attr-defined]
            key: {"Party": str(await database.fetchval("SELECT id FROM party WHERE key = $1", key))}
            for key in ("b0", "b1", "s0")
        }
        yield client
    await database.close()


async def issued(client: Any) -> dict[str, str]:
    found = {}
    for party in ("b0", "b1", "s0"):
        reply = await client.post("/v1/finance/documents/issue", json={"party": party, **PERIOD})
        assert reply.status == 200, await reply.text()
        for one in (await reply.json())["documents"]:
            found[f"{party} {one['kind']}"] = one["number"]
    return found


async def test_finance_issues_a_period_of_one_party_once(client: Any) -> None:
    first = await issued(client)
    assert await issued(client) == first
    assert {name.partition(" ")[2] for name in first} == {
        "invoice", "credit_memo", "payout_statement",
    }  # fmt: skip
    listed = await (await client.get("/v1/finance/documents?party=b0")).json()
    assert {one["party"] for one in listed["documents"]} == {"b0"}
    page = await (await client.get("/v1/finance/documents?limit=1")).json()
    after = await (await client.get(f"/v1/finance/documents?before={page['next']}")).json()
    assert len(after["documents"]) == len(first) - 1


async def test_a_party_reads_its_own_documents_alone(client: Any) -> None:
    numbers = await issued(client)
    mine = numbers["b0 invoice"]
    listed = await (await client.get("/v1/documents/buying", headers=client.party["b0"])).json()
    assert {one["party"] for one in listed["documents"]} == {"b0"}
    told = {one["number"]: one for one in listed["documents"]}[mine]
    reply = await client.get(f"/v1/documents/buying/{mine}", headers=client.party["b0"])
    said = msgspec.json.decode(await reply.read())
    assert (said["total"], said["number"]) == (told["total"], mine)
    drawn = await client.get(f"/v1/documents/buying/{mine}/pdf", headers=client.party["b0"])
    assert (await drawn.read()).startswith(b"%PDF-")
    for path in (mine, f"{mine}/pdf"):
        other = await client.get(f"/v1/documents/buying/{path}", headers=client.party["b1"])
        assert other.status == 404
    (own,) = (await (await client.get("/v1/documents/selling", headers=client.party["s0"])).json())[
        "documents"
    ]
    assert own["kind"] == "payout_statement"


async def test_a_payment_is_recorded_once_by_its_key_and_matched(client: Any) -> None:
    number = (await issued(client))["b0 invoice"]
    asked = {"party": "b0", "amount": "10.00", "currency": "USD", "day": "2026-11-05",
             "by": "Dana", "documents": [number]}  # fmt: skip
    headers = {"Idempotency-Key": "bank-1"}
    first = await client.post("/v1/finance/payments", json=asked, headers=headers)
    told = await first.json()
    assert [one["document"] for one in told["covers"]] == [number]
    again = await client.post("/v1/finance/payments", json=asked, headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await again.json() == told
    other = await client.post(
        "/v1/finance/payments", json=asked | {"amount": "11.00"}, headers=headers
    )
    assert other.status == 409

    path = f"/v1/finance/payments/{told['payment_id']}"
    wrong = {"document": number, "by": "Dana", "why": "other buyer"}
    undone = await (await client.post(f"{path}/unmatch", json=wrong)).json()
    assert (undone["covers"], undone["rest"]) == ([], "10.00")
    listed = await (await client.get("/v1/finance/payments?unmatched=true")).json()
    assert [one["payment_id"] for one in listed["payments"]] == [told["payment_id"]]
    matched = await (await client.post(f"{path}/match", json={"by": "Dana"})).json()
    assert matched["rest"] == "0.00"


async def test_what_buyers_owe_adds_up_to_the_ledger(client: Any) -> None:
    await issued(client)
    reply = await client.get("/v1/finance/ageing?zone=America/Chicago")
    rows = (await reply.json())["buyers"]
    assert {row["buyer"] for row in rows} == {"b0", "b1"}
    assert {row["difference"] for row in rows} == {"0.00"}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("GET", "/v1/finance/documents?kind=bill", None, "kind"),
        ("GET", "/v1/finance/documents?limit=0", None, "limit"),
        ("GET", "/v1/finance/documents?party=x", None, "party"),
        ("GET", "/v1/finance/documents?party=%00", None, "party"),
        ("GET", "/v1/finance/documents?before=%00", None, "before"),
        ("GET", "/v1/finance/ageing?at=yesterday", None, "at"),
        ("GET", "/v1/finance/payments?before=x", None, "before"),
        ("POST", "/v1/finance/documents/issue", {"party": "x", **PERIOD}, "first_day"),
        ("POST", "/v1/finance/documents/issue", {"party": "b0", **PERIOD, "zone": "Mars"},
         "first_day"),
        ("POST", "/v1/finance/payments", {"amount": "ten"}, "amount"),
        ("POST", "/v1/finance/payments", {"reference": "x@y.example"}, "reference"),
        ("POST", "/v1/finance/refunds", {"amount": "999999.00"}, "amount"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_told_field_by_field(
    client: Any, method: str, path: str, body: Any, field: str
) -> None:
    if path.endswith(("payments", "refunds")) and body:
        body = {"party": "b0", "amount": "1.00", "currency": "USD", "day": "2026-11-05",
                "by": "Dana"} | body  # fmt: skip
    reply = await client.request(method, path, json=body)
    assert reply.status == 422
    assert [one["field"] for one in (await reply.json())["errors"]] == [field]


async def test_what_is_not_there_is_not_found(client: Any) -> None:
    for path in ("INV-1999-000001", "INV-1999-000001/pdf", "%00", "x/pdf"):
        assert (await client.get(f"/v1/finance/documents/{path}")).status == 404
    reply = await client.post("/v1/finance/payments/x/match", json={"by": "Dana"})
    assert reply.status == 404
