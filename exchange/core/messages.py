"""What sellers say to the exchange and hear back, as typed values; their JSON is the API.

Prices are decimal strings. Unknown members of a request are ignored (sellers send more than they
must); unknown *fields* of a lead are the vertical's business (`fields.py`).
"""

from typing import Annotated, Any, Literal

import msgspec

from exchange.core.fields import Problem
from exchange.core.model import Fact

PRINTED = r"^[^\x00-\x1f\x7f]*$"
"""Text without control characters: a NUL can be kept by no database."""
Short = Annotated[str, msgspec.Meta(max_length=128, pattern=PRINTED)]
Id = Annotated[
    str,
    msgspec.Meta(
        min_length=36,
        max_length=36,
        pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    ),
]
"""An id of ours as text."""
Price = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$", examples=["25.00"])]


class ConsentOfPing(msgspec.Struct, frozen=True, kw_only=True):
    """What buyers may know of the consent before they win. `buyers`: the companies the consumer was
    shown, when consent names them; nobody else is ever released to."""

    kind: Annotated[str, msgspec.Meta(max_length=32, pattern=PRINTED)]
    captured_at: Annotated[str, msgspec.Meta(max_length=40, pattern=PRINTED)] | None = None
    text_version: Annotated[str, msgspec.Meta(max_length=64, pattern=PRINTED)] | None = None
    ping_url: Annotated[str, msgspec.Meta(max_length=512, pattern=PRINTED)] | None = None
    buyers: Annotated[tuple[Short, ...], msgspec.Meta(max_length=50)] = ()


class PingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A partial record. `floor` is the least payout taken; `tmax_ms` how long the seller waits."""

    vertical: Short
    source: Short
    fields: dict[str, Any]
    sub_id: Short | None = None
    floor: Price | None = None
    tmax_ms: int | None = None
    consent: ConsentOfPing | None = None
    external_id: Short | None = None
    test: bool = False


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """A reason from the closed list: its number, its name, and its sentence."""

    code: int
    name: str
    message: str


class NamedBuyer(msgspec.Struct, frozen=True, kw_only=True):
    """A buyer as the consumer may be shown it."""

    name: str


class OfferLine(msgspec.Struct, frozen=True, kw_only=True):
    """One way to sell the lead."""

    offer_id: str
    payout: str
    exclusive: bool
    buyers: list[NamedBuyer]


class PingReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a ping: an offer whose payout is promised until `expires_at`, or none and
    why."""

    ping_id: str
    status: Literal["offer", "no_offer"]
    currency: str
    payout: str | None = None
    expires_at: str | None = None
    offers: list[OfferLine] = []
    reason: Why | None = None
    dropped: list[str] = []
    """Names of fields that the privacy gate removed."""


class PostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The full record for an offer. `min_payout` accepts less than the promise."""

    ping_id: Id
    lead: dict[str, Any]
    offer_id: Short | None = None
    consent: dict[str, Any] = {}
    chain: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=20)] = []
    min_payout: Price | None = None


class LeadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A direct lead: ping and post in one call."""

    vertical: Short
    source: Short
    lead: dict[str, Any]
    sub_id: Short | None = None
    consent: dict[str, Any] = {}
    chain: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=20)] = []
    floor: Price | None = None
    tmax_ms: int | None = None
    external_id: Short | None = None
    test: bool = False


class SaleLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sale of the lead."""

    sale_id: str
    payout: str
    buyer: str
    redirect_url: str | None = None


class PostReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a lead. `pending`: a buyer's answer is outstanding; the final word follows by
    `GET /v1/leads/{lead_id}` or webhook."""

    lead_id: str
    status: Literal["sold", "unsold", "duplicate", "rejected", "queued", "pending", "test"]
    currency: str
    payout: str
    sales: list[SaleLine] = []
    redirect_url: str | None = None
    reason: Why | None = None


class Refusal(Fact, frozen=True, kw_only=True):
    """A request that cannot be carried out: the HTTP status, what is wrong and how to mend it."""

    status: int
    title: str
    detail: str
    problems: tuple[Problem, ...] = ()


class Replayed(Fact, frozen=True, kw_only=True):
    """A retry of a finished request: the stored reply, byte for byte the same."""

    reply: dict[str, Any]
