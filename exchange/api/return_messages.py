"""What is said of returns over HTTP, to buyers and to finance."""

from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from exchange.api import errors
from exchange.api.door import Asked, Refused
from exchange.core.book import Book
from exchange.core.model import is_id
from exchange.core.money import text_of
from exchange.effects.returns import Listed
from exchange.flows.returns import Answered

ReasonName = Literal[
    "invalid_phone",
    "disconnected",
    "wrong_person",
    "never_requested",
    "duplicate",
    "existing_customer",
    "out_of_area",
    "outside_criteria",
    "under_age",
    "no_consent",
    "litigator_dnc",
    "incomplete",
    "fraud",
    "language",
    "no_contact",
]
"""The names of `reasons.ReturnReason`; a test compares them."""
StateName = Literal["requested", "granted", "denied", "referred", "lapsed", "appealed"]
Evidence = Annotated[
    dict[str, str],
    Meta(
        description="What shows it: `call_log`, `call_recording`, `carrier_lookup`, `prior_lead`, "
        "`customer_since`, `list_entry`, `document`. Values are references, codes and dates; "
        "nothing personal."
    ),
]
PAGE_MAX = 200


class ReturnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A claim. Name the sale, or the lead."""

    reason: ReasonName
    sale_id: Annotated[
        str | None, Meta(description="The `attempt_id` the lead was posted to you with.")
    ] = None
    lead_id: str | None = None
    evidence: Evidence = {}


class AppealRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An appeal, with more evidence if there is any."""

    evidence: Evidence = {}


class ReturnReply(msgspec.Struct, frozen=True, kw_only=True):
    """A return as it stands. `rule` is the rule that decided last, `message` its sentence."""

    return_id: str
    sale_id: str
    lead_id: str
    state: StateName
    reason: str
    rule: str
    message: str
    credit: Annotated[str, Meta(description="What you are credited; 0.00 unless granted.")]
    currency: str
    replacement: Annotated[bool, Meta(description="You are owed another lead instead of a credit.")]
    wanting: Annotated[list[str], Meta(description="Evidence that a denied claim lacked.")]
    evidence: dict[str, str]
    requested_at: datetime
    decided_at: datetime | None
    due_at: Annotated[
        datetime | None,
        Meta(
            description="Of an open return: until when a person should decide. Of a denied one: "
            "until when you may appeal."
        ),
    ]


class ReturnsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Your returns, the newest first. `next`: send it as `before` for the page after."""

    returns: list[ReturnReply]
    next: str | None = None


class FinanceReturn(msgspec.Struct, frozen=True, kw_only=True):
    """A return with both sides and the money of its sale."""

    case: ReturnReply
    buyer: str
    seller: str
    contract: str
    cycle: str
    appeals: int
    decided_by: str | None
    clawback: Annotated[str, Meta(description="What the seller gives back.")]
    price: str
    payout: str
    sold_at: datetime | None


class FinanceReturns(msgspec.Struct, frozen=True, kw_only=True):
    """Returns of all buyers, the newest first."""

    returns: list[FinanceReturn]
    next: str | None = None


class DecideRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A person's decision on a referred or appealed return."""

    outcome: Literal["granted", "denied"]
    by: Annotated[str, Meta(min_length=1, max_length=100)]
    why: Annotated[str, Meta(min_length=3, max_length=500)]


def reply_of(answered: Answered) -> ReturnReply:
    """A case as its buyer sees it."""
    case = answered.case
    return ReturnReply(
        return_id=case.return_id,
        sale_id=case.attempt_id,
        lead_id=case.lead_id,
        state=msgspec.convert(case.state, StateName),
        reason=case.reason,
        rule=case.rule or "",
        message=answered.says,
        credit=text_of(case.credit_micros),
        currency=case.currency,
        replacement=case.replaces,
        wanting=list(case.wanting),
        evidence=case.evidence,
        requested_at=case.requested_at,
        decided_at=case.decided_at,
        due_at=case.due_at,
    )


def finance_of(one: Listed, book: Book) -> FinanceReturn:
    """A case as finance sees it; who has left the market is named by number."""
    case = one.case
    buyer, seller = book.buyers.get(case.buyer_id), book.sellers.get(case.seller_id)
    contract = book.contracts.get(case.contract_id)
    return FinanceReturn(
        case=reply_of(Answered(case=case)),
        buyer=buyer.key if buyer else f"#{case.buyer_id}",
        seller=seller.key if seller else f"#{case.seller_id}",
        contract=contract.key if contract else f"#{case.contract_id}",
        cycle=case.cycle,
        appeals=case.appeals,
        decided_by=case.decided_by,
        clawback=text_of(case.clawback_micros),
        price=text_of(one.price_micros),
        payout=text_of(one.payout_micros),
        sold_at=one.sold_at,
    )


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What part of a listing is asked for."""

    states: tuple[str, ...] | None
    before: str | None
    limit: int


def page_of(asked: Asked, *, states: tuple[str, ...] | None = None) -> Page:
    """The query of a listing. Raises `Refused` for what is none. `states` when none is named."""
    query = asked.request.query
    state, before, limit = query.get("state"), query.get("before"), query.get("limit", "100")
    if state is not None and state not in get_args(StateName):
        hint = ", ".join(get_args(StateName))
        raise Refused(errors.missing("state", "there is no such state", hint, status=422))
    if before is not None and not is_id(before):
        hint = "the `next` of the page before"
        raise Refused(errors.missing("before", "is no return_id", hint, status=422))
    if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= PAGE_MAX):
        hint = f"1 to {PAGE_MAX}"
        raise Refused(errors.missing("limit", "is no number of returns", hint, status=422))
    return Page(states=states if state is None else (state,), before=before, limit=int(limit))


def next_of(rows: tuple[Listed, ...], limit: int) -> str | None:
    """Where the next page begins; `None` when this was the last."""
    return rows[-1].case.return_id if len(rows) == limit else None
