"""The market as an operator writes it: every setting of a vertical, seller, buyer and contract.

These are decoded straight from the operator's TOML and from the stored versions, so a document that
loads is a document that works; unknown settings are refused. Around them `model` adds the surrogate
id, the key and the version.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec


class Terms(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What an operator writes; unknown settings are refused."""


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


class ResellTerms(Terms, frozen=True, kw_only=True):
    """When a returned lead is auctioned again: within so many hours of its arrival, for returns of
    these reasons (of those that say something of the buyer alone, `resale.RESELLABLE`)."""

    within_hours: int = 72
    reasons: tuple[str, ...] = ()


class VerticalTerms(Terms, frozen=True, kw_only=True):
    """The product traded. `consent`: `"tcpa"` needs consent in every post; `"none"` does not.
    `ranking`: by payout, or by what of it remains after rejected posts and returns.
    Without `resell` a returned lead is sold again only by hand."""

    currency: str
    fields: dict[str, FieldTerms]
    consent: Literal["none", "tcpa", "named"] = "none"
    duplicate: DuplicateTerms | None = None
    ranking: Literal["payout", "expected_value"] = "payout"
    resell: ResellTerms | None = None
    paused: bool = False


class Margin(Terms, frozen=True, kw_only=True):
    """The house's fee: a share of the price in percent (decimals allowed) and/or a fixed amount."""

    percent: Decimal = Decimal(0)
    fixed: str = "0"


class TierTerms(Terms, frozen=True, kw_only=True):
    """From so many `leads` sold, or so much `money` in prices, in a calendar month of the seller,
    the house's share of every price of that month is `percent` instead of the margin's."""

    percent: Decimal
    leads: int | None = None
    money: str | None = None


class PayoutTerms(Terms, frozen=True, kw_only=True):
    """What a seller is paid, where that is not the price less the margin.

    `fixed`: this amount for each sold lead; a lower bid is below the floor, unless it misses it by
    no more than `loss_max`, which the house then pays. `guaranteed`: also for each lead that was
    accepted and that nobody bought. `net_of_returns`: what any granted return takes from the price
    it takes from the payout too, whenever it is asked for. `tiers`: settled when the month is over.
    """

    fixed: str | None = None
    loss_max: str = "0"
    guaranteed: bool = False
    net_of_returns: bool = False
    tiers: tuple[TierTerms, ...] = ()


class SourceTerms(Terms, frozen=True, kw_only=True):
    """A seller's feed. `gate`: what happens when a ping carries what it may not (`watch` records it
    and drops the value from what buyers see, `strip` drops it, `refuse` answers 422). `margin` and
    `payout` stand instead of the seller's; `payout = {}` is the plain share of the price."""

    gate: Literal["watch", "strip", "refuse"] = "strip"
    tmax_ms: int | None = None
    floor: str = "0"
    margin: Margin | None = None
    payout: PayoutTerms | None = None
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


class PaperTerms(Terms, frozen=True, kw_only=True):
    """Who a party is on paper: `legal_name` (its `name` where left out), the lines of its address,
    its tax number."""

    legal_name: str = ""
    address: tuple[str, ...] = ()
    tax_id: str = ""


class BankTerms(Terms, frozen=True, kw_only=True):
    """An account that money is sent to: printed on papers and written in bank files, so no secret.
    An `iban`, or an `account` number with the `routing` number of its bank; `bic` and the `bank`'s
    name where the bank asks for them; `country` of the bank, two letters."""

    holder: str = ""
    bank: str = ""
    iban: str = ""
    account: str = ""
    routing: str = ""
    bic: str = ""
    country: str = ""


class BillingTerms(Terms, frozen=True, kw_only=True):
    """How a buyer is billed: `cycle`, days until an invoice is due, and the `reference` (an order
    number) that it wants to read on it."""

    cycle: Literal["month", "week"] = "month"
    terms_days: int = 30
    reference: str = ""


class RemittanceTerms(Terms, frozen=True, kw_only=True):
    """How a seller's payouts are sent: `cycle`, how many days after its last day, from which
    `minimum` on, to which account. Without one it is paid by hand. A seller that owes the house
    more than `negative_limit` when a period closes is named; without one none is."""

    cycle: Literal["month", "week"] = "month"
    hold_days: int = 0
    minimum: str = "0"
    negative_limit: str | None = None
    reference: str = ""
    bank: BankTerms | None = None


class SellerTerms(Terms, frozen=True, kw_only=True):
    """A party that sends pings. `sources` may be a list of names (defaults) or a table of terms.
    Without `clawback` it keeps its payout whatever is returned. `resell` stands instead of the
    vertical's."""

    name: str = ""
    margin: Margin = Margin()
    payout: PayoutTerms = PayoutTerms()
    clawback: ClawbackTerms | None = None
    remittance: RemittanceTerms = RemittanceTerms()
    paper: PaperTerms = PaperTerms()
    resell: ResellTerms | None = None
    time_zone: str | None = None
    sources: dict[str, SourceTerms] | tuple[str, ...] = ()
    rate_per_s: int = 200
    webhook_url: str | None = None
    webhook_secret: str | None = None
    paused: bool = False


class AutoPauseTerms(Terms, frozen=True, kw_only=True):
    """A source is paused at this buyer when more than the share `return_rate` of its sales of the
    last `days` were returned, once there were `sales_min`. `reasons`: only returns for these count.
    `each = "sub_id"`: counted and paused by sub_id. `count_open`: claims that still wait count too.
    `lift_after_days`: the pause ends by itself; left out, a person ends it."""

    return_rate: Decimal
    days: int = 14
    sales_min: int = 20
    reasons: tuple[str, ...] = ()
    each: Literal["source", "sub_id"] = "source"
    count_open: bool = False
    lift_after_days: int | None = None


class BuyerTerms(Terms, frozen=True, kw_only=True):
    """A party that bids and receives. `secret` names a stored secret (`exchange secret set`);
    `webhook_url` is told what a person or time decided on its returns. `prepaid`: it buys from what
    it paid ahead, and never beyond (`wallets`)."""

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
    prepaid: bool = False
    billing: BillingTerms = BillingTerms()
    paper: PaperTerms = PaperTerms()
    auto_pause: AutoPauseTerms | None = None
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
    closes by itself. `replace`: another lead instead of a credit. `phone_check`: of what the
    seller's own check said of the phone at the sale, `dead` counts what speaks against the seller,
    `all` also that the number was in service."""

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
    phone_check: Literal["dead", "all"] = "dead"


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
    auto_pause: AutoPauseTerms | None = None
    paused: bool = False


class HouseTerms(Terms, frozen=True, kw_only=True):
    """The house on its own papers and as its bank knows it: a file of its own, for no market
    version changes it."""

    name: str = "The exchange"
    paper: PaperTerms = PaperTerms()
    bank: BankTerms | None = None


class MarketDoc(Terms, frozen=True, kw_only=True):
    """A whole market, as one TOML file says it."""

    verticals: dict[str, VerticalTerms] = {}
    sellers: dict[str, SellerTerms] = {}
    buyers: dict[str, BuyerTerms] = {}
    contracts: dict[str, ContractTerms] = {}
