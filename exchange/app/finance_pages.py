"""What the commands of finance print, and the columns of the files they write."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.core.money import text_of
from exchange.core.statements import Line, Statement
from exchange.effects.proof import Proven

LINES_SHOWN_MAX: Final = 20


def statements(made: Sequence[Statement], out: Console) -> None:
    """Each statement's balances and totals, and its last lines."""
    for one in made:
        name = escape(one.party.name or one.party.key)
        out.print(f"[bold]{name}[/], {one.first} to {one.last} in {one.zone}", highlight=False)
        table = Table("", "lines", one.currency, box=box.SIMPLE_HEAD)
        table.columns[1].justify = table.columns[2].justify = "right"
        table.add_row("opening balance", "", text_of(one.opening_micros))
        for kind in one.kinds:
            name = kind if kind == "terms" else f"{kind}s"
            table.add_row(name, str(one.counts[kind]), text_of(one.totals[kind]))
        table.add_section()
        table.add_row("closing balance", "", text_of(one.closing_micros), style="bold")
        out.print(table)
        if one.lines:
            out.print(_lines(one.lines))
    if not made:
        out.print("nothing was ever owed")


def _lines(lines: Sequence[Line]) -> Table:
    heads = ("day", "line", "contract", "reference", "sale or document", "amount", "balance")
    before = len(lines) - LINES_SHOWN_MAX
    title = f"the last {LINES_SHOWN_MAX}; {before} stand before them" if before > 0 else None
    table = Table(*heads, box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.columns[5].justify = table.columns[6].justify = "right"
    table.columns[4].min_width = 36  # an id that is cut is none
    for line in lines[-LINES_SHOWN_MAX:]:
        said = (line.contract, line.reference, line.document)
        amounts = (text_of(line.amount_micros), text_of(line.balance_micros))
        table.add_row(str(line.day), line.kind, *map(escape, said), *amounts)
    return table


def proof(found: Proven, out: Console) -> None:
    """What was summed, and every check with the first ids that fail it."""
    sums = Table("currency", "transfers", "moved", "out of balance", box=box.SIMPLE_HEAD)
    for one in sums.columns[1:]:
        one.justify = "right"
    for row in found.sums:
        amounts = (text_of(row.amount_micros), text_of(row.imbalance_micros))
        sums.add_row(row.currency, str(row.transfers), *amounts)
    checks = Table("", "check", "looked at", "wrong", "first", box=box.SIMPLE_HEAD)
    for check in found.checks:
        mark = "[red]fails[/]" if check.wrong else "[green]holds[/]"
        numbers = (str(check.looked), str(check.wrong))
        checks.add_row(mark, check.sentence, *numbers, "\n".join(check.first))
    if found.sums:
        out.print(sums)
    out.print(checks)
