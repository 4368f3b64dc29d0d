"""A party's statements as a PDF that can be sent: a summary per currency, then every line.

Drawn by hand on A4: the same statement gives the same bytes, and ten thousand lines take four
seconds.
"""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Final

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from exchange.core.money import text_of
from exchange.core.statements import Line, LineKind, Statement
from exchange.effects.papers.pen import (
    BAND,
    BOLD,
    BOTTOM,
    GREY,
    LEFT,
    PLAIN,
    RIGHT,
    TOP,
    Pen,
    latin,
)

ROW: Final = 4.6 * mm
TITLED, RULED = 8 * mm, 1.8 * mm
"""The room of a later page's title, and between heads and their rule."""
WORDS: Final[dict[LineKind, str]] = {
    "sale": "Sales",
    "return": "Returns",
    "guarantee": "Guaranteed leads",
    "terms": "Terms of the month",
    "adjustment": "Adjustments",
    "payment": "Payments",
}
COLUMNS: Final = (
    ("Date", LEFT),
    ("Line", LEFT + 19 * mm),
    ("Contract", LEFT + 37 * mm),
    ("Reference", LEFT + 68 * mm),
    ("Sale (end of id)", LEFT + 98 * mm),
)
AMOUNT_END: Final = RIGHT - 28 * mm


def _rows_from(y: float) -> int:
    return max(0, int((y - BOTTOM) / ROW))


ROOM: Final = _rows_from(TOP - TITLED - RULED - ROW)
"""How many rows fit on a page after the first."""


def write_pdf(path: Path, statements: Sequence[Statement], *, house: str) -> None:
    """`house`: who sends it. Raises `OSError`."""
    canvas = Canvas(str(path), pagesize=A4, invariant=True, pageCompression=True)
    if statements:
        canvas.setTitle(latin(f"Statement {statements[0].party.key} {statements[0].last}"))
    canvas.setAuthor(latin(house))
    for one in statements:
        _Pages(canvas, one, house).draw()
    canvas.save()


class _Pages(Pen):
    """The pages of one statement."""

    def __init__(self, canvas: Canvas, statement: Statement, house: str) -> None:
        super().__init__(canvas)
        self._statement, self._house = statement, house
        self._page, self._pages = 1, 1

    def draw(self) -> None:
        self._head()
        self._summary()
        if self._statement.lines:
            self._column_heads()
            self._pages += ceil(max(0, len(self._statement.lines) - self._room()) / ROOM)
        for number, line in enumerate(self._statement.lines):
            if self._room() < 1:
                self._turn()
            self._line(line, banded=number % 2 == 1)
        self._end_page()

    def _head(self) -> None:
        one = self._statement
        self._text(LEFT, self._house, size=10, color=GREY)
        self._text(RIGHT, "STATEMENT", size=10, font=BOLD, right=True, color=GREY)
        self._down(11 * mm)
        self._text(LEFT, one.party.name or one.party.key, size=18, font=BOLD)
        self._down(6.5 * mm)
        self._text(LEFT, f"{one.party.kind} {one.party.key}", size=9, color=GREY)
        self._down(9 * mm)
        self._text(LEFT, f"{one.first:%d %B %Y} to {one.last:%d %B %Y}", size=10, font=BOLD)
        self._text(RIGHT, one.currency, size=10, font=BOLD, right=True)
        self._down(4.8 * mm)
        self._text(LEFT, f"days in {one.zone}, both included", size=8.5, color=GREY)
        self._text(RIGHT, "amounts in this currency", size=8.5, color=GREY, right=True)
        self._down(8 * mm)

    def _summary(self) -> None:
        one = self._statement
        rows = [("Opening balance", "", one.opening_micros)]
        rows += [(WORDS[k], f"{one.counts[k]:,}", one.totals[k]) for k in one.kinds]
        for words, count, micros in rows:
            self._text(LEFT, words, size=10)
            self._text(LEFT + 62 * mm, count, size=10, color=GREY, right=True)
            self._text(RIGHT, grouped(micros), size=10, right=True)
            self._down(2.2 * mm)
            self._rule()
            self._down(4.4 * mm)
        self._text(LEFT, "Closing balance", size=11, font=BOLD)
        self._text(RIGHT, grouped(one.closing_micros), size=11, font=BOLD, right=True)
        self._down(5.5 * mm)
        self._text(LEFT, owed(one, self._house), size=9, color=GREY)
        self._down(12 * mm)

    def _column_heads(self) -> None:
        for words, x in COLUMNS:
            self._text(x, words, size=8, font=BOLD, color=GREY)
        self._text(AMOUNT_END, "Amount", size=8, font=BOLD, color=GREY, right=True)
        self._text(RIGHT, "Balance", size=8, font=BOLD, color=GREY, right=True)
        self._down(RULED)
        self._rule()
        self._down(ROW)

    def _line(self, line: Line, *, banded: bool) -> None:
        if banded:
            self._canvas.setFillColor(BAND)
            self._canvas.rect(LEFT - 1 * mm, self._y - 1.3 * mm, RIGHT - LEFT + 2 * mm, ROW,
                              stroke=0, fill=1)  # fmt: skip
        said = (str(line.day), line.kind, line.contract, line.reference, _short(line.document))
        ends = (*(x for _, x in COLUMNS[1:]), AMOUNT_END - 18 * mm)
        for text, (_, x), end in zip(said, COLUMNS, ends, strict=True):
            self._text(x, cut(text, end - x - 2 * mm, size=8), size=8)
        self._text(AMOUNT_END, grouped(line.amount_micros), size=8, right=True)
        self._text(RIGHT, grouped(line.balance_micros), size=8, right=True)
        self._down(ROW)

    def _turn(self) -> None:
        self._end_page()
        self._page += 1
        self._y = TOP
        one = self._statement
        self._text(LEFT, f"{one.party.name or one.party.key}, {one.first} to {one.last}",
                   size=8, color=GREY)  # fmt: skip
        self._text(RIGHT, one.currency, size=8, color=GREY, right=True)
        self._down(TITLED)
        self._column_heads()

    def _end_page(self) -> None:
        self._y = 12 * mm
        self._text(LEFT, self._house, size=8, color=GREY)
        page = f"page {self._page} of {self._pages}"
        self._text(RIGHT, page, size=8, color=GREY, right=True)
        self._canvas.showPage()

    def _room(self) -> int:
        """How many rows still fit on the page."""
        return _rows_from(self._y)


def grouped(micros: int) -> str:
    """An amount for people: thousands apart."""
    whole, _, rest = text_of(micros).lstrip("-").partition(".")
    return f"{'-' if micros < 0 else ''}{int(whole):,}.{rest}"


def owed(one: Statement, house: str) -> str:
    """What the closing balance means, in a sentence."""
    name = one.party.name or one.party.key
    if not one.closing_micros:
        return "Nothing is owed."
    is_theirs = (one.party.kind == "buyer") == (one.closing_micros > 0)
    debtor, creditor = (name, house) if is_theirs else (house, name)
    stop = "" if creditor.endswith(".") else "."
    return f"{debtor} owes {grouped(abs(one.closing_micros))} {one.currency} to {creditor}{stop}"


def _short(document: str) -> str:
    """The end of an id tells documents apart; the whole stands in the CSV and XLSX."""
    return document if len(document) <= 13 else document[-12:]


def cut(text: str, width: float, *, size: float) -> str:
    """The text as far as it has room."""
    text = latin(text)
    if stringWidth(text, PLAIN, size) <= width:
        return text
    while text and stringWidth(text + "...", PLAIN, size) > width:
        text = text[:-1]
    return text + "..."
