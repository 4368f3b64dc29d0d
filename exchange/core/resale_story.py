"""A returned lead that was offered again, as its story tells it."""

from collections.abc import Callable, Sequence
from datetime import datetime

from exchange.core.material import AttemptFacts, Material, ResaleKept
from exchange.core.model import Fact
from exchange.core.money import text_of
from exchange.core.resale import SENTENCES


class ResaleStory(Fact, frozen=True, kw_only=True):
    """One time that it was offered again, or looked at for that: under which id buyers were asked
    (`exchange explain` tells of that auction too), by whom and why, and what it came to."""

    resale_id: str
    at: datetime
    by: str
    why: str
    says: str


def resale_stories(material: Material, buyer: Callable[[int], str]) -> tuple[ResaleStory, ...]:
    """Every time, in order."""
    return tuple(
        ResaleStory(
            resale_id=kept.resale_id,
            at=kept.at,
            by=kept.by,
            why=kept.why,
            says=_came_to(kept, material.attempts, buyer),
        )
        for kept in material.resales
    )


def resold(outcome: str, material: Material, buyer: Callable[[int], str]) -> str:
    """The sentence of the first sale, with what came after it was given back."""
    said = outcome
    for kept in material.resales:
        if kept.released:
            said = (
                f"{said.removesuffix('.')}; given back, {_came_to(kept, material.attempts, buyer)}"
            )
    return said


def first_leg(attempts: Sequence[AttemptFacts]) -> tuple[AttemptFacts, ...]:
    """The attempts of the first auction."""
    return tuple(one for one in attempts if one.leg == 1)


def _came_to(
    kept: ResaleKept, attempts: Sequence[AttemptFacts], buyer: Callable[[int], str]
) -> str:
    if not kept.released:
        return _lowered(SENTENCES.get(kept.rule, kept.rule))  # type: ignore[call-overload]
    mine = [one for one in attempts if one.leg == kept.leg]
    for one in mine:
        if one.state == "sold":
            price, payout = text_of(one.price_micros), text_of(one.payout_micros)
            return (
                f"sold again to {buyer(one.buyer_id)} for {price} {one.currency}: {payout} to the "
                "seller."
            )
        if one.state in ("posting", "unknown"):
            return f"offered again: {buyer(one.buyer_id)} has not clearly answered."
    names = ", ".join(buyer(one.buyer_id) for one in mine)
    return f"offered again, and not bought by {names}."


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
