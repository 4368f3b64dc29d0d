"""The ledger as an accountant's program reads it: a journal a day and currency, a row per account,
party and reason. Debits and credits of a journal are equal, and both are what the ledger moved that
day."""

from collections.abc import Iterable
from datetime import date
from typing import Final

from exchange.core.ledger import REVERSAL, TransferCode
from exchange.core.model import Fact

ACCOUNTS: Final[dict[str, tuple[str, str]]] = {
    "receivable": ("Accounts receivable", "1100"),
    "cash": ("Bank", "1000"),
    "clawback": ("Seller clawbacks", "1150"),
    "bad_debt": ("Bad debt", "6100"),
    "payable": ("Accounts payable", "2000"),
    "prepaid": ("Customer deposits", "2100"),
    "reserve": ("Returns reserve", "2200"),
    "margin": ("Exchange margin", "4000"),
    "adjustment": ("Adjustments", "4900"),
}
"""By kind of account: its name and number in the chart of accounts."""
MEMOS: Final[dict[int, str]] = {
    TransferCode.PAYOUT: "Leads sold: payout",
    TransferCode.FEE: "Leads sold: fee",
    TransferCode.RETURN_BORNE: "Returns borne by the house",
    TransferCode.CLAWBACK_KEPT: "Clawbacks of replaced leads",
    TransferCode.PAYMENT: "Payments received",
    TransferCode.PAID_OUT: "Payouts",
    TransferCode.PREPAID: "Paid ahead",
    TransferCode.PREPAID_USED: "Paid ahead, used",
    TransferCode.REFUND: "Refunds",
    TransferCode.ADJUSTMENT: "Adjustments",
    TransferCode.PRICE_CORRECTION: "Price corrections",
    TransferCode.BAD_DEBT: "Bad debt",
    TransferCode.RESERVE: "Returns expected",
    TransferCode.GUARANTEE: "Guaranteed leads",
    TransferCode.TERMS: "By terms of the period",
}


class Moved(Fact, frozen=True, kw_only=True):
    """What one day's transfers of a code moved between two accounts."""

    day: date
    currency: str
    code: int
    debit_kind: str
    debit_name: str
    credit_kind: str
    credit_name: str
    amount_micros: int


class JournalRow(Fact, frozen=True, kw_only=True):
    """A row of a journal; one of the amounts is 0. `name`: whose account it is, empty for the
    house's own."""

    journal: str
    day: date
    currency: str
    account: str
    number: str
    debit_micros: int
    credit_micros: int
    name: str
    memo: str


def journal(moved: Iterable[Moved]) -> tuple[JournalRow, ...]:
    """The rows, a day and currency together."""
    totals: dict[tuple[date, str, str, str, bool, int], int] = {}
    for one in moved:
        debit = one.day, one.currency, one.debit_kind, one.debit_name, True, one.code
        credit = one.day, one.currency, one.credit_kind, one.credit_name, False, one.code
        for key in (debit, credit):
            totals[key] = totals.get(key, 0) + one.amount_micros
    rows = []
    for (day, currency, kind, name, is_debit, code), micros in sorted(
        totals.items(), key=lambda item: (*item[0][:2], not item[0][4], *item[0][2:4], item[0][5])
    ):
        account, number = ACCOUNTS.get(kind, (kind, ""))
        rows.append(
            JournalRow(
                journal=f"EX-{day:%Y%m%d}-{currency}",
                day=day,
                currency=currency,
                account=account,
                number=number,
                debit_micros=micros if is_debit else 0,
                credit_micros=0 if is_debit else micros,
                name=name,
                memo=memo(code),
            )
        )
    return tuple(rows)


def memo(code: int) -> str:
    """What a transfer was for, in an accountant's words."""
    if code > REVERSAL:
        return f"{memo(code - REVERSAL)}, reversed"
    return MEMOS.get(code, f"Code {code}")
