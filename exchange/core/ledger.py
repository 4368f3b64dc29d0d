"""The ledger: transfers with one debit and one credit account and an amount above zero.

An unbalanced entry cannot be written down, so nothing has to check for one. Ids are derived from
what the transfer is for, so posting twice is harmless (`ON CONFLICT DO NOTHING`). Nothing is ever
edited: a return is a reversing transfer, and a leg may be reversed in parts.

```
sale     Dr buyer.receivable  Cr seller.payable   payout
         Dr buyer.receivable  Cr house.margin     fee      (a negative fee swaps the sides)
return   the same legs with the sides swapped, whole or in parts
```
Amounts are micros. A balance is debits less credits: what a buyer owes is positive, what the house
owes a seller negative.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from enum import IntEnum
from typing import Final, Literal

from exchange.core.records import TransferRow

HOUSE: Final = 1
"""The party id of the house itself; its row is made with the schema."""

AccountKind = Literal["receivable", "payable", "margin", "bad_debt", "prepaid"]
NORMAL_SIDE: Final[dict[AccountKind, Literal["debit", "credit"]]] = {
    "receivable": "debit",  # what a buyer owes the house
    "payable": "credit",  # what the house owes a seller
    "margin": "credit",  # what the house has earned
    "bad_debt": "debit",  # what a buyer will never pay
    "prepaid": "credit",  # what a buyer paid ahead
}
"""The side on which an account of this kind grows."""

AccountName = tuple[int, str, str]
"""`(party id, kind, currency)`."""


class TransferCode(IntEnum):
    """What a transfer is for. Never renumbered; a reversal has the code of its leg plus
    `REVERSAL`."""

    PAYOUT = 1
    FEE = 2


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
