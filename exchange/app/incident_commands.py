"""Commands of incidents: a source sent what should not have been sold."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, TypeVar, cast, get_args

import typer
from rich.progress import Progress

from exchange.app import incident_pages as pages
from exchange.app.commands import WHO, AsJson, By, DataDir, err, out, print_json, with_tools
from exchange.app.ground import Ground
from exchange.app.incidents import incidents_of
from exchange.app.source_commands import SubId, Why, or_exit
from exchange.core.incidents import Bears, Incident, State
from exchange.core.messages import Refusal
from exchange.flows.incidents import Hold, Opening, Tick

T = TypeVar("T")
FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"]
IncidentId = Annotated[str, typer.Argument(help="The incident's id.")]

incident = typer.Typer(help="Incidents at a source: pause, hold, credit every buyer, claw back.")


@incident.command("open")
def incident_open(
    source: Annotated[str, typer.Option("--source", help="SELLER/SOURCE, by their keys.")],
    since: Annotated[
        datetime, typer.Option("--since", formats=FORMATS, help="Leads from then on (UTC).")
    ],
    why: Why,
    sub_id: SubId = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=FORMATS, help="And before (UTC).")
    ] = None,
    reason: Annotated[str, typer.Option(help="The return reason of the credits.")] = "fraud",
    seller_bears: Annotated[
        str, typer.Option(help="all: its whole payout; terms: what its clawback terms say.")
    ] = "all",
    hold: Annotated[
        str, typer.Option(help="affected: the payouts of these sales; all: everything.")
    ] = "affected",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show; pause nothing.")] = False,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Pause a source or sub_id, hold its seller's payout, and show what it comes to.

    Nothing is booked before `exchange incident approve`; `cancel` lifts it all."""
    if seller_bears not in get_args(Bears) or hold not in get_args(Hold):
        err.print("[red]usage[/] --seller-bears is all or terms, --hold is affected or all")
        raise typer.Exit(2)
    asked = Opening(
        source=source,
        sub_id=sub_id,
        since=since.replace(tzinfo=UTC),
        until=None if until is None else until.replace(tzinfo=UTC),
        reason=reason,
        seller_bears=cast(Bears, seller_bears),
        hold=cast(Hold, hold),
        by=by,
        why=why,
    )

    async def work(base: Ground) -> pages.Page | Refusal:
        shown = await incidents_of(base).open(asked, dry_run=dry_run)
        return shown if isinstance(shown, Refusal) else pages.page_of(shown, base.standing.book)

    _show(or_exit(with_tools(data_dir, work)), as_json=as_json)
    if dry_run and not as_json:
        out.print("a dry run: nothing is paused, held or kept")


@incident.command("show")
def incident_show(
    incident_id: IncidentId,
    sales: Annotated[bool, typer.Option("--sales", help="Every affected sale.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show an incident: its history, what it comes to by buyer, what is booked of it."""

    async def work(base: Ground) -> pages.Page | None:
        shown = await incidents_of(base).show(incident_id)
        return None if shown is None else pages.page_of(shown, base.standing.book)

    _show(_known(with_tools(data_dir, work), incident_id), as_json=as_json, with_sales=sales)


@incident.command("list")
def incident_list(
    state: Annotated[str | None, typer.Option(help="One state.  [default: every state]")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show incidents, the newest first."""
    if state not in (None, *get_args(State)):
        err.print(f"[red]usage[/] --state is {', '.join(get_args(State))}")
        raise typer.Exit(2)
    states = None if state is None else (state,)

    async def work(base: Ground) -> list[pages.Line]:
        rows = await incidents_of(base).listing(states)
        return [pages.line_of(one, base.standing.book) for one in rows]

    rows = with_tools(data_dir, work)
    if as_json:
        print_json(rows)
    else:
        pages.listing(rows, out)


@incident.command("approve")
def incident_approve(
    incident_id: IncidentId,
    why: Why,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Fix the sales of an incident and make each good: credits, clawbacks, notices.

    Cut short it may be run again, and the jobs process goes on with it by itself: no sale is booked
    twice. Exit code 1 when something is left to be booked."""

    async def work(base: Ground) -> tuple[Incident | Refusal | None, bool, pages.Page | None]:
        flow = incidents_of(base)
        approved = await flow.approve(incident_id, by=by, why=why)
        if not isinstance(approved, Incident):
            return approved, False, None
        with _progress() as tick:
            whole = await flow.book(incident_id, tick)
        shown = await flow.show(incident_id)
        page = None if shown is None else pages.page_of(shown, base.standing.book)
        return approved, whole, page

    approved, whole, page = with_tools(data_dir, work)
    _known(or_exit(approved), incident_id)
    _show(_known(page, incident_id), as_json=as_json)
    if not whole:
        err.print("[red]not all booked[/] some sales are being decided about: approve it again")
        raise typer.Exit(1)


@incident.command("close")
def incident_close(
    incident_id: IncidentId,
    why: Why,
    keep_paused: Annotated[
        bool, typer.Option("--keep-paused", help="Lift the hold, but not the pause.")
    ] = False,
    by: By = WHO,
    data_dir: DataDir = None,
) -> None:
    """End a booked incident: its hold is lifted, and so is its pause."""

    async def work(base: Ground) -> Incident | Refusal | None:
        return await incidents_of(base).close(incident_id, by=by, why=why, keep_paused=keep_paused)

    _known(or_exit(with_tools(data_dir, work)), incident_id)
    out.print(f"incident {incident_id} is closed" + (", still paused" if keep_paused else ""))


@incident.command("cancel")
def incident_cancel(
    incident_id: IncidentId, why: Why, by: By = WHO, data_dir: DataDir = None
) -> None:
    """End an open incident: pause and hold are lifted, nothing is booked."""

    async def work(base: Ground) -> Incident | Refusal | None:
        return await incidents_of(base).cancel(incident_id, by=by, why=why)

    _known(or_exit(with_tools(data_dir, work)), incident_id)
    out.print(f"incident {incident_id} is cancelled")


def _known(found: T | None, incident_id: str) -> T:
    if found is None:
        err.print("[red]unknown[/] there is no incident of this id", highlight=False)
        raise typer.Exit(1)
    return found


def _show(page: pages.Page, *, as_json: bool, with_sales: bool = False) -> None:
    if as_json:
        print_json(page)
    else:
        pages.one(page, out, with_sales=with_sales)


@contextmanager
def _progress() -> Iterator[Tick]:
    """A bar of the sales booked, on standard error."""
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("making good", total=None)

        def tick(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        yield tick
