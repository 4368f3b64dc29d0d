"""Commands that pause and resume sources."""

import asyncio
from typing import Annotated, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.app.commands import WHO, AsJson, By, DataDir, err, out, print_json, with_tools
from exchange.app.ground import Ground
from exchange.app.incidents import pausing_of
from exchange.app.market_commands import IN_FORCE_S
from exchange.core.messages import Refusal
from exchange.effects.pauses import ListedPause
from exchange.flows.pausing import Paused

T = TypeVar("T")
Feed = Annotated[str, typer.Argument(help="SELLER/SOURCE, by their keys.")]
SubId = Annotated[str | None, typer.Option("--sub-id", help="Only this sub_id of it.")]
AtBuyer = Annotated[str | None, typer.Option("--buyer", help="Only at this buyer, by its key.")]
Why = Annotated[str, typer.Option("--why", help="Why: stands in the audit.")]

source = typer.Typer(help="Sources: paused as a whole, by sub_id, or at one buyer.")


def or_exit(done: T | Refusal) -> T:
    """What was asked for; a refusal is told on standard error and ends the command with 1."""
    if isinstance(done, Refusal):
        said = "; ".join(
            " ".join(filter(None, (one.field, one.message, one.hint and f"({one.hint})")))
            for one in done.problems
        )
        err.print(f"[red]refused[/] {escape(said or done.detail)}")
        raise typer.Exit(1)
    return done


@source.command("pause")
def source_pause(
    feed: Feed,
    why: Why,
    sub_id: SubId = None,
    buyer: AtBuyer = None,
    by: By = WHO,
    data_dir: DataDir = None,
) -> None:
    """Pause a source, in every worker within two seconds.

    With --sub-id its other sub_ids go on, with --buyer every other buyer is still asked. A paused
    sub_id is answered no_offer (or rejected) with reason 717; a paused source with 403."""
    asked = Paused(source=feed, sub_id=sub_id, buyer=buyer, by=by, why=why)

    async def work(base: Ground) -> bool | Refusal:
        done = await pausing_of(base).pause(asked)
        await asyncio.sleep(IN_FORCE_S)
        return done

    is_new = or_exit(with_tools(data_dir, work))
    out.print(f"{escape(named(asked))} {'is paused' if is_new else 'was paused already'}")


@source.command("resume")
def source_resume(
    feed: Feed,
    why: Why,
    sub_id: SubId = None,
    buyer: AtBuyer = None,
    by: By = WHO,
    data_dir: DataDir = None,
) -> None:
    """End a pause made here by a person or a rule. What an incident paused ends with it."""
    asked = Paused(source=feed, sub_id=sub_id, buyer=buyer, by=by, why=why)

    async def work(base: Ground) -> int | Refusal:
        done = await pausing_of(base).resume(asked)
        await asyncio.sleep(IN_FORCE_S)
        return done

    if not or_exit(with_tools(data_dir, work)):
        err.print(f"[red]not paused[/] {escape(named(asked))}: see exchange source pauses")
        raise typer.Exit(1)
    out.print(f"{escape(named(asked))} is resumed")


@source.command("pauses")
def source_pauses(
    feed: Annotated[
        str | None, typer.Argument(help="SELLER/SOURCE.  [default: every source]")
    ] = None,
    lifted: Annotated[bool, typer.Option("--lifted", help="Ended ones too.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show which sources are paused, where, since when, by whom and why."""
    rows = or_exit(with_tools(data_dir, lambda base: pausing_of(base).listing(feed, lifted=lifted)))
    if as_json:
        print_json(rows)
    else:
        page(rows, out)


def named(asked: Paused) -> str:
    """What is paused, in words."""
    sub_id = f" sub_id {asked.sub_id}" if asked.sub_id else ""
    return f"{asked.source}{sub_id}" + (f" at {asked.buyer}" if asked.buyer else "")


def page(rows: tuple[ListedPause, ...], to: Console) -> None:
    """The list of pauses."""
    if not rows:
        to.print("no source is paused")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for column in ("source", "sub_id", "at", "since (UTC)", "by", "until", "why"):
        table.add_column(column)
    for row in rows:
        until = f"{row.lifted_at:%Y-%m-%d %H:%M} by {row.lifted_by}" if row.lifted_at else ""
        if row.lift_at and not row.lifted_at:
            until = f"{row.lift_at:%Y-%m-%d %H:%M}"
        if row.incident_id and not row.lifted_at:
            until = f"incident {row.incident_id}"
        place = (f"{row.seller}/{row.source}", row.sub_id or "", row.buyer or "every buyer")
        said = (f"{row.since:%Y-%m-%d %H:%M}", row.by, until, row.why)
        table.add_row(*map(escape, (*place, *said)))
    to.print(table)
