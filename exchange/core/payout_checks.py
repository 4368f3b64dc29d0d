"""The sense of sellers' terms of payout: margins, fixed amounts, guarantees, tiers. What would pay
a seller otherwise than it reads is a problem; what costs the house without its asking, a warning.
"""

from decimal import Decimal

from exchange.core.findings import Found
from exchange.core.money import AMOUNT_MICROS_MAX, micros_of
from exchange.core.terms import Margin, MarketDoc, PayoutTerms, SellerTerms, TierTerms
from exchange.core.toml_lines import Path


def of_seller(path: Path, terms: SellerTerms, found: Found) -> None:
    """Problems of what a seller's and its sources' leads are paid."""
    margin((*path, "margin"), terms.margin, found)
    _payout(path, terms.payout, terms.margin, terms.time_zone, found)
    if terms.margin != Margin():
        _moot(path, terms.payout, found)
    if not isinstance(terms.sources, dict):
        return
    for key, source in terms.sources.items():
        where = (*path, "sources", key)
        payout = terms.payout if source.payout is None else source.payout
        if source.margin is not None:
            margin((*where, "margin"), source.margin, found)
            _moot(where, payout, found)
        if source.payout is not None or source.margin is not None:
            _payout(where, payout, source.margin or terms.margin, terms.time_zone, found)


def margin(path: Path, terms: Margin, found: Found) -> None:
    """Problems of the house's share."""
    _percent((*path, "percent"), terms.percent, found)


def guarantees(doc: MarketDoc, found: Found) -> None:
    """Warns of guarantees that the same consumer can be paid on again and again."""
    loose = sorted(key for key, terms in doc.verticals.items() if terms.duplicate is None)
    for key, seller in doc.sellers.items():
        sources = seller.sources if isinstance(seller.sources, dict) else {}
        payouts = [seller.payout, *(one.payout for one in sources.values() if one.payout)]
        if loose and any(payout.guaranteed for payout in payouts):
            message = f"guarantees leads, and {loose[0]} pays for the same consumer again and again"
            hint = f"duplicate = {{ ... }} at the vertical {loose[0]}"
            found.warning(("sellers", key), message, hint)


def _payout(path: Path, terms: PayoutTerms, taken: Margin, zone: str | None, found: Found) -> None:
    where = (*path, "payout")
    if terms.fixed is None:
        if terms.guaranteed:
            found.problem((*where, "guaranteed"), "needs the amount", 'fixed = "12.00"')
        if micros_of(terms.loss_max):
            found.problem((*where, "loss_max"), "is for a fixed payout: a share is never a loss")
    else:
        _fixed(where, terms, found)
    if terms.tiers:
        _tiers((*where, "tiers"), terms, taken, zone, found)


def _moot(path: Path, terms: PayoutTerms, found: Found) -> None:
    if terms.fixed is not None:
        hint = "leave the margin out: the house keeps what the price is above the payout"
        found.problem((*path, "margin"), "says nothing beside a fixed payout", hint)


def _fixed(where: Path, terms: PayoutTerms, found: Found) -> None:
    fixed, loss = micros_of(terms.fixed or "0"), micros_of(terms.loss_max)
    if not fixed:
        found.problem((*where, "fixed"), "must be more than 0", "or a margin")
    if loss > fixed:
        found.problem((*where, "loss_max"), "is more than the payout: no price is below 0")
    if terms.guaranteed and not loss:
        message = "pays all of it for a lead whose best bid is a little below"
        found.warning((*where, "guaranteed"), message, 'loss_max = "2.00" sells it for less')


def _tiers(path: Path, terms: PayoutTerms, taken: Margin, zone: str | None, found: Found) -> None:
    if terms.fixed is not None:
        found.problem(path, "are shares of the price, and the payout is fixed")
        return
    if zone is None:
        message = "are counted by the month, which needs the seller's time zone"
        found.problem(path, message, 'time_zone = "America/Chicago" at the seller')
    unit = "money" if terms.tiers[0].money is not None else "leads"
    before, percent = 0, taken.percent
    for number, tier in enumerate(terms.tiers):
        where = (*path, number)
        reached = _from(where, tier, unit, found)
        if reached is None:
            continue
        if reached <= before:
            found.problem((*where, unit), "is not above the step before", "the lowest step first")
        if tier.percent >= percent:
            message = f"is not below the {percent:f} before it: a tier only adds to a payout"
            found.problem((*where, "percent"), message)
        _percent((*where, "percent"), tier.percent, found)
        before, percent = reached, tier.percent


def _from(path: Path, tier: TierTerms, unit: str, found: Found) -> int | None:
    """From where on the step counts; `None` when that is not said in the unit of the first."""
    if (tier.leads is None) == (tier.money is None):
        found.problem(path, "a tier begins at either leads or money", "{ leads = 1000, ... }")
        return None
    if getattr(tier, unit) is None:
        found.problem(path, f"the tiers of a seller count one thing: {unit}")
        return None
    if tier.money is not None:
        return micros_of(tier.money, most_micros=AMOUNT_MICROS_MAX)
    return tier.leads


def _percent(path: Path, percent: Decimal, found: Found) -> None:
    if not 0 <= percent <= 100 or percent * 10_000 != int(percent * 10_000):
        found.problem(path, "is a share from 0 to 100 with at most four decimals")
