"""An incident as people and programs read it: keys for ids, decimal strings for money."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from exchange.core.book import Book
from exchange.core.incidents import Bears, Incident, State, made_good
from exchange.core.messages import Short
from exchange.core.money import text_of
from exchange.flows.incidents import Hold, Shown

Why = Annotated[str, msgspec.Meta(min_length=3, max_length=500)]
Who = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A source (or one sub_id) whose leads, received from `since` until before `until`, should not
    have been sold. `dry_run`: only show what it comes to."""

    source: Annotated[str, msgspec.Meta(max_length=200, description="SELLER/SOURCE.")]
    since: Annotated[datetime, msgspec.Meta(tz=True)]
    by: Who
    why: Why
    sub_id: Short | None = None
    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    reason: str = "fraud"
    seller_bears: Bears = "all"
    hold: Hold = "affected"
    dry_run: bool = True


class MoveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who moves an incident on, and why. `keep_paused`: closing lifts the hold alone."""

    by: Who
    why: Why
    keep_paused: bool = False


class IncidentLine(msgspec.Struct, frozen=True, kw_only=True):
    """An incident."""

    incident_id: str
    state: State
    source: str
    sub_id: str | None
    since: datetime
    until: datetime | None
    reason: str
    why: str
    seller_bears: Bears
    opened_at: datetime
    opened_by: str


class IncidentTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What an incident comes to now with one buyer in one currency. `credited`: before; `credit`
    and `clawback`: still to be booked; `house`: what the house bears of that; `paid` counts the
    sales whose payout the seller has had."""

    buyer: str
    currency: str
    sales: int
    price: str
    credited: str
    credit: str
    payout: str
    clawback: str
    house: str
    paid: int
    paid_amount: str


class IncidentSale(msgspec.Struct, frozen=True, kw_only=True):
    """An affected sale as it stands now."""

    sale_id: str
    lead_id: str
    buyer: str
    sold_at: datetime
    currency: str
    price: str
    credited: str
    credit: str
    payout: str
    clawback: str
    is_paid: bool
    is_replaced: bool
    open_return: str | None


class IncidentProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an approved incident's sales: `due`, `credited`, `recovered` (only the seller
    gave back) or `nothing_left`."""

    state: Literal["due", "credited", "recovered", "nothing_left"]
    buyer: str
    currency: str
    sales: int
    credit: str
    clawback: str


class IncidentStep(msgspec.Struct, frozen=True, kw_only=True):
    """That an incident came to a state."""

    state: State
    at: datetime
    by: str
    why: str


class IncidentReply(msgspec.Struct, frozen=True, kw_only=True):
    """An incident with all that is known of it. `later`: sales that came out of doubt after the
    approval and are not in it."""

    incident: IncidentLine
    totals: list[IncidentTotal]
    progress: list[IncidentProgress]
    events: list[IncidentStep]
    sales: list[IncidentSale]
    in_doubt: int
    later: int


class IncidentsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Incidents, the newest first."""

    incidents: list[IncidentLine]


def line_of(one: Incident, book: Book) -> IncidentLine:
    """An incident by keys."""
    source = book.parties.sources.get(one.source_id)
    keys = _key(book.sellers, one.seller_id), source.key if source else str(one.source_id)
    known = {
        name: getattr(one, name) for name in IncidentLine.__struct_fields__ if name != "source"
    }
    return IncidentLine(source="/".join(keys), **known)


def page_of(shown: Shown, book: Book) -> IncidentReply:
    """An incident with all that is known of it, by keys."""
    buyers = book.buyers
    return IncidentReply(
        incident=line_of(shown.incident, book),
        totals=[
            IncidentTotal(
                buyer=_key(buyers, one.buyer_id),
                currency=one.currency,
                sales=one.sales,
                price=text_of(one.price_micros),
                credited=text_of(one.credited_micros),
                credit=text_of(one.credit_micros),
                payout=text_of(one.payout_micros),
                clawback=text_of(one.clawback_micros),
                house=text_of(one.house_micros),
                paid=one.paid,
                paid_amount=text_of(one.paid_micros),
            )
            for one in shown.totals
        ],
        progress=[
            IncidentProgress(
                state=one.state,
                buyer=_key(buyers, one.buyer_id),
                currency=one.currency,
                sales=one.sales,
                credit=text_of(one.credit_micros),
                clawback=text_of(one.clawback_micros),
            )
            for one in shown.progress
        ],
        events=[
            IncidentStep(state=one.state, at=one.at, by=one.by, why=one.why) for one in shown.events
        ],
        sales=_sales(shown, book),
        in_doubt=shown.in_doubt,
        later=shown.later,
    )


def _sales(shown: Shown, book: Book) -> list[IncidentSale]:
    found = []
    for one in shown.sales:
        good = made_good(shown.incident, one)
        found.append(
            IncidentSale(
                sale_id=one.attempt_id,
                lead_id=one.lead_id,
                buyer=_key(book.buyers, one.buyer_id),
                sold_at=one.sold_at,
                currency=one.currency,
                price=text_of(one.price_micros),
                credited=text_of(one.credited_micros),
                credit=text_of(good.credit_micros),
                payout=text_of(one.payout_micros),
                clawback=text_of(good.clawback_micros),
                is_paid=one.is_paid,
                is_replaced=one.replaced,
                open_return=one.open_return,
            )
        )
    return found


def _key(things: Any, one: int) -> str:
    known = things.get(one)
    return str(known.key) if known else str(one)
