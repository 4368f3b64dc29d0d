"""What finance books by hand: adjustments, debts that will never be paid, prices corrected after
the sale.

```
adjustment        Dr house.adjustment   Cr buyer.receivable   in the buyer's favour
                  Dr house.adjustment   Cr seller.payable     in the seller's favour
                  the other way round against them
write-off         Dr house.bad_debt     Cr buyer.receivable   what a buyer will never pay
                  Dr house.bad_debt     Cr seller.payable     what a seller paid too much keeps
lower price       Dr seller.payable     Cr buyer.receivable   the payout's part
                  Dr house.margin       Cr buyer.receivable   the fee's part
higher price      the same sides swapped
```
A price is corrected in the proportion of the sale. What goes below the price that was sold at is a
credit like a return's: it counts in `credited_micros`, so that nothing credits the same money
twice, and no later return gives back what was not paid. What goes above it is a raise of its own,
beside `credited_micros`; a lower price takes back raises first. So a sale's price as it stands is
`price - credited + raised`, `0 <= credited <= price` and `raised >= 0`.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from exchange.core.ledger import HOUSE, TransferCode, derived_id
from exchange.core.model import Fact
from exchange.core.money import credit_parts, text_of
from exchange.core.records import TransferRow
from exchange.core.statements import PartyKind

EntryKind = Literal["adjustment", "write_off"]
OWN: Final[dict[PartyKind, str]] = {"buyer": "receivable", "seller": "payable"}
"""The account of a party that is booked on."""


class NotBooked(ValueError):
    """What is asked for cannot be booked; the message says why in a sentence."""


class Entry(Fact, frozen=True, kw_only=True):
    """An adjustment or a write-off. `amount_micros` moves the party's balance as it grows: what a
    buyer owes the house, what the house owes a seller."""

    entry_id: str
    key: str
    kind: EntryKind
    party_id: int
    party_kind: PartyKind
    currency: str
    amount_micros: int
    cites: str
    by: str
    why: str
    at: datetime


class CorrectedSale(Fact, frozen=True, kw_only=True):
    """A sale as far as its price is corrected: `raised_micros` is what former corrections put on
    top, `parts` how many there were."""

    attempt_id: str
    lead_id: str
    buyer_id: int
    seller_id: int
    currency: str
    price_micros: int
    payout_micros: int
    credited_micros: int
    raised_micros: int
    parts: int

    @property
    def stands_at(self) -> int:
        """What the buyer pays for it as things are."""
        return self.price_micros - self.credited_micros + self.raised_micros


class Correction(Fact, frozen=True, kw_only=True):
    """A price corrected: see the module."""

    correction_id: str
    key: str
    lead_id: str
    attempt_id: str
    raised_micros: int
    credited_micros: int
    by: str
    why: str
    at: datetime


def entry_key(*parts: str) -> str:
    """The key of what is booked without one: the same twice on one day is booked once."""
    return "auto-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def write_off_room(owed_micros: int, asked_micros: int | None) -> int:
    """How much is written off of a debt: what is asked, or all. Raises `NotBooked`."""
    if owed_micros <= 0:
        raise NotBooked("nothing is owed")
    amount = owed_micros if asked_micros is None else asked_micros
    if not 0 < amount <= owed_micros:
        raise NotBooked(f"only {text_of(owed_micros)} is owed")
    return amount


def entry_transfers(entry: Entry) -> tuple[TransferRow, ...]:
    """The one transfer of an adjustment or a write-off."""
    written_off = entry.kind == "write_off"
    code = TransferCode.BAD_DEBT if written_off else TransferCode.ADJUSTMENT
    house = (HOUSE, "bad_debt" if written_off else "adjustment")
    own = (entry.party_id, OWN[entry.party_kind])
    grows_by_debit = entry.party_kind == "buyer"
    is_debit = (entry.amount_micros > 0) == grows_by_debit
    debit, credit = (own, house) if is_debit else (house, own)
    return (
        TransferRow(
            transfer_id=derived_id(entry.entry_id, int(code), 0),
            lead_id=entry.entry_id,
            attempt_id=None,
            code=int(code),
            debit_party=debit[0],
            debit_kind=debit[1],
            credit_party=credit[0],
            credit_kind=credit[1],
            amount_micros=abs(entry.amount_micros),
            currency=entry.currency,
            reverses=None,
            at=entry.at,
        ),
    )


def corrected(sale: CorrectedSale, price_micros: int) -> tuple[int, int]:
    """What brings a sale to a price: `(raised, credited)`. Raises `NotBooked`."""
    change = price_micros - sale.stands_at
    if price_micros < 0:
        raise NotBooked("a price is never negative")
    if change == 0:
        raise NotBooked(f"the sale stands at {text_of(price_micros)} already")
    if change > 0:
        return change, 0
    raised = min(-change, sale.raised_micros)
    return -raised, -change - raised


def correction_transfers(sale: CorrectedSale, correction: Correction) -> tuple[TransferRow, ...]:
    """The transfers of a corrected price, numbered on from the sale's former corrections."""
    return tuple(_legs(sale, correction))


def _legs(sale: CorrectedSale, made: Correction) -> Iterator[TransferRow]:
    buyer, seller = (sale.buyer_id, "receivable"), (sale.seller_id, "payable")
    up, down = _raise_parts(sale, made.raised_micros), (0, 0)
    if made.credited_micros:
        down = credit_parts(
            made.credited_micros,
            price_micros=sale.price_micros,
            payout_micros=sale.payout_micros,
            credited_micros=sale.credited_micros,
        )
    part = 4 * sale.parts
    for other, kind, amount in (
        (*seller, up[0]),
        (HOUSE, "margin", up[1]),
        (*seller, -down[0]),
        (HOUSE, "margin", -down[1]),
    ):
        part += 1
        if amount:
            debit, credit = (buyer, (other, kind)) if amount > 0 else ((other, kind), buyer)
            yield TransferRow(
                transfer_id=derived_id(sale.attempt_id, int(TransferCode.PRICE_CORRECTION), part),
                lead_id=sale.lead_id,
                attempt_id=sale.attempt_id,
                code=int(TransferCode.PRICE_CORRECTION),
                debit_party=debit[0],
                debit_kind=debit[1],
                credit_party=credit[0],
                credit_kind=credit[1],
                amount_micros=abs(amount),
                currency=sale.currency,
                reverses=None,
                part=part,
                at=made.at,
            )


def _raise_parts(sale: CorrectedSale, change_micros: int) -> tuple[int, int]:
    """How a raise, or what is taken back of one, divides between payout and fee: counted from the
    sum of all raises, so that taking all of it back takes each side's whole part back."""

    def payout(raised: int) -> int:
        return raised * sale.payout_micros // sale.price_micros if sale.price_micros else 0

    moved = payout(sale.raised_micros + change_micros) - payout(sale.raised_micros)
    return moved, change_micros - moved
