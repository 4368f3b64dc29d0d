"""Pauses of sources and incidents, joined from their parts: for workers, jobs and commands."""

from aiohttp import web

from exchange.api import source_pauses as pauses_api
from exchange.api.door import Door
from exchange.api.source_pauses import SourcePausesApi
from exchange.app.ground import Ground
from exchange.effects.pauses import PauseStore
from exchange.flows.pausing import Pausing

ROUTES = pauses_api.ROUTES


def add_to(router: web.UrlDispatcher, door: Door, base: Ground) -> None:
    """Serve `ROUTES`."""
    SourcePausesApi(pausing_of(base)).add_to(router, door)


def pausing_of(base: Ground) -> Pausing:
    """Who pauses sources."""
    store = PauseStore(base.database)
    return Pausing(store=store, clock=base.clock, book=lambda: base.standing.book)
