"""Sheets that partners send, row by row: CSV as spreadsheets and systems write it, and XLSX.

A CSV's encoding is told by its byte order mark, else it is UTF-8, else Latin-1; its delimiter is
the one that cuts its first lines into most columns, evenly. A file is never held whole: memory does
not grow with it (an XLSX's table of texts waits on disk, in a file without a name). What a
cell says is the caller's to judge; nothing of it stands in any message.
"""

import codecs
import csv
import hashlib
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import msgspec

DELIMITERS: Final = ",;\t|"
SAMPLE_LINES: Final = 20
"""How many lines the delimiter is told from."""
LINES_MAX: Final = 1_048_576
"""What a spreadsheet holds at most; a made-up file may skip to any line."""
_HINT: Final = "sep="
"""What a first line begins with that tells a spreadsheet the delimiter, and is no header."""
_XLSX: Final = b"PK\x03\x04"
_END_BYTES: Final = 8


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
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as packed:
                unpacked = sum(entry.file_size for entry in packed.infolist())
            if unpacked > limits.unpacked_bytes_max:
                raise BadSheet(f"it unpacks to more than {limits.unpacked_bytes_max} bytes")
            for number, cells in _sheet_rows(file):
                if number > LINES_MAX:
                    raise BadSheet(f"it has more than {LINES_MAX} lines")
                yield number, _filled(cells)
        except (zipfile.BadZipFile, IndexError, KeyError, SyntaxError):
            raise BadSheet("it is no XLSX file that can be read") from None
        except ValueError as bad:
            told = isinstance(bad, BadSheet)
            raise bad if told else BadSheet("it is no XLSX file that can be read") from None


def _sheet_rows(file: IO[bytes]) -> Iterator[tuple[int, list[Any]]]:
    """openpyxl knows where the sheet is, which styles are dates, and what a cell says; but it holds
    every text and an element for every row, so both are walked here."""
    from openpyxl.reader.excel import ExcelReader  # a tenth of a second, and only this needs it
    from openpyxl.styles.stylesheet import apply_stylesheet
    from openpyxl.worksheet._reader import WorkSheetParser

    reader: Any = ExcelReader(file, read_only=True, data_only=True, keep_links=False)
    reader.read_manifest()
    reader.read_workbook()
    apply_stylesheet(reader.archive, reader.wb)
    parts = [rel.target for _, rel in reader.parser.find_sheets() if "chartsheet" not in rel.Type]
    book = reader.wb
    with (
        tempfile.TemporaryFile() as ends,
        tempfile.TemporaryFile() as said,
        reader.archive.open(parts[0]) as source,
    ):
        parser: Any = WorkSheetParser(
            source,
            Texts(_shared(reader), ends, said),
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,
            timedelta_formats=book._timedelta_formats,
        )
        for row in _elements(source, holder="sheetData", wanted="row"):
            number, cells = parser.parse_row(row)
            parser.row_dimensions.clear()
            found: list[Any] = [None] * max((cell["column"] for cell in cells), default=0)
            for cell in cells:
                found[cell["column"] - 1] = cell["value"]
            yield number, found


def _shared(reader: Any) -> Iterator[str]:
    """The texts that cells name by number."""
    from openpyxl.cell.text import Text
    from openpyxl.xml.constants import SHARED_STRINGS

    part = reader.package.find(SHARED_STRINGS)
    if part is not None:
        with reader.archive.open(part.PartName[1:]) as source:
            for element in _elements(source, holder="sst", wanted="si"):
                text: Any = Text.from_tree(element)
                yield str(text.content).replace("x005F_", "")


def _elements(source: IO[bytes], *, holder: str, wanted: str) -> Iterator[Any]:
    """The elements of this name within their holder, each gone once the next is asked for."""
    from openpyxl.xml.constants import SHEET_MAIN_NS
    from openpyxl.xml.functions import iterparse

    holder, wanted = f"{{{SHEET_MAIN_NS}}}{holder}", f"{{{SHEET_MAIN_NS}}}{wanted}"
    within: Any = None
    for event, element in iterparse(source, events=("start", "end")):
        if event == "start":
            within = element if element.tag == holder else within
        elif element.tag == wanted:
            yield element
            if within is not None:
                within.clear()


class Texts:
    """Texts by number, in two nameless files: where each ends, and what they say. Held in memory
    they would be most of the sheet, which lies on the same disk itself."""

    def __init__(self, texts: Iterator[str], ends: IO[bytes], said: IO[bytes]) -> None:
        self._ends, self._said, self._count = ends.fileno(), said.fileno(), 0
        end = 0
        for text in texts:
            end += said.write(text.encode("utf-8", "surrogatepass"))
            ends.write(end.to_bytes(_END_BYTES, "little"))
            self._count += 1
        ends.flush()
        said.flush()

    def __getitem__(self, number: int) -> str:
        """Raises `IndexError` for a number that none has."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        start = self._end(number - 1) if number else 0
        data = os.pread(self._said, self._end(number) - start, start)
        return data.decode("utf-8", "surrogatepass")

    def _end(self, number: int) -> int:
        data = os.pread(self._ends, _END_BYTES, number * _END_BYTES)
        return int.from_bytes(data, "little")


def _filled(cells: Sequence[Any]) -> Sequence[Any]:
    """Without the empty cells at the end, which a sheet may have to the last column there is."""
    end = len(cells)
    while end and cells[end - 1] is None:
        end -= 1
    return cells[:end]
