"""A document as a table: CSV or XLSX, a row per line, every row with the number it is of."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from exchange.core.documents import LINE
from exchange.effects.papers.tables import table

HEADER: Final = ("number", "document", "party", "currency", *LINE)


def write_document_table(path: Path, said: Mapping[str, Any]) -> None:
    """`said`: the document's content. Raises `OSError`, and `ValueError` for a name that ends
    neither in .csv nor in .xlsx."""
    head = said["number"], said["kind"], said["party"]["key"], said["currency"]
    with table(path, HEADER, title=said["number"]) as add:
        for day, *words, amount in said["lines"]:
            add((*head, date.fromisoformat(day), *words, Decimal(amount)))
        blank = ("",) * (len(LINE) - 3)
        add((*head, date.fromisoformat(said["last_day"]), "total", *blank, Decimal(said["total"])))
