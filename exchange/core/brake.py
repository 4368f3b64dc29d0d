"""The brake on a buyer in doubt: when too many of its posts were sent and never answered, nothing
more is sent to it, so that a broken buyer cannot freeze a seller's leads one after another.

After a pause one trial lead is let through: a clear answer, yes or no, reopens the buyer.
"""

from collections.abc import Sequence

from exchange.core.model import Fact


class Doubts(Fact, frozen=True, kw_only=True):
    """What is known of one buyer's posts. `unknown_ms`: when its posts came in doubt (Unix ms,
    ascending); `answered_ms`: when it last answered a post clearly, `None` if never."""

    unknown_ms: tuple[int, ...] = ()
    answered_ms: int | None = None

    def with_unknown(self, at_ms: int) -> "Doubts":
        """One more post in doubt."""
        return Doubts(unknown_ms=(*self.unknown_ms[-99:], at_ms), answered_ms=self.answered_ms)

    def with_answer(self, at_ms: int) -> "Doubts":
        """A clear answer, yes or no."""
        return Doubts(unknown_ms=self.unknown_ms, answered_ms=at_ms)


def is_braked(doubts: Doubts, *, count: int, within_s: int) -> bool:
    """Whether posting to the buyer has stopped: at least `count` posts came in doubt within
    `within_s` seconds of the newest of them, and it has answered none since."""
    unknown = _since_answer(doubts)
    if len(unknown) < count:
        return False
    return unknown[-1] - unknown[-count] <= within_s * 1000


def trial_is_due(doubts: Doubts, *, now_ms: int, after_s: int) -> bool:
    """Whether a braked buyer may be tried with one lead: `after_s` since its last doubt."""
    return bool(doubts.unknown_ms) and now_ms - doubts.unknown_ms[-1] >= after_s * 1000


def _since_answer(doubts: Doubts) -> Sequence[int]:
    if doubts.answered_ms is None:
        return doubts.unknown_ms
    return [at for at in doubts.unknown_ms if at > doubts.answered_ms]
