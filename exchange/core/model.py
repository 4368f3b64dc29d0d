"""The nouns of the exchange as frozen values: the market (what the operator wrote), a ping, a lead,
and what an auction makes of them.

The market's own words (`*Terms`) are decoded straight from the operator's TOML and from the stored
versions, so a document that loads is a document that works; unknown settings are refused. Around
them, `Vertical`, `Seller`, `Source`, `Buyer`, `Contract` add the surrogate id, the key and the
version.

Ids of parties and contracts are ints; ids of pings, leads and attempts are canonical UUIDv7
strings. `ping_id` and `lead_id` are one id, made at the ping (or at the direct lead).
"""

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_id(text: str) -> bool:
    """Whether a text has the form of an id of ours; anything else names nothing."""
    return _ID.fullmatch(text) is not None


Value = str | int | bool | date
"""A typed field of a ping or lead after normalising. Dates are naive civil dates (a birthday)."""


class Terms(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What an operator writes; unknown settings are refused."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A value of the exchange: frozen; a change is a new value.

    `gc=False` on those made for every lead: facts form no cycles, so that the collector need not
    look at them. `omit_defaults` on those that are kept in great numbers.
    """


# --- the market, as written -----------------------------------------------------------------------

FieldType = Literal[
    "enum",
    "int",
    "bool",
    "date",
    "us_zip",
    "prefix",
    "code",  # may be pinged
    "text",
    "us_phone",
    "email",
    "name",  # never pinged (phone and e-mail as a pseudonym)
]
PINGABLE: frozenset[str] = frozenset({"enum", "int", "bool", "date", "us_zip", "prefix", "code"})
"""Free text is never pinged: it can hide anything."""


class FieldTerms(Terms, frozen=True, kw_only=True):
    """One field of a vertical. `ping`: may it be in a ping; `"pseudonym"`: the raw value is
    replaced by a keyed hash at the gate. `personal`: it identifies a consumer; only the winner ever
    sees it."""

    type: FieldType
    ping: bool | Literal["pseudonym"] = False
    required: bool = False
    personal: bool = False
    values: tuple[str, ...] = ()
    min: int | None = None
    max: int | None = None
    pattern: str | None = None
    length_max: int | None = None


class DuplicateTerms(Terms, frozen=True, kw_only=True):
    """A consumer sold in this vertical within the window, by any of these fields, is a
    duplicate."""

    fields: tuple[str, ...]
    window_days: int = 30


class VerticalTerms(Terms, frozen=True, kw_only=True):
    """The product traded. `consent`: `"tcpa"` needs consent in every post; `"none"` does not."""

    currency: str
    fields: dict[str, FieldTerms]
    consent: Literal["none", "tcpa", "named"] = "none"
    duplicate: DuplicateTerms | None = None
    paused: bool = False


class Margin(Terms, frozen=True, kw_only=True):
    """The house's fee: a share of the price in percent (decimals allowed) and/or a fixed amount."""

    percent: Decimal = Decimal(0)
    fixed: str = "0"


class SourceTerms(Terms, frozen=True, kw_only=True):
    """A seller's feed. `gate`: what happens when a ping carries what it may not (`watch` records it
    and drops the value from what buyers see, `strip` drops it, `refuse` answers 422)."""

    gate: Literal["watch", "strip", "refuse"] = "strip"
    tmax_ms: int | None = None
    floor: str = "0"
    paused: bool = False


class WindowTerms(Terms, frozen=True, kw_only=True):
    """Until when a return may be asked for: hours, or to the end of the n-th business day (Monday
    to Friday, no holidays), or to the end of a day of the next month. One of them; 120 hours when
    none stands. Counted from the delivery, or from the 1st of the next month."""

    window_hours: int | None = None
    window_business_days: int | None = None
    window_until_day: int | None = None
    window_from: Literal["delivery", "next_month"] = "delivery"


class ClawbackTerms(WindowTerms, frozen=True, kw_only=True):
    """What a seller gives back of a return its buyer asked for within this window: a share of its
    payout, 0 to 1."""

    share: Decimal = Decimal(1)


class SellerTerms(Terms, frozen=True, kw_only=True):
    """A party that sends pings. `sources` may be a list of names (defaults) or a table of terms.
    Without `clawback` it keeps its payout whatever is returned."""

    name: str = ""
    margin: Margin = Margin()
    clawback: ClawbackTerms | None = None
    time_zone: str | None = None
    sources: dict[str, SourceTerms] | tuple[str, ...] = ()
    rate_per_s: int = 200
    webhook_url: str | None = None
    webhook_secret: str | None = None
    paused: bool = False


class BuyerTerms(Terms, frozen=True, kw_only=True):
    """A party that bids and receives. `secret` names a stored secret (`exchange secret set`);
    `webhook_url` is told what a person or time decided on its returns."""

    ping_url: str
    post_url: str
    name: str = ""
    status_url: str | None = None
    time_zone: str | None = None
    dialect: str = "json"
    secret: str | None = None
    headers: dict[str, str] = {}
    webhook_url: str | None = None
    webhook_secret: str | None = None
    in_flight_max: int = 64
    post_timeout_ms: int = 10_000
    tls_ca: str | None = None
    test: bool = False
    paused: bool = False


class CapTerms(Terms, frozen=True, kw_only=True):
    """One cap: `leads` (count) or `money` (decimal string) per period, optionally for `each` value
    of a field. `per = "total"` never resets."""

    per: Literal["hour", "day", "week", "month", "total"]
    leads: int | None = None
    money: str | None = None
    each: str | None = None


class InDoubtTerms(Terms, frozen=True, kw_only=True):
    """What is done about a post that was sent and never clearly answered, in this order of trying.
    `hold_s`: how long an answer is awaited before `hold_as_sold` books the sale."""

    policy: tuple[Literal["inquire", "repost", "hold_as_sold", "write_off"], ...] = (
        "inquire",
        "write_off",
    )
    write_off_hours: int = 24
    inquire_every_s: int = 5
    hold_s: int = 600


class ReasonTerms(Terms, frozen=True, kw_only=True):
    """What is agreed for one return reason. `evidence`: names the claim must bring (left out: what
    the trade asks, `reasons.ReturnReason.evidence`). `max_rate` is a share of the cycle's sales.
    `to_person`: `true` a person always decides, `false` evidence is enough where nothing in the
    books proves the claim, left out: the books decide, else a person."""

    evidence: tuple[str, ...] | None = None
    max_rate: Decimal | None = None
    max_count: int | None = None
    credit_percent: Decimal = Decimal(100)
    to_person: bool | None = None


class TrustedTerms(Terms, frozen=True, kw_only=True):
    """A buyer whose word is taken, up to a ceiling per cycle of its own."""

    max_rate: Decimal | None = None
    max_count: int | None = None


class ReturnTerms(WindowTerms, frozen=True, kw_only=True):
    """The return policy, kept with the sale by the contract's version and judged by
    `returns.adjudicate`. `max_rate` (1 is no limit) and `max_count` hold per `cycle` of the sale in
    the contract's zone; `rounding` makes the rate a number of leads. From a price of `refer_over`
    on a person decides. `appeal_hours = 0`: no appeal. `lapse_hours`: until an undecided case
    closes by itself. `replace`: another lead instead of a credit."""

    reasons: dict[str, ReasonTerms] | tuple[str, ...] = ()
    cycle: Literal["week", "month"] = "month"
    max_rate: Decimal = Decimal("0.15")
    max_count: int | None = None
    rounding: Literal["down", "half_up", "up"] = "down"
    refer_over: str | None = None
    appeal_hours: int = 72
    lapse_hours: int = 168
    replace: bool = False
    trusted: TrustedTerms | None = None


Criterion = Mapping[str, Any] | list[Any] | str | int | bool
"""`["CA", "NV"]` one of; `{min, max}` a range; `{not = [...]}` none of; `{prefix = [...]}` starts
with; `{list = [...]}` a long list (zips); `{regex = "..."}`; a lone value equals."""


class ContractTerms(Terms, frozen=True, kw_only=True):
    """One buyer's standing terms for one vertical. `price` is `"bid"` or a fixed decimal string.

    `bid_min`/`bid_max`: the least and most it ever bids (the latter lets an auction close early).
    `tier` then `priority` (lower first) decide who is invited when too many are eligible;
    `priority` also breaks ties of payout. `cap_mode`: `strict` fences every cap in the database as
    well; `fast` trusts Valkey alone. `hold = "offer"` reserves caps from the offer on. `hours` maps
    `mon`..`sun` to `"09:00-17:00"` (several comma-separated, `"closed"`), in the contract's zone.
    """

    buyer: str
    vertical: str
    price: str = "bid"
    where: dict[str, Criterion] = {}
    bid_min: str = "0"
    bid_max: str | None = None
    tier: int = 0
    priority: int = 100
    caps: tuple[CapTerms, ...] = ()
    cap_mode: Literal["fast", "strict"] = "strict"
    hold: Literal["post", "offer"] = "post"
    hours: dict[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], str] = {}
    time_zone: str | None = None
    show_floor: bool = False
    in_doubt: InDoubtTerms = InDoubtTerms()
    returns: ReturnTerms | None = None
    paused: bool = False


class MarketDoc(Terms, frozen=True, kw_only=True):
    """A whole market, as one TOML file says it."""

    verticals: dict[str, VerticalTerms] = {}
    sellers: dict[str, SellerTerms] = {}
    buyers: dict[str, BuyerTerms] = {}
    contracts: dict[str, ContractTerms] = {}


# --- the market, in force -------------------------------------------------------------------------


class Vertical(Fact, frozen=True, kw_only=True):
    id: int
    key: str
    terms: VerticalTerms
    version: int = 1
    closed: bool = False


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
    percent_millionths: int
    fixed_micros: int
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
    """A contract in force. `price_micros` is `None` when the buyer bids."""

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
    """The full record. Its `repr` shows its id; `fields` and `consent` are `Personal`."""

    lead_id: str
    fields: Personal
    consent: Personal
    chain: tuple[Any, ...] = ()

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
    """A bid after ranking: `payout + fee = price`, 1 is the best rank."""

    contract_id: int
    buyer_id: int
    rank: int
    price_micros: int
    payout_micros: int
    fee_micros: int
    buyer_ref: str | None = None
    expires_at_ms: int | None = None
    attempt_id: str | None = None  # minted with the offer when the contract holds from the offer on


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
