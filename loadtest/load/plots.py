"""Plots over time as inline SVG, drawn here so that a page needs nothing from anywhere. Colours
come from the page's style sheet by class (`c0` to `c7`, `limit`), so they follow light and dark."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

WIDTH: Final = 640
HEIGHT: Final = 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 26
TICKS: Final = 4


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One row of values over time. `style`: its class; several may share one."""

    name: str
    values: Sequence[float | None]
    style: str


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time with a name, shaded when something struck in it."""

    name: str
    begins: float
    ends: float
    struck: bool


def plot(
    *,
    title: str,
    unit: str,
    at: Sequence[float],
    ends: float,
    lines: Sequence[Line],
    bands: Sequence[Band] = (),
    limits: Sequence[tuple[float, str]] = (),
    most: float | None = None,
    bars: bool = False,
) -> str:
    """A figure with its title and legend. `limits` are horizontal lines with a name; `most` cuts
    the scale, for spikes would hide everything else."""
    shown = [value for line in lines for value in line.values if value is not None]
    top = max([*shown, *(limit for limit, _ in limits), 0.0])
    ticks = scale(min(top, most) if most is not None else top)
    draw = _Drawing(ends=ends or 1.0, top=ticks[-1])
    parts = [draw.band(band) for band in bands]
    parts += [draw.grid(tick) for tick in ticks]
    parts += [draw.time(second) for second in scale(ends, TICKS + 2) if second <= ends]
    if bars:
        parts += [draw.bars(line, at, index, len(lines)) for index, line in enumerate(lines)]
    else:
        parts += [draw.line(line, at) for line in lines]
    parts += [draw.limit(limit, name) for limit, name in limits]
    parts += draw.tips(lines, at, unit)
    legend = "".join(
        f'<span class="key"><i class="{line.style}"></i>{escape(line.name)}</span>'
        for line in lines
    )
    return (
        f"<figure><figcaption><b>{escape(title)}</b> <small>{escape(unit)}</small>{legend}"
        f'</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def scale(top: float, count: int = TICKS) -> list[float]:
    """Round numbers from 0 to at least `top`, about so many."""
    if top <= 0:
        return [0.0, 1.0]
    rough = top / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times >= rough * 0.999)
    return [round(step * number, 10) for number in range(math.ceil(top / step * 0.999) + 1)]


class _Drawing:
    """Seconds and values to places on the picture."""

    def __init__(self, *, ends: float, top: float) -> None:
        self._ends, self._top = ends, top

    def x(self, second: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * second / self._ends, 1)

    def y(self, value: float) -> float:
        share = min(value / self._top, 1.0)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)

    def band(self, band: Band) -> str:
        left, width = self.x(band.begins), self.x(band.ends) - self.x(band.begins)
        shape = f'<rect class="{"struck" if band.struck else "calm"}" x="{left}" y="{TOP}" '
        shape += f'width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"/>'
        if not band.struck:
            return shape
        return f'{shape}<text class="name" x="{left + 4}" y="{TOP + 11}">{escape(band.name)}</text>'

    def grid(self, tick: float) -> str:
        y = self.y(tick)
        return (
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5}" text-anchor="end">'
            f"{number(tick)}</text>"
        )

    def time(self, second: float) -> str:
        words = f"{second:g} s" if self._ends < 300 else f"{second / 60:g} min"
        return (
            f'<text class="tick" x="{self.x(second)}" y="{HEIGHT - 8}" '
            f'text-anchor="middle">{words}</text>'
        )

    def limit(self, value: float, name: str) -> str:
        y = self.y(value)
        return (
            f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text class="limit" x="{WIDTH - RIGHT - 2}" y="{y - 4}" text-anchor="end">'
            f"{escape(name)}</text>"
        )

    def line(self, line: Line, at: Sequence[float]) -> str:
        """Broken where there is no value."""
        path, pen = [], "M"
        for second, value in zip(at, line.values, strict=True):
            if value is None:
                pen = "M"
                continue
            path.append(f"{pen}{self.x(second)} {self.y(value)}")
            pen = "L"
        return f'<path class="{line.style}" d="{"".join(path)}"/>'

    def bars(self, line: Line, at: Sequence[float], place: int, of: int) -> str:
        """Several lines stand side by side."""
        width = max(1.0, (self._window(at) - 2) / of)
        left, floor = width * (place - of / 2), self.y(0.0)
        return "".join(
            f'<rect class="{line.style}" x="{self.x(second) + left:.1f}" '
            f'y="{self.y(value)}" width="{width:.1f}" height="{floor - self.y(value):.1f}" rx="1"/>'
            for second, value in zip(at, line.values, strict=True)
            if value
        )

    def _window(self, at: Sequence[float]) -> float:
        """How wide the time is that one value stands for: values are in the middle of theirs."""
        return self.x(2 * at[0]) - self.x(0.0) if at else 1.0

    def tips(self, lines: Sequence[Line], at: Sequence[float], unit: str) -> list[str]:
        """What the pointer is told at each time."""
        width = self._window(at)
        tips = []
        for index, second in enumerate(at):
            told = [
                f"{line.name}: {number(value)} {unit}"
                for line in lines
                if (value := line.values[index]) is not None
            ]
            words = escape("\n".join([f"at {second:.0f} s", *told]))
            tips.append(
                f'<rect class="tip" x="{self.x(second) - width / 2:.1f}" y="{TOP}" '
                f'width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}">'
                f"<title>{words}</title></rect>"
            )
        return tips


def number(value: float) -> str:
    """A number as people read it: three digits that matter, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
