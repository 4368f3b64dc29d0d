"""One round of questions under one deadline, and the promise that each call is answered exactly
once.

A call is *held* by whoever works on it: a connection, or a place in the queue for one. When the
round ends before the call does, its holder is told to let go, and keeps draining on its own.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

from exchange.core.wire import Answer, NoReply, NoReplyKind

OnAnswer = Callable[[int, Answer, float], bool]
"""`(index of the call, its answer, ms waited since the round began) -> may the round end now?`"""

TIMEOUT: Final = NoReply(kind=NoReplyKind.TIMEOUT, sent=True)
TOO_LATE: Final = NoReply(kind=NoReplyKind.TIMEOUT, sent=False, detail="no time left to ask")
NO_CONNECTION: Final = NoReply(
    kind=NoReplyKind.UNREACHABLE, sent=False, detail="no connection before the deadline"
)
CLOSED_SENT: Final = NoReply(kind=NoReplyKind.EARLY_CLOSED, sent=True)
CLOSED_UNSENT: Final = NoReply(kind=NoReplyKind.EARLY_CLOSED, sent=False)


class Holder(Protocol):
    """Who works on a call. `sent`: its bytes were given to the transport."""

    sent: bool

    def let_go(self, *, timed_out: bool) -> None:
        """The round no longer waits for this call."""


class Asking:
    """The state of one round."""

    __slots__ = (
        "_began",
        "_error",
        "_on_answer",
        "_on_end",
        "_open",
        "allowed_s",
        "deadline",
        "done",
        "held",
        "is_ending",
        "left",
        "repeatable",
        "timer",
    )

    def __init__(
        self,
        count: int,
        *,
        now: float,
        deadline: float,
        repeatable: bool,
        on_answer: OnAnswer,
        on_end: Callable[["Asking"], None],
        done: asyncio.Future[None],
    ) -> None:
        self.deadline, self.allowed_s = deadline, deadline - now
        self.repeatable = repeatable
        self.left = count
        self.held: list[Holder | None] = [None] * count
        self.timer: asyncio.TimerHandle | None = None
        self.done = done
        self._open = [True] * count
        self._on_answer, self._on_end = on_answer, on_end
        self.is_ending = False
        """The round is over: nothing more may be asked in it."""
        self._error: Exception | None = None
        self._began = perf_counter()

    def settle(self, index: int, answer: Answer) -> None:
        """Hand over the one answer of a call; a second one is ignored. An exception of `on_answer`
        is a bug of this round alone: it is kept and raised from its `done` when all have ended."""
        is_open = self._open
        if not is_open[index]:
            return
        is_open[index] = False
        self.left -= 1
        enough = False
        try:
            enough = self._on_answer(index, answer, (perf_counter() - self._began) * 1000.0)
        except Exception as error:
            self._error = self._error or error
        if not self.left:
            self._finish()
        elif enough and not self.is_ending:
            self._end(timed_out=False)

    def expire(self) -> None:
        """The deadline has come: everything outstanding is answered with its absence."""
        if self.left and not self.is_ending:
            self._end(timed_out=True)

    def abandon(self) -> None:
        """Nobody waits for this round any more."""
        if self.left and not self.is_ending:
            self._end(timed_out=False)

    def _end(self, *, timed_out: bool) -> None:
        self.is_ending = True
        for index, is_open in enumerate(self._open):
            if is_open:
                self._give_up(index, timed_out=timed_out)

    def _give_up(self, index: int, *, timed_out: bool) -> None:
        holder = self.held[index]
        sent = False
        if holder is not None:
            sent = holder.sent
            holder.let_go(timed_out=timed_out)
        if timed_out:
            self.settle(index, TIMEOUT if sent else NO_CONNECTION)
        else:
            self.settle(index, CLOSED_SENT if sent else CLOSED_UNSENT)

    def _finish(self) -> None:
        self.is_ending = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.done.done():
            if self._error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(self._error)
        self._on_end(self)
