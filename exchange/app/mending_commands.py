"""Commands that look and mend: explain, posts in doubt, caps."""

from typing import Annotated, cast

import typer

from exchange.app import pages
from exchange.app.commands import (
    WHO,
    AsJson,
    By,
    DataDir,
    err,
    out,
    print_json,
    settings_of,
    with_tools,
)
from exchange.app.ground import Ground
from exchange.app.worker import explainer, resolving_of
from exchange.core.book import Book
from exchange.core.story import Story
from exchange.effects.caps import Rebuilt, Unreadable
from exchange.effects.doubts import DoubtFilter, Doubts
from exchange.flows.caps import CapRow, NoSuchBuyer, rebuild, show
from exchange.flows.doubt import BulkResolved, DoubtRow, Outcome, listing, resolve_many, totals
from exchange.flows.explain import NoSuchStory
from exchange.flows.story_page import page as story_page


def explain(
    ping_or_lead_id: Annotated[str, typer.Argument(help="The ping_id or lead_id (they are one).")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell the whole story of a ping or lead: who was asked, who was not and why, what each said,
    the posts, the money, the custody."""
    settings = settings_of(data_dir=data_dir)

    async def work(base: Ground) -> Story | NoSuchStory:
        return await explainer(base, settings.limits.invited_max).story(ping_or_lead_id)

    story = with_tools(data_dir, work)
    if isinstance(story, NoSuchStory):
        err.print(
            f"[red]unknown[/] there is no ping or lead {ping_or_lead_id} here; "
            "one of a demo is in the demo's own folder: name it with --data-dir"
        )
        raise typer.Exit(1)
    if as_json:
        print_json(story)
    else:
        out.print(story_page(story))


doubt = typer.Typer(help="Posts that were sent and never clearly answered.")


@doubt.command("list")
def doubt_list(
    data_dir: DataDir = None,
    buyer: Annotated[str | None, typer.Option(help="Only this buyer's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the posts in doubt, with the leads, money and caps they hold."""

    async def work(base: Ground) -> tuple[DoubtRow, ...]:
        book = base.standing.book
        narrowed = DoubtFilter(buyer_id=_buyer_id(book, buyer))
        return await listing(narrowed, doubts=Doubts(base.database), book=book)

    rows = with_tools(data_dir, work)
    if as_json:
        print_json({"rows": rows, "totals": totals(rows)})
    else:
        pages.doubts(rows, out)


@doubt.command("resolve")
def doubt_resolve(
    outcome: Annotated[str, typer.Argument(help="sold, rejected or written_off")],
    ids: Annotated[list[str] | None, typer.Argument(help="Attempts or leads.")] = None,
    data_dir: DataDir = None,
    buyer: Annotated[str | None, typer.Option(help="All of this buyer's.")] = None,
    why: Annotated[str, typer.Option(help="Why: stands in the audit.")] = "",
    by: By = WHO,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only show it.")] = False,
    as_json: AsJson = False,
) -> None:
    """End doubts on your word. Without --yes: shows which leads, money and caps it would move."""
    if outcome not in ("sold", "rejected", "written_off") or not (ids or buyer):
        err.print("[red]usage[/] name an outcome (sold, rejected, written_off) and ids or --buyer")
        raise typer.Exit(2)

    async def work(base: Ground) -> BulkResolved:
        book = base.standing.book
        return await resolve_many(
            DoubtFilter(buyer_id=_buyer_id(book, buyer), ids=tuple(ids) if ids else None),
            cast(Outcome, outcome),
            by=by,
            why=why,
            dry_run=not yes,
            doubts=Doubts(base.database),
            resolving=resolving_of(base),
            book=book,
        )

    done = with_tools(data_dir, work)
    if as_json:
        print_json(done)
    else:
        pages.resolved(done, out)


caps = typer.Typer(help="What counts against the caps.")


@caps.command("show")
def caps_show(
    data_dir: DataDir = None,
    buyer: Annotated[str | None, typer.Option(help="Only this buyer's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show every open cap window: used, held, limit, and the database's own count beside it."""

    async def work(base: Ground) -> tuple[CapRow, ...]:
        return await show(
            caps=base.caps, book=base.standing.book, at=base.clock.now(), buyer_key=buyer
        )

    try:
        rows = with_tools(data_dir, work)
    except NoSuchBuyer as unknown:
        err.print(f"[red]unknown[/] {unknown}")
        raise typer.Exit(1) from None
    if as_json:
        print_json(rows)
    else:
        pages.caps(rows, out)


@caps.command("rebuild")
def caps_rebuild(
    buyer: Annotated[str, typer.Argument(help="The buyer's key.")], data_dir: DataDir = None
) -> None:
    """Count a buyer's caps anew from the database, whatever Valkey says."""

    async def work(base: Ground) -> Rebuilt | Unreadable:
        return await rebuild(buyer, caps=base.caps, book=base.standing.book)

    try:
        done = with_tools(data_dir, work)
    except NoSuchBuyer as unknown:
        err.print(f"[red]unknown[/] {unknown}")
        raise typer.Exit(1) from None
    if isinstance(done, Unreadable):
        err.print(f"[red]not rebuilt[/] {done.detail}")
        raise typer.Exit(1)
    counted = f"{done.windows} windows, {done.holds} live holds"
    out.print(f"generation {done.generation}: {counted} counted anew")


def _buyer_id(book: Book, key: str | None) -> int | None:
    if key is None:
        return None
    for buyer in book.buyers.values():
        if buyer.key == key:
            return buyer.id
    err.print(f"[red]unknown[/] there is no buyer {key}")
    raise typer.Exit(1)
