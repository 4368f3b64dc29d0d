"""What finance calls: the returns that wait for a person."""

from collections.abc import Callable

import msgspec
from aiohttp import web

from exchange.api import errors
from exchange.api.buyer import PAGE, PROBLEMS
from exchange.api.door import Asked, Door, Refused, json_response
from exchange.api.return_messages import (
    DecideRequest,
    FinanceReturns,
    ReturnReply,
    finance_of,
    next_of,
    page_of,
    reply_of,
)
from exchange.api.routes import Route
from exchange.core.book import Book
from exchange.core.messages import Refusal
from exchange.flows.returns import WAITING, Returns

ROUTES = (
    Route(
        method="GET",
        path="/v1/finance/returns",
        operation="finance_returns",
        group="Finance",
        role="finance",
        summary="Returns of all buyers; without a state, those that wait for a person",
        parameters=PAGE,
        response=FinanceReturns,
        problems=(401, 403, 422, 500, 503),
    ),
    Route(
        method="POST",
        path="/v1/finance/returns/{return_id}/decide",
        operation="decide_return",
        group="Finance",
        role="finance",
        summary="Decide on a referred or appealed return",
        description="Who decided and why stands in the audit. Money and limits bind a person too: "
        "what cannot be granted any more is denied by that rule.",
        request=DecideRequest,
        response=ReturnReply,
        problems=PROBLEMS,
        request_example={
            "outcome": "granted",
            "by": "Dana in finance",
            "why": "The recording shows another person.",
        },
    ),
)


class FinanceApi:
    """Translates finance's calls to flows and back."""

    def __init__(self, *, returns: Returns, book: Callable[[], Book]) -> None:
        self._returns, self._book = returns, book

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        decoder = msgspec.json.Decoder(DecideRequest)
        router.add_get("/v1/finance/returns", door.guarded("finance", self._listed))
        router.add_post(
            "/v1/finance/returns/{return_id}/decide",
            door.guarded("finance", self._decided, decoder=decoder),
        )

    async def _listed(self, asked: Asked) -> web.Response:
        page = page_of(asked, states=WAITING)
        rows = await self._returns.listing(
            buyer_id=None, states=page.states, before=page.before, limit=page.limit
        )
        told = [finance_of(row, self._book()) for row in rows]
        return json_response(FinanceReturns(returns=told, next=next_of(rows, page.limit)))

    async def _decided(self, asked: Asked) -> web.Response:
        said: DecideRequest = asked.message
        return_id = asked.request.match_info["return_id"]
        answered = await self._returns.decide(return_id, said.outcome, by=said.by, why=said.why)
        if answered is None:
            raise Refused(errors.not_found("return"))
        if isinstance(answered, Refusal):
            raise Refused(answered)
        return json_response(reply_of(answered))
