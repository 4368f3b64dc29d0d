"""The ledger's journal as QuickBooks and Xero import it: CSV, safe in a spreadsheet.

QuickBooks takes debits and credits in columns of their own, and the currency; Xero one signed
amount, and one currency a file. Amounts are exact, as the ledger has them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from exchange.core.accounting import JournalRow
from exchange.effects.papers.tables import Cell, amount, table

Program = Literal["quickbooks", "xero"]
HEADERS: Final[dict[Program, tuple[str, ...]]] = {
    "quickbooks": (
        *("JournalNo", "JournalDate", "AccountName", "Debits", "Credits", "Description"),
        *("Name", "Currency"),
    ),
    "xero": (
        *("*Narration", "*Date", "Description", "*AccountCode", "*TaxRate", "*Amount"),
        *("TrackingName1", "TrackingOption1"),
    ),
}


def write_journal(path: Path, rows: Sequence[JournalRow], program: Program) -> None:
    """Raises `OSError`, and `ValueError` for several currencies in a file for Xero."""
    if program == "xero" and len({row.currency for row in rows}) > 1:
        raise ValueError("Xero takes one currency a file")
    with table(path, HEADERS[program], title="Journal") as add:
        for row in rows:
            add(_quickbooks(row) if program == "quickbooks" else _xero(row))


def _quickbooks(row: JournalRow) -> Sequence[Cell]:
    debit = amount(row.debit_micros) if row.debit_micros else None
    credit = amount(row.credit_micros) if row.credit_micros else None
    day = f"{row.day:%m/%d/%Y}"
    return (row.journal, day, row.account, debit, credit, row.memo, row.name, row.currency)


def _xero(row: JournalRow) -> Sequence[Cell]:
    signed = amount(row.debit_micros - row.credit_micros)
    party = ("Party", row.name) if row.name else ("", "")
    return (row.journal, f"{row.day:%Y-%m-%d}", f"{row.account}: {row.memo}", row.number,
            "Tax Exempt", signed, *party)  # fmt: skip
