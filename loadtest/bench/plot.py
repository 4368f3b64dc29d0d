"""The figures as a drawing: what a ping costs beside the peers, and how that grows. Plain SVG, made
of rectangles, lines and text, so that it opens anywhere and needs no library."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from loadtest.bench.peers import PEERS

WIDTH, MARGIN, LABEL = 960, 24, 210
BAR, GAP = 20, 8
PANEL_W, PANEL_H = 390, 210
COLOURS = {"exchange": "#0b6e4f", "go": "#00789f", "nginx_lua": "#b3541e"}
BARE = "#8a94a6"
INK, PALE = "#1d2733", "#d9dee6"
TITLES = {peer.name: peer.title for peer in PEERS} | {"exchange": "the exchange, everything on"}
PANELS = (
    ("invited", "CPU of a ping by buyers invited"),
    ("contracts", "by contracts in the book, 10 invited"),
    ("sellers", "by sellers in the book"),
    ("changes", "by market changes a second"),
)


def drawn(document: Mapping[str, Any]) -> str:
    """The SVG of one run: as much of it as the run measured."""
    parts: list[str] = []
    top = MARGIN + 30.0
    costs = _costs(document)
    if costs:
        parts += _bars(costs, document, top)
        top += len(costs) * (BAR + GAP) + 50
    panels = [(title, rows) for name, title in PANELS if (rows := _lines(document, name))]
    for number, (title, lines) in enumerate(panels):
        x = MARGIN + (number % 2) * (PANEL_W + 4 * MARGIN)
        parts += _panel(title, lines, x, top + (number // 2) * (PANEL_H + 70))
    height = top + math.ceil(len(panels) / 2) * (PANEL_H + 70) + MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
    )
    title = f"CPU of a ping, us, {document['at'][:10]}, {document['machine']['cores']}"
    return "\n".join((head, _text(MARGIN, MARGIN + 6, title, size=15), *parts, "</svg>\n"))


# --- bars -----------------------------------------------------------------------------------------


def _costs(document: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The exchange and its peers, cheapest first."""
    if "peers" not in document:
        return []
    costs = {name: one["cpu_us"] for name, one in document["peers"].items()}
    return sorted({**costs, "exchange": document["ping"]["cpu_us"]}.items(), key=lambda one: one[1])


def _bars(
    costs: Sequence[tuple[str, float]], document: Mapping[str, Any], top: float
) -> Iterator[str]:
    """A bar each. The longest may be many times the exchange's: it is cut, and says so."""
    ours = document["ping"]["cpu_us"]
    full = max(value for _, value in costs if value <= 5 * ours)
    room = WIDTH - 2 * MARGIN - LABEL - 330
    for number, (name, value) in enumerate(costs):
        y = top + number * (BAR + GAP)
        length = room * min(value / full, 1.06)
        yield _text(MARGIN + LABEL - 8, y + 14, TITLES[name], anchor="end")
        yield (
            f'<rect x="{MARGIN + LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" '
            f'fill="{COLOURS["exchange"] if name == "exchange" else BARE}"/>'
        )
        words = f"{value:,.0f} us"
        if name != "exchange":
            words += f"; the exchange costs {ours / value:.2g} of that"
        cut = " (cut)" if value > full else ""
        yield _text(MARGIN + LABEL + length + 6, y + 14, words + cut)


# --- lines ----------------------------------------------------------------------------------------


def _lines(document: Mapping[str, Any], name: str) -> dict[str, list[tuple[float, float]]]:
    """The lines of one panel: by whom, points of size and CPU."""
    rows = document.get("growth", {}).get(name, {})
    lines: dict[str, list[tuple[float, float]]] = {}
    for size, row in rows.items():
        for key, value in row.items():
            if key.endswith("cpu_us"):
                who = key.removesuffix("_cpu_us") if key != "cpu_us" else "exchange"
                lines.setdefault(who, []).append((float(size), value))
    return lines


def _panel(
    title: str, lines: Mapping[str, Sequence[tuple[float, float]]], x: float, y: float
) -> Iterator[str]:
    """Axes, a line and its points for each, and who it is. Both axes begin at nought."""
    sizes = sorted({size for points in lines.values() for size, _ in points})
    top = _round_up(max(value for points in lines.values() for _, value in points))

    def at(size: float, value: float) -> tuple[float, float]:
        return x + PANEL_W * size / max(sizes[-1], 1.0), y + PANEL_H * (1 - value / top)

    yield _text(x, y - 10, title, size=13)
    for tick in (0.0, top / 2, top):
        _, height = at(0, tick)
        yield (
            f'<line x1="{x}" y1="{height:.1f}" x2="{x + PANEL_W}" y2="{height:.1f}" '
            f'stroke="{PALE}"/>'
        )
        yield _text(x + PANEL_W + 4, height + 4, f"{tick:,.0f}")
    for size in sizes:
        yield _text(at(size, 0)[0], y + PANEL_H + 16, f"{size:,.0f}", anchor="middle")
    for number, (who, points) in enumerate(lines.items()):
        colour = COLOURS.get(who, BARE)
        places = [at(size, value) for size, value in points]
        path = " ".join(f"{left:.1f},{height:.1f}" for left, height in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for left, height in places:
            yield f'<circle cx="{left:.1f}" cy="{height:.1f}" r="3" fill="{colour}"/>'
        words = TITLES.get(who, who)
        yield _text(x + number * 165 - 40 * (number > 1), y + PANEL_H + 34, words, colour=colour)


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= value)


def _text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(words)}</text>'
    )
