"""A document as a PDF that can be sent: who, to whom, what for, until when, how to pay; then every
line.

Drawn from the document's content alone: the same content gives the same bytes, today and in ten
years. The first page is what an accountant books; the lines follow it.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from io import BytesIO
from typing import Any, Final

from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from exchange.effects.papers.pen import (
    BAND,
    BOLD,
    BOTTOM,
    GREY,
    LEFT,
    RIGHT,
    TOP,
    Pen,
    latin,
)
from exchange.effects.papers.statement_pdf import ROW, cut

TITLES: Final = {
    "invoice": "INVOICE",
    "credit_memo": "CREDIT MEMO",
    "payout_statement": "PAYOUT STATEMENT",
    "cancellation": "CANCELLATION",
}
TOTALS: Final = {
    "invoice": "Total due",
    "credit_memo": "Total credit",
    "payout_statement": "Total payout",
    "cancellation": "Total cancelled",
}
LINE_WORDS: Final = {
    "sale": "Leads sold",
    "return": "Leads returned",
    "guarantee": "Leads guaranteed",
    "terms": "By terms of the period",
    "adjustment": "Adjustments",
    "cancelled": "Cancelled",
}
COLUMNS: Final = (
    ("Date", LEFT),
    ("Line", LEFT + 19 * mm),
    ("Item", LEFT + 37 * mm),
    ("Reference", LEFT + 66 * mm),
    ("Id (its end)", LEFT + 94 * mm),
    ("Takes back of", LEFT + 118 * mm),
)
ID_SHOWN: Final = 12
"""The end of an id tells lines apart; the whole stands in the other forms."""


def document_pdf(said: Mapping[str, Any]) -> bytes:
    """`said`: the document's content."""
    drawn = BytesIO()
    pages = _Pages(Canvas(drawn, invariant=True, pageCompression=True), said, total=0)
    pages.draw()
    drawn = BytesIO()  # again, now that the number of pages is known
    canvas = Canvas(drawn, invariant=True, pageCompression=True)
    canvas.setTitle(latin(said["number"]))
    canvas.setAuthor(latin(said["house"]["name"]))
    _Pages(canvas, said, total=pages.page).draw()
    canvas.save()
    return drawn.getvalue()


class _Pages(Pen):
    """The pages of one document."""

    def __init__(self, canvas: Canvas, said: Mapping[str, Any], *, total: int) -> None:
        super().__init__(canvas)
        self._said, self._total = said, total
        self.page = 1

    def draw(self) -> None:
        self._parties()
        self._facts()
        self._summary()
        self._settling()
        if self._said["lines"]:
            self._lines()
        self._end_page()

    def _parties(self) -> None:
        said = self._said
        house, party = said["house"], said["party"]
        self._text(LEFT, house["name"], size=11, font=BOLD)
        self._text(RIGHT, TITLES[said["kind"]], size=15, font=BOLD, right=True)
        self._down(5 * mm)
        self._text(RIGHT, said["number"], size=11, right=True)
        for line in _address(house):
            self._text(LEFT, line, size=8.5, color=GREY)
            self._down(3.8 * mm)
        self._y = min(self._y, TOP - 26 * mm)
        self._text(LEFT, "To", size=8.5, color=GREY)
        self._down(5 * mm)
        self._text(LEFT, party["name"], size=11, font=BOLD)
        self._down(4.6 * mm)
        for line in (*_address(party), f"{party['kind']} {party['key']}"):
            self._text(LEFT, line, size=8.5, color=GREY)
            self._down(3.8 * mm)

    def _facts(self) -> None:
        """Beside the address: what an accountant types in."""
        said, y = self._said, TOP - 26 * mm
        facts = [("Date", _day(said["issued_on"]))]
        if said["kind"] in ("invoice", "payout_statement"):
            words = "Due" if said["kind"] == "invoice" else "Payable from"
            facts.append((words, _day(said["due_on"])))
        facts.append(("Period", f"{_day(said['first_day'])} to {_day(said['last_day'])}"))
        facts.append(("Days of", said["zone"]))
        facts.append(("Currency", said["currency"]))
        if said["reference"]:
            facts.append(("Your reference", said["reference"]))
        below, self._y = self._y, y
        for words, text in facts:
            self._text(RIGHT - 74 * mm, words, size=8.5, color=GREY)
            self._text(RIGHT, text, size=9, right=True)
            self._down(4.8 * mm)
        self._y = min(below, self._y) - 8 * mm

    def _summary(self) -> None:
        said = self._said
        self._text(LEFT, "What for", size=8.5, font=BOLD, color=GREY)
        self._text(RIGHT - 40 * mm, "Count", size=8.5, font=BOLD, color=GREY, right=True)
        self._text(
            RIGHT, f"Amount, {said['currency']}", size=8.5, font=BOLD, color=GREY, right=True
        )
        self._down(1.8 * mm)
        self._rule()
        self._down(5 * mm)
        for kind, item, count, amount in said["summary"]:
            if self._y < BOTTOM + 12 * mm:
                self._turn()
            words = LINE_WORDS.get(kind, kind)
            self._text(LEFT, f"{words}, {item}" if item else words, size=9.5)
            self._text(RIGHT - 40 * mm, f"{count:,}", size=9.5, color=GREY, right=True)
            self._text(RIGHT, _grouped(amount), size=9.5, right=True)
            self._down(2 * mm)
            self._rule()
            self._down(4.4 * mm)
        self._text(LEFT, TOTALS[said["kind"]], size=11.5, font=BOLD)
        total = f"{_grouped(said['total'])} {said['currency']}"
        self._text(RIGHT, total, size=11.5, font=BOLD, right=True)
        self._down(10 * mm)

    def _settling(self) -> None:
        """How it is settled, and what it takes back."""
        for words, text in _settled(self._said):
            if self._y < BOTTOM + 6 * mm:
                self._turn()
            self._text(LEFT, words, size=8.5, color=GREY)
            self._text(LEFT + 36 * mm, text, size=8.5)
            self._down(4.2 * mm)
        self._down(6 * mm)

    def _lines(self) -> None:
        if self._y < BOTTOM + 4 * ROW:
            self._turn()
        self._column_heads()
        for number, line in enumerate(self._said["lines"]):
            if self._y < BOTTOM:
                self._turn()
                self._column_heads()
            self._line(line, banded=number % 2 == 1)

    def _column_heads(self) -> None:
        for words, x in COLUMNS:
            self._text(x, words, size=8, font=BOLD, color=GREY)
        self._text(RIGHT, "Amount", size=8, font=BOLD, color=GREY, right=True)
        self._down(1.8 * mm)
        self._rule()
        self._down(ROW)

    def _line(self, line: Sequence[str], *, banded: bool) -> None:
        if banded:
            self._canvas.setFillColor(BAND)
            self._canvas.rect(
                LEFT - 1 * mm, self._y - 1.3 * mm, RIGHT - LEFT + 2 * mm, ROW, stroke=0, fill=1
            )
        day, kind, named, item, reference, cites, amount = line
        shown = (day, kind, item, reference, named[-ID_SHOWN:], cites)
        ends = (*(x for _, x in COLUMNS[1:]), RIGHT - 18 * mm)
        for text, (_, x), end in zip(shown, COLUMNS, ends, strict=True):
            self._text(x, cut(text, end - x - 2 * mm, size=8), size=8)
        self._text(RIGHT, _grouped(amount), size=8, right=True)
        self._down(ROW)

    def _turn(self) -> None:
        self._end_page()
        self.page += 1
        self._y = TOP
        said = self._said
        self._text(LEFT, f"{said['number']}, {said['party']['name']}", size=8, color=GREY)
        self._text(RIGHT, said["currency"], size=8, color=GREY, right=True)
        self._down(8 * mm)

    def _end_page(self) -> None:
        self._y = 12 * mm
        self._text(LEFT, f"{self._said['house']['name']}, {self._said['number']}",
                   size=8, color=GREY)  # fmt: skip
        page = f"page {self.page} of {self._total or self.page}"
        self._text(RIGHT, page, size=8, color=GREY, right=True)
        self._canvas.showPage()


def _address(who: Mapping[str, Any]) -> tuple[str, ...]:
    tax = (f"Tax number {who['tax_id']}",) if who["tax_id"] else ()
    return (*who["address"], *tax)


def _settled(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Words and what stands behind them."""
    found: list[tuple[str, str]] = []
    kind = said["kind"]
    if kind == "invoice":
        days = said["terms_days"]
        found.append(
            ("Payment", f"within {days} days, by {_day(said['due_on'])}" if days else "at once")
        )
        found += [(words, text) for words, text in said["house"]["bank"]]
        found.append(("Please quote", said["number"]))
    elif kind == "payout_statement":
        found.append(
            ("Issued by", f"{said['house']['name']}, on behalf of the seller (self-billing)")
        )
        found += [(words, text) for words, text in said["party"]["bank"]]
    elif kind == "credit_memo":
        found.append(("Settlement", "taken off what is open, the invoices below first"))
    found += [("Takes back", f"{_grouped(text)} of {number}") for number, text in said["cites"]]
    return found


def _day(text: str) -> str:
    return f"{date.fromisoformat(text):%d %B %Y}"


def _grouped(text: str) -> str:
    """A decimal for people: thousands apart."""
    whole, _, rest = text.lstrip("-").partition(".")
    return f"{'-' if text.startswith('-') else ''}{int(whole):,}.{rest}"
