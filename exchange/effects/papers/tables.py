"""Tables as files: CSV or XLSX by the file's name, written row by row.

A spreadsheet runs what looks like a formula, and what partners name their things is not ours to
trust: such a text gets an apostrophe in front, in both formats. Amounts are exact decimals.
"""

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from exchange.core.money import text_of

Cell = str | int | Decimal | date | None
Add = Callable[[Sequence[Cell]], None]
ENDINGS: Final = (".csv", ".xlsx")

_RUNS: Final = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""First characters that spreadsheets take for a formula, their full-width forms too."""
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?")
_ILLEGAL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_AMOUNT_FORMAT: Final = "#,##0.00####"
_WIDTH: Final = 18


def amount(micros: int) -> Decimal:
    """An amount as a cell: exact, with at least two decimals."""
    return Decimal(text_of(micros))


def safe(text: str) -> str:
    """The text as no spreadsheet runs it; characters that XML cannot hold are left out."""
    text = _ILLEGAL.sub("", text)
    first = text[:1] if text[:1] in _RUNS else text.lstrip()[:1]
    return f"'{text}" if first in _RUNS and first and not _NUMBER.fullmatch(text) else text


@contextmanager
def table(path: Path, header: Sequence[str], *, title: str = "Lines") -> Iterator[Add]:
    """What adds rows to the file, which is there, whole, when the block ends well, and not before.
    Raises `OSError`, and `ValueError` for a name that ends neither in .csv nor in .xlsx."""
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path.name} ends neither in .csv nor in .xlsx")
    draft = path.with_name(f".{path.name}.draft")
    written = _csv if path.suffix.lower() == ".csv" else _xlsx
    try:
        with written(draft, header, title) as add:
            yield add
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _csv(path: Path, header: Sequence[str], _title: str) -> Iterator[Add]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")  # as RFC 4180 has it
        writer.writerow(header)
        yield lambda cells: writer.writerow([_said(cell) for cell in cells])


@contextmanager
def _xlsx(path: Path, header: Sequence[str], title: str) -> Iterator[Add]:
    from openpyxl import Workbook  # a tenth of a second to import, and only this needs it
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    for number in range(1, len(header) + 1):
        sheet.column_dimensions[get_column_letter(number)].width = _WIDTH
    heads = [WriteOnlyCell(sheet, value=name) for name in header]
    for head in heads:
        head.font = Font(bold=True)
    sheet.append(heads)

    styled = [WriteOnlyCell(sheet) for _ in header]  # one per column: making them costs the most
    for cell in styled:
        cell.number_format = _AMOUNT_FORMAT

    def add(cells: Sequence[Cell]) -> None:
        row: list[Any] = [safe(cell) if isinstance(cell, str) else cell for cell in cells]
        for place, value in enumerate(row):
            if isinstance(value, Decimal):
                row[place] = styled[place]
                row[place].value = value
        sheet.append(row)

    yield add
    book.save(path)


def _said(cell: Cell) -> str:
    if isinstance(cell, str):
        return safe(cell)
    return "" if cell is None else str(cell)
