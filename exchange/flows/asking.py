"""The answers of one auction: kept as they come, read together, told as records."""

from collections.abc import Sequence

import msgspec

from exchange.core.auction import is_decided
from exchange.core.model import Bid, Contract, ContractAnswer
from exchange.core.reasons import NonBid
from exchange.core.wire import Answer, HttpReply, NoReplyKind
from exchange.flows.standing import Seat

NON_BID_OF = {
    NoReplyKind.BUSY: NonBid.IN_FLIGHT_FULL,
    NoReplyKind.RESTING: NonBid.UNHEALTHY,
    NoReplyKind.FORBIDDEN: NonBid.UNREACHABLE,
    NoReplyKind.UNRESOLVED: NonBid.UNREACHABLE,
    NoReplyKind.UNREACHABLE: NonBid.UNREACHABLE,
    NoReplyKind.TIMEOUT: NonBid.TIMEOUT,
    NoReplyKind.RESET: NonBid.ERROR,
    NoReplyKind.TOO_LARGE: NonBid.REPLY_TOO_LARGE,
    NoReplyKind.UNREADABLE: NonBid.ERROR,
    NoReplyKind.REDIRECT: NonBid.REDIRECTED,
    NoReplyKind.EARLY_CLOSED: NonBid.EARLY_CLOSED,
}


class Asking:
    """The answers of one auction. `on_answer` is called by the fan-out, once per contract, and says
    when nobody outstanding can win any more.

    Answers are kept as they come and read in one go (`read`), when the round is over or might be
    decided: ten in a row cost a good deal less than ten between reads of sockets.
    """

    __slots__ = (
        "_answers",
        "_close_early",
        "_heard",
        "_now_ms",
        "_open_ended",
        "_outstanding",
        "bids",
        "seats",
        "waited_ms",
    )

    def __init__(self, seats: Sequence[Seat], *, now_ms: int, close_early: bool) -> None:
        self._now_ms, self._close_early = now_ms, close_early
        self.seats = seats
        self.bids: list[tuple[Contract, Bid]] = []
        self.waited_ms = 0.0
        self._heard: list[tuple[int, Answer, float]] = []
        self._answers: list[ContractAnswer | None] = [None] * len(seats)
        self._outstanding = len(seats)
        self._open_ended = sum([seat.price_most is None for seat in seats])

    def on_answer(self, place: int, answer: Answer, waited_ms: float) -> bool:
        """Keep one buyer's answer; true when the auction is decided."""
        self._heard.append((place, answer, waited_ms))
        if not self._close_early:
            return False
        self._outstanding -= 1
        if self.seats[place].price_most is None:
            self._open_ended -= 1
        return not self._open_ended and self._outstanding > 0 and self._is_decided()

    def _is_decided(self) -> bool:
        self.read()
        outstanding = [
            seat.contract
            for seat, answer in zip(self.seats, self._answers, strict=True)
            if answer is None
        ]
        leader_micros = max([bid.price_micros for _, bid in self.bids], default=0)
        return is_decided(leader_micros, outstanding)

    def read(self) -> None:
        """Read every answer kept: `bids`, `waited_ms` and `answers` tell of those read."""
        seats, answers, now_ms = self.seats, self._answers, self._now_ms
        for place, answer, waited_ms in self._heard:
            seat = seats[place]
            contract = seat.contract
            if waited_ms > self.waited_ms:
                self.waited_ms = waited_ms
            if isinstance(answer, HttpReply):
                said = seat.dialect.read_bid(contract, answer, at_ms=now_ms)
            else:
                said = NON_BID_OF[answer.kind]
            if isinstance(said, Bid):
                self.bids.append((contract, said))
                answers[place] = ContractAnswer(
                    contract_id=contract.id,
                    buyer_id=contract.buyer_id,
                    price_micros=said.price_micros,
                    buyer_ref=said.buyer_ref,
                    waited_ms=waited_ms,
                    expires_at_ms=said.expires_at_ms,
                )
            else:
                answers[place] = ContractAnswer(
                    contract_id=contract.id,
                    buyer_id=contract.buyer_id,
                    non_bid=int(said),
                    waited_ms=waited_ms,
                )
        self._heard.clear()

    def answers(self, below_floor: Sequence[int]) -> tuple[ContractAnswer, ...]:
        """All answers in order of invitation; good bids under the floor are told so."""
        below = set(below_floor)
        if not below:
            return tuple([answer for answer in self._answers if answer is not None])
        return tuple(
            msgspec.structs.replace(answer, non_bid=int(NonBid.BELOW_FLOOR))
            if answer.non_bid is None and answer.contract_id in below
            else answer
            for answer in self._answers
            if answer is not None
        )
