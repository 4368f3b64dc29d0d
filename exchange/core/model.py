"""The nouns of the exchange as frozen values: the market (what the operator wrote), a ping, a lead,
and what an auction makes of them.

The market's own words are in `terms`; around them, `Vertical`, `Seller`, `Source`, `Buyer`,
`Contract` add the surrogate id, the key and the version.

Ids of parties and contracts are ints; ids of pings, leads and attempts are canonical UUIDv7
strings. `ping_id` and `lead_id` are one id, made at the ping (or at the direct lead).
"""

import re
from datetime import date, datetime
from typing import Any, Literal

import msgspec

from exchange.core.terms import BuyerTerms, ContractTerms, SellerTerms, SourceTerms, VerticalTerms

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_id(text: str) -> bool:
    """Whether a text has the form of an id of ours; anything else names nothing."""
    return _ID.fullmatch(text) is not None


Value = str | int | bool | date
"""A typed field of a ping or lead after normalising. Dates are naive civil dates (a birthday)."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A value of the exchange: frozen; a change is a new value.

    `gc=False` on those made for every lead: facts form no cycles, so that the collector need not
    look at them. `omit_defaults` on those that are kept in great numbers.
    """


# --- the market, in force -------------------------------------------------------------------------


class Vertical(Fact, frozen=True, kw_only=True):
    id: int
    key: str
    terms: VerticalTerms
    version: int = 1
    closed: bool = False


class Tier(Fact, frozen=True, kw_only=True):
    """A step of a seller's month: from so many sold leads, or so many micros of prices, on."""

    percent_millionths: int
    leads: int | None = None
    money_micros: int | None = None


class Payout(Fact, frozen=True, kw_only=True):
    """What a sale pays its seller, in force (`payouts` divides a price by it). Without
    `fixed_micros` the price less the fee: a share of it and `fee_fixed_micros`. `tiers`: the lowest
    step first."""

    percent_millionths: int = 0
    fee_fixed_micros: int = 0
    fixed_micros: int | None = None
    loss_micros: int = 0
    guaranteed: bool = False
    net_of_returns: bool = False
    tiers: tuple[Tier, ...] = ()


class Source(Fact, frozen=True, kw_only=True):
    id: int
    key: str
    seller_id: int
    terms: SourceTerms
    floor_micros: int
    version: int = 1
    closed: bool = False


class Seller(Fact, frozen=True, kw_only=True):
    id: int
    key: str
    terms: SellerTerms
    payout: Payout = Payout()
    version: int = 1
    closed: bool = False


class Buyer(Fact, frozen=True, kw_only=True):
    id: int
    key: str
    terms: BuyerTerms
    version: int = 1
    closed: bool = False


class Cap(Fact, frozen=True, kw_only=True):
    """A cap in force: `limit` is leads or micros, by `unit`."""

    index: int
    unit: Literal["leads", "money"]
    limit: int
    per: Literal["hour", "day", "week", "month", "total"]
    each: str | None


class Contract(Fact, frozen=True, kw_only=True):
    """A contract in force. `price_micros` is `None` when the buyer bids; `prepaid`: its buyer pays
    ahead."""

    id: int
    key: str
    buyer_id: int
    vertical_id: int
    terms: ContractTerms
    price_micros: int | None
    bid_min_micros: int
    bid_max_micros: int | None
    caps: tuple[Cap, ...]
    time_zone: str | None
    prepaid: bool = False
    version: int = 1
    closed: bool = False


Role = Literal["seller", "buyer", "operator", "finance"]


class ApiKey(Fact, frozen=True, kw_only=True):
    """One API key: `ex_live_<id>_<secret>`; only the SHA-256 of the secret is kept. `party_id` is
    the seller or buyer it speaks for, `None` for operator and finance."""

    id: str
    role: Role
    party_id: int | None
    secret_sha256: bytes
    expires_at: datetime | None = None


# --- a ping and a lead ----------------------------------------------------------------------------


class PingConsent(Fact, frozen=True, kw_only=True, gc=False):
    """What buyers may know of the consent before they win: nothing that names the consumer."""

    kind: str
    captured_at: str | None = None
    text_version: str | None = None
    ping_url: str | None = None
    buyers: tuple[str, ...] = ()


class Ping(Fact, frozen=True, kw_only=True, gc=False):
    """A partial record after the privacy gate: only allowed fields, pseudonyms instead of raw
    values.

    `gated` names the fields the gate removed (never their values). `tmax_ms` is the whole time the
    seller waits, ours included.
    """

    ping_id: str
    seller_id: int
    source_id: int
    vertical_id: int
    fields: dict[str, Value]
    received_at: datetime
    tmax_ms: int
    sub_id: str | None = None
    floor_micros: int = 0
    consent: PingConsent | None = None
    external_id: str | None = None
    test: bool = False
    direct: bool = False
    gated: tuple[str, ...] = ()


class Personal:
    """A dict of a consumer's data that refuses to show itself: `repr`, `str` and format give its
    size.

    Only a `Lead` holds one, only `post_call` of a dialect and the sealing effect read `.values`.
    """

    __slots__ = ("values",)

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __repr__(self) -> str:
        return f"<personal data, {len(self.values)} fields>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> Any:
        raise TypeError("personal data is not pickled")


class Lead(Fact, frozen=True, kw_only=True):
    """The full record. Its `repr` shows its id; `fields` and `consent` are `Personal`. `ping_id`:
    of the ping that the buyer saw of it, where that is not the lead's own id: it was offered
    again."""

    lead_id: str
    fields: Personal
    consent: Personal
    chain: tuple[Any, ...] = ()
    ping_id: str | None = None

    def __repr__(self) -> str:
        return f"Lead({self.lead_id})"

    __str__ = __repr__


# --- an auction -----------------------------------------------------------------------------------


class Bid(Fact, frozen=True, kw_only=True, gc=False):
    """A good answer of one contract. `price_micros` is what the buyer pays; `expires_at_ms` is Unix
    time in ms, `None` when the buyer named no limit."""

    contract_id: int
    buyer_id: int
    price_micros: int
    buyer_ref: str | None = None
    expires_at_ms: int | None = None


class Candidate(Fact, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A bid after ranking: `payout + fee = price`, 1 is the best rank. `factor_millionths` is what
    its payout was multiplied by to rank it, the whole where bids rank by payout alone."""

    contract_id: int
    buyer_id: int
    rank: int
    price_micros: int
    payout_micros: int
    fee_micros: int
    buyer_ref: str | None = None
    expires_at_ms: int | None = None
    attempt_id: str | None = None  # minted with the offer when the contract holds from the offer on
    factor_millionths: int = 1_000_000


class Offer(Fact, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What the seller is promised, as kept in Valkey: at most 4 KiB, nothing personal.

    `fields` are the ping's typed fields in JSON form (dates as ISO strings) for the comparison at
    the post; `mask_id` and `book_version` let `explain` re-run the filter.
    """

    ping_id: str
    seller_id: int
    source_id: int
    vertical_id: int
    payout_micros: int
    currency: str
    expires_at_ms: int
    received_at_ms: int
    fields: dict[str, Any]
    candidates: tuple[Candidate, ...]
    book_version: int
    mask_id: int
    floor_micros: int = 0
    sub_id: str | None = None
    external_id: str | None = None
    named: bool = False  # consent names the buyers: fall through only to these candidates
    test: bool = False
    consent: PingConsent | None = None
    invited: tuple[int, ...] = ()  # contract ids that saw the ping's fields
    guaranteed_micros: int = 0  # what the seller gets should nobody buy


class ContractAnswer(Fact, frozen=True, kw_only=True, gc=False, array_like=True):
    """How one invited contract ended: exactly one per invitation. `waited_ms` is from the write of
    the request to the answer (or to the end of the auction), in ms. Kept as an array, for there are
    ten of it in every ping: fields may be added at the end alone."""

    contract_id: int
    buyer_id: int
    non_bid: int | None = None  # NonBid code, None for a bid
    price_micros: int | None = None
    buyer_ref: str | None = None
    waited_ms: float = 0.0
    expires_at_ms: int | None = None
