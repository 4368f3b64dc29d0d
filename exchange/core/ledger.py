"""The ledger: transfers with one debit and one credit account and an amount above zero.

An unbalanced entry cannot be written down, so nothing has to check for one. Ids are derived from
what the transfer is for, so posting twice is harmless (`ON CONFLICT DO NOTHING`). Nothing is ever
edited: a return is a reversing transfer, and a leg may be reversed in parts.

```
sale     Dr buyer.receivable  Cr seller.payable   payout
         Dr buyer.receivable  Cr house.margin     fee      (a negative fee swaps the sides)
return   the same legs with the sides swapped, whole or in parts
         Dr house.margin      Cr buyer.receivable what the seller does not bear of its part
         Dr seller.payable    Cr house.margin     (replaced instead of credited)
```
Amounts are micros. A balance is debits less credits: what a buyer owes is positive, what the house
owes a seller negative.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Final, Literal

from msgspec.structs import replace

from exchange.core.money import credit_parts
from exchange.core.records import TransferRow

HOUSE: Final = 1
"""The party id of the house itself; its row is made with the schema."""

AccountKind = Literal[
    "receivable",
    "payable",
    "margin",
    "bad_debt",
    "prepaid",
    "clawback",
    "cash",
    "adjustment",
    "reserve",
]
NORMAL_SIDE: Final[dict[AccountKind, Literal["debit", "credit"]]] = {
    "receivable": "debit",  # what a buyer owes the house
    "payable": "credit",  # what the house owes a seller
    "margin": "credit",  # what the house has earned
    "bad_debt": "debit",  # what a buyer will never pay
    "prepaid": "credit",  # what a buyer paid ahead
    "clawback": "debit",  # what a seller already paid gives back
    "cash": "debit",  # what the house holds
    "adjustment": "credit",  # what finance corrects
    "reserve": "credit",  # what returns in open windows are expected to cost
}
"""The side on which an account of this kind grows."""

AccountName = tuple[int, str, str]
"""`(party id, kind, currency)`."""


class TransferCode(IntEnum):
    """What a transfer is for. Never renumbered; a reversal has the code of its leg plus
    `REVERSAL`."""

    PAYOUT = 1
    FEE = 2
    RETURN_BORNE = 3
    """The seller's part of a credit that the seller does not bear: the house does."""
    CLAWBACK_KEPT = 4
    """What a seller gave back of a replaced lead: the house pays the replacement with it."""
    PAYMENT = 10
    """A buyer paid what it owed."""
    PAID_OUT = 11
    """A seller was paid."""
    PREPAID = 12
    """A buyer paid ahead."""
    PREPAID_USED = 13
    """What was paid ahead covers what is owed."""
    REFUND = 14
    """A buyer got back what it had paid ahead or too much."""
    ADJUSTMENT = 20
    """What finance corrects, with its reason."""
    PRICE_CORRECTION = 21
    """A sale's price was agreed to be another, after the fact."""
    BAD_DEBT = 30
    """What a party will never pay."""
    RESERVE = 40
    """What returns in open windows are expected to cost the house."""
    GUARANTEE = 50
    """A payout for a lead that was accepted and that nobody bought: the house's risk."""
    TERMS = 51
    """What a seller's terms make of a period: a tier, a share of the net after returns."""


REVERSAL: Final = 100
"""Added to a leg's code when it is reversed."""


def sale_transfers(
    *,
    attempt_id: str,
    lead_id: str,
    buyer_id: int,
    seller_id: int,
    price_micros: int,
    payout_micros: int,
    fee_micros: int,
    currency: str,
    at: datetime,
) -> tuple[TransferRow, ...]:
    """The transfers of an accepted delivery: the buyer owes the price, the seller is owed the
    payout, the house has earned the fee. Zero legs are omitted. Raises `ValueError` when payout and
    fee do not add up to the price, or price or payout is negative."""
    if price_micros != payout_micros + fee_micros:
        raise ValueError(f"attempt {attempt_id}: payout and fee do not add up to the price")
    if price_micros < 0 or payout_micros < 0:
        raise ValueError(f"attempt {attempt_id}: price and payout are never negative")
    buyer, seller, house = (buyer_id, "receivable"), (seller_id, "payable"), (HOUSE, "margin")
    legs = (
        (TransferCode.PAYOUT, buyer, seller, payout_micros),
        (
            TransferCode.FEE,
            *((buyer, house) if fee_micros > 0 else (house, buyer)),
            abs(fee_micros),
        ),
    )
    return tuple(
        TransferRow(
            transfer_id=derived_id(attempt_id, int(code), 0),
            lead_id=lead_id,
            attempt_id=attempt_id,
            code=int(code),
            debit_party=debit[0],
            debit_kind=debit[1],
            credit_party=credit[0],
            credit_kind=credit[1],
            amount_micros=amount,
            currency=currency,
            reverses=None,
            at=at,
        )
        for code, debit, credit, amount in legs
        if amount
    )


def reversal(
    leg: TransferRow, *, at: datetime, part: int = 1, amount_micros: int | None = None
) -> TransferRow:
    """The transfer that takes back `amount_micros` of a leg (all of it when `None`), as part number
    `part` (from 1; a leg's part is reversed once). Raises `ValueError` for an amount the leg does
    not have, and for reversing a reversal. That all parts together stay within the leg is for the
    caller, and for the database's check, to see to."""
    amount = leg.amount_micros if amount_micros is None else amount_micros
    if leg.reverses is not None:
        raise ValueError(f"transfer {leg.transfer_id} is a reversal itself")
    if not 0 < amount <= leg.amount_micros or part < 1:
        raise ValueError(f"transfer {leg.transfer_id} cannot be reversed by this part")
    return TransferRow(
        transfer_id=derived_id(leg.transfer_id, leg.code + REVERSAL, part),
        lead_id=leg.lead_id,
        attempt_id=leg.attempt_id,
        code=leg.code + REVERSAL,
        debit_party=leg.credit_party,
        debit_kind=leg.credit_kind,
        credit_party=leg.debit_party,
        credit_kind=leg.debit_kind,
        amount_micros=amount,
        currency=leg.currency,
        reverses=leg.transfer_id,
        part=part,
        at=at,
    )


def return_transfers(
    legs: Sequence[TransferRow],
    *,
    credit_micros: int,
    clawback_micros: int,
    credited_micros: int,
    part: int,
    at: datetime,
    borne_micros: int = 0,
) -> tuple[TransferRow, ...]:
    """The credit memo and the clawback of a granted return, in one list.

    `legs` are the sale's transfers (`sale_transfers` makes them again, ids and all).
    The credit takes back payout and fee in the proportion of the sale; of the payout's part the
    seller bears `clawback_micros` and the house the rest (`RETURN_BORNE`). A clawback without a
    credit is a replacement's: the house keeps it (`CLAWBACK_KEPT`). `credited_micros` is what the
    buyer was credited before, `part` numbers the credits of this sale from 1. `borne_micros` is
    what the house bore of those before and may take back now (`CLAWBACK_KEPT`).

    Raises `ValueError` for a credit the price does not have left, or a clawback beyond the
    seller's part. No leg is ever taken back beyond its amount, however many parts there are.
    """
    amounts = {leg.code: leg.amount_micros for leg in legs}
    payout = amounts.get(TransferCode.PAYOUT, 0)
    price = sum(leg.amount_micros * (1 if _owed_by_buyer(leg) else -1) for leg in legs)
    sale = {"price_micros": price, "payout_micros": payout, "credited_micros": credited_micros}
    payout_part, fee_part = credit_parts(credit_micros, **sale)
    at_stake = payout_part if credit_micros else credit_parts(price - credited_micros, **sale)[0]
    if not 0 <= clawback_micros <= at_stake + borne_micros:
        raise ValueError("a seller gives back no more than its part of the credit")
    taken = {int(TransferCode.FEE): abs(fee_part)}
    if credit_micros:
        taken[TransferCode.PAYOUT] = min(clawback_micros, payout_part)
    found = [
        reversal(leg, at=at, part=part, amount_micros=taken[leg.code])
        for leg in legs
        if taken.get(leg.code)
    ]
    for leg in legs:
        if leg.code == TransferCode.PAYOUT:
            found += _house_legs(leg, payout_part, clawback_micros, part=part, at=at)
    return tuple(found)


def _house_legs(
    sold: TransferRow, payout_part: int, clawback_micros: int, *, part: int, at: datetime
) -> Iterator[TransferRow]:
    """What a return moves between the house and one party; `sold` is the sale's payout."""
    house, buyer = (HOUSE, "margin"), (sold.debit_party, sold.debit_kind)
    seller = (sold.credit_party, sold.credit_kind)
    if borne := max(0, payout_part - clawback_micros):
        yield _beside(sold, TransferCode.RETURN_BORNE, house, buyer, borne, part=part, at=at)
    if kept := max(0, clawback_micros - payout_part):
        yield _beside(sold, TransferCode.CLAWBACK_KEPT, seller, house, kept, part=part, at=at)


def _beside(
    sold: TransferRow,
    code: TransferCode,
    debit: tuple[int, str],
    credit: tuple[int, str],
    amount_micros: int,
    *,
    part: int,
    at: datetime,
) -> TransferRow:
    """A transfer of the same sale that takes back none of its legs."""
    return replace(
        sold,
        transfer_id=derived_id(sold.attempt_id or sold.lead_id, int(code), part),
        code=int(code),
        debit_party=debit[0],
        debit_kind=debit[1],
        credit_party=credit[0],
        credit_kind=credit[1],
        amount_micros=amount_micros,
        part=part,
        at=at,
    )


def _owed_by_buyer(leg: TransferRow) -> bool:
    """Every leg of a sale but a negative fee is debited to the buyer's receivable."""
    return leg.debit_kind == "receivable"


def balances(transfers: Iterable[TransferRow]) -> dict[AccountName, int]:
    """Debits less credits of every account touched, in micros. A transfer seen twice (the same id)
    counts once. They always sum to zero per currency."""
    totals: Counter[AccountName] = Counter()
    for transfer in {transfer.transfer_id: transfer for transfer in transfers}.values():
        debit, credit = accounts(transfer)
        totals[debit] += transfer.amount_micros
        totals[credit] -= transfer.amount_micros
    return dict(totals)


def accounts(transfer: TransferRow) -> tuple[AccountName, AccountName]:
    """The accounts debited and credited."""
    return (
        (transfer.debit_party, transfer.debit_kind, transfer.currency),
        (transfer.credit_party, transfer.credit_kind, transfer.currency),
    )


def derived_id(subject: str, code: int, part: int) -> str:
    """The id of a transfer as a UUID (version 8: its bits are a hash of what it is for)."""
    digest = bytearray(
        hashlib.sha256(f"ex/v1\0transfer\0{subject}\0{code}\0{part}".encode()).digest()
    )
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest[:16].hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
