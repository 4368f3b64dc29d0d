"""Incidents: a source sent what should not have been sold, and every sale of it is made good.

What is left of each price is credited. What the seller gives back is a policy of the incident:
`all` of its payout, for what a source sends is its seller's warranty, no matter when it is found;
or by its clawback `terms`, as of any return asked for when the incident was opened. With `all` the
whole of a sale counts: what earlier returns took from the seller is not taken again, what the house
bore of them is.

An incident is `open` (paused and held, nothing booked), then `approved` (its sales are fixed),
`booked` (each was credited) and `closed`; or `cancelled` while open.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from msgspec.structs import replace

from exchange.core.model import Fact
from exchange.core.money import credit_parts
from exchange.core.return_cases import (
    OPEN,
    REASONS,
    ReturnCase,
    ReturnSale,
    ReturnUnit,
    Room,
    Written,
    judged,
    opened,
)
from exchange.core.return_policy import MILLION, clawback_share, millionths
from exchange.core.returns import INCIDENT_RULE, SENTENCES, Decision, ReturnClaim
from exchange.core.terms import ClawbackTerms

Bears = Literal["all", "terms"]
State = Literal["open", "approved", "booked", "closed", "cancelled"]
MOVES: Final[dict[str, frozenset[str]]] = {
    "open": frozenset({"approved", "cancelled"}),
    "approved": frozenset({"booked"}),
    "booked": frozenset({"closed"}),
    "closed": frozenset(),
    "cancelled": frozenset(),
}
"""The moves of an incident; the same ones are fenced in SQL."""


class Incident(Fact, frozen=True, kw_only=True):
    """A source (or one `sub_id`) whose leads, received from `since` until before `until`, should
    not have been sold. `reason` is a return reason's label."""

    incident_id: str
    seller_id: int
    source_id: int
    sub_id: str | None
    since: datetime
    until: datetime | None
    reason: str
    why: str
    seller_bears: Bears
    state: State
    opened_at: datetime
    opened_by: str


class AffectedSale(Fact, frozen=True, kw_only=True):
    """A sale of the incident as it stands now. `clawed_micros`: what granted returns took from the
    seller. `replaced`: the buyer is owed another lead for it. `net_of_returns`: by its terms the
    seller bears every return. `is_paid`: its payout was paid out, the oldest first."""

    attempt_id: str
    lead_id: str
    buyer_id: int
    price_micros: int
    payout_micros: int
    credited_micros: int
    clawed_micros: int
    currency: str
    sold_at: datetime
    zone: str
    replaced: bool = False
    open_return: str | None = None
    clawback: ClawbackTerms | None = None
    net_of_returns: bool = False
    is_paid: bool = False


class MakingGood(Fact, frozen=True, kw_only=True):
    """What a sale comes to: the buyer's credit, the seller's clawback."""

    credit_micros: int
    clawback_micros: int

    @property
    def state(self) -> Literal["credited", "recovered", "nothing_left"]:
        """`recovered`: nothing is left to credit, and the seller gives back what the house bore."""
        if self.credit_micros:
            return "credited"
        return "recovered" if self.clawback_micros else "nothing_left"


class Total(Fact, frozen=True, kw_only=True):
    """What an incident comes to with one buyer in one currency. `left_micros` were not credited
    before and are now; `house_micros` is what the house bears of that, its fee included. `paid`
    counts the sales whose payout the seller has had, `paid_micros` what it was."""

    buyer_id: int
    currency: str
    sales: int = 0
    price_micros: int = 0
    credited_micros: int = 0
    credit_micros: int = 0
    payout_micros: int = 0
    clawback_micros: int = 0
    paid: int = 0
    paid_micros: int = 0

    @property
    def house_micros(self) -> int:
        """What the house bears: its fee, and what the seller does not."""
        return self.credit_micros - self.clawback_micros


def made_good(incident: Incident, sale: AffectedSale) -> MakingGood:
    """What the incident still owes of a sale."""
    left = 0 if sale.replaced else sale.price_micros - sale.credited_micros
    part, _ = credit_parts(
        left,
        price_micros=sale.price_micros,
        payout_micros=sale.payout_micros,
        credited_micros=sale.credited_micros,
    )
    if incident.seller_bears == "all":
        owed = sale.payout_micros if sale.price_micros else 0
        return MakingGood(credit_micros=left, clawback_micros=max(0, owed - sale.clawed_micros))
    share = _share(incident, sale)
    return MakingGood(credit_micros=left, clawback_micros=part * millionths(share) // MILLION)


def _share(incident: Incident, sale: AffectedSale) -> Decimal:
    if sale.net_of_returns:
        return Decimal(1)
    return clawback_share(
        sale.clawback, sold_at=sale.sold_at, requested_at=incident.opened_at, zone=sale.zone
    )


def affected(sale: ReturnSale, room: Room) -> AffectedSale:
    """A sale as it stands inside the transaction that decides on it."""
    granted = [case for case in room.cases if case.state == "granted"]
    return AffectedSale(
        attempt_id=sale.attempt_id,
        lead_id=sale.lead_id,
        buyer_id=sale.buyer_id,
        price_micros=sale.price_micros,
        payout_micros=sale.payout_micros,
        credited_micros=room.credited_micros,
        clawed_micros=sum(case.clawback_micros for case in granted),
        currency=sale.currency,
        sold_at=sale.sold_at,
        zone=sale.seller_zone or sale.zone,
        replaced=any(case.replaces for case in granted),
        clawback=sale.clawback,
        net_of_returns=sale.net_of_returns,
    )


def booked_case(room: Room) -> ReturnCase | None:
    """The case by which an incident made this sale good, if one did."""
    return next((case for case in room.cases if case.rule == INCIDENT_RULE), None)


def unit_of(
    incident: Incident, sale: ReturnSale, room: Room, *, return_id: str, written: Written
) -> ReturnUnit | None:
    """What making a sale good writes: the buyer's own open case is granted, or a new one made;
    `None` when nothing is left on either side."""
    good = made_good(incident, affected(sale, room))
    if good.state == "nothing_left":
        return None
    decision = Decision(
        outcome="granted",
        rule=INCIDENT_RULE,
        sentence=SENTENCES[INCIDENT_RULE],
        credit_micros=good.credit_micros,
        clawback_micros=good.clawback_micros,
    )
    if not good.credit_micros:
        written = replace(written, to_buyer=None)  # it has had its credit
    waiting = next((case for case in room.cases if case.state in OPEN), None)
    if waiting is not None:
        unit = judged(sale, room, waiting, decision, written)
    else:
        claim = ReturnClaim(reason=REASONS[incident.reason])
        unit = opened(
            sale, room, claim, decision, return_id=return_id, idem_key=None, written=written
        )
    return replace(unit, incident_id=incident.incident_id)


# --- what it comes to -----------------------------------------------------------------------------


def totals(incident: Incident, sales: Iterable[AffectedSale]) -> tuple[Total, ...]:
    """What the incident comes to, by buyer and currency."""
    found: dict[tuple[int, str], Total] = {}
    for sale in sales:
        key = sale.buyer_id, sale.currency
        good = made_good(incident, sale)
        so_far = found.get(key) or Total(buyer_id=sale.buyer_id, currency=sale.currency)
        found[key] = replace(
            so_far,
            sales=so_far.sales + 1,
            price_micros=so_far.price_micros + sale.price_micros,
            credited_micros=so_far.credited_micros + sale.credited_micros,
            credit_micros=so_far.credit_micros + good.credit_micros,
            payout_micros=so_far.payout_micros + sale.payout_micros,
            clawback_micros=so_far.clawback_micros + good.clawback_micros,
            paid=so_far.paid + sale.is_paid,
            paid_micros=so_far.paid_micros + sale.payout_micros * sale.is_paid,
        )
    return tuple(found[key] for key in sorted(found))


def by_currency(totals: Iterable[Total]) -> dict[str, dict[str, int]]:
    """Sales, credit and clawback by currency."""
    found: dict[str, dict[str, int]] = {}
    for one in totals:
        sums = found.setdefault(
            one.currency, {"sales": 0, "credit_micros": 0, "clawback_micros": 0}
        )
        sums["sales"] += one.sales
        sums["credit_micros"] += one.credit_micros
        sums["clawback_micros"] += one.clawback_micros
    return found


def held_amounts(sales: Iterable[AffectedSale]) -> Mapping[str, int]:
    """The payouts of these sales that the seller still has or will be paid, by currency: what is
    held back from it."""
    held: dict[str, int] = {}
    for sale in sales:
        amount = max(0, sale.payout_micros - sale.clawed_micros)
        held[sale.currency] = held.get(sale.currency, 0) + amount
    return {currency: amount for currency, amount in held.items() if amount}


def summary(incident: Incident, source: str, sums: Mapping[str, Any]) -> Any:
    """What the seller is told of a booked incident: never what buyers paid or were credited."""
    return {
        "incident_id": incident.incident_id,
        "source": source,
        "sub_id": incident.sub_id,
        "since": incident.since.isoformat(),
        "until": incident.until.isoformat() if incident.until else None,
        "reason": incident.reason,
        "message": REASONS[incident.reason].sentence,
        "totals": sums,
    }
