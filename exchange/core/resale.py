"""Re-offering a returned lead ("undo and resell"): may it be, and to whom.

Once a buyer has given a lead back and was credited for all of it, the lead may be auctioned again:
among buyers that never had it, within the consumer's consent, while it is young enough. A lead that
is worth nothing to anybody (made up, not to be called, of nobody) is never offered again, whatever
the terms say. The rules stand in their order; the first that holds refuses.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from exchange.core.model import Fact
from exchange.core.reasons import ReturnReason
from exchange.core.terms import ResellTerms

RESELLABLE: Final = frozenset(
    {
        ReturnReason.DUPLICATE.label,
        ReturnReason.EXISTING_CUSTOMER.label,
        ReturnReason.OUT_OF_AREA.label,
        ReturnReason.OUTSIDE_CRITERIA.label,
        ReturnReason.LANGUAGE.label,
    }
)
"""Reasons that say something of the buyer that gave the lead back. All others say something of the
consumer or the record, and hold for every buyer."""

Rule = Literal[
    "no_such_lead",
    "is_test",
    "not_sold",
    "not_returned",
    "not_in_full",
    "not_resellable",
    "no_terms",
    "reason_not_agreed",
    "too_old",
    "tried_before",
    "releases_spent",
    "record_gone",
    "source_paused",
    "record_outdated",
    "sold_meanwhile",
    "no_buyer",
    "busy",
]
"""Why a lead was not sold again."""

SENTENCES: Final[dict[Rule, str]] = {
    "no_such_lead": "There is no lead of this id.",
    "is_test": "A test lead is never offered again.",
    "not_sold": "Only a lead whose sale was returned is offered again.",
    "not_returned": "Its sale was not returned.",
    "not_in_full": "Its sale was not credited in full: the buyer still has a part of it.",
    "not_resellable": "The reason of its return holds for every buyer.",
    "no_terms": "Neither its seller nor its vertical has terms of re-offering.",
    "reason_not_agreed": "The terms do not name the reason of its return.",
    "too_old": "It is older than the terms allow.",
    "tried_before": "It was offered again after this return before.",
    "releases_spent": "It was already released to as many buyers as allowed.",
    "record_gone": "Its record was erased.",
    "source_paused": "Nothing of its source is traded now.",
    "record_outdated": "Its record no longer fits the fields of its vertical.",
    "sold_meanwhile": "The consumer was sold as another lead meanwhile.",
    "no_buyer": "Nobody that may have it, and never had it, would buy it.",
    "busy": "Something else happened to it at the same time; try again.",
}
LASTING: Final = frozenset(SENTENCES) - {"busy", "source_paused", "tried_before", "no_such_lead"}
"""What will not change by itself: the job writes it down and looks no more."""


class ReturnedLead(Fact, frozen=True, kw_only=True):
    """A lead as it stands, with its last granted return. `attempts` are the buyers that ever had an
    INTENT of it, once for each; `sold_micros` and `credited_micros` are sums over its sales.
    `allowed`: buyers of the first offer, where consent named them by that."""

    lead_id: str
    seller_id: int
    source_id: int
    sub_id: str | None
    vertical_id: int
    external_id: str | None
    state: str
    test: bool
    floor_micros: int
    currency: str
    received_at: datetime
    custody_seq: int
    custody_head: str
    idem_key: str
    attempts: tuple[int, ...]
    leg: int
    sales: int
    sales_returned: int
    return_id: str | None
    reason: str | None
    tried: bool
    offered_named: bool
    offered_to: tuple[int, ...]

    @property
    def had(self) -> frozenset[int]:
        """The buyers that may have it."""
        return frozenset(self.attempts)


class Resold(Fact, frozen=True, kw_only=True):
    """What became of a lead that was offered again. `unsold`: buyers had it and none bought;
    `refused`: nobody was released to, and `rule` says why."""

    lead_id: str
    kind: Literal["sold", "in_doubt", "unsold", "refused"]
    rule: Rule | None = None
    resale_id: str | None = None
    buyer_id: int | None = None
    payout_micros: int = 0
    price_micros: int = 0
    currency: str = ""

    @property
    def says(self) -> str:
        """The rule in a sentence."""
        return "" if self.rule is None else SENTENCES[self.rule]


def terms_of(seller: ResellTerms | None, vertical: ResellTerms | None) -> ResellTerms | None:
    """The terms of a lead: its seller's, else its vertical's."""
    return vertical if seller is None else seller


def refusal(
    lead: ReturnedLead,
    terms: ResellTerms | None,
    *,
    now: datetime,
    releases_max: int,
    by_hand: bool,
) -> Rule | None:
    """Why this lead may not be offered again; `None` when it may. A person needs no terms, and may
    try again where nobody was released to; everything else binds a person too."""
    if lead.test:
        return "is_test"
    if lead.state != "sold":
        return "not_sold"
    if lead.return_id is None or lead.reason is None:
        return "not_returned"
    if lead.sales_returned < lead.sales:
        return "not_in_full"
    if lead.reason not in RESELLABLE:
        return "not_resellable"
    if not by_hand:
        if terms is None:
            return "no_terms"
        if lead.reason not in terms.reasons:
            return "reason_not_agreed"
    if terms is not None and now >= lead.received_at + timedelta(hours=terms.within_hours):
        return "too_old"
    if lead.tried:
        return "tried_before"
    if len(lead.attempts) >= releases_max:
        return "releases_spent"
    return None


def names_allowed(
    named: tuple[str, ...], lead: ReturnedLead, keys: Mapping[int, str]
) -> tuple[str, ...]:
    """The companies that may have the lead, nobody being named: those of its consent, else those of
    the offer where they were named by that. `keys` are buyers by id."""
    if named or not lead.offered_named:
        return named
    return tuple(keys[one] for one in lead.offered_to if one in keys) or ("",)
