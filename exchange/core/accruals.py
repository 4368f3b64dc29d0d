"""The accrual of expected returns: what the sales whose return windows are still open when a period
closes are expected to cost the house.

By contract: what the house loses if all of them come back, times the rate at which the contract's
earlier sales came back, in money. Few sales say little, so the rate is drawn to that of the whole
vertical: with `PULL` sales it counts half. Rates are whole millionths, rounded half up; an amount
is rounded up to the micro, for a reserve is on the careful side.

```
close of period n      Dr house.margin   Cr house.reserve   what is expected
close of period n + 1  Dr house.reserve  Cr house.margin    all of it back; then the next accrual
```
Both are dated at the last moment of the period that closes, so that the reserve at a period's end
is what is expected then. They concern the house alone: no party's statement has a line of them.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from exchange.core.ledger import HOUSE, TransferCode, derived_id, reversal
from exchange.core.model import Fact
from exchange.core.records import TransferRow
from exchange.core.return_policy import MILLION, closes_at
from exchange.core.terms import WindowTerms

PULL: Final = 50
"""How many of its own sales weigh as much as its vertical's rate. At a tenth returned, fifty sales
say it to within four in a hundred: about where a contract's own figure begins to mean something."""
ENDED_DAYS: Final = 90
"""How far back sales tell a contract's rate: a quarter holds the habits of the day."""
WINDOW_DAYS_MAX: Final = 400
"""No return window is longer: the market's checks refuse more than a year."""


class Exposure(Fact, frozen=True, kw_only=True):
    """A contract's sales in one currency at a period's end. Open: their windows are, and nothing
    was returned yet; `loss_micros` is what the house loses if all are. Ended: those of the last
    `ENDED_DAYS` days whose windows have closed, and what of their price was credited."""

    contract_id: int
    vertical_id: int
    currency: str
    open_sales: int = 0
    open_micros: int = 0
    loss_micros: int = 0
    ended_sales: int = 0
    ended_micros: int = 0
    credited_micros: int = 0


class Accrual(Fact, frozen=True, kw_only=True):
    """What is accrued for a contract, and how it came about; rates in millionths."""

    exposure: Exposure
    vertical_rate: int
    rate: int
    amount_micros: int


def accruals(exposures: Sequence[Exposure]) -> tuple[Accrual, ...]:
    """The accrual of every contract that has open sales."""
    sold, credited = Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    for one in exposures:
        sold[one.vertical_id, one.currency] += one.ended_micros
        credited[one.vertical_id, one.currency] += one.credited_micros
    found = []
    for one in exposures:
        whole = one.vertical_id, one.currency
        vertical_rate = rate_of(credited[whole], sold[whole])
        rate = shrunk(
            rate_of(one.credited_micros, one.ended_micros), one.ended_sales, vertical_rate
        )
        amount = -(-one.loss_micros * rate // MILLION)
        if one.open_sales:
            found.append(
                Accrual(exposure=one, vertical_rate=vertical_rate, rate=rate, amount_micros=amount)
            )
    return tuple(found)


def rate_of(part_micros: int, whole_micros: int) -> int:
    """A part of a whole in millionths, rounded half up; 0 of nothing."""
    if whole_micros == 0:
        return 0
    return (2 * part_micros * MILLION + whole_micros) // (2 * whole_micros)


def shrunk(rate: int, sales: int, towards: int) -> int:
    """A rate that `sales` sales showed, drawn to another as `PULL` sales would draw it."""
    weight = sales + PULL
    return (2 * (rate * sales + towards * PULL) + weight) // (2 * weight)


def accrual_transfers(
    period_id: int, at: datetime, amounts: Mapping[str, int]
) -> tuple[TransferRow, ...]:
    """What is set aside at a moment, by currency."""
    subject = f"period {period_id}"
    document = dated_id(at, subject)
    return tuple(
        TransferRow(
            transfer_id=derived_id(f"{subject} {currency}", int(TransferCode.RESERVE), 0),
            lead_id=document,
            attempt_id=None,
            code=int(TransferCode.RESERVE),
            debit_party=HOUSE,
            debit_kind="margin",
            credit_party=HOUSE,
            credit_kind="reserve",
            amount_micros=micros,
            currency=currency,
            reverses=None,
            at=at,
        )
        for currency, micros in sorted(amounts.items())
        if micros
    )


def release_transfers(held: Iterable[TransferRow], at: datetime) -> tuple[TransferRow, ...]:
    """The accrual before it, taken back whole."""
    return tuple(reversal(row, at=at) for row in held)


def totals(accrued: Iterable[Accrual]) -> dict[str, int]:
    """What is accrued in all, by currency."""
    found = Counter[str]()
    for one in accrued:
        found[one.exposure.currency] += one.amount_micros
    return dict(found)


def open_since(window: WindowTerms, zone: str, until: datetime) -> datetime:
    """The first moment of a sale whose window is still open at `until`: windows of later sales
    never close earlier, so there is one. To the second."""
    late, early = 0, WINDOW_DAYS_MAX * 86_400  # seconds before: open, and closed
    while early - late > 1:
        half = (early + late) // 2
        if closes_at(window, until - timedelta(seconds=half), zone) > until:
            late = half
        else:
            early = half
    return until - timedelta(seconds=late)


def dated_id(at: datetime, subject: str) -> str:
    """A UUIDv7 of a moment, made of what it is for: the same again for the same."""
    millis = int(at.timestamp()) * 1000 + at.microsecond // 1000
    digest = hashlib.sha256(f"ex/v1\0document\0{subject}".encode()).hexdigest()
    variant = "89ab"[int(digest[3], 16) % 4]
    head = f"{millis:012x}"
    return f"{head[:8]}-{head[8:]}-7{digest[:3]}-{variant}{digest[4:7]}-{digest[7:19]}"
