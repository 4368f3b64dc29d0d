"""What the commands of periods print."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.core.accruals import PULL
from exchange.core.money import text_of
from exchange.core.periods import PeriodRow
from exchange.effects.accruals import Accrued
from exchange.effects.lead_money import Leg
from exchange.effects.periods import Balance
from exchange.flows.periods import Checked, Shown


def listing(rows: Sequence[PeriodRow], out: Console) -> None:
    """The periods as a table."""
    if not rows:
        out.print("no period yet: exchange period open --month 2026-11")
        return
    table = Table("period", "from", "to", "zone", "state", "by", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(
            str(row.id), str(row.first), str(row.last), row.zone,
            _state(row), escape(row.closed_by or row.opened_by),
        )  # fmt: skip
    out.print(table)


def checked(seen: Checked, out: Console) -> None:
    """The checklist, and for each line that does not hold what to do."""
    row = seen.period
    out.print(f"period {row.id}, {row.first} to {row.last} ({row.zone}): {_state(row)}")
    table = Table("line", "", "what", box=box.SIMPLE_HEAD)
    for line in seen.lines:
        mark = "[green]ok[/]" if line.holds else "[red]no[/]"
        what = [line.asks]
        if not line.holds:
            named = f" ({', '.join(line.first)})" if line.first else ""
            what = [f"{line.says}{named}", f"mend it: {line.mend}"]
        table.add_row(line.name, mark, escape("\n".join(what)))
    out.print(table)
    if seen.may_close:
        out.print(f"it may close: exchange period close {row.id}")


def period(shown: Shown, out: Console) -> None:
    """One period with what it closed with."""
    row = shown.period
    out.print(f"period {row.id}, {row.first} to {row.last} ({row.zone}): {_state(row)}")
    for waiver in shown.waivers:
        said = f"waived {waiver.line} ({waiver.found}) by {waiver.by}: {waiver.why}"
        out.print(escape(said), highlight=False)
    if shown.balances:
        heads = ("account", "of", "currency", "opening", "debits", "credits", "closing")
        table = Table(*heads, box=box.SIMPLE_HEAD)
        for column in table.columns[3:]:
            column.justify = "right"
        for one in shown.balances:
            table.add_row(
                one.kind, escape(f"{one.party_kind} {one.party}"), one.currency,
                text_of(one.opening_micros), text_of(one.debit_micros),
                text_of(one.credit_micros), text_of(one.closing_micros),
            )  # fmt: skip
        out.print(table)
    accrued(shown.accrued, out)


def accrued(rows: Sequence[Accrued], out: Console) -> None:
    """How the accrual of expected returns came about."""
    if not rows:
        return
    heads = (
        *("contract", "currency", "open sales", "worth", "lost if all return", "earlier sales"),
        *("credited of", "vertical's", "rate", "set aside"),
    )
    table = Table(*heads, box=box.SIMPLE_HEAD, title="expected returns of open windows")
    for column in table.columns[2:]:
        column.justify = "right"
    for one in rows:
        table.add_row(
            escape(one.contract), one.currency, str(one.open_sales), text_of(one.open_micros),
            text_of(one.loss_micros), str(one.ended_sales),
            f"{text_of(one.credited_micros)}/{text_of(one.ended_micros)}",
            _percent(one.vertical_rate), _percent(one.rate), text_of(one.amount_micros),
        )  # fmt: skip
    out.print(table)
    out.print(
        "set aside = lost if all return x rate; the rate is that of the contract's earlier sales, "
        f"drawn to the vertical's as {PULL} sales would"
    )


def balances(rows: Sequence[Balance], out: Console) -> None:
    """What accounts have."""
    heads = ("account", "of", "currency", "debits", "credits", "balance")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for column in table.columns[3:]:
        column.justify = "right"
    for one in rows:
        table.add_row(
            one.kind, escape(f"{one.party_kind} {one.party}"), one.currency,
            text_of(one.debit_micros), text_of(one.credit_micros), text_of(one.balance_micros),
        )  # fmt: skip
    out.print(table if rows else "nothing")


def lead(legs: Sequence[Leg], out: Console) -> None:
    """A lead back to back; amounts are debits less credits."""
    table = Table("at", "what", "currency", "buyer", "seller", "house", box=box.SIMPLE_HEAD)
    for column in table.columns[3:]:
        column.justify = "right"
    for one in legs:
        sides = (one.buyer_micros, one.seller_micros, one.house_micros)
        at = f"{one.at:%Y-%m-%d %H:%M:%S}"
        table.add_row(at, one.what, one.currency, *(text_of(s) if s else "" for s in sides))
    table.add_section()
    for currency in sorted({one.currency for one in legs}):
        mine = [one for one in legs if one.currency == currency]
        sums = (
            sum(one.buyer_micros for one in mine),
            sum(one.seller_micros for one in mine),
            sum(one.house_micros for one in mine),
        )
        table.add_row("", "together", currency, *map(text_of, sums))
    out.print(table)
    named = sorted({f"buyer {one.buyer}" for one in legs if one.buyer})
    named += sorted({f"seller {one.seller}" for one in legs if one.seller})
    out.print(escape(", ".join(named)), highlight=False)


def _percent(millionths: int) -> str:
    return f"{text_of(millionths * 100)} %"


def _state(row: PeriodRow) -> str:
    if row.closed_at is None:
        return "open"
    return f"closed {row.closed_at:%Y-%m-%d %H:%M} UTC by {row.closed_by}"
