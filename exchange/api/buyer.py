"""What buyers call: saying what became of a post they never clearly answered."""

from typing import Annotated, Literal

import msgspec
from aiohttp import web

from exchange.api import errors
from exchange.api.door import Asked, Door, Refused, json_response
from exchange.api.routes import Route
from exchange.core.messages import Refusal
from exchange.flows.doubt import Resolving


class ResultRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the buyer did with the post of this attempt."""

    status: Literal["accepted", "rejected"]
    ref: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=128)] | None = None


class ResultReply(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt's state now."""

    attempt_id: str
    state: str


ROUTES = (
    Route(
        method="POST",
        path="/v1/attempts/{attempt_id}/result",
        operation="result",
        group="Buyers",
        role="buyer",
        summary="Say whether you accepted a post whose answer was lost",
        description="Ends the doubt about one of your attempts. Saying the same again is harmless; "
        "saying otherwise than it ended is refused with 409.",
        request=ResultRequest,
        response=ResultReply,
        problems=(400, 401, 403, 404, 409, 413, 415, 422, 500, 503),
    ),
)


class BuyerApi:
    """Translates buyers' calls to flows and back."""

    def __init__(self, *, resolving: Resolving) -> None:
        self._resolving = resolving

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        decoder = msgspec.json.Decoder(ResultRequest)
        router.add_post(
            "/v1/attempts/{attempt_id}/result",
            door.guarded("buyer", self._result, decoder=decoder),
        )

    async def _result(self, asked: Asked) -> web.Response:
        said: ResultRequest = asked.message
        attempt_id = asked.request.match_info["attempt_id"]
        resolved = await self._resolving.resolve(
            attempt_id,
            "sold" if said.status == "accepted" else "rejected",
            by="callback",
            buyer_id=asked.key.party_id,
            buyer_ref=said.ref,
            buyer_reason=said.reason,
        )
        if resolved.kind == "no_such":
            raise Refused(errors.not_found("attempt"))
        if resolved.kind in ("otherwise", "running"):
            raise Refused(
                Refusal(
                    status=409,
                    title="Ended otherwise" if resolved.kind == "otherwise" else "Still running",
                    detail=f"This attempt is {resolved.state}.",
                )
            )
        return json_response(ResultReply(attempt_id=attempt_id, state=resolved.state))
