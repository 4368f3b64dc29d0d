"""What operators call: the story of a ping or lead, and the posts in doubt."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

from exchange.api import errors
from exchange.api.door import Asked, Door, Refused, json_response
from exchange.api.routes import Parameter, Route
from exchange.core.book import Book
from exchange.core.story import Story
from exchange.effects.doubts import DoubtFilter, Doubts
from exchange.flows.doubt import (
    BulkResolved,
    DoubtRow,
    DoubtTotals,
    Resolving,
    listing,
    resolve_many,
    totals,
)
from exchange.flows.explain import Explain


class DoubtsReply(msgspec.Struct, frozen=True, kw_only=True):
    """The posts in doubt, oldest first, and what they add up to."""

    rows: list[DoubtRow]
    totals: DoubtTotals


class ResolveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How doubts end on a person's word. Name attempts, or a buyer for all of its."""

    outcome: Literal["sold", "rejected", "written_off"]
    why: Annotated[str, msgspec.Meta(min_length=3, max_length=500)]
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    attempts: list[str] = []
    buyer: str | None = None
    dry_run: bool = True


ROUTES = (
    Route(
        method="GET",
        path="/v1/admin/explain/{ping_id}",
        operation="explain",
        group="Operators",
        role="operator",
        summary="The whole story of a ping or lead",
        response=Story,
        problems=(401, 403, 404, 500, 503),
    ),
    Route(
        method="GET",
        path="/v1/admin/doubts",
        operation="doubts",
        group="Operators",
        role="operator",
        summary="Posts that were sent and never clearly answered",
        parameters=(Parameter(name="buyer", place="query", description="Only this buyer's."),),
        response=DoubtsReply,
        problems=(401, 403, 404, 500, 503),
    ),
    Route(
        method="POST",
        path="/v1/admin/doubts/resolve",
        operation="resolve_doubts",
        group="Operators",
        role="operator",
        summary="End doubts on your word; a dry run shows leads, money and caps first",
        request=ResolveRequest,
        response=BulkResolved,
        problems=(400, 401, 403, 404, 413, 415, 422, 500, 503),
    ),
)


class OperatorApi:
    """Translates operators' calls to flows and back."""

    def __init__(
        self,
        *,
        explain: Explain,
        doubts: Doubts,
        resolving: Resolving,
        book: Callable[[], Book],
    ) -> None:
        self._explain, self._doubts, self._resolving, self._book = explain, doubts, resolving, book

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        decoder = msgspec.json.Decoder(ResolveRequest)
        router.add_get("/v1/admin/explain/{ping_id}", door.guarded("operator", self._explained))
        router.add_get("/v1/admin/doubts", door.guarded("operator", self._listed))
        router.add_post(
            "/v1/admin/doubts/resolve",
            door.guarded("operator", self._resolved, decoder=decoder),
        )

    async def _explained(self, asked: Asked) -> web.Response:
        story = await self._explain.story(asked.request.match_info["ping_id"])
        if not isinstance(story, Story):
            raise Refused(errors.not_found("ping or lead"))
        return json_response(story)

    async def _listed(self, asked: Asked) -> web.Response:
        narrowed = self._narrowed(buyer=asked.request.query.get("buyer"), attempts=[])
        rows = await listing(narrowed, doubts=self._doubts, book=self._book())
        return json_response(DoubtsReply(rows=list(rows), totals=totals(rows)))

    async def _resolved(self, asked: Asked) -> web.Response:
        request: ResolveRequest = asked.message
        if not request.attempts and request.buyer is None:
            raise Refused(
                errors.missing(
                    "attempts", "name what to resolve", "send attempts or a buyer", status=422
                )
            )
        done = await resolve_many(
            self._narrowed(buyer=request.buyer, attempts=request.attempts),
            request.outcome,
            by=request.by,
            why=request.why,
            dry_run=request.dry_run,
            doubts=self._doubts,
            resolving=self._resolving,
            book=self._book(),
        )
        return json_response(done)

    def _narrowed(self, *, buyer: str | None, attempts: list[str]) -> DoubtFilter:
        buyer_id: Any = None
        if buyer is not None:
            known = [one.id for one in self._book().buyers.values() if one.key == buyer]
            if not known:
                raise Refused(errors.not_found("buyer"))
            buyer_id = known[0]
        return DoubtFilter(buyer_id=buyer_id, ids=tuple(attempts) or None)
