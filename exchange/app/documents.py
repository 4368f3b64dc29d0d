"""Documents and payments over HTTP, joined from their parts; and the house on its papers."""

from pathlib import Path

from aiohttp import web

from exchange.api import documents, payments
from exchange.api.documents import DocumentsApi
from exchange.api.door import Door
from exchange.api.payments import PaymentsApi
from exchange.app.ground import Ground
from exchange.config import BadSettings, Settings
from exchange.core.market import read_house
from exchange.core.terms import HouseTerms
from exchange.effects.documents import DocumentStore
from exchange.effects.payments import PaymentStore
from exchange.flows.payments import Payments

ROUTES = (*documents.ROUTES, *payments.ROUTES)
"""Every call about them."""


def add_to(router: web.UrlDispatcher, door: Door, base: Ground, house: HouseTerms) -> None:
    """Serve `ROUTES`."""
    papers, paid = DocumentStore(base.database), PaymentStore(base.database)
    paying = Payments(store=paid, documents=papers, clock=base.clock)
    DocumentsApi(store=papers, database=base.database, clock=base.clock, house=house).add_to(
        router, door
    )
    PaymentsApi(payments=paying, store=paid, clock=base.clock).add_to(router, door)


def house_of(settings: Settings) -> HouseTerms:
    """The house as its file says it. Raises `BadSettings` when that is wrong."""
    if settings.house_file is None:
        return HouseTerms()
    named = f"EXCHANGE_HOUSE_FILE: {settings.house_file}"
    try:
        text = Path(settings.house_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadSettings([f"{named} cannot be read"]) from None
    house, problems = read_house(text)
    if house is None:
        raise BadSettings([f"{named}, {problem}" for problem in problems])
    return house
