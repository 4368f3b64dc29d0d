"""How good a source's leads are: how likely a post is accepted, a sale returned, when little is
known.

Two sales of which one came back are no return rate of a half. So a rate is drawn towards that of
its vertical, as if `strength` posts (or sales) more had been seen that went as the vertical's do:

    shrunk = (happened + strength * mean) / (seen + strength)

That is the mean of a beta distribution after binomial trials, with the prior's mean taken from the
data (empirical Bayes). A new source starts at its vertical's mean; after `strength` posts of its
own it counts as much as the prior does; after ten times that the prior hardly shows.

What of a bid remains, of its payout: `P(accepted) * (1 - P(returned))`, in millionths. It ranks
bids where a vertical says so, and is a rate: no money is ever rounded by it.
"""

from collections.abc import Iterable
from typing import Final

from exchange.core.model import Fact

MILLION: Final = 1_000_000
ACCEPT_STRENGTH: Final = 50
"""Posts the vertical's acceptance weighs: at 50 posts a rate of 80 % is known to within 11 points
(two standard errors)."""
RETURN_STRENGTH: Final = 100
"""Sales the vertical's return rate weighs: at 100 sales a rate of 12 % is known to within 6.5."""
WINDOW_DAYS: Final = 28
"""Whole weeks, for Mondays are unlike Sundays; long enough for most contracts' return windows."""
PAUSE_OVER: Final = 0.25
"""A return rate that few agreements bear."""
PAUSE_LEAST: Final = 20
"""Fewer sales pause nobody."""


class Seen(Fact, frozen=True, kw_only=True):
    """What was seen of one source at one contract. `not_accepted`: posts that ended otherwise."""

    vertical_id: int
    source_id: int
    contract_id: int
    vertical: str
    source: str
    contract: str
    accepted: int
    not_accepted: int
    returned: int


class Mean(Fact, frozen=True, kw_only=True):
    """A vertical's rates."""

    accept: float
    returns: float


class Quality(Fact, frozen=True, kw_only=True):
    """A source at a contract, or at all (`contract` is empty). Rates are `None` where nothing was
    seen. `would_pause`: the shrunk return rate is over the rule's, with sales enough."""

    vertical_id: int
    source_id: int
    contract_id: int
    vertical: str
    source: str
    contract: str
    posts: int
    accepted: int
    returned: int
    accept_rate: float | None
    accept_shrunk: float
    return_rate: float | None
    return_shrunk: float
    factor_millionths: int
    would_pause: bool


class PauseRule(Fact, frozen=True, kw_only=True):
    """Who would be paused: over this return rate, with so many sales at least."""

    over: float = PAUSE_OVER
    least: int = PAUSE_LEAST


def shrunk(happened: int, seen: int, *, mean: float, strength: int) -> float:
    """A rate drawn towards a mean. The more was seen, the less."""
    return (happened + strength * mean) / (seen + strength)


def means(seen: Iterable[Seen]) -> dict[int, Mean]:
    """The rates of each vertical. Of one without a post yet: everything is accepted, nothing comes
    back, so that payout alone ranks."""
    sums: dict[int, list[int]] = {}
    for one in seen:
        accepted, ended, returned = sums.setdefault(one.vertical_id, [0, 0, 0])
        sums[one.vertical_id] = [
            accepted + one.accepted,
            ended + one.accepted + one.not_accepted,
            returned + one.returned,
        ]
    return {
        vertical_id: Mean(
            accept=accepted / ended if ended else 1.0,
            returns=min(1.0, returned / accepted) if accepted else 0.0,
        )
        for vertical_id, (accepted, ended, returned) in sums.items()
    }


def factor_millionths(accept: float, returns: float) -> int:
    """What of a payout remains: at least a millionth, so that a bid always ranks by its payout
    among its like."""
    return min(MILLION, max(1, round(accept * (1 - returns) * MILLION)))


def qualities(seen: Iterable[Seen], rule: PauseRule | None = None) -> tuple[Quality, ...]:
    """Each source at each contract, and each source at all, the latter first."""
    rows = tuple(seen)
    mean, asked = means(rows), rule or PauseRule()
    whole: dict[tuple[int, int], Seen] = {}
    for one in rows:
        known = whole.get((one.vertical_id, one.source_id))
        whole[one.vertical_id, one.source_id] = Seen(
            vertical_id=one.vertical_id,
            source_id=one.source_id,
            contract_id=0,
            vertical=one.vertical,
            source=one.source,
            contract="",
            accepted=one.accepted + (known.accepted if known else 0),
            not_accepted=one.not_accepted + (known.not_accepted if known else 0),
            returned=one.returned + (known.returned if known else 0),
        )
    return tuple(_quality(one, mean[one.vertical_id], asked) for one in (*whole.values(), *rows))


def factor_rows(seen: Iterable[Seen]) -> tuple[Quality, ...]:
    """What ranks bids: each source at each contract, and under source 0 each vertical as a whole,
    for a contract that has had no post of a source yet."""
    rows = tuple(seen)
    return (
        *(one for one in qualities(rows) if one.contract_id),
        *(
            Quality(
                vertical_id=vertical_id,
                source_id=0,
                contract_id=0,
                vertical="",
                source="",
                contract="",
                posts=0,
                accepted=0,
                returned=0,
                accept_rate=None,
                accept_shrunk=mean.accept,
                return_rate=None,
                return_shrunk=mean.returns,
                factor_millionths=factor_millionths(mean.accept, mean.returns),
                would_pause=False,
            )
            for vertical_id, mean in means(rows).items()
        ),
    )


def _quality(one: Seen, mean: Mean, rule: PauseRule) -> Quality:
    posts = one.accepted + one.not_accepted
    accept = shrunk(one.accepted, posts, mean=mean.accept, strength=ACCEPT_STRENGTH)
    returned = min(one.returned, one.accepted)
    returns = shrunk(returned, one.accepted, mean=mean.returns, strength=RETURN_STRENGTH)
    return Quality(
        vertical_id=one.vertical_id,
        source_id=one.source_id,
        contract_id=one.contract_id,
        vertical=one.vertical,
        source=one.source,
        contract=one.contract,
        posts=posts,
        accepted=one.accepted,
        returned=one.returned,
        accept_rate=one.accepted / posts if posts else None,
        accept_shrunk=accept,
        return_rate=one.returned / one.accepted if one.accepted else None,
        return_shrunk=returns,
        factor_millionths=factor_millionths(accept, returns),
        would_pause=one.accepted >= rule.least and returns > rule.over,
    )
