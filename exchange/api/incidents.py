"""What operators and finance call about incidents: an operator opens and cancels, finance approves
and closes; both look."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from exchange.api import errors
from exchange.api.door import Asked, Door, Refused, json_response
from exchange.api.incident_messages import (
    IncidentLine,
    IncidentReply,
    IncidentsReply,
    MoveRequest,
    OpenRequest,
    line_of,
    page_of,
)
from exchange.api.routes import Route
from exchange.core.book import Book
from exchange.core.incidents import Incident
from exchange.core.messages import Refusal
from exchange.core.model import Role
from exchange.flows.incidents import Incidents, Opening

OPERATOR, FINANCE = "/v1/admin/incidents", "/v1/finance/incidents"
PROBLEMS = (400, 401, 403, 404, 409, 413, 415, 422, 500, 503)
WHY = {"by": "Finn", "why": "The affiliate could not show one opt-in."}


def _looking(path: str, role: Role, group: str, prefix: str) -> tuple[Route, Route]:
    return (
        Route(
            method="GET",
            path=path,
            operation=f"{prefix}incidents",
            group=group,
            role=role,
            summary="Incidents at sources, the newest first",
            response=IncidentsReply,
            problems=(401, 403, 500, 503),
        ),
        Route(
            method="GET",
            path=path + "/{incident_id}",
            operation=f"{prefix}incident",
            group=group,
            role=role,
            summary="One incident: its sales, what it comes to, what is booked",
            response=IncidentReply,
            problems=(401, 403, 404, 500, 503),
        ),
    )


ROUTES = (
    *_looking(OPERATOR, "operator", "Operators", ""),
    Route(
        method="POST",
        path=OPERATOR,
        operation="open_incident",
        group="Operators",
        role="operator",
        summary="Pause a source or sub_id, hold its seller's payout, show what it comes to",
        description="A dry run only shows. Nothing is booked before finance approves.",
        request=OpenRequest,
        response=IncidentReply,
        problems=(400, 401, 403, 413, 415, 422, 500, 503),
        request_example={
            "source": "leadspring/web",
            "sub_id": "aff-17",
            "since": "2026-03-01T00:00:00Z",
            "by": "Dana",
            "why": "Every number of this affiliate is dead.",
            "dry_run": False,
        },
    ),
    Route(
        method="POST",
        path=OPERATOR + "/{incident_id}/cancel",
        operation="cancel_incident",
        group="Operators",
        role="operator",
        summary="Lift pause and hold of an open incident; nothing is booked",
        request=MoveRequest,
        response=IncidentLine,
        problems=PROBLEMS,
        request_example=WHY,
    ),
    *_looking(FINANCE, "finance", "Finance", "finance_"),
    Route(
        method="POST",
        path=FINANCE + "/{incident_id}/approve",
        operation="approve_incident",
        group="Finance",
        role="finance",
        summary="Fix the sales of an open incident; they are made good from now on",
        description="The jobs process books every sale once; ask for the incident to see how far "
        "it is. Approving again is harmless.",
        request=MoveRequest,
        response=IncidentLine,
        problems=PROBLEMS,
        request_example=WHY,
    ),
    Route(
        method="POST",
        path=FINANCE + "/{incident_id}/close",
        operation="close_incident",
        group="Finance",
        role="finance",
        summary="Lift the hold of a booked incident, and its pause unless it is kept",
        request=MoveRequest,
        response=IncidentLine,
        problems=PROBLEMS,
        request_example=WHY,
    ),
)


class IncidentsApi:
    """Translates calls about incidents to the flow and back."""

    def __init__(self, *, incidents: Incidents, book: Callable[[], Book]) -> None:
        self._incidents, self._book = incidents, book

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        opening = msgspec.json.Decoder(OpenRequest)
        moving = msgspec.json.Decoder(MoveRequest)
        looking: tuple[tuple[str, Role], ...] = ((OPERATOR, "operator"), (FINANCE, "finance"))
        for path, role in looking:
            router.add_get(path, door.guarded(role, self._listed))
            router.add_get(path + "/{incident_id}", door.guarded(role, self._shown))
        router.add_post(OPERATOR, door.guarded("operator", self._opened, decoder=opening))
        moves: tuple[tuple[Role, str, Any], ...] = (
            ("operator", OPERATOR + "/{incident_id}/cancel", self._cancelled),
            ("finance", FINANCE + "/{incident_id}/approve", self._approved),
            ("finance", FINANCE + "/{incident_id}/close", self._closed),
        )
        for role, path, call in moves:
            router.add_post(path, door.guarded(role, call, decoder=moving))

    async def _listed(self, _asked: Asked) -> web.Response:
        rows = await self._incidents.listing()
        return json_response(IncidentsReply(incidents=[line_of(one, self._book()) for one in rows]))

    async def _shown(self, asked: Asked) -> web.Response:
        shown = await self._incidents.show(asked.request.match_info["incident_id"])
        if shown is None:
            raise Refused(errors.not_found("incident"))
        return json_response(page_of(shown, self._book()))

    async def _opened(self, asked: Asked) -> web.Response:
        said = msgspec.structs.asdict(asked.message)
        dry_run = said.pop("dry_run")
        shown = await self._incidents.open(Opening(**said), dry_run=dry_run)
        if isinstance(shown, Refusal):
            raise Refused(shown)
        return json_response(page_of(shown, self._book()))

    async def _cancelled(self, asked: Asked) -> web.Response:
        return await self._moved(asked, self._incidents.cancel)

    async def _approved(self, asked: Asked) -> web.Response:
        return await self._moved(asked, self._incidents.approve)

    async def _closed(self, asked: Asked) -> web.Response:
        keep: bool = asked.message.keep_paused

        async def close(incident_id: str, *, by: str, why: str) -> Incident | Refusal | None:
            return await self._incidents.close(incident_id, by=by, why=why, keep_paused=keep)

        return await self._moved(asked, close)

    async def _moved(
        self, asked: Asked, move: Callable[..., Awaitable[Incident | Refusal | None]]
    ) -> web.Response:
        said: MoveRequest = asked.message
        done = await move(asked.request.match_info["incident_id"], by=said.by, why=said.why)
        if done is None:
            raise Refused(errors.not_found("incident"))
        if isinstance(done, Refusal):
            raise Refused(done)
        return json_response(line_of(done, self._book()))
