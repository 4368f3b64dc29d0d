"""Reports over HTTP, joined from their parts."""

from aiohttp import web

from exchange.api.door import Door
from exchange.api.reports import ROUTES, ReportsApi
from exchange.app.ground import Ground
from exchange.effects.sums import SumStore

__all__ = ["ROUTES", "add_to"]


def add_to(router: web.UrlDispatcher, door: Door, base: Ground) -> None:
    """Serve `ROUTES`."""
    ReportsApi(sums=SumStore(base.database), clock=base.clock).add_to(router, door)
