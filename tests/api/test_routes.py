"""What is served and what is documented are the same calls, with the same roles and bodies."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import schemathesis
from aiohttp import web

from exchange.api import buyer, documents, finance, lists, operator, ops, payments, reports, seller
from exchange.api.docs import page
from exchange.api.errors import ProblemDetails
from exchange.api.openapi import document
from exchange.api.routes import Route
from exchange.app.worker import ROUTES

NONE: Any = None
"""The parts behind the calls: none of them is called here."""
UNDOCUMENTED = {"/openapi.json", "/docs"}
"""The documentation itself."""


class Guard:
    """A door that lets nobody in and remembers whom it was told to admit, with what body."""

    def __init__(self) -> None:
        self.told: dict[Callable[..., Any], tuple[str | None, Any]] = {}

    def guarded(
        self, role: str, _call: Any, *, decoder: Any = None, **_: Any
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def closed(_: web.Request) -> web.StreamResponse:
            raise AssertionError("nobody calls")

        self.told[closed] = (role, None if decoder is None else decoder.type)
        return closed


def sellers(router: web.UrlDispatcher, door: Any) -> None:
    seller.SellerApi(
        pings=NONE, posts=NONE, standing=NONE, vault=NONE, pings_limit=NONE, posts_limit=NONE
    ).add_to(router, door)


def buyers(router: web.UrlDispatcher, door: Any) -> None:
    buyer.BuyerApi(resolving=NONE, returns=NONE, returns_limit=NONE).add_to(router, door)


def listers(router: web.UrlDispatcher, door: Any) -> None:
    lists.ListsApi(customers=NONE, limit=NONE, bytes_max=1).add_to(router, door)


def financiers(router: web.UrlDispatcher, door: Any) -> None:
    finance.FinanceApi(returns=NONE, book=NONE).add_to(router, door)


def operators(router: web.UrlDispatcher, door: Any) -> None:
    operator.OperatorApi(explain=NONE, doubts=NONE, resolving=NONE, book=NONE).add_to(router, door)


def papers(router: web.UrlDispatcher, door: Any) -> None:
    documents.DocumentsApi(store=NONE, database=NONE, clock=NONE, house=NONE).add_to(router, door)
    payments.PaymentsApi(payments=NONE, store=NONE, clock=NONE).add_to(router, door)


def reporters(router: web.UrlDispatcher, door: Any) -> None:
    reports.ReportsApi(sums=NONE, clock=NONE).add_to(router, door)


def operation(router: web.UrlDispatcher, _: Any) -> None:
    ops.OpsApi(missing=NONE, scrape=NONE, routes=ROUTES, version="0").add_to(router)


Adding = Callable[[web.UrlDispatcher, Any], None]


def served(add: Adding) -> set[tuple[str, str, str | None, Any]]:
    router, door = web.Application(client_max_size=1).router, Guard()
    add(router, door)
    return {
        (route.method, route.resource.canonical, *door.told.get(route.handler, (None, None)))
        for route in router.routes()
        if route.resource is not None
        and route.method != "HEAD"
        and route.resource.canonical not in UNDOCUMENTED
    }


@pytest.mark.parametrize(
    ("add", "routes"),
    [
        (sellers, seller.ROUTES),
        (buyers, buyer.ROUTES),
        (listers, lists.ROUTES),
        (financiers, finance.ROUTES),
        (operators, operator.ROUTES),
        (operation, ops.ROUTES),
        (reporters, reports.ROUTES),
        (papers, (*documents.ROUTES, *payments.ROUTES)),
    ],
)
def test_what_is_served_is_what_is_documented(add: Adding, routes: tuple[Route, ...]) -> None:
    documented = {(route.method, route.path, route.role, route.request) for route in routes}
    assert served(add) == documented


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document(ROUTES, version="0", problem=ProblemDetails)


def test_the_document_of_all_calls_is_valid(made: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(made).validate()


def test_every_type_that_travels_is_described_in_our_words(made: dict[str, Any]) -> None:
    for name, schema in made["components"]["schemas"].items():
        assert schema.get("description"), name


SAID_ALREADY = {"status", "currency"}
"""Their type lists every word they can be, or the name says it all."""


@pytest.mark.parametrize("name", ["PingRequest", "PostRequest", "LeadRequest", "PingReply"])
def test_every_member_that_sellers_send_or_read_has_its_meaning(
    made: dict[str, Any], name: str
) -> None:
    types = made["components"]["schemas"]
    for member, kind in types[name]["properties"].items():
        named = any("$ref" in one for one in kind.get("anyOf", [kind]))
        assert kind.get("description") or named or member in SAID_ALREADY, member


def test_every_call_of_a_role_says_what_it_answers_without_a_key(made: dict[str, Any]) -> None:
    for route in ROUTES:
        if route.role is not None:
            assert {401, 403} <= set(route.problems), route.operation
    assert all("`" not in tag["name"] for tag in made["tags"])


def test_the_page_of_all_calls_can_be_made(made: dict[str, Any]) -> None:
    text = page(made)
    assert all(f'id="{route.operation}"' in text for route in ROUTES)
