"""The closed, numbered lists of why something did not happen. One sentence per member, ordered by
precedence, never renumbered (a code in a five-year-old record must still mean the same).

Non-bid codes are the IAB's *seat-non-bid* codes where one exists (0 to 399); ours start at 500.
Loss codes are OpenRTB's loss reasons likewise. `sentence(code)` is what people read in replies,
`explain` and the docs.
"""

from enum import IntEnum


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
