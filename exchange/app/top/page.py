"""A frame as it stands in a terminal: what matters at 80 columns and 24 lines, more where there is
more room. Green is well, yellow is to be looked at, red is wrong.
"""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from exchange.app.top.frame import BuyerLine, CapLine, Frame, Latency

BARS = " ▁▂▃▄▅▆▇█"
WIDE = 112
"""Columns from which the reasons stand beside the rest."""
FIXED_LINES = 17
"""Lines that a page has without its buyers: the head, rates and times, titles, caps, the foot."""
CAPS_SHOWN = 4
SLOW_MS = {"added to a ping": (2.0, 10.0), "added to a sale": (10.0, 50.0)}
"""Yellow and red from here on, at p99."""


def page(
    frame: Frame, *, where: str, history: Sequence[float], width: int, height: int, note: str = ""
) -> RenderableType:
    """One page of `width` columns that fits `height` lines. `history` are pings per second, the
    newest last; `note` says what is wrong with the view itself."""
    is_wide = width >= WIDE
    rooms = max(3, height - FIXED_LINES)
    caps = min(CAPS_SHOWN + max(0, rooms - 12), len(frame.caps or ()) or 1)
    buyers = max(3, height - FIXED_LINES + CAPS_SHOWN - caps)
    columns = Table.grid(expand=True, padding=(0, 1))
    parts: list[RenderableType] = [_flow(frame, history), _times(frame.latencies)]
    if is_wide:
        parts.append(_reasons(frame))
    columns.add_row(*parts)
    return Group(
        _head(frame, where, note),
        columns,
        Rule(_title("buyers", len(frame.buyers), buyers), style="dim", align="left"),
        _buyers(frame.buyers[:buyers], is_wide),
        Rule(
            _title("caps nearest to full", len(frame.caps or ()), caps), style="dim", align="left"
        ),
        _caps(frame.caps, caps, is_wide),
        _foot(frame, is_wide),
    )


def _title(words: str, there: int, shown: int) -> Text:
    more = f"  {there - shown} more" if there > shown else ""
    return Text.assemble((words, "bold cyan"), (more, "dim"))


# --- head and foot --------------------------------------------------------------------------------


def _head(frame: Frame, where: str, note: str) -> RenderableType:
    left = Text.assemble((" exchange ", "bold black on cyan"), f" {where} ", ("up ", "dim"))
    left.append(_age(frame.up_s))
    left.append(f"  {frame.processes} processes  book {frame.book_version}")
    right = Text()
    if note:
        right.append(note, "bold red")
    for server, is_up in sorted(frame.servers.items()):
        right.append(f" {server} ")
        right.append("●", "green" if is_up else "bold red")
    head = Table.grid(expand=True)
    head.add_column(no_wrap=True, overflow="ellipsis")
    head.add_column(justify="right", no_wrap=True)
    head.add_row(left, right)
    return head


def _foot(frame: Frame, is_wide: bool) -> Text:
    foot = Text(no_wrap=True, overflow="ellipsis")
    waiting = {name: length for name, length in frame.queues.items() if length}
    foot.append("queues ", "dim")
    foot.append(" ".join(f"{k} {v}" for k, v in waiting.items()) or "empty")
    foot.append("  books ", "dim")
    if frame.violations is None:
        foot.append("no jobs process proves them", "yellow")
    elif frame.violations:
        foot.append(f"{frame.violations} leads fail their proof", "bold red")
    else:
        foot.append("proven", "green")
    for words, rates in (("dropped", frame.dropped), ("limit", frame.limits)):
        for name, rate in rates.items():
            foot.append(f"  {words} {name} {_rate(rate)}/s", "red")
    if frame.refused and not is_wide:
        foot.append(f"  refused {_rate(sum(frame.refused.values()))}/s", "yellow")
    return foot


# --- rates, times, reasons ------------------------------------------------------------------------


def _flow(frame: Frame, history: Sequence[float]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold", min_width=7)
    table.add_column(no_wrap=True)
    table.add_row(Text("sellers", "bold cyan"), "", "")
    per_s = max(frame.pings_per_s, 1e-9)
    offered = frame.offers_per_s / per_s
    table.add_row("pings/s", _rate(frame.pings_per_s), Text(sparkline(history), "cyan"))
    table.add_row("offers/s", _rate(frame.offers_per_s), _share(offered, bool(frame.pings_per_s)))
    table.add_row("posts/s", _rate(frame.posts_per_s), "")
    sold = frame.sold_per_s / max(frame.posts_per_s, 1e-9)
    table.add_row("sold/s", _rate(frame.sold_per_s), _share(sold, bool(frame.posts_per_s)))
    for currency, amount in list(frame.revenue_per_min.items())[:1] or [("", "0")]:
        table.add_row("revenue/min", amount, currency)
    late = Text(_rate(frame.late_per_s), "bold red" if frame.late_per_s else "green")
    table.add_row("late/s", late, "")
    money = " ".join(f"{amount} {currency}" for currency, amount in frame.doubt_money.items())
    doubts = Text(str(frame.doubts), "bold yellow" if frame.doubts else "green")
    oldest = f"{money}, {_age(frame.doubt_oldest_s)} old" if frame.doubts else ""
    table.add_row("in doubt", doubts, Text(oldest, "yellow"))
    return table


def sparkline(values: Sequence[float]) -> str:
    """Values as bars, the highest of them full."""
    most = max(values, default=0)
    steps = len(BARS) - 1
    return "".join(BARS[round(value / most * steps) if most else 0] for value in values)


def _times(latencies: Sequence[Latency]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", min_width=7)
    table.add_column(justify="right", min_width=7)
    table.add_row(Text("times, ms", "bold cyan"), Text("p50", "dim"), Text("p99", "dim"))
    for one in latencies:
        yellow, red = SLOW_MS.get(one.name, (1e9, 1e9))
        worst = one.p99_ms or 0.0
        style = "bold red" if worst > red else "yellow" if worst > yellow else ""
        table.add_row(one.name, Text(_ms(one.p50_ms), "bold"), Text(_ms(one.p99_ms), style))
    return table


def _reasons(frame: Frame) -> RenderableType:
    """Why pings had no offer, bids did not win, requests were refused."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", style="bold")
    table.add_row(Text("turned down", "bold cyan"), "", "")
    left = 7
    parts = (
        ("no offer", frame.outcomes, 3),
        ("lost", frame.not_sold, 4),
        ("refused", frame.refused, 3),
    )
    for title, rates, most in parts:
        for name, rate in list(rates.items())[: min(most, left)]:
            table.add_row(title, name.replace("_", " "), f"{_rate(rate)}/s")
            title, left = "", left - 1
    if left == 7:
        table.add_row("nothing", "", "")
    return table


# --- buyers and caps ------------------------------------------------------------------------------

HEALTH = {"ok": "green", "resting": "bold red", "braked": "bold yellow"}


def _buyers(lines: Sequence[BuyerLine], is_wide: bool) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("buyer", no_wrap=True, overflow="ellipsis", ratio=1)
    for head in ("asked/s", "bids", "silent", "p50 ms", "sold/min", "wins", "flying"):
        table.add_column(head, justify="right", min_width=12 if is_wide else None, no_wrap=True)
    table.add_column("health", no_wrap=True, justify="right")
    for one in lines:
        is_asked = one.asked_per_s > 0
        silent = "bold red" if one.timed_out > 0.5 else "yellow" if one.timed_out > 0.1 else ""
        table.add_row(
            one.buyer,
            _rate(one.asked_per_s),
            _share(one.bid, is_asked),
            Text(_share(one.timed_out, is_asked), silent),
            _ms(one.p50_ms),
            _rate(one.sold_per_min),
            _share(one.won, is_asked),
            str(one.in_flight),
            Text(one.health, HEALTH[one.health]),
            style="" if is_asked else "dim",
        )
    return table


def _caps(lines: Sequence[CapLine] | None, most: int, is_wide: bool) -> RenderableType:
    if lines is None:
        return Text("the caps' own servers are not named here: see exchange top --help", "dim")
    if not lines:
        return Text("the market has no caps", "dim")
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column(no_wrap=True, overflow="ellipsis", style="dim", ratio=3)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    cells = 30 if is_wide else 16
    for one in lines[:most]:
        share = one.share or 0.0
        style = "red" if share >= 1 else "yellow" if share >= 0.8 else "green"
        full = min(cells, round(share * cells))
        bar = Text.assemble(("━" * full, style), ("─" * (cells - full), "bright_black"))
        told = f"{one.taken} of {one.limit}" if one.share is not None else "unreadable"
        table.add_row(
            one.contract, one.cap, bar, Text(told, "" if one.share is not None else "red")
        )
    return table


# --- words ----------------------------------------------------------------------------------------


def _rate(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _share(value: float, is_any: bool) -> str:
    return f"{value:.0%}" if is_any else ""


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
