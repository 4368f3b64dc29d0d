"""A seller's terms of payout: how the price of a sale divides between its seller and the house.

Terms belong to a seller, or to one of its sources. They come into force with the market's version,
and what a sale pays is written into it when it is made, so that later terms change nothing of it.

```
share        payout = price - fee, the fee a part of the price and a fixed amount (`money.split`)
fixed        payout = the amount agreed; the fee is the rest, below zero down to the loss allowed
guaranteed   and the same amount for an accepted lead that nobody buys
net          a share at the sale; any granted return takes its part back, whenever it is asked for
tiers        a share at the sale; more of it when the month's sales reach a step (`tiers`)
```
A promise is exact under all of them: tiers only ever add to a payout, and after the month.
"""

from exchange.core.model import Payout, Tier
from exchange.core.money import AMOUNT_MICROS_MAX, micros_of, split, text_of
from exchange.core.terms import PayoutTerms, SellerTerms, SourceTerms, TierTerms

PLAIN = Payout()
"""The terms of nobody: the whole price."""


def payout_of(seller: SellerTerms, source: SourceTerms | None = None) -> Payout:
    """The terms in force of a seller's leads, or of those of one source: what the source does not
    say itself is its seller's."""
    margin = (source.margin if source else None) or seller.margin
    terms = seller.payout if source is None or source.payout is None else source.payout
    return Payout(
        percent_millionths=int(margin.percent * 10_000),
        fee_fixed_micros=micros_of(margin.fixed),
        fixed_micros=None if terms.fixed is None else micros_of(terms.fixed),
        loss_micros=micros_of(terms.loss_max),
        guaranteed=terms.guaranteed,
        net_of_returns=terms.net_of_returns,
        tiers=_tiers(terms),
    )


def _tiers(terms: PayoutTerms) -> tuple[Tier, ...]:
    return tuple(sorted(map(_tier, terms.tiers), key=lambda tier: -tier.percent_millionths))


def _tier(terms: TierTerms) -> Tier:
    return Tier(
        percent_millionths=int(terms.percent * 10_000),
        leads=terms.leads,
        money_micros=None
        if terms.money is None
        else micros_of(terms.money, most_micros=AMOUNT_MICROS_MAX),
    )


def parted(price_micros: int, terms: Payout) -> tuple[int, int] | None:
    """`(payout, fee)` of a sale at this price, which they add up to; `None` when the terms do not
    allow the price."""
    if terms.fixed_micros is None:
        return split(price_micros, terms.percent_millionths, terms.fee_fixed_micros)
    if price_micros < least_of_fixed(terms):
        return None
    return terms.fixed_micros, price_micros - terms.fixed_micros


def least_of_fixed(terms: Payout) -> int:
    """The least price at which a lead with a fixed payout is sold: something is always paid."""
    return max(1, (terms.fixed_micros or 0) - terms.loss_micros)


def least_price(floor_micros: int, terms: Payout) -> int | None:
    """The least price that the terms allow and whose payout reaches a floor; `None` when no price
    does."""
    if terms.fixed_micros is not None:
        return least_of_fixed(terms) if terms.fixed_micros >= floor_micros else None
    if floor_micros <= 0:
        return 0
    kept = 1_000_000 - terms.percent_millionths
    needed = floor_micros + terms.fee_fixed_micros
    return (needed - 1) * 1_000_000 // kept + 1 if kept > 0 else None


def guaranteed_micros(terms: Payout, *, test: bool) -> int:
    """What the seller gets of an accepted lead that nobody buys; nothing of a test."""
    return (terms.fixed_micros or 0) if terms.guaranteed and not test else 0


def words(terms: Payout) -> str:
    """The terms as a person reads them."""
    if terms.fixed_micros is None:
        said = f"price less {_share(terms.percent_millionths)}"
        if terms.fee_fixed_micros:
            said += f" and {text_of(terms.fee_fixed_micros)}"
    else:
        said = f"{text_of(terms.fixed_micros)} for each sold lead"
        if terms.loss_micros:
            said += f", at a loss of up to {text_of(terms.loss_micros)}"
        if terms.guaranteed:
            said += ", and for each accepted lead that nobody buys"
    if terms.net_of_returns:
        said += ", net of all returns"
    if terms.tiers:
        said += "; of the month's sales " + ", ".join(map(tier_words, terms.tiers))
    return said


def tier_words(tier: Tier) -> str:
    """One step: what it takes from each price, and from where on."""
    reached = []
    if tier.leads is not None:
        reached.append(f"{tier.leads:,} leads")
    if tier.money_micros is not None:
        reached.append(f"{text_of(tier.money_micros)} in prices")
    return f"{_share(tier.percent_millionths)} from {' or '.join(reached)} on"


def _share(millionths: int) -> str:
    whole, rest = divmod(millionths, 10_000)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".") + " %"
