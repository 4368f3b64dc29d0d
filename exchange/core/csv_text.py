"""A CSV that comes as a request's body: small, in UTF-8, with commas or semicolons."""

import csv
import io
from collections.abc import Iterator
from typing import Final

COLUMNS_MAX: Final = 100


class BadCsv(ValueError):
    """The text is no CSV that is read here; the message says why, and quotes nothing of it."""


def csv_rows(data: bytes, *, rows_max: int) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with the lines they begin at; the header first, and is not
    counted. Raises `BadCsv`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadCsv("the body is not in UTF-8") from None
    head = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=False
    )
    begins, count = 1, 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                count += 1
                if count > rows_max + 1 or len(cells) > COLUMNS_MAX:
                    raise BadCsv(f"it has more than {rows_max} lines or {COLUMNS_MAX} columns")
                yield begins, [cell.strip() for cell in cells]
            begins = reader.line_num + 1
    except csv.Error:
        raise BadCsv(f"line {begins} is no line of a CSV") from None
