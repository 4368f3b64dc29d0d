"""Tiers: what a seller's month adds to its payouts once it is over.

A sale pays its margin's share at once. When the month has ended, its sales are counted; the highest
step reached is the share of every price of that month, and what that adds is one transfer:

```
TERMS    Dr house.margin    Cr seller.payable    what is due, less what was booked of it before
```
A sale counts in the month it was made in, in the seller's zone, by the terms it was made on; what
was returned neither counts nor earns. A return that comes later makes another part, the other way
round, so the parts always add up to what is due; settling again books nothing.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from exchange.core.ledger import HOUSE, TransferCode, derived_id
from exchange.core.model import Fact, Payout, Tier
from exchange.core.money import split
from exchange.core.payouts import tier_words
from exchange.core.records import TransferRow

_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class Month(Fact, frozen=True, kw_only=True):
    """A calendar month of a zone: `2026-11`. Raises `ValueError` when it is none."""

    name: str
    zone: str

    def __post_init__(self) -> None:
        if not _MONTH.fullmatch(self.name):
            raise ValueError("a month is written 2026-11")

    @property
    def since(self) -> datetime:
        """Its first moment."""
        first = date.fromisoformat(f"{self.name}-01")
        return datetime(first.year, first.month, 1, tzinfo=ZoneInfo(self.zone))

    @property
    def until(self) -> datetime:
        """The first moment that is no more in it."""
        after = self.since.date() + timedelta(days=31)
        return datetime(after.year, after.month, 1, tzinfo=ZoneInfo(self.zone))


class Sales(Fact, frozen=True, kw_only=True, gc=False):
    """So many sales that are alike: what each cost and paid, what was taken back of its price, and
    the terms it was made on."""

    count: int
    price_micros: int
    payout_micros: int
    credited_micros: int
    terms: Payout


class Due(Fact, frozen=True, kw_only=True):
    """What a month came to: sold leads and their prices, what the tiers add, and the steps reached
    in words."""

    leads: int
    money_micros: int
    due_micros: int
    words: str


def due(sales: Iterable[Sales]) -> Due:
    """What the tiers of a seller's month add, in one currency. Only sales on terms with tiers
    count."""
    counted = [one for one in sales if one.terms.tiers and one.credited_micros < one.price_micros]
    leads = sum(one.count for one in counted)
    money = sum(one.count * (one.price_micros - one.credited_micros) for one in counted)
    total, reached = 0, set()
    for one in counted:
        step = highest(one.terms.tiers, leads, money)
        if step is not None:
            reached.add(tier_words(step))
            total += one.count * added(one, step)
    return Due(leads=leads, money_micros=money, due_micros=total, words=", ".join(sorted(reached)))


def highest(tiers: Sequence[Tier], leads: int, money_micros: int) -> Tier | None:
    """The last step that so many sold leads, or so much money, reach; the lowest stands first."""
    reached = None
    for tier in tiers:
        wanted, has = (
            (tier.leads, leads) if tier.money_micros is None else (tier.money_micros, money_micros)
        )
        if has >= (wanted or 0):
            reached = tier
    return reached


def added(sale: Sales, step: Tier) -> int:
    """What a step adds to one such sale's payout, in the proportion that was not returned; the odd
    micro stays with the house. A promise may have paid more already."""
    payout, _ = split(sale.price_micros, step.percent_millionths, sale.terms.fee_fixed_micros)
    more = max(0, payout - sale.payout_micros)
    return more * (sale.price_micros - sale.credited_micros) // sale.price_micros


def terms_transfer(
    *, settlement_id: str, seller_id: int, booked_micros: int, currency: str, at: datetime
) -> TransferRow:
    """The transfer of one part; below zero the sides are swapped."""
    sides = ((HOUSE, "margin"), (seller_id, "payable"))
    debit, credit = sides if booked_micros > 0 else sides[::-1]
    code = int(TransferCode.TERMS)
    return TransferRow(
        transfer_id=derived_id(settlement_id, code, 0),
        lead_id=settlement_id,
        attempt_id=None,
        code=code,
        debit_party=debit[0],
        debit_kind=debit[1],
        credit_party=credit[0],
        credit_kind=credit[1],
        amount_micros=abs(booked_micros),
        currency=currency,
        reverses=None,
        at=at,
    )
