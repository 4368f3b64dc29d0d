"""Rules that pause a source at a buyer to which too many of its leads come back.

A rule counts the sales of its last days, and those of them that were returned. It never flaps: what
it paused is resumed by a person, or after the days the rule states, and then only sales made since
count, so that the old ones do not pause it again. Sales that an incident made good are not counted:
there the decision is a person's already.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from exchange.core.book import Book
from exchange.core.model import Fact
from exchange.core.terms import AutoPauseTerms

BY_RULE = "rule"
"""Who paused, where no person did."""


class AutoRule(Fact, frozen=True, kw_only=True):
    """A rule of a buyer or (`contract_id`) of one of its contracts, which counts that one's sales
    alone."""

    buyer_id: int
    contract_id: int | None
    terms: AutoPauseTerms


class ReturnRate(Fact, frozen=True, kw_only=True):
    """What came back of a source, or of one sub_id of it, under a rule."""

    source_id: int
    sub_id: str | None
    sales: int
    returns: int


def rules_of(book: Book) -> Iterator[AutoRule]:
    """The rules of the market in force."""
    for buyer in book.buyers.values():
        if buyer.terms.auto_pause is not None and not buyer.closed:
            yield AutoRule(buyer_id=buyer.id, contract_id=None, terms=buyer.terms.auto_pause)
    for contract in book.contracts.values():
        if contract.terms.auto_pause is not None and not contract.closed:
            yield AutoRule(
                buyer_id=contract.buyer_id,
                contract_id=contract.id,
                terms=contract.terms.auto_pause,
            )


def is_broken(terms: AutoPauseTerms, rate: ReturnRate) -> bool:
    """Whether more came back than the rule allows, of sales enough to tell."""
    return rate.sales >= terms.sales_min and rate.returns > terms.return_rate * rate.sales


def lifts_at(terms: AutoPauseTerms, at: datetime) -> datetime | None:
    """When a pause made now ends by itself; `None`: a person ends it."""
    days = terms.lift_after_days
    return None if days is None else at + timedelta(days=days)


def sentence(terms: AutoPauseTerms, rate: ReturnRate) -> str:
    """Why the source is paused, with the numbers."""
    of = f" for {', '.join(terms.reasons)}" if terms.reasons else ""
    percent = 100 * rate.returns / rate.sales
    return (
        f"{rate.returns} of {rate.sales} sales of the last {terms.days} days were returned{of}: "
        f"{percent:.1f} %, and no more than {100 * terms.return_rate:.1f} % may be."
    )


def told(source: str, rule: AutoRule, rate: ReturnRate, at: datetime) -> dict[str, Any]:
    """What seller and buyer are told; the seller not which buyer it is."""
    lift_at = lifts_at(rule.terms, at)
    return {
        "source": source,
        "sub_id": rate.sub_id,
        "sales": rate.sales,
        "returns": rate.returns,
        "days": rule.terms.days,
        "message": "Paused at one buyer: " + sentence(rule.terms, rate),
        "until": lift_at.isoformat() if lift_at else None,
    }
