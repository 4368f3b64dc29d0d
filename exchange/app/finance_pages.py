"""What the commands of finance print, and the columns of the files they write."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.core.money import text_of
from exchange.core.reconciliation import Finding
from exchange.core.statements import Line, Statement
from exchange.effects.papers.tables import Cell, amount
from exchange.effects.proof import Proven
from exchange.flows.partner_file import Reconciled

FINDING_HEADER: Final = (
    *("verdict", "ambiguous", "their lines", "sale id", "lead id", "matched by", "our day"),
    *("their day", "our status", "their status", "ours", "our currency", "theirs"),
    *("their currency", "evidence", "suggested", "suggested amount", "why"),
)
UNREAD_SHOWN_MAX: Final = 20
LINES_SHOWN_MAX: Final = 20
STYLES: Final = {
    "agreed": "green",
    "only_ours": "red",
    "only_theirs": "red",
    "other_price": "yellow",
    "other_status": "yellow",
}


def finding_cells(one: Finding) -> Sequence[Cell]:
    """A finding as a row under `FINDING_HEADER`."""
    return (
        one.verdict,
        "yes" if one.ambiguous else "",
        " ".join(map(str, one.lines)),
        one.attempt_id,
        one.lead_id,
        one.matched_by,
        one.our_day,
        one.their_day,
        one.our_status,
        one.their_status,
        amount(one.ours_micros),
        one.our_currency,
        amount(one.theirs_micros),
        one.their_currency,
        "; ".join(one.evidence),
        one.suggested.kind,
        amount(one.suggested.amount_micros),
        one.suggested.sentence,
    )


def reconciled(done: Reconciled, shown: Sequence[Finding], out: Console) -> None:
    """What was compared, the totals, the first differences."""
    read = ", ".join(f"{field} from {name}" for field, name in done.columns.items())
    out.print(
        f"{done.buyer}, {done.first} to {done.last} in {done.zone}: {done.their_lines} lines of "
        f"theirs ({escape(read)}), {done.our_lines} of ours",
        highlight=False,
    )
    if done.outside:
        out.print(f"{done.outside} lines of theirs belong to another period")
    for one in done.unread[:UNREAD_SHOWN_MAX]:
        out.print(f"[red]line {one.line}[/] {escape(one.column)}: {one.why}", highlight=False)
    if len(done.unread) > UNREAD_SHOWN_MAX:
        out.print(f"and {len(done.unread) - UNREAD_SHOWN_MAX} more lines that cannot be read")
    out.print(_totals(done))
    if shown:
        out.print(_differences(shown))
    if done.differences > len(shown) + len(done.unread):
        out.print(f"{done.differences} differences; write them all with --out FILE.xlsx")
    if done.ambiguous:
        out.print(f"{done.ambiguous} findings are ambiguous: look at them before you book anything")


def _totals(done: Reconciled) -> Table:
    heads = ("", "findings", "their lines", "ambiguous", "ours", "theirs", "difference", "")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for column in table.columns[1:7]:
        column.justify = "right"
    for currency in sorted({one.currency for one in done.totals}):
        mine = [one for one in done.totals if one.currency == currency]
        for one in mine:
            _add(table, one.verdict, [one.findings, one.lines, one.ambiguous],
                 one.ours_micros, one.theirs_micros, currency)  # fmt: skip
        counts = [
            sum(n) for n in zip(*((o.findings, o.lines, o.ambiguous) for o in mine), strict=True)
        ]
        ours, theirs = (sum(o.ours_micros for o in mine), sum(o.theirs_micros for o in mine))
        _add(table, "together", counts, ours, theirs, currency)
        table.add_section()
    return table


def _add(
    table: Table, name: str, counts: Sequence[int], ours: int, theirs: int, currency: str
) -> None:
    style = STYLES.get(name, "bold")
    words = (text_of(ours), text_of(theirs), text_of(theirs - ours), currency or "not said")
    table.add_row(name.replace("_", " "), *map(str, counts), *words, style=style)


def _differences(shown: Sequence[Finding]) -> Table:
    heads = ("difference", "lines", "sale", "day", "ours", "theirs", "evidence", "suggested")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    table.columns[2].min_width = 36  # an id that is cut is none
    for one in shown:
        day = one.our_day or one.their_day
        table.add_row(
            f"[{STYLES[one.verdict]}]{one.verdict.replace('_', ' ')}[/]"
            + (" [bold]?[/]" if one.ambiguous else ""),
            " ".join(map(str, one.lines)),
            one.attempt_id,
            str(day) if day else "",
            text_of(one.ours_micros),
            text_of(one.theirs_micros),
            "; ".join(one.evidence),
            one.suggested.sentence,
        )
    return table


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
