"""Commands of finance: the returns that wait for a person."""

from collections.abc import Sequence
from typing import Annotated, cast, get_args

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.api.return_messages import PAGE_MAX, FinanceReturn, StateName, finance_of
from exchange.app.commands import WHO, AsJson, By, DataDir, err, out, print_json, with_tools
from exchange.app.ground import Ground
from exchange.app.worker import returns_of
from exchange.core.messages import Refusal
from exchange.flows.returns import WAITING, Answered, Verdict

returns = typer.Typer(help="Leads that buyers give back.")


@returns.command("list")
def returns_list(
    state: Annotated[
        str | None,
        typer.Option(help="One state, or all.  [default: those that wait for a person]"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_MAX, help="How many.")] = 50,
    before: Annotated[str | None, typer.Option(help="Only those before this return.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show returns, the newest first: who asks, why, what the sale cost."""
    if state not in (None, "all", *get_args(StateName)):
        err.print(f"[red]usage[/] --state is all, {', '.join(get_args(StateName))}")
        raise typer.Exit(2)
    states = WAITING if state is None else None if state == "all" else (state,)

    async def work(base: Ground) -> list[FinanceReturn]:
        rows = await returns_of(base, base.database).listing(
            buyer_id=None, states=states, before=before, limit=limit
        )
        return [finance_of(row, base.standing.book) for row in rows]

    rows = with_tools(data_dir, work)
    if as_json:
        print_json(rows)
    else:
        page(rows, out)


@returns.command("show")
def returns_show(
    return_id: Annotated[str, typer.Argument(help="The return_id.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one return. `exchange explain LEAD` tells the story of its lead."""

    async def work(base: Ground) -> FinanceReturn | None:
        found = await returns_of(base, base.database).listed(return_id)
        return None if found is None else finance_of(found, base.standing.book)

    row = with_tools(data_dir, work)
    if row is None:
        err.print(f"[red]unknown[/] there is no return {escape(return_id)}")
        raise typer.Exit(1)
    if as_json:
        print_json(row)
    else:
        one(row, out)


@returns.command("decide")
def returns_decide(
    return_id: Annotated[str, typer.Argument(help="A referred or appealed return.")],
    outcome: Annotated[str, typer.Argument(help="granted or denied")],
    why: Annotated[str, typer.Option(help="Why: stands in the audit.")],
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Decide on a return that waits for a person.

    Exit code 0 when it ends as you said, 1 when it could not: money and limits bind you too."""
    if outcome not in get_args(Verdict) or len(why) < 3:
        err.print("[red]usage[/] say granted or denied, and --why")
        raise typer.Exit(2)

    async def work(base: Ground) -> Answered | Refusal | None:
        deciding = returns_of(base, base.database)
        return await deciding.decide(return_id, cast(Verdict, outcome), by=by, why=why)

    done = with_tools(data_dir, work)
    if done is None:
        err.print(f"[red]unknown[/] there is no return {escape(return_id)}")
        raise typer.Exit(1)
    if isinstance(done, Refusal):
        said = "; ".join(f"{one.field} {one.message}" for one in done.problems)
        err.print(f"[red]refused[/] {escape(said or done.detail)}")
        raise typer.Exit(1)
    if as_json:
        print_json(done.case)
    else:
        out.print(f"{done.case.return_id}: {done.case.state}. {escape(done.says)}")
    if done.case.state != outcome:
        raise typer.Exit(1)


# --- pages ----------------------------------------------------------------------------------------


def page(rows: Sequence[FinanceReturn], out: Console) -> None:
    """The returns as a table."""
    heads = ("return", "state", "buyer", "contract", "reason", "price", "credit", "due", "because")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    table.columns[0].min_width = 36  # an id that is cut is none
    for row in rows:
        case = row.case
        table.add_row(
            case.return_id,
            case.state,
            escape(row.buyer),
            escape(row.contract),
            case.reason,
            f"{row.price} {case.currency}",
            case.credit,
            f"{case.due_at:%Y-%m-%d %H:%M}" if case.due_at else "",
            case.message,
        )
    out.print(table if rows else "no return waits")


def one(row: FinanceReturn, out: Console) -> None:
    """One return, line by line."""
    case = row.case
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    decided = (
        f", {case.decided_at:%Y-%m-%d %H:%M:%S} by {row.decided_by}" if case.decided_at else ""
    )
    due = f"{case.due_at:%Y-%m-%d %H:%M:%S} UTC" if case.due_at else "no more"
    money = "a replacement" if case.replacement else f"{case.credit} {case.currency} credited"
    for name, text in (
        ("return", f"{case.return_id}, asked {case.requested_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("state", f"{case.state}{decided}"),
        ("because", f"{case.message} ({case.rule})"),
        ("reason", case.reason),
        ("evidence", ", ".join(f"{key}: {value}" for key, value in case.evidence.items())),
        ("lacking", ", ".join(case.wanting)),
        ("sale", f"{case.sale_id} of lead {case.lead_id}"),
        ("between", f"{row.buyer} ({row.contract}) and {row.seller}"),
        ("price", f"{row.price} {case.currency}, of which {row.payout} to the seller"),
        ("money", f"{money}, {row.clawback} taken back"),
        ("cycle", f"{row.cycle}, {row.appeals} appeals"),
        ("due", due),
    ):
        if text:
            facts.add_row(name, escape(text))
    out.print(facts)
