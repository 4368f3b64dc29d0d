"""What the commands of reconciliation print, and the columns of the files they write."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.core.kept_reconciliation import Changed, KeptFinding, Run, command_of
from exchange.core.money import text_of
from exchange.core.verdicts import Finding, Total
from exchange.effects.papers.tables import Cell, amount
from exchange.flows.reconciliations import Resolution

FINDING_HEADER: Final = (
    *("verdict", "ambiguous", "their lines", "sale id", "lead id", "matched by", "our day"),
    *("their day", "our status", "their status", "ours", "our currency", "theirs"),
    *("their currency", "evidence", "suggested", "suggested amount", "why"),
)
KEPT_HEADER: Final = (
    *("number", *FINDING_HEADER, "command"),
    *("settled", "settled by", "settled because"),
)
UNREAD_SHOWN_MAX: Final = 20
STYLES: Final = {
    "agreed": "green",
    "only_ours": "red",
    "only_theirs": "red",
    "other_price": "yellow",
    "other_status": "yellow",
}
STATES: Final = {
    "offered": "would end so",
    "done": "ended so",
    "already": "had ended so",
    "otherwise": "had ended otherwise",
    "running": "its post is under way still",
    "no_such": "there is no such attempt of this buyer",
    "left": "left: ambiguous, or not listed",
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


def kept_cells(kept: KeptFinding, run: Run) -> Sequence[Cell]:
    """A kept finding as a row under `KEPT_HEADER`."""
    done = kept.settled
    return (
        kept.number,
        *finding_cells(kept.finding),
        command(kept, run),
        done.at.isoformat() if done else "",
        done.by if done else "",
        done.why if done else "",
    )


def command(kept: KeptFinding, run: Run) -> str:
    """What books, or looks into, a finding of a run."""
    return command_of(
        kept.finding,
        run=run.reconciliation_id,
        number=kept.number,
        partner=run.partner,
        side=run.side,
    )


# --- one run --------------------------------------------------------------------------------------


def run(one: Run, changed: Changed | None, shown: Sequence[KeptFinding], out: Console) -> None:
    """What was compared, the totals, what changed since the last time, the first differences."""
    out.print(
        f"{one.side} {one.partner}, {one.first_day} to {one.last_day} in {one.zone}: "
        f"{one.their_lines} lines of theirs (read: {', '.join(one.columns)}), {one.our_lines} of "
        f"ours; by {escape(one.by)} at {one.at:%Y-%m-%d %H:%M} UTC",
        highlight=False,
    )
    out.print(f"file sha256:{one.file_sha256}", highlight=False, soft_wrap=True)
    if one.outside:
        out.print(f"{one.outside} lines of theirs belong to another period")
    for bad in one.unread[:UNREAD_SHOWN_MAX]:
        out.print(f"[red]line {bad['line']}[/] {bad['field']}: {bad['why']}", highlight=False)
    if len(one.unread) > UNREAD_SHOWN_MAX:
        out.print(f"and {len(one.unread) - UNREAD_SHOWN_MAX} more lines that cannot be read")
    out.print(_totals(one.totals))
    if changed is not None:
        _print_changed(changed, out)
    if shown:
        out.print(_differences(shown, one))
    rest = one.differences - len(one.unread) - len(shown)
    if rest > 0:
        out.print(f"{rest} differences more; all: exchange reconcile export ID --out FILE.xlsx")
    if one.ambiguous:
        out.print(f"{one.ambiguous} findings are ambiguous: look at them before you book anything")
    if one.settled:
        out.print(f"{one.settled} differences are settled")
    out.print(f"kept: exchange reconcile show {one.reconciliation_id}", soft_wrap=True)


def _print_changed(changed: Changed, out: Console) -> None:
    since = f"since {changed.at:%Y-%m-%d %H:%M} UTC ({changed.previous})"
    if not (changed.appeared or changed.gone):
        out.print(f"the same file as before; nothing changed {since}", soft_wrap=True)
        return
    out.print(
        f"the same file as before; {since}: {changed.appeared} differences are new, "
        f"{changed.gone} are gone",
        soft_wrap=True,
    )


def _totals(totals: Sequence[Total]) -> Table:
    heads = ("", "findings", "their lines", "ambiguous", "ours", "theirs", "difference", "")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for column in table.columns[1:7]:
        column.justify = "right"
    for currency in sorted({one.currency for one in totals}):
        mine = [one for one in totals if one.currency == currency]
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


def _differences(shown: Sequence[KeptFinding], of: Run) -> Table:
    heads = ("", "difference", "lines", "sale", "day", "ours", "theirs", "evidence", "suggested")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    table.columns[3].min_width = 36  # an id that is cut is none
    for kept in shown:
        one, settled = kept.finding, kept.settled
        day = one.our_day or one.their_day
        mended = f"settled by {escape(settled.by)}: {escape(settled.why)}" if settled else ""
        table.add_row(
            str(kept.number),
            f"[{STYLES[one.verdict]}]{one.verdict.replace('_', ' ')}[/]"
            + (" [bold]?[/]" if one.ambiguous else ""),
            " ".join(map(str, one.lines)),
            one.attempt_id,
            str(day) if day else "",
            text_of(one.ours_micros),
            text_of(one.theirs_micros),
            "; ".join(one.evidence),
            mended or f"{one.suggested.sentence}\n[dim]{escape(command(kept, of))}[/]",
        )
    return table


# --- many runs, doubts ----------------------------------------------------------------------------


def runs(found: Sequence[Run], out: Console) -> None:
    """Reconciliations, a line each."""
    heads = ("id", "made", "by", "partner", "period", "lines", "differences", "settled", "file")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    table.columns[0].min_width = 36
    for column in table.columns[5:8]:
        column.justify = "right"
    for one in found:
        table.add_row(
            one.reconciliation_id,
            f"{one.at:%Y-%m-%d %H:%M}",
            escape(one.by),
            f"{one.side} {one.partner}",
            f"{one.first_day} to {one.last_day}",
            str(one.their_lines),
            str(one.differences),
            str(one.settled),
            one.file_sha256[:12],
        )
    out.print(table if found else "nothing was reconciled yet")


def resolutions(found: Sequence[Resolution], *, dry_run: bool, out: Console) -> None:
    """The doubts that a file speaks of, and what became of each."""
    if not found:
        out.print("the file speaks of no post in doubt")
        return
    table = Table("", "sale", "the file says", "", box=box.SIMPLE_HEAD)
    table.columns[1].min_width = 36
    for one in found:
        said = one.outcome or "nothing that counts"
        table.add_row(str(one.number), one.attempt_id, said, STATES[one.state])
    out.print(table)
    if dry_run and any(one.state == "offered" for one in found):
        out.print("nothing was ended yet: say it again with --yes")
