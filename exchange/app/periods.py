"""Accounting periods over HTTP, joined from their parts."""

from aiohttp import web

from exchange.api import periods
from exchange.api.door import Door
from exchange.api.periods import PeriodsApi
from exchange.app.ground import Ground
from exchange.effects.periods import Periods
from exchange.flows.periods import Accounting

ROUTES = periods.ROUTES
"""Every call about them."""


def add_to(router: web.UrlDispatcher, door: Door, base: Ground) -> None:
    """Serve `ROUTES`."""
    accounting = Accounting(base.database, clock=base.clock)
    PeriodsApi(accounting=accounting, periods=Periods(base.database), clock=base.clock).add_to(
        router, door
    )
