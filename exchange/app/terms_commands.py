"""Commands about sellers' terms: what a month's tiers come to."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.app.commands import WHO, AsJson, By, DataDir, err, out, print_json, with_tools
from exchange.app.ground import Ground
from exchange.core.money import text_of
from exchange.effects.settlements import Settled, Settlements
from exchange.flows.settling import CannotSettle, Settling

terms = typer.Typer(help="What sellers' terms make of a month.")


@terms.command("settle")
def terms_settle(
    period: Annotated[str, typer.Option(help="The month: 2026-11.")],
    seller: Annotated[
        list[str] | None, typer.Option(help="Only this seller; repeat it.  [default: all]")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show what it would book.")] = False,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Settle a month of sellers with tiers: the step that its sales reached is their share of every
    price of that month, and what that adds to their payouts is booked (TERMS on their statements).

    A job does this by itself soon after the month's end. Settling again books nothing, or what
    returns changed since. --dry-run also shows a month that is not over.

    Exit code 0 when it is settled, 1 when it cannot be yet."""

    async def work(base: Ground) -> tuple[Settled, ...] | str:
        settling = Settling(settlements=Settlements(base.database), clock=base.clock)
        try:
            return await settling.settle(period, only=seller or (), by=by, dry_run=dry_run)
        except CannotSettle as why:
            return str(why)

    found = with_tools(data_dir, work)
    if isinstance(found, str):
        err.print(f"[red]refused[/] {escape(found)}")
        raise typer.Exit(1)
    if as_json:
        print_json(found)
    else:
        page(found, out, dry_run=dry_run)


def page(found: Sequence[Settled], out: Console, *, dry_run: bool) -> None:
    """What each seller's month came to."""
    now = "would book" if dry_run else "booked now"
    heads = ("seller", "month in", "leads", "prices", "step reached", "due", "before", now)
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for number in (2, 3, 5, 6, 7):
        table.columns[number].justify = "right"
    for one in found:
        table.add_row(
            escape(one.seller),
            one.zone,
            f"{one.due.leads:,}",
            f"{text_of(one.due.money_micros)} {one.currency}",
            one.due.words or "none",
            text_of(one.due.due_micros),
            text_of(one.before_micros),
            text_of(one.booked_micros),
        )
    out.print(table if found else "no seller with tiers sold anything in that month")
