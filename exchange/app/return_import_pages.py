"""What an import of returns prints: for people a summary, for programs every line."""

from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.core.money import text_of
from exchange.core.return_sheet import FLAGS
from exchange.core.returns import SENTENCES
from exchange.core.sheet_words import Learnt
from exchange.flows.return_sheet import LineResult, SheetDone

SHOWN_MAX: Final = 40
"""Lines on the terminal; the reply (--out) has them all."""
STYLES: Final = {
    "granted": "green",
    "denied": "red",
    "referred": "yellow",
    "appealed": "yellow",
    "flagged": "bold yellow",
}


def imported(done: SheetDone, out: Console) -> None:
    """What was decided, what it comes to, and the first lines that need somebody."""
    read = ", ".join(f"{field} from {name}" for field, name in done.columns.items())
    what = "booked" if done.booked else "a preview: nothing is booked"
    out.print(
        f"{done.buyer}: {len(done.lines)} lines ({escape(read)}), days in {done.zone}; {what}",
        highlight=False,
    )
    out.print(_rules(done))
    if done.totals:
        out.print(_totals(done))
    if done.lines:
        out.print(_lines(done))
    if len(done.lines) > SHOWN_MAX:
        out.print(f"the first {SHOWN_MAX} lines; --out FILE.xlsx writes them all")
    if done.needs_a_person:
        out.print(
            f"lines that need a person: {done.needs_a_person} (flagged here, or in `returns list`)"
        )
    if not done.booked:
        out.print("add --book to make these returns", style="yellow")


def _rules(done: SheetDone) -> Table:
    table = Table("lines", "state", "rule", "because", box=box.SIMPLE_HEAD)
    table.columns[0].justify = "right"
    sentences = SENTENCES | {str(flag): text for flag, text in FLAGS.items()}
    states = {one.rule: one.state for one in done.lines}
    for rule, count in sorted(done.rules.items(), key=lambda item: (-item[1], item[0])):
        state = states[rule]
        table.add_row(str(count), f"[{STYLES.get(state, '')}]{state}[/]", rule, sentences.get(rule))
    return table


def _totals(done: SheetDone) -> Table:
    heads = ("", "returns", "credited", "before", "taken back", "the house bears")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for one in done.totals:
        amounts = (one.credit_micros, one.before_micros, one.clawback_micros, one.borne_micros)
        table.add_row(one.currency, str(one.lines), *map(text_of, amounts))
    return table


def _lines(done: SheetDone) -> Table:
    heads = ("line", "state", "reason", "sale", "by", "credit", "because")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    table.columns[0].justify = table.columns[5].justify = "right"
    table.columns[3].min_width = 36  # an id that is cut is none
    for one in done.lines[:SHOWN_MAX]:
        case = one.case
        said = f"As line {one.twin_of}. {one.says}" if one.twin_of else one.says
        table.add_row(
            str(one.line),
            f"[{STYLES.get(one.state, 'white')}]{one.state}[/]"
            + (" again" if one.replayed else ""),
            case.reason if case else "",
            case.attempt_id if case else "",
            one.matched_by,
            f"{text_of(case.credit_micros)} {case.currency}" if case else "",
            escape(said),
        )
    return table


def told(done: SheetDone) -> Mapping[str, Any]:
    """The whole result for programs; nothing of the sheet's own cells is in it."""
    return {
        "buyer": done.buyer,
        "booked": done.booked,
        "zone": done.zone,
        "columns": done.columns,
        "counts": done.counts,
        "rules": done.rules,
        "needs_a_person": done.needs_a_person,
        "totals": [
            {
                "currency": one.currency,
                "returns": one.lines,
                "credit": text_of(one.credit_micros),
                "booked_before": text_of(one.before_micros),
                "taken_back": text_of(one.clawback_micros),
                "borne": text_of(one.borne_micros),
            }
            for one in done.totals
        ],
        "lines": [_line_told(one, booked=done.booked) for one in done.lines],
    }


def _line_told(one: LineResult, *, booked: bool) -> Mapping[str, Any]:
    case = one.case
    known = booked or one.replayed  # the id of a return that is only foreseen is no id
    return {
        "line": one.line,
        "state": one.state,
        "rule": one.rule,
        "message": one.says,
        "twin_of": one.twin_of,
        "replayed": one.replayed,
        "matched_by": one.matched_by,
        "sale_id": case.attempt_id if case else None,
        "lead_id": case.lead_id if case else None,
        "reason": case.reason if case else None,
        "credit": text_of(case.credit_micros) if case else None,
        "currency": case.currency if case else None,
        "return_id": case.return_id if case and known else None,
    }


def words(buyer: str, learnt: Learnt, out: Console) -> None:
    """What is known of a buyer's sheets."""
    table = Table("", "their words", "ours", box=box.SIMPLE_HEAD)
    for field, header in learnt.columns.items():
        table.add_row("column", escape(header), field)
    for phrase, reason in learnt.reasons.items():
        table.add_row("reason", escape(phrase), reason.label)
    if learnt.day_order:
        table.add_row("days", "", learnt.day_order)
    out.print(table if table.row_count else f"nothing was learnt of {escape(buyer)} yet")


def words_told(learnt: Learnt) -> Mapping[str, Any]:
    """The same for programs."""
    return {
        "columns": learnt.columns,
        "reasons": {phrase: reason.label for phrase, reason in learnt.reasons.items()},
        "days": learnt.day_order,
    }
