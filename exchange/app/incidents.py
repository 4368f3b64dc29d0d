"""Pauses of sources and incidents, joined from their parts: for workers, jobs and commands."""

from aiohttp import web

from exchange.api import incidents as incidents_api
from exchange.api import source_pauses as pauses_api
from exchange.api.door import Door
from exchange.api.incidents import IncidentsApi
from exchange.api.source_pauses import SourcePausesApi
from exchange.app.ground import Ground
from exchange.core.records import ReturnRecord
from exchange.effects.incidents import IncidentStore
from exchange.effects.pauses import PauseStore
from exchange.effects.returns import ReturnStore
from exchange.flows.auto_pause import AutoPause
from exchange.flows.incidents import IncidentLimits, Incidents
from exchange.flows.pausing import Pausing
from exchange.flows.returns import ReturnLimits

ROUTES = (*pauses_api.ROUTES, *incidents_api.ROUTES)


def add_to(router: web.UrlDispatcher, door: Door, base: Ground) -> None:
    """Serve `ROUTES`."""
    SourcePausesApi(pausing_of(base)).add_to(router, door)
    IncidentsApi(incidents=incidents_of(base), book=lambda: base.standing.book).add_to(router, door)


def pausing_of(base: Ground) -> Pausing:
    """Who pauses sources."""
    store = PauseStore(base.database)
    return Pausing(store=store, clock=base.clock, book=lambda: base.standing.book)


def auto_pause_of(base: Ground) -> AutoPause:
    """Who pauses sources by rule."""
    return AutoPause(
        store=PauseStore(base.database),
        clock=base.clock,
        book=lambda: base.standing.book,
        counted=base.metrics.source_paused,
    )


def incidents_of(base: Ground) -> Incidents:
    """Who makes incidents good."""

    def recorded(record: ReturnRecord) -> None:
        base.metrics.returned(record)
        base.log.returned(record)

    return Incidents(
        store=IncidentStore(base.database),
        returns=ReturnStore(base.database, had_before_days=ReturnLimits().had_before_days),
        clock=base.clock,
        book=lambda: base.standing.book,
        recorded=recorded,
        limits=IncidentLimits(),
        at=base.at,
    )
