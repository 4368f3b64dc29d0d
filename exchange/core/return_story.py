"""A return of a sale, as its lead's story tells it."""

from datetime import datetime

from exchange.core.material import ReturnKept
from exchange.core.model import Fact
from exchange.core.money import text_of
from exchange.core.returns import SENTENCES


class ReturnStory(Fact, frozen=True, kw_only=True):
    """A return: what the buyer said, what it came to, by whom and by which rule (`says` is its
    sentence), and the money: what the buyer was credited and the seller gave back."""

    return_id: str
    sale_id: str
    buyer: str
    reason: str
    state: str
    rule: str
    says: str
    credit: str
    clawback: str
    replacement: bool
    currency: str
    asked_at: datetime
    decided_at: datetime | None
    decided_by: str | None


def return_story(kept: ReturnKept, buyer: str) -> ReturnStory:
    """The return in words."""
    return ReturnStory(
        return_id=kept.return_id,
        sale_id=kept.attempt_id,
        buyer=buyer,
        reason=kept.reason,
        state=kept.state,
        rule=kept.rule or "",
        says=SENTENCES.get(kept.rule or "", ""),
        credit=text_of(kept.credit_micros),
        clawback=text_of(kept.clawback_micros),
        replacement=kept.replaces,
        currency=kept.currency,
        asked_at=kept.requested_at,
        decided_at=kept.decided_at,
        decided_by=kept.decided_by,
    )
