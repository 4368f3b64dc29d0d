"""What buyers call to say whom they have already: their list of customers, kept as keyed hashes."""

import asyncio
from datetime import datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from exchange.api import errors
from exchange.api.door import Asked, Door, Limit, Refused, json_response
from exchange.api.routes import Route
from exchange.core.csv_text import BadCsv, csv_rows
from exchange.core.customer_list import BadList, Customers
from exchange.effects.customers import Standing, Way
from exchange.flows.customers import CustomersOf

ROWS_MAX = 100_000
"""Rows of one upload: what its bytes hold at most, about."""


class ListReply(msgspec.Struct, frozen=True, kw_only=True):
    """Your list as it stands. `unread`: rows of this upload with neither a phone nor an e-mail."""

    listed: Annotated[int, Meta(description="Phones and e-mails on the list.")]
    uploaded_at: datetime | None
    unread: int = 0


UPLOADED = (
    "The body is a CSV (`Content-Type: text/csv`, UTF-8) of phones and e-mails; of each only a "
    "hash under a key of ours is kept. Returns as `duplicate` or `existing_customer` are checked "
    "against the list as it stood when the lead was posted to you: who was on it is credited, and "
    "once you have a list, who was not is denied. So list leads you bought elsewhere, too."
)
PROBLEMS = (401, 403, 413, 415, 422, 500, 503)
ROUTES = (
    Route(
        method="PUT",
        path="/v1/lists/customers",
        operation="put_customers",
        group="Buyers",
        role="buyer",
        summary="Upload the whole list of the consumers you have",
        description=UPLOADED + "\n\nIt takes the place of the list before.",
        response=ListReply,
        problems=PROBLEMS,
    ),
    Route(
        method="POST",
        path="/v1/lists/customers",
        operation="add_customers",
        group="Buyers",
        role="buyer",
        summary="Add consumers to your list",
        description=UPLOADED + "\n\nIt is added to what is listed.",
        response=ListReply,
        problems=PROBLEMS,
    ),
    Route(
        method="GET",
        path="/v1/lists/customers",
        operation="customers",
        group="Buyers",
        role="buyer",
        summary="How many consumers are on your list, and since when",
        response=ListReply,
        problems=(401, 403, 500, 503),
    ),
)


class ListsApi:
    """Translates buyers' lists to the flow and back."""

    def __init__(self, *, customers: CustomersOf, limit: Limit, bytes_max: int) -> None:
        self._customers, self._limit, self._bytes_max = customers, limit, bytes_max

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        whole, limit, path = self._bytes_max, self._limit, "/v1/lists/customers"
        router.add_put(path, door.guarded("buyer", self._put, whole=whole, limit=limit))
        router.add_post(path, door.guarded("buyer", self._add, whole=whole, limit=limit))
        router.add_get(path, door.guarded("buyer", self._standing, limit=limit))

    async def _put(self, asked: Asked) -> web.Response:
        return await self._uploaded(asked, "whole")

    async def _add(self, asked: Asked) -> web.Response:
        return await self._uploaded(asked, "more")

    async def _standing(self, asked: Asked) -> web.Response:
        return _reply(await self._customers.standing(_buyer_id(asked)))

    async def _uploaded(self, asked: Asked, way: Way) -> web.Response:
        try:  # on a thread: a long list takes half a second, and others wait for this loop
            found = await asyncio.to_thread(self._read, asked.message)
        except (BadCsv, BadList) as bad:
            hint = "a CSV of phones and e-mails"
            raise Refused(errors.missing("body", str(bad), hint, status=422)) from None
        standing = await self._customers.upload(_buyer_id(asked), found, way=way, by="api")
        return _reply(standing, unread=found.unread)

    def _read(self, body: bytes) -> Customers:
        return self._customers.read(cells for _, cells in csv_rows(body, rows_max=ROWS_MAX))


def _reply(standing: Standing | None, *, unread: int = 0) -> web.Response:
    listed, at = (standing.keys, standing.at) if standing else (0, None)
    return json_response(ListReply(listed=listed, uploaded_at=at, unread=unread))


def _buyer_id(asked: Asked) -> int:
    assert asked.key.party_id is not None, "a buyer's key speaks for a buyer"
    return asked.key.party_id
