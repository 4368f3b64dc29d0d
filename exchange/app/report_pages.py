"""What the reports print, and the columns of the files they write."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.core.money import text_of
from exchange.core.quality import ACCEPT_STRENGTH, RETURN_STRENGTH, Quality
from exchange.core.reports import AMOUNTS, Column, Line, Report, Value
from exchange.effects.papers.tables import Cell, amount

QUALITY_HEADER: Final = (
    *("source", "contract", "vertical", "posts", "accepted", "accept_rate", "accept_shrunk"),
    *("returned", "return_rate", "return_shrunk", "factor", "would_pause"),
)
ABREAST: Final = 10
"""Columns side by side on a terminal of usual width; the others follow in a table below."""


def report(made: Report, until: datetime | None, out: Console) -> None:
    """A report as a table per currency, and what its days are."""
    out.print(heading(made, until), highlight=False)
    if not made.lines:
        out.print("nothing happened on these days")
        return
    for total in made.totals:
        lines = [line for line in made.lines if line.currency == total.currency]
        out.print(f"[bold]{total.currency}[/]")
        for begin in range(0, len(made.columns), ABREAST):
            out.print(_table(made, [*lines, total], slice(begin, begin + ABREAST)))
        _print_reasons(lines, out)


def _table(made: Report, lines: Sequence[Line], part: slice) -> Table:
    table = Table(made.by, box=box.SIMPLE_HEAD, padding=(0, 1))
    for column in made.columns[part]:
        table.add_column(column.name.replace("_", "\n"), justify="right", no_wrap=True)
    for line in lines:
        if line is lines[-1]:
            table.add_section()
        cells = map(_text, made.columns[part], line.values[part])
        table.add_row(escape(line.key), *cells)
    return table


def _print_reasons(lines: Sequence[Line], out: Console) -> None:
    for line in lines:
        if line.reasons:
            out.print(f"{escape(line.key)}: {_reasons(line)}", highlight=False)


def heading(made: Report, until: datetime | None) -> str:
    """Which days, of what, and how far they are in."""
    of = "bookings" if made.name == "pnl" else "leads"
    fresh = f"; everything up to {until:%Y-%m-%d %H:%M:%S} UTC is in" if until else ""
    return f"{made.name} by {made.by}, {of} of {made.first} to {made.last}, UTC days{fresh}"


def _text(column: Column, value: Value) -> str:
    if value is None:
        return ""
    if column.kind == "rate":
        return f"{value:.1%}"
    if column.kind == "number":
        return f"{value:.1f}"
    if column.kind == "average":
        return text_of(int(value) // 100 * 100)  # four decimals tell pings apart
    return text_of(int(value)) if column.kind == "money" else str(value)


def _reasons(line: Line) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in line.reasons)


def header(made: Report) -> tuple[str, ...]:
    """The columns of the file: what it is told by, the currency, every column, the reasons."""
    return (made.by, "currency", *(one.name for one in made.columns), "reasons")


def cells(made: Report) -> Iterable[Sequence[Cell]]:
    """The rows of the file."""
    for line in made.lines:
        values = (
            _cell(column, value) for column, value in zip(made.columns, line.values, strict=True)
        )
        yield (line.key, line.currency, *values, _reasons(line))


def _cell(column: Column, value: Value) -> Cell:
    if value is None:
        return None
    if column.kind in AMOUNTS:
        return amount(int(value))
    return Decimal(f"{value:.6f}") if isinstance(value, float) else value


# --- quality --------------------------------------------------------------------------------------


def quality_cells(one: Quality) -> Sequence[Cell]:
    """A source's quality as a row under `QUALITY_HEADER`."""
    return (
        one.source,
        one.contract,
        one.vertical,
        one.posts,
        one.accepted,
        _share(one.accept_rate),
        _share(one.accept_shrunk),
        one.returned,
        _share(one.return_rate),
        _share(one.return_shrunk),
        _share(one.factor_millionths / 1_000_000),
        "yes" if one.would_pause else "",
    )


def _share(rate: float | None) -> Decimal | None:
    return None if rate is None else Decimal(f"{rate:.6f}")


def quality(rows: Sequence[Quality], out: Console) -> None:
    """Sources, then sources at contracts; those that would be paused in red."""
    if not rows:
        out.print("no post of these days has ended")
        return
    for title, part in (
        ("Sources", [one for one in rows if not one.contract_id]),
        ("Sources at contracts", [one for one in rows if one.contract_id]),
    ):
        table = Table(
            *("source", "contract", "posts", "accepted", "raw", "shrunk", "returned", "raw"),
            *("shrunk", "worth", ""),
            title=title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for one in part:
            table.add_row(
                escape(one.source),
                escape(one.contract),
                str(one.posts),
                str(one.accepted),
                "" if one.accept_rate is None else f"{one.accept_rate:.1%}",
                f"{one.accept_shrunk:.1%}",
                str(one.returned),
                "" if one.return_rate is None else f"{one.return_rate:.1%}",
                f"{one.return_shrunk:.1%}",
                f"{one.factor_millionths / 1_000_000:.3f}",
                "[red]would be paused[/]" if one.would_pause else "",
            )
        out.print(table)
    out.print(
        f"shrunk: drawn to the vertical's rate, which weighs {ACCEPT_STRENGTH} posts and "
        f"{RETURN_STRENGTH} sales; worth: accepted x (1 - returned), what ranks by expected value",
        style="dim",
    )
