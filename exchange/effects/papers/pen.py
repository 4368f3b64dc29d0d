"""What all papers are drawn with: a place on an A4 page, words, a thin line.

The fonts are those every reader has; a character they lack is drawn as a question mark.
"""

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

PLAIN, BOLD = "Helvetica", "Helvetica-Bold"
WIDTH, HEIGHT = A4
LEFT, RIGHT, TOP, BOTTOM = 18 * mm, WIDTH - 18 * mm, HEIGHT - 18 * mm, 20 * mm
INK, GREY, RULE, BAND = map(HexColor, ("#1d2733", "#66707c", "#c9d0d8", "#f3f5f8"))


class Pen:
    """Draws on a canvas; `_y` is where the next row goes."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._y = TOP

    def _down(self, by: float) -> None:
        self._y -= by

    def _rule(self) -> None:
        self._canvas.setStrokeColor(RULE)
        self._canvas.setLineWidth(0.5)
        self._canvas.line(LEFT, self._y, RIGHT, self._y)

    def _text(
        self,
        x: float,
        text: str,
        *,
        size: float,
        font: str = PLAIN,
        color: Color = INK,
        right: bool = False,
    ) -> None:
        self._canvas.setFont(font, size)
        self._canvas.setFillColor(color)
        draw = self._canvas.drawRightString if right else self._canvas.drawString
        draw(x, self._y, latin(text))


def latin(text: str) -> str:
    """What the fonts of every reader can draw."""
    return text.encode("cp1252", errors="replace").decode("cp1252")
