"""The closed, numbered lists of why something did not happen. One sentence per member, ordered by
precedence, never renumbered (a code in a five-year-old record must still mean the same).

Non-bid codes are the IAB's *seat-non-bid* codes where one exists (0 to 399); ours start at 500.
Loss codes are OpenRTB's loss reasons likewise. `sentence(code)` is what people read in replies,
`explain` and the docs.
"""

from enum import IntEnum
from typing import Final


class _Code(IntEnum):
    """A number with a sentence."""

    sentence: str

    def __new__(cls, number: int, sentence: str = "") -> "_Code":
        member = int.__new__(cls, number)
        member._value_ = number
        member.sentence = sentence
        return member

    @property
    def label(self) -> str:
        """The name as it stands in JSON, metrics and SQL."""
        return self.name.lower()


class NonBid(_Code):
    """Why a contract has no bid in an auction. 500 to 529: it was not asked; the rest: what came
    back.

    A contract that several reasons exclude is told the first in the order of this list from 500 on.
    """

    NO_BID = 0, "The buyer answered that it does not bid."
    ERROR = 100, "The buyer answered with an error or something unreadable as HTTP."
    TIMEOUT = 101, "The buyer did not answer before the deadline."
    INVALID_BID = 102, "The buyer's answer is not a bid the contract allows."
    UNREACHABLE = 103, "No connection to the buyer could be made."
    BELOW_FLOOR = 301, "The payout from this bid is below the seller's floor."
    DUPLICATE = 302, "The buyer says it already has this consumer."

    CLOSED = 500, "The contract is closed: it is no longer in the market."
    PAUSED = 501, "The contract, its buyer or its vertical is paused."
    BUYER_BRAKED = 502, "Posting to this buyer has stopped: too many of its posts are in doubt."
    OUT_OF_CRITERIA = 503, "The ping does not meet the contract's criteria."
    SOURCE_BLOCKED = 504, "The contract does not buy from this seller or source."
    CONSENT_EXCLUDES = 505, "The consumer's consent does not allow this buyer."
    OUT_OF_HOURS = 506, "The contract does not buy at this hour."
    CAP_FULL = 507, "A cap of the contract is full."
    OUT_OF_CREDIT = 508, "The buyer has no credit left."
    PRICE_BELOW_FLOOR = 509, "The contract's most possible price is below the seller's floor."
    UNHEALTHY = 510, "The buyer's endpoint failed too often and is being rested."
    IN_FLIGHT_FULL = (
        511,
        "As many requests to this buyer are already under way as its limit allows.",
    )
    NOT_INVITED = (
        512,
        "More contracts were eligible than may be invited; this one ranked behind them.",
    )
    TEST_ONLY = 513, "A test ping reaches only buyers marked for tests, and a real one never does."
    SOURCE_PAUSED = 514, "The ping's source or sub_id is paused for every buyer."
    SOURCE_PAUSED_HERE = 515, "The ping's source or sub_id is paused at this buyer."

    EARLY_CLOSED = 530, "The auction ended early: this buyer could no longer have won."
    REPLY_TOO_LARGE = 531, "The buyer's answer was larger than the limit."
    REDIRECTED = 532, "The buyer answered with a redirect, which is never followed."


class Loss(_Code):
    """Why a good bid did not become a sale."""

    WON = 0, "The bid won and the lead was sold to it."
    INTERNAL = 1, "The exchange failed before the bid could be used."
    EXPIRED = 2, "The bid or the offer expired before the post."
    OUTBID = 102, "Another bid ranked higher and the lead was sold to it."
    CAP_LOST = 500, "The contract's cap filled between the bid and the post."
    POST_REJECTED = 501, "The buyer rejected the post."
    POST_NOT_SENT = 502, "The post could not be sent: no byte left the exchange."
    IN_DOUBT = 503, "The post was sent and never clearly answered; the lead is frozen."
    SELLER_DECLINED = 504, "The seller did not take up the offer."
    BELOW_PROMISE = 505, "The price cannot pay the seller the promised payout."
    BID_EXPIRED = 506, "The bid had expired when its turn came."
    RELEASES_SPENT = 507, "The lead had already been released to as many buyers as allowed."
    BRAKED = 508, "Posting to this buyer has stopped: too many of its posts are in doubt."
    CRITERIA_AT_POST = 509, "The full record does not meet the contract's criteria."
    CAPS_UNREADABLE = 510, "The caps of this buyer cannot be checked now, so nothing is sold to it."
    DEADLINE_SPENT = 511, "The time for the post was used up before this bid's turn came."
    SOURCE_PAUSED = 512, "The lead's source or sub_id was paused at this buyer after the bid."
    OUT_OF_CREDIT = 513, "What the buyer paid ahead does not cover the price."


class Reason(_Code):
    """What a seller is told beside `no_offer`, `unsold`, `rejected` or `pending`."""

    NO_CONTRACT = 700, "No contract in the market fits this ping now."
    NO_BIDS = 701, "Buyers were asked and none bid enough."
    DEADLINE = 702, "No buyer answered before the deadline."
    OFFERS_UNAVAILABLE = 703, "Offers cannot be kept at the moment; direct leads are still taken."
    NOBODY_BOUGHT = 704, "Every buyer that could have bought the lead declined it."
    PROMISE_UNMET = (
        705,
        "Nobody left would pay the promised payout; send min_payout to accept less.",
    )
    IN_DOUBT = 706, "A buyer's answer is outstanding; the outcome follows by GET or webhook."
    OFFER_EXPIRED = 707, "The offer has expired; ping again."
    OFFER_UNKNOWN = 708, "There is no such offer for this seller."
    OFFER_TAKEN = 709, "The offer was already taken up by another post."
    PING_MISMATCH = 710, "The post contradicts its ping."
    DUPLICATE = 711, "This consumer was sold in this vertical within the duplicate window."
    CONSENT_MISSING = 712, "The vertical needs the consumer's consent and the post has none."
    INTERRUPTED = 713, "The exchange was stopped before the lead was sold; nobody bought it."
    PERSONAL_DATA_IN_PING = (
        714,
        "A ping field carries personal data, which this source may not send.",
    )
    POST_RUNNING = 715, "This post is still running; ask again shortly."
    WRITTEN_OFF = (
        716,
        "A buyer that may have the lead never answered; it is not billed and not sold on.",
    )
    SOURCE_PAUSED = 717, "This source or sub_id is paused: nothing of it is bought now."


class ReturnReason(_Code):
    """Why a buyer gives a lead back, in the words of the trade. A policy names those it accepts;
    `NO_CONTACT` is known so that it can be refused by name: not being reached is the buyer's risk.
    """

    INVALID_PHONE = 800, "The phone number cannot be anyone's: it is not a number of the plan."
    DISCONNECTED = 801, "The phone number was not in service when the lead was delivered."
    WRONG_PERSON = 802, "The person reached is not the person of the record."
    NEVER_REQUESTED = 803, "The person reached says that nothing was asked for."
    DUPLICATE = 804, "The buyer already had this consumer as a lead."
    EXISTING_CUSTOMER = 805, "The consumer was a customer of the buyer already."
    OUT_OF_AREA = 806, "The consumer lives outside the contract's area."
    OUTSIDE_CRITERIA = 807, "The record does not meet the contract's criteria."
    UNDER_AGE = 808, "The consumer is too young to make the contract that was asked for."
    NO_CONSENT = 809, "There is no consent of the consumer to be called."
    LITIGATOR_DNC = 810, "The number stands on a do-not-call list or is a known litigator's."
    INCOMPLETE = 811, "A field that the contract's vertical requires is missing."
    FRAUD = 812, "The record was made up, or sent by somebody else on purpose."
    LANGUAGE = 813, "The consumer speaks no language the contract was made for."
    NO_CONTACT = 814, "Nobody answered the buyer's calls."

    @property
    def evidence(self) -> tuple[str, ...]:
        """What the trade asks a buyer to show where the books cannot tell (names of `EVIDENCE`)."""
        return _ASKED.get(self, ())


EVIDENCE: Final[dict[str, str]] = {
    "call_log": "When the number was called, how often, and what was heard.",
    "call_recording": "Where the recording of the call is kept.",
    "carrier_lookup": "What a carrier said of the number, and when.",
    "prior_lead": "The buyer's own id and date of the lead it already had.",
    "customer_since": "Since when the consumer is a customer.",
    "list_entry": "On which list the number stands, and since when.",
    "document": "Where a document that shows it is kept.",
}
"""What a claim may bring. Values are references, codes and dates, never personal data."""

_ASKED: Final[dict[ReturnReason, tuple[str, ...]]] = {
    ReturnReason.INVALID_PHONE: ("carrier_lookup",),
    ReturnReason.DISCONNECTED: ("call_log",),
    ReturnReason.WRONG_PERSON: ("call_log",),
    ReturnReason.NEVER_REQUESTED: ("call_recording",),
    ReturnReason.DUPLICATE: ("prior_lead",),
    ReturnReason.EXISTING_CUSTOMER: ("customer_since",),
    ReturnReason.UNDER_AGE: ("call_log",),
    ReturnReason.LITIGATOR_DNC: ("list_entry",),
    ReturnReason.FRAUD: ("call_log",),
    ReturnReason.LANGUAGE: ("call_log",),
    ReturnReason.NO_CONTACT: ("call_log",),
}


class Delivery(IntEnum):
    """The four ways a post can end. Only `NOT_SENT` and `REJECTED` may fall through.

    `NOT_SENT`: no byte of the request left. `REJECTED`: an explicit no. `ACCEPTED`: an explicit
    yes. `UNKNOWN`: anything else after the first byte left; silence is never a sale and never a
    refusal.
    """

    NOT_SENT = 0
    REJECTED = 1
    ACCEPTED = 2
    UNKNOWN = 3
