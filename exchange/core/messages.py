"""What sellers say to the exchange and hear back, as typed values; their JSON is the API.

Prices are decimal strings. Unknown members of a request are ignored (sellers send more than they
must); unknown *fields* of a lead are the vertical's business (`fields.py`).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from exchange.core.fields import Problem
from exchange.core.model import Fact

PRINTED = r"^[^\x00-\x1f\x7f]*$"
"""Text without control characters: a NUL can be kept by no database."""
Short = Annotated[str, Meta(max_length=128, pattern=PRINTED)]
Name = Annotated[str, Meta(max_length=128)]
"""What is only looked up: one that nobody has is refused, whatever is in it."""
Id = Annotated[
    str,
    Meta(
        min_length=36,
        max_length=36,
        pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    ),
]
"""An id of ours as text."""
ConsentRecord = Annotated[
    dict[str, Any],
    Meta(description="Your consent record: `kind`, `captured_at`, and whatever else proves it."),
]
PriorHands = Annotated[
    list[dict[str, Any]],
    Meta(max_length=20, description="Who had the lead before you, for the chain of custody."),
]
Price = Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$", examples=["25.00"])]


class ConsentOfPing(msgspec.Struct, frozen=True, kw_only=True):
    """What buyers may know of the consent before they win. `buyers`: the companies the consumer was
    shown, when consent names them; nobody else is ever released to."""

    kind: Annotated[str, Meta(max_length=32, pattern=PRINTED)]
    captured_at: Annotated[str, Meta(max_length=40, pattern=PRINTED)] | None = None
    text_version: Annotated[str, Meta(max_length=64, pattern=PRINTED)] | None = None
    ping_url: Annotated[str, Meta(max_length=512, pattern=PRINTED)] | None = None
    buyers: Annotated[tuple[Short, ...], Meta(max_length=50)] = ()


class PingRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A partial record. `floor` is the least payout taken; `tmax_ms` how long the seller waits."""

    vertical: Annotated[Name, Meta(description="The product, by its key in the market.")]
    source: Annotated[Name, Meta(description="Which of your agreed feeds this comes from.")]
    fields: Annotated[
        dict[str, Any],
        Meta(description="The fields of the vertical that may be pinged; nothing personal."),
    ]
    sub_id: Annotated[
        Short | None,
        Meta(description="Your affiliate, by a name that says nothing of the consumer."),
    ] = None
    floor: Annotated[Price | None, Meta(description="The least payout you take.")] = None
    tmax_ms: Annotated[int | None, Meta(description="How long you wait for the answer, in ms.")] = (
        None
    )
    consent: ConsentOfPing | None = None
    external_id: Annotated[
        Short | None, Meta(description="Your own id of the lead, kept beside ours.")
    ] = None
    test: Annotated[
        bool,
        Meta(description="Asks only contracts marked for tests; counts nowhere and costs nothing."),
    ] = False


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """A reason from the closed list: its number, its name, and its sentence."""

    code: int
    name: str
    message: str


class NamedBuyer(msgspec.Struct, frozen=True, kw_only=True):
    """A buyer as the consumer may be shown it."""

    name: Annotated[str, Meta(description="The company as the consumer is shown it.")]


class OfferLine(msgspec.Struct, frozen=True, kw_only=True):
    """One way to sell the lead."""

    offer_id: Annotated[str, Meta(description="Send it back with the post.")]
    payout: Annotated[str, Meta(description="What you are promised.")]
    exclusive: Annotated[bool, Meta(description="One buyer only.")]
    buyers: Annotated[
        list[NamedBuyer], Meta(description="Who may get the lead, where consent must name them.")
    ]


class PingReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a ping: an offer whose payout is promised until `expires_at`, or none and
    why."""

    ping_id: Annotated[str, Meta(description="Names this ping in the post and in `explain`.")]
    status: Literal["offer", "no_offer"]
    currency: str
    payout: Annotated[str | None, Meta(description="What you are promised until `expires_at`.")] = (
        None
    )
    expires_at: Annotated[str | None, Meta(description="When the promise ends (UTC).")] = None
    offers: Annotated[list[OfferLine], Meta(description="The ways to sell this lead.")] = []
    reason: Annotated[Why | None, Meta(description="Why there is no offer.")] = None
    dropped: Annotated[list[str], Meta(description="What the privacy gate left out, by name.")] = []


class PostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The full record for an offer. `min_payout` accepts less than the promise."""

    ping_id: Annotated[Id, Meta(description="The ping whose offer is taken up.")]
    lead: Annotated[
        dict[str, Any],
        Meta(description="All fields of the vertical; those that were pinged must agree."),
    ]
    offer_id: Annotated[Short | None, Meta(description="The offer taken up.")] = None
    consent: ConsentRecord = {}
    chain: PriorHands = []
    min_payout: Annotated[
        Price | None,
        Meta(description="Takes less than the promise, down to this, rather than nothing."),
    ] = None


class LeadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A direct lead: ping and post in one call."""

    vertical: Annotated[Short, Meta(description="The product, by its key in the market.")]
    source: Annotated[Short, Meta(description="Which of your agreed feeds this comes from.")]
    lead: Annotated[dict[str, Any], Meta(description="All fields of the vertical.")]
    sub_id: Annotated[
        Short | None,
        Meta(description="Your affiliate, by a name that says nothing of the consumer."),
    ] = None
    consent: ConsentRecord = {}
    chain: PriorHands = []
    floor: Annotated[Price | None, Meta(description="The least payout you take.")] = None
    tmax_ms: Annotated[
        int | None, Meta(description="How long buyers may be waited for, in ms.")
    ] = None
    external_id: Annotated[
        Short | None, Meta(description="Your own id of the lead, kept beside ours.")
    ] = None
    test: Annotated[
        bool,
        Meta(description="Asks only contracts marked for tests; counts nowhere and costs nothing."),
    ] = False


class SaleLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sale of the lead."""

    sale_id: Annotated[str, Meta(description="Names this sale.")]
    payout: str
    buyer: str
    redirect_url: Annotated[
        str | None, Meta(description="Where the buyer wants the consumer sent on to.")
    ] = None


class PostReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a lead. `pending`: a buyer's answer is outstanding; the final word follows by
    `GET /v1/leads/{lead_id}` or webhook."""

    lead_id: str
    status: Literal["sold", "unsold", "duplicate", "rejected", "queued", "pending", "test"]
    currency: str
    payout: Annotated[str, Meta(description="What you are paid; 0.00 where nothing was sold.")]
    sales: list[SaleLine] = []
    redirect_url: str | None = None
    reason: Annotated[Why | None, Meta(description="Why it is not sold, or not yet.")] = None


class Refusal(Fact, frozen=True, kw_only=True):
    """A request that cannot be carried out: the HTTP status, what is wrong and how to mend it."""

    status: int
    title: str
    detail: str
    problems: tuple[Problem, ...] = ()


class Replayed(Fact, frozen=True, kw_only=True):
    """A retry of a finished request: the stored reply, byte for byte the same."""

    reply: dict[str, Any]
