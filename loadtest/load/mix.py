"""Which leads come, in which shares. What lead number N is, is drawn from seed and number alone, so
neither concurrency nor the exchange's answers change it.
"""

import random
from typing import Final

import msgspec

from loadtest.load.market import Market

SHARES: Final[dict[str, float]] = {
    "two_step": 0.60,  # a ping; of the offers, some are taken with a post
    "direct": 0.16,  # a whole lead in one call
    "again": 0.05,  # a consumer who was sold before: a duplicate
    "retry": 0.03,  # a post sent twice under one key
    "test": 0.02,  # a test ping: reaches nobody but test buyers
    "personal": 0.03,  # an e-mail address where only a partial record belongs
    "wrong_type": 0.02,  # an age in words, a list for a number
    "malformed": 0.02,  # half a body
    "missing": 0.01,  # a required field left out
    "unknown": 0.01,  # a field nobody knows
    "contradicts": 0.02,  # a post that differs from its ping
    "no_consent": 0.01,  # a post without the consumer's consent
    "stranger": 0.01,  # a key that is not in force
    "lost_lead": 0.01,  # asks for a lead there never was
}
"""Of all leads. What field reports say of duplicates and refusals (a few percent each), with every
kind often enough to be met in a minute."""
TAKEN_SHARE: Final = 0.5
"""Of the offers: sellers compare, and take about half elsewhere."""
YIELDS_SHARE: Final = 0.4
"""Of the posts: take less than promised rather than nothing."""
LOOKED_UP_SHARE: Final = 0.2
"""Of the leads that were sold: asked for once more by `GET`."""
THINK_S_MAX: Final = 0.25
"""A seller has its price at once, or asks another exchange first."""
TMAX_MS: Final = (600, 800, 1_000, 1_000, 1_200)


class Lead(msgspec.Struct, frozen=True, kw_only=True):
    """What lead `number` is. Of its `takes`, `yields` and `looks_up` only those that the exchange's
    answers allow come true."""

    number: int
    kind: str
    seller: str
    source: str
    vertical: str
    sub_id: str
    tmax_ms: int
    think_s: float
    takes: bool
    yields: bool
    looks_up: bool
    detail: float
    """A draw between 0 and 1 that picks among the ways to be this kind."""


class Mix:
    """The leads of a run, by number."""

    def __init__(self, market: Market, sellers: tuple[str, ...], seed: int) -> None:
        """`sellers` are those whose keys are at hand."""
        self._seed = seed
        self._kinds, self._shares = tuple(SHARES), tuple(SHARES.values())
        self._verticals = tuple(sorted(market.verticals))
        self._feeds = tuple(
            (seller, source)
            for seller in sorted(sellers)
            for source in sorted(market.sellers[seller].terms())
        )

    def lead(self, number: int) -> Lead:
        """Lead `number`, from 1 on."""
        chance = random.Random(f"lead {self._seed} {number}")
        [kind] = chance.choices(self._kinds, weights=self._shares)
        seller, source = chance.choice(self._feeds)
        return Lead(
            number=number,
            kind=kind,
            seller=seller,
            source=source,
            vertical=chance.choice(self._verticals),
            sub_id=f"aff-{chance.randrange(40)}",
            tmax_ms=chance.choice(TMAX_MS),
            think_s=chance.random() * THINK_S_MAX,
            takes=chance.random() < TAKEN_SHARE,
            yields=chance.random() < YIELDS_SHARE,
            looks_up=chance.random() < LOOKED_UP_SHARE,
            detail=chance.random(),
        )
