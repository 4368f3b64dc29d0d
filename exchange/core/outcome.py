"""How a ping or lead ended, in one sentence for people who have not read the code."""

from collections.abc import Sequence
from datetime import datetime

from exchange.core.model import Fact
from exchange.core.money import text_of
from exchange.core.reasons import Loss, NonBid, Reason

NAMED_MAX = 4
"""More buyers than this are counted, not named: it is one sentence."""


class Turned(Fact, frozen=True, kw_only=True):
    """A ranked bid and its end, by names. `state` is its attempt's, `None` when nothing was sent to
    the buyer. `doubt` says how long it was in doubt."""

    buyer: str
    contract: str
    loss: Loss | None
    state: str | None
    price_micros: int
    payout_micros: int
    fee_micros: int
    buyer_reason: str | None = None
    doubt: str = ""
    resolved_by: str | None = None


def sentence(
    *,
    status: str,
    turns: Sequence[Turned],
    promised_micros: int | None,
    accepted_micros: int | None,
    currency: str,
    reason: int | None,
    refused: Sequence[tuple[str, NonBid]],
    not_asked: int,
    expires_at: datetime | None,
    guaranteed_micros: int = 0,
) -> str:
    """One plain sentence. `accepted_micros` is the least payout the seller took; `refused` who was
    asked and did not bid, and `not_asked` how many contracts were not; `guaranteed_micros` what the
    seller got for a lead that nobody bought."""
    match status:
        case "sold":
            return _sold(turns, currency)
        case "in_doubt":
            return _in_doubt(turns)
        case "unsold":
            said = _unsold(turns, accepted_micros, currency, reason)
            if guaranteed_micros:
                owed = f"{text_of(guaranteed_micros)} {currency}"
                return f"{said.removesuffix('.')}; its seller is guaranteed {owed}."
            return said
        case "no_offer":
            return _no_offer(reason, refused, not_asked)
        case "offered" | "expired":
            return _untaken(status, promised_micros, currency, expires_at)
        case "erased":
            return "Erased: the consumer's data is gone; what is told here is what remains."
        case _:
            return f"Under way: the lead is {status}."


def _sold(turns: Sequence[Turned], currency: str) -> str:
    winner = next((turn for turn in turns if turn.loss is Loss.WON), None)
    if winner is None:
        return "Sold."
    price, payout, fee = (
        text_of(micros) for micros in (winner.price_micros, winner.payout_micros, winner.fee_micros)
    )
    told = (
        f"Sold to {winner.buyer} for {price} {currency}: {payout} to the seller, {fee} to the house"
    )
    before = [_phrase(turn) for turn in turns if turn.state and turn is not winner]
    if before:
        told += f", after {_listed(before)}"
    if winner.doubt:
        told += f"; its answer was {winner.doubt}"
    return told + "."


def _in_doubt(turns: Sequence[Turned]) -> str:
    doubtful = next((turn for turn in turns if turn.loss is Loss.IN_DOUBT), None)
    if doubtful is None:
        return "In doubt: a buyer's answer is outstanding."
    return (
        f"In doubt: {doubtful.buyer} was sent the lead and has not clearly answered; until it has, "
        "the lead is sold to nobody else."
    )


def _unsold(
    turns: Sequence[Turned], accepted_micros: int | None, currency: str, reason: int | None
) -> str:
    if reason == Reason.INTERRUPTED:
        return f"Not sold: {_lowered(Reason.INTERRUPTED.sentence)}"
    cheap = [turn for turn in turns if turn.loss is Loss.BELOW_PROMISE]
    causes = [_phrase(turn) for turn in turns if turn.loss not in (None, Loss.BELOW_PROMISE)]
    causes = _cut(causes)
    is_frozen = any(turn.state == "written_off" for turn in turns)
    if cheap and accepted_micros is not None and not is_frozen:
        who = "nobody else" if causes else "nobody"
        causes.append(f"{who} would pay the promised {text_of(accepted_micros)} {currency}")
    if not causes and reason is not None:
        return f"Not sold: {_lowered(Reason(reason).sentence)}"
    return f"Not sold: {_listed(causes or ['nobody bid'])}."


def _no_offer(reason: int | None, refused: Sequence[tuple[str, NonBid]], not_asked: int) -> str:
    if not refused or reason == Reason.OFFERS_UNAVAILABLE:
        why = Reason.NO_BIDS if reason is None else Reason(reason)
        return f"No offer: {_lowered(why.sentence)}"
    causes = _cut([f"{buyer} {SAID.get(code, 'gave no bid')}" for buyer, code in refused])
    rest = f"; {not_asked} contracts were not asked" if not_asked else ""
    return f"No offer: {_listed(causes)}{rest}."


SAID = {
    NonBid.NO_BID: "did not bid",
    NonBid.ERROR: "answered with an error",
    NonBid.TIMEOUT: "did not answer in time",
    NonBid.INVALID_BID: "answered with something that is no bid",
    NonBid.UNREACHABLE: "could not be reached",
    NonBid.BELOW_FLOOR: "bid less than the floor needs",
    NonBid.DUPLICATE: "already has this consumer",
    NonBid.IN_FLIGHT_FULL: "had too many requests under way",
    NonBid.UNHEALTHY: "is being rested after failures",
    NonBid.EARLY_CLOSED: "could no longer have won",
    NonBid.REPLY_TOO_LARGE: "answered with too much",
    NonBid.REDIRECTED: "answered with a redirect",
}


def _untaken(
    status: str, promised_micros: int | None, currency: str, expires_at: datetime | None
) -> str:
    promise = f"{text_of(promised_micros or 0)} {currency}"
    at = expires_at.strftime("%H:%M:%S") if expires_at else "its expiry"
    if status == "expired":
        return f"Not posted: {promise} was offered until {at} and the seller did not take it up."
    return f"Offered: {promise} until {at}; the seller has not posted the lead yet."


def _phrase(turn: Turned) -> str:
    """What became of one bid, as part of a sentence."""
    buyer = turn.buyer
    if turn.state == "written_off":
        return (
            f"{buyer} was sent it and never answered, so it was written off: "
            "not billed, not sold on"
        )
    if turn.resolved_by and turn.state == "rejected":
        why = f" ({turn.buyer_reason})" if turn.buyer_reason else ""
        return f"{buyer} turned out not to have bought it{why}"
    match turn.loss:
        case Loss.POST_REJECTED:
            why = f" ({turn.buyer_reason})" if turn.buyer_reason else ""
            return f"{buyer} rejected it{why}"
        case Loss.POST_NOT_SENT:
            return f"{buyer} could not be reached"
        case Loss.IN_DOUBT:
            return f"{buyer} was sent it and has not clearly answered"
        case Loss.CAP_LOST:
            return f"{buyer}'s cap was full"
        case Loss.OUT_OF_CREDIT:
            return f"what {buyer} paid ahead did not cover it"
        case Loss.CAPS_UNREADABLE:
            return f"{buyer}'s caps could not be checked"
        case Loss.EXPIRED | Loss.BID_EXPIRED:
            return f"{buyer}'s bid had expired"
        case Loss.BRAKED:
            return f"{buyer} was not sent any lead because too many of its posts are in doubt"
        case Loss.CRITERIA_AT_POST:
            return f"the full record did not meet {buyer}'s criteria"
        case Loss.RELEASES_SPENT:
            return f"{buyer} was not tried: enough buyers had already received it"
        case Loss.DEADLINE_SPENT:
            return f"there was no time left to try {buyer}"
        case Loss.SOURCE_PAUSED:
            return f"the source was paused at {buyer} meanwhile"
        case Loss.OUTBID:
            return f"{buyer} was outbid"
        case _:
            return f"{buyer} did not get it"


def _cut(causes: list[str]) -> list[str]:
    """The first few, the others counted."""
    more = len(causes) - NAMED_MAX
    return [*causes[:NAMED_MAX], f"{more} more did not buy"] if more > 0 else causes


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
