"""What operators call to pause and resume sources."""

from typing import Annotated

import msgspec
from aiohttp import web

from exchange.api.door import Asked, Door, Refused, json_response
from exchange.api.routes import Parameter, Route
from exchange.core.messages import Refusal, Short
from exchange.effects.pauses import ListedPause
from exchange.flows.pausing import Paused, Pausing


class PauseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is paused or resumed: a source, or one sub_id of it, everywhere or at one buyer."""

    source: Annotated[str, msgspec.Meta(max_length=200, description="SELLER/SOURCE.")]
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    why: Annotated[str, msgspec.Meta(min_length=3, max_length=500)]
    sub_id: Short | None = None
    buyer: str | None = None


class PausedReply(msgspec.Struct, frozen=True, kw_only=True):
    """Whether anything changed; in force in every worker within two seconds."""

    changed: bool


class PausesReply(msgspec.Struct, frozen=True, kw_only=True):
    """The pauses, those in force first, the newest first."""

    pauses: list[ListedPause]


EXAMPLE = {
    "source": "leadspring/web",
    "sub_id": "aff-17",
    "by": "Dana",
    "why": "Buyers reach nobody at these numbers.",
}
PROBLEMS = (400, 401, 403, 413, 415, 422, 500, 503)
ROUTES = (
    Route(
        method="GET",
        path="/v1/admin/source-pauses",
        operation="source_pauses",
        group="Operators",
        role="operator",
        summary="Sources and sub_ids that are paused, everywhere or at a buyer",
        parameters=(
            Parameter(name="source", place="query", description="Only this SELLER/SOURCE."),
            Parameter(name="lifted", place="query", description="1: ended ones too."),
        ),
        response=PausesReply,
        problems=(401, 403, 422, 500, 503),
    ),
    Route(
        method="POST",
        path="/v1/admin/source-pauses/pause",
        operation="pause_source",
        group="Operators",
        role="operator",
        summary="Pause a source or a sub_id, everywhere or at one buyer",
        description="Pausing what is paused is harmless. A paused sub_id is answered no_offer, or "
        "rejected, with reason 717; a paused source with 403.",
        request=PauseRequest,
        response=PausedReply,
        problems=PROBLEMS,
        request_example=EXAMPLE,
    ),
    Route(
        method="POST",
        path="/v1/admin/source-pauses/resume",
        operation="resume_source",
        group="Operators",
        role="operator",
        summary="End what a person or a rule paused exactly here",
        description="What an incident paused ends with the incident.",
        request=PauseRequest,
        response=PausedReply,
        problems=PROBLEMS,
        request_example=EXAMPLE,
    ),
)


class SourcePausesApi:
    """Translates operators' calls to the flow and back."""

    def __init__(self, pausing: Pausing) -> None:
        self._pausing = pausing

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        decoder = msgspec.json.Decoder(PauseRequest)
        path = "/v1/admin/source-pauses"
        router.add_get(path, door.guarded("operator", self._listed))
        router.add_post(f"{path}/pause", door.guarded("operator", self._paused, decoder=decoder))
        router.add_post(f"{path}/resume", door.guarded("operator", self._resumed, decoder=decoder))

    async def _listed(self, asked: Asked) -> web.Response:
        query = asked.request.query
        rows = await self._pausing.listing(query.get("source"), lifted=query.get("lifted") == "1")
        if isinstance(rows, Refusal):
            raise Refused(rows)
        return json_response(PausesReply(pauses=list(rows)))

    async def _paused(self, asked: Asked) -> web.Response:
        return _reply(await self._pausing.pause(_said(asked)))

    async def _resumed(self, asked: Asked) -> web.Response:
        return _reply(await self._pausing.resume(_said(asked)))


def _said(asked: Asked) -> Paused:
    return Paused(**msgspec.structs.asdict(asked.message))


def _reply(done: int | Refusal) -> web.Response:
    if isinstance(done, Refusal):
        raise Refused(done)
    return json_response(PausedReply(changed=bool(done)))
