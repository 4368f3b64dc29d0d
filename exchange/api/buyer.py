"""What buyers call: saying what became of a post they never clearly answered, and returns."""

from typing import Annotated, Literal

import msgspec
from aiohttp import web

from exchange.api import errors
from exchange.api.door import Asked, Door, Limit, Refused, json_response
from exchange.api.return_messages import (
    PAGE_MAX,
    AppealRequest,
    ReturnReply,
    ReturnRequest,
    ReturnsReply,
    StateName,
    next_of,
    page_of,
    reply_of,
)
from exchange.api.routes import Parameter, Route
from exchange.api.seller import KEY_HEADER, idempotency_key
from exchange.core.messages import Refusal
from exchange.core.return_cases import REASONS
from exchange.core.returns import ReturnClaim
from exchange.flows.doubt import Resolving
from exchange.flows.returns import Answered, Asking, Returns


class ResultRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the buyer did with the post of this attempt."""

    status: Literal["accepted", "rejected"]
    ref: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=128)] | None = None


class ResultReply(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt's state now."""

    attempt_id: str
    state: str


PROBLEMS = (400, 401, 403, 404, 409, 413, 415, 422, 500, 503)
PAGE = (
    Parameter(name="state", place="query", description="Only those in this state.", type=StateName),
    Parameter(name="before", place="query", description="The `next` of the page before."),
    Parameter(name="limit", place="query", description=f"How many, 1 to {PAGE_MAX}.", type=int),
)
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
        problems=PROBLEMS,
    ),
    Route(
        method="POST",
        path="/v1/returns",
        operation="ask_return",
        group="Buyers",
        role="buyer",
        summary="Give a lead back",
        description="Decided at once by the contract's return policy, as it was at the sale: "
        "granted, denied with the rule that says why, or referred to a person. Asking the same "
        "again is answered with the same return.",
        parameters=(
            Parameter(
                name=KEY_HEADER,
                place="header",
                description="Your own id of this request: a retry with the same key is answered "
                "with the same return.",
            ),
        ),
        request=ReturnRequest,
        response=ReturnReply,
        problems=PROBLEMS,
        request_example={
            "sale_id": "019a0000-0000-7000-8000-000000000001",
            "reason": "disconnected",
            "evidence": {"call_log": "CL-8841"},
        },
    ),
    Route(
        method="GET",
        path="/v1/returns",
        operation="returns",
        group="Buyers",
        role="buyer",
        summary="Your returns, the newest first",
        parameters=PAGE,
        response=ReturnsReply,
        problems=(401, 403, 422, 500, 503),
    ),
    Route(
        method="GET",
        path="/v1/returns/{return_id}",
        operation="return",
        group="Buyers",
        role="buyer",
        summary="One of your returns",
        response=ReturnReply,
        problems=(401, 403, 404, 500, 503),
    ),
    Route(
        method="POST",
        path="/v1/returns/{return_id}/appeal",
        operation="appeal_return",
        group="Buyers",
        role="buyer",
        summary="Appeal against a denied return",
        description="Once, within the contract's time for appeals, while its limits have room. A "
        "person decides.",
        request=AppealRequest,
        response=ReturnReply,
        problems=PROBLEMS,
        request_example={"evidence": {"call_recording": "REC-2207"}},
    ),
)


class BuyerApi:
    """Translates buyers' calls to flows and back."""

    def __init__(self, *, resolving: Resolving, returns: Returns, returns_limit: Limit) -> None:
        self._resolving, self._returns = resolving, returns
        self._returns_limit = returns_limit

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        decoder = msgspec.json.Decoder(ResultRequest)
        router.add_post(
            "/v1/attempts/{attempt_id}/result",
            door.guarded("buyer", self._result, decoder=decoder),
        )
        decode, limit = msgspec.json.Decoder, self._returns_limit
        ask = door.guarded("buyer", self._ask, decoder=decode(ReturnRequest), limit=limit)
        appeal = door.guarded("buyer", self._appeal, decoder=decode(AppealRequest), limit=limit)
        router.add_post("/v1/returns", ask)
        router.add_get("/v1/returns", door.guarded("buyer", self._listed, limit=limit))
        router.add_get("/v1/returns/{return_id}", door.guarded("buyer", self._one, limit=limit))
        router.add_post("/v1/returns/{return_id}/appeal", appeal)

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

    async def _ask(self, asked: Asked) -> web.Response:
        said: ReturnRequest = asked.message
        named = said.sale_id or said.lead_id
        if named is None or (said.sale_id and said.lead_id):
            hint = "send sale_id or lead_id, one of them"
            raise Refused(errors.missing("sale_id", "name the sale or its lead", hint, status=422))
        answered = await self._returns.ask(
            Asking(
                buyer_id=_buyer_id(asked),
                of=named,
                claim=ReturnClaim(reason=REASONS[said.reason], evidence=said.evidence),
                idem_key=idempotency_key(asked),
            )
        )
        return _answer(answered, "sale")

    async def _appeal(self, asked: Asked) -> web.Response:
        said: AppealRequest = asked.message
        return_id = asked.request.match_info["return_id"]
        answered = await self._returns.appeal(return_id, _buyer_id(asked), said.evidence)
        return _answer(answered, "return")

    async def _one(self, asked: Asked) -> web.Response:
        return_id = asked.request.match_info["return_id"]
        return _answer(await self._returns.case(return_id, _buyer_id(asked)), "return")

    async def _listed(self, asked: Asked) -> web.Response:
        page = page_of(asked)
        rows = await self._returns.listing(
            buyer_id=_buyer_id(asked), states=page.states, before=page.before, limit=page.limit
        )
        returns = [reply_of(Answered(case=row.case)) for row in rows]
        return json_response(ReturnsReply(returns=returns, next=next_of(rows, page.limit)))


def _buyer_id(asked: Asked) -> int:
    assert asked.key.party_id is not None, "a buyer's key speaks for a buyer"
    return asked.key.party_id


def _answer(answered: Answered | Refusal | None, what: str) -> web.Response:
    if answered is None:
        raise Refused(errors.not_found(what))
    if isinstance(answered, Refusal):
        raise Refused(answered)
    response = json_response(reply_of(answered))
    if answered.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response
