"""The brake on a buyer in doubt: when too many of its posts were sent and never clearly answered,
nothing more is sent to it, so that a broken buyer cannot freeze a seller's leads one after another.

After a pause one trial lead is let through: a clear answer, yes or no, reopens the buyer.
"""

from exchange.core.model import Fact

REMEMBERED = 100
"""Doubts kept per buyer: far above any sensible `count`."""


class Doubts(Fact, frozen=True, kw_only=True):
    """What is known of one buyer's posts, in Unix ms: when they came in doubt (ascending), and when
    a clear answer last reopened the buyer."""

    unknown_ms: tuple[int, ...] = ()
    reopened_ms: int = 0

    def with_unknown(self, at_ms: int) -> "Doubts":
        """One more post in doubt."""
        kept = (*self.unknown_ms, at_ms)[-REMEMBERED:]
        return Doubts(unknown_ms=kept, reopened_ms=self.reopened_ms)

    def reopened(self, at_ms: int) -> "Doubts":
        """A braked buyer answered clearly: its doubts so far no longer count."""
        return Doubts(unknown_ms=self.unknown_ms, reopened_ms=at_ms)


def is_braked(doubts: Doubts, *, now_ms: int, count: int, within_s: int) -> bool:
    """Whether posting to the buyer has stopped: `count` posts came in doubt in the last `within_s`
    seconds, and nothing reopened it since."""
    since = max(doubts.reopened_ms, now_ms - within_s * 1000)
    return sum(at > since for at in doubts.unknown_ms) >= count


def trial_is_due(doubts: Doubts, *, now_ms: int, after_s: int) -> bool:
    """Whether a braked buyer may be tried with one lead: `after_s` seconds since its last doubt."""
    return bool(doubts.unknown_ms) and now_ms - doubts.unknown_ms[-1] >= after_s * 1000
