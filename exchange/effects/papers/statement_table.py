"""A party's statements as one table: CSV or XLSX, a row per line, balances carried. Days are those
of the statement's zone; moments say their own."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from exchange.core.statements import Statement
from exchange.effects.papers.tables import amount, table

HEADER: Final = (
    *("party", "currency", "day", "moment", "line", "sale or document", "lead", "contract"),
    *("reference", "amount", "balance"),
)


def write_table(path: Path, statements: Iterable[Statement]) -> None:
    """Raises `OSError`, and `ValueError` for a name that ends neither in .csv nor in .xlsx."""
    with table(path, HEADER, title="Statement") as add:
        for one in statements:
            name, currency = one.party.key, one.currency
            opening, closing = amount(one.opening_micros), amount(one.closing_micros)
            add((name, currency, one.first, None, "opening", *("",) * 4, None, opening))
            for line in one.lines:
                add(
                    (
                        *(name, currency, line.day, line.at.isoformat(), line.kind),
                        *(line.document, line.lead_id, line.contract, line.reference),
                        *(amount(line.amount_micros), amount(line.balance_micros)),
                    )
                )
            add((name, currency, one.last, None, "closing", *("",) * 4, None, closing))
