"""Returns: a buyer gives a lead back. Facts in, a decision out; nothing here looks anything up.

`RULES` is the whole of it: an ordered table, each row with an id, a sentence, a question and an
outcome. The first row that holds decides, and the last always holds, so exactly one rule decides
any claim. What the exchange's own books prove or disprove comes before what a buyer shows, and a
person decides what neither can tell.

The policy is that of the contract's version at the sale. A cycle is that of the *sale*, so that a
rate compares returns with the sales they are of. A case that waits for a person holds its room
under every limit, as an attempt does under a cap: granting it later can pass none.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from exchange.core.model import ClawbackTerms, Fact, ReasonTerms, ReturnTerms, WindowTerms
from exchange.core.money import credit_parts
from exchange.core.reasons import ReturnReason

WINDOW_HOURS: Final = 120
"""The window of terms that name none: five days is what most purchase agreements give."""
_MILLION: Final = 1_000_000

Outcome = Literal["granted", "denied", "referred", "lapsed"]
"""`lapsed`: nobody decided a referred case in time; only `LAPSED` says so."""


class ReturnClaim(Fact, frozen=True, kw_only=True):
    """What a buyer says. `evidence`: names of `reasons.EVIDENCE` to references, codes and dates,
    nothing personal."""

    reason: ReturnReason
    evidence: Mapping[str, str] = {}


class Cycle(Fact, frozen=True, kw_only=True):
    """The billing cycle a sale lies in: `m2026-11` or `w2026-45`, from the first moment to just
    before `ends_at`, in UTC."""

    name: str
    starts_at: datetime
    ends_at: datetime


class CycleCount(Fact, frozen=True, kw_only=True):
    """A contract's sales of the cycle, and the *other* returns of them that are granted or still
    open: in all, for the claim's reason, and of those that were granted on trust."""

    sales: int
    returns: int = 0
    of_reason: int = 0
    on_trust: int = 0


class ReturnFacts(Fact, frozen=True, kw_only=True):
    """Everything known of a claimed sale. A `None` is *not known*: neither proof nor disproof.

    `zone` is the contract's, else the buyer's. `credited_micros` is what the buyer was credited on
    this sale before. `returned`: another case of this sale is open or granted. `replacement`: the
    lead itself replaced a returned one. `clawback_share` is what `clawback_share` answers.

    The rest is as of the sale: `phone`, what a look-up said then; `phone_in_plan`, whether the
    number can exist; `duplicate`, whether the buyer had the consumer by our own sales or by the
    list it uploaded (`"no"` only when it has one); `in_area` and `in_criteria` by the contract in
    force; `of_age`; `consent`, whether custody holds the consumer's consent; `complete`, whether no
    required field is missing.
    """

    sold_at: datetime
    requested_at: datetime
    zone: str
    price_micros: int
    payout_micros: int
    count: CycleCount
    credited_micros: int = 0
    clawback_share: Decimal = Decimal(0)
    returned: bool = False
    replacement: bool = False
    phone: Literal["connected", "disconnected", "invalid"] | None = None
    phone_in_plan: bool | None = None
    duplicate: Literal["own_sales", "buyers_list", "no"] | None = None
    in_area: bool | None = None
    in_criteria: bool | None = None
    of_age: bool | None = None
    consent: bool | None = None
    complete: bool | None = None


class Decision(Fact, frozen=True, kw_only=True):
    """What is decided, by which rule, in a sentence both sides read. Amounts are micros: what the
    buyer is credited and what the seller gives back; the house bears the difference. `replace`:
    the buyer is owed another lead. `wanting` names the evidence that a denied claim lacked."""

    outcome: Outcome
    rule: str
    sentence: str
    credit_micros: int = 0
    clawback_micros: int = 0
    replace: bool = False
    wanting: tuple[str, ...] = ()


class Rule(NamedTuple):
    """A row of a table of rules."""

    id: str
    sentence: str
    outcome: Outcome
    when: Callable[["_Case"], bool]


class _Case(NamedTuple):
    claim: ReturnClaim
    facts: ReturnFacts
    terms: ReturnTerms
    agreed: ReasonTerms


def adjudicate(claim: ReturnClaim, facts: ReturnFacts, terms: ReturnTerms | None) -> Decision:
    """The decision on a claim by the policy of its sale (`None`: the contract allows no returns).
    Never raises for facts whose amounts make sense (price and payout not below zero, credited not
    above the price)."""
    raise NotImplementedError


def decided(
    claim: ReturnClaim,
    facts: ReturnFacts,
    terms: ReturnTerms | None,
    outcome: Literal["granted", "denied"],
) -> Decision:
    """What a person's decision on a referred or appealed case comes to: the same credit as by rule.
    A person cannot pass a limit either: where a fence of `FENCES` holds, the case is denied by
    it."""
    raise NotImplementedError


def appealed(
    decided_at: datetime, appealed_at: datetime, terms: ReturnTerms | None, *, appeals: int
) -> Decision:
    """Whether a denied case may be appealed: `referred` (a person decides) or `denied`. `appeals`
    is how many the case had before."""
    raise NotImplementedError


LAPSED: Final = Decision(
    outcome="lapsed", rule="lapsed", sentence="Nobody decided in time: closed without a credit."
)
"""How a referred case ends at `lapses_at`."""


def lapses_at(referred_at: datetime, terms: ReturnTerms | None) -> datetime:
    """When a case that nobody decides closes by itself."""
    return referred_at + timedelta(hours=(terms or ReturnTerms()).lapse_hours)


def closes_at(window: WindowTerms, sold_at: datetime, zone: str) -> datetime:
    """The first moment that is too late, in UTC."""
    raise NotImplementedError


def clawback_share(
    clawback: ClawbackTerms | None, *, sold_at: datetime, requested_at: datetime, zone: str
) -> Decimal:
    """The share of its payout that the seller gives back of a return asked for at `requested_at`: 0
    without clawback terms or outside their window. `zone` is the seller's, else the contract's."""
    raise NotImplementedError


def cycle_of(at: datetime, terms: ReturnTerms, zone: str) -> Cycle:
    """The billing cycle that a moment lies in, in the contract's zone."""
    raise NotImplementedError
