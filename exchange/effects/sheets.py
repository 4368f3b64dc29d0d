"""Sheets that partners send, row by row: CSV as spreadsheets and systems write it, and XLSX.

A CSV's encoding is told by its byte order mark, else it is UTF-8, else Latin-1; its delimiter is
the one that cuts its first lines into most columns, evenly. A file is never held whole: memory does
not grow with it (an XLSX's table of texts is held, and limited by `unpacked_bytes_max`). What a
cell says is the caller's to judge; nothing of it stands in any message.
"""

import codecs
import csv
import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

DELIMITERS: Final = ",;\t|"
SAMPLE_LINES: Final = 20
"""How many lines the delimiter is told from."""
LINES_MAX: Final = 1_048_576
"""What a spreadsheet holds at most; a made-up file may skip to any line."""
_HINT: Final = "sep="
"""What a first line begins with that tells a spreadsheet the delimiter, and is no header."""
_XLSX: Final = b"PK\x03\x04"


class BadSheet(ValueError):
    """The file is no sheet that can be read; the message says why and where, and quotes nothing."""


class SheetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a sheet may have at most. `unpacked_bytes_max`: an XLSX is a packed archive, and a small
    one may unpack to more than the machine has."""

    rows_max: int = 250_000
    columns_max: int = 200
    cell_chars_max: int = 4_096
    unpacked_bytes_max: int = 512 * 1024 * 1024


Row = tuple[int, Sequence[Any]]
"""A line number as a spreadsheet counts, from 1, and its cells: text, or for XLSX what it holds."""


def rows(path: Path, limits: SheetLimits) -> Iterator[Row]:
    """The rows of a sheet that are not empty, the header first. Raises `BadSheet`."""
    try:
        with path.open("rb") as file:
            is_xlsx = file.read(len(_XLSX)) == _XLSX
        found = _xlsx(path, limits) if is_xlsx else _csv(path, limits)
        count = 0
        for number, cells in found:
            if any(cell not in (None, "") for cell in cells):
                count += 1
                _check(number, count, cells, limits)
                yield number, cells
    except OSError as bad:
        raise BadSheet(f"it cannot be read: {bad.strerror}") from None
    if not count:
        raise BadSheet("it is empty")


def sha256_of(path: Path) -> bytes:
    """What names a file for good. Raises `BadSheet`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as bad:
        raise BadSheet(f"it cannot be read: {bad.strerror}") from None


def _check(number: int, count: int, cells: Sequence[Any], limits: SheetLimits) -> None:
    if count > limits.rows_max + 1:  # the header is none of them
        raise BadSheet(f"it has more than {limits.rows_max} lines: send it in parts")
    if len(cells) > limits.columns_max:
        raise BadSheet(f"line {number} has more than {limits.columns_max} columns")
    if any(isinstance(cell, str) and len(cell) > limits.cell_chars_max for cell in cells):
        raise BadSheet(f"line {number} has a cell of more than {limits.cell_chars_max} characters")


# --- CSV ------------------------------------------------------------------------------------------


def _csv(path: Path, limits: SheetLimits) -> Iterator[Row]:
    encoding = _encoding(path)
    begins = 1
    try:
        with path.open(encoding=encoding, newline="") as file:
            delimiter = _delimiter(list(islice(_lines(file, limits), SAMPLE_LINES)))
            file.seek(0)
            reader = csv.reader(_lines(file, limits), delimiter=delimiter, strict=False)
            for cells in reader:
                if begins > 1 or not cells or not cells[0].lower().startswith(_HINT):
                    yield begins, [cell.strip() for cell in cells]
                begins = reader.line_num + 1
    except csv.Error:
        raise BadSheet(f"line {begins} is no line of a CSV file") from None
    except UnicodeError:
        raise BadSheet(f"line {begins} or one below it is not in {encoding}") from None


def _lines(file: Any, limits: SheetLimits) -> Iterator[str]:
    """Physical lines, none so long that reading it takes the memory of the machine."""
    most = limits.columns_max * limits.cell_chars_max
    number = 0
    while line := file.readline(most):
        number += 1
        if len(line) == most:
            raise BadSheet(f"line {number} is longer than {most} characters")
        if "\0" in line:
            raise BadSheet(f"line {number} holds bytes that are no text")
        yield line


def _encoding(path: Path) -> str:
    """Latin-1 can read anything, so UTF-8 is proved on the whole file first."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        first = file.read(4)
        if first.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        file.seek(0)
        try:
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def _delimiter(sample: Sequence[str]) -> str:
    """Most columns in most of the lines; a comma when there is but one column."""

    def evenness(delimiter: str) -> tuple[int, int]:
        widths = Counter(len(cells) for cells in csv.reader(sample, delimiter=delimiter) if cells)
        width, lines = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
        return (lines if width > 1 else 0, width)

    try:
        return max(DELIMITERS, key=evenness)
    except csv.Error:
        raise BadSheet("it is no CSV file") from None


# --- XLSX -----------------------------------------------------------------------------------------


def _xlsx(path: Path, limits: SheetLimits) -> Iterator[Row]:
    """The rows of the first sheet; of a formula what it came to when the file was saved."""
    from openpyxl import load_workbook  # a tenth of a second to import, and only this needs it

    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as packed:
                unpacked = sum(entry.file_size for entry in packed.infolist())
            if unpacked <= limits.unpacked_bytes_max:
                book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
                sheet = book.worksheets[0]
                sheet.reset_dimensions()  # a file may claim more, or fewer, than it has
                for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
                    if number > LINES_MAX:
                        raise BadSheet(f"it has more than {LINES_MAX} lines")
                    yield number, _filled(cells)
        except (zipfile.BadZipFile, IndexError, KeyError, SyntaxError):
            raise BadSheet("it is no XLSX file that can be read") from None
        except ValueError as bad:
            told = isinstance(bad, BadSheet)
            raise bad if told else BadSheet("it is no XLSX file that can be read") from None
    if unpacked > limits.unpacked_bytes_max:
        raise BadSheet(f"it unpacks to more than {limits.unpacked_bytes_max} bytes")


def _filled(cells: Sequence[Any]) -> Sequence[Any]:
    """Without the empty cells at the end, which a sheet may have to the last column there is."""
    end = len(cells)
    while end and cells[end - 1] is None:
        end -= 1
    return cells[:end]
