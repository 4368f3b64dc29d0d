"""Commands of reconciliation: a partner's file against ours, what was found before, doubts that a
file ends."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import msgspec
import typer
from typer.core import TyperGroup

from exchange.app import reconcile_pages as pages
from exchange.app.commands import (
    WHO,
    AsJson,
    By,
    DataDir,
    err,
    out,
    plainly,
    print_json,
    settings_of,
    used_wrongly,
    with_tools,
    writable,
)
from exchange.app.ground import Ground, Urls
from exchange.app.processes import servers
from exchange.app.reconcile_compare import Done, compared, database_of, resolved_by, shown_of
from exchange.core.kept_reconciliation import Run
from exchange.core.model import is_id
from exchange.core.partner_lines import Side
from exchange.core.partner_sheet import BadHeader, DayOrder, Field
from exchange.effects.papers import tables
from exchange.effects.reconciliations import Runs
from exchange.effects.sheets import BadSheet
from exchange.flows.partner_file import Asked, CannotReconcile
from exchange.flows.reconciliations import Resolution

T = TypeVar("T")
TOLERANCE_DAYS = 1
"""A partner's clock and ours may disagree about midnight, and no more."""


class FileByDefault(TyperGroup):
    """`exchange reconcile june.xlsx --buyer acme` is `exchange reconcile file june.xlsx ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_asked = args and args[0] not in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, ["file", *args] if is_asked else args)


cli = typer.Typer(
    cls=FileByDefault,
    help="A partner's file against our books, line by line; and our books against themselves.",
)
Id = Annotated[str, typer.Argument(help="The id of a reconciliation.")]
Buyer = Annotated[str | None, typer.Option(help="The buyer whose file it is.")]
Seller = Annotated[str | None, typer.Option(help="The seller whose file it is.")]
First = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the period.")
]
Last = Annotated[
    datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")
]
Zone = Annotated[
    str | None, typer.Option(help="Whose days it has.  [default: the partner's time zone]")
]
Column = Annotated[
    list[str] | None, typer.Option(help="A column by name: amount='Net price'; repeat it.")
]
Days = Annotated[
    str | None, typer.Option(help="How days are written: mdy or dmy; 2026-03-31 needs none.")
]


# --- compare --------------------------------------------------------------------------------------


@cli.command("file")
def reconcile_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX.")],
    buyer: Buyer = None,
    seller: Seller = None,
    first: First = None,
    last: Last = None,
    zone: Zone = None,
    column: Column = None,
    days: Days = None,
    currency: Annotated[str, typer.Option(help="Of lines that name none.")] = "",
    tolerance: Annotated[
        int, typer.Option(min=0, help="Days apart for a match by phone or e-mail.")
    ] = TOLERANCE_DAYS,
    to_file: Annotated[
        Path | None, typer.Option("--out", help="Write every finding: .csv or .xlsx.")
    ] = None,
    resolve_doubts: Annotated[
        bool,
        typer.Option(
            "--resolve-doubts", help="End the posts in doubt that a buyer's file settles."
        ),
    ] = False,
    by: By = WHO,
    data_dir: DataDir = None,
    id_only: Annotated[
        bool, typer.Option("--id", help="Print the reconciliation's id alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare a partner's list of what they bought from us, or sold us, with ours, line by line.

    It is kept: see `exchange reconcile list`. Exit code 0 when both say the same, 1 when they
    differ."""
    side, partner = partner_of(buyer, seller)
    if resolve_doubts and side == "seller":
        raise used_wrongly("--resolve-doubts: a buyer alone knows what it bought")
    asked = Asked(
        side=side,
        partner=partner,
        first=first.date() if first else None,
        last=last.date() if last else None,
        zone=zone,
        currency=currency.upper(),
        columns=_columns(column or []),
        day_order=_day_order(days),
        tolerance_days=tolerance,
    )
    writable(to_file, *tables.ENDINGS)
    try:
        with plainly():
            done = compared(data_dir, asked, file, to_file, by=by, resolves=resolve_doubts)
    except (CannotReconcile, BadSheet, BadHeader) as bad:
        raise used_wrongly(f"{file.name}: {bad}") from None
    _tell(done, data_dir, as_json=as_json, id_only=id_only, is_resolved=resolve_doubts)
    if done.run.differences:
        raise typer.Exit(1)


def _tell(
    done: Done, data_dir: str | None, *, as_json: bool, id_only: bool, is_resolved: bool
) -> None:
    if id_only:
        out.print(done.run.reconciliation_id)
    elif as_json:
        _print_as_json(done, data_dir)
    else:
        pages.run(done.run, done.changed, done.shown, out)
        if is_resolved:
            pages.resolutions(done.resolved, dry_run=False, out=out)


# --- what was found before ------------------------------------------------------------------------


@cli.command("list")
def reconcile_list(
    buyer: Buyer = None,
    seller: Seller = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 50,
    before: Annotated[str | None, typer.Option(help="Only those before this one.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the reconciliations that were made, the newest first."""
    named = partner_of(buyer, seller) if buyer or seller else None
    if before is not None and not is_id(before):
        raise used_wrongly("--before takes the id of a reconciliation")

    async def work(runs: Runs) -> tuple[Run, ...]:
        party_id = None if named is None else await runs.party(*named)
        if named is not None and party_id is None:
            raise typer.Exit(_unknown(f"there is no {named[0]} {named[1]}"))
        return await runs.listing(party_id=party_id, before=before, limit=limit)

    found = _with_runs(data_dir, work)
    if as_json:
        print_json(found)
    else:
        pages.runs(found, out)


@cli.command("show")
def reconcile_show(
    reconciliation_id: Id, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show one reconciliation: totals, what changed since the same file was compared before, its
    first differences with what would book each."""
    done = _with_runs(data_dir, lambda runs: _found(runs, reconciliation_id))
    if as_json:
        _print_as_json(done, data_dir)
    else:
        pages.run(done.run, done.changed, done.shown, out)


@cli.command("export")
def reconcile_export(
    reconciliation_id: Id,
    to_file: Annotated[Path, typer.Option("--out", help="Where to: .csv or .xlsx.")],
    data_dir: DataDir = None,
) -> None:
    """Write every difference of a reconciliation, each with the command that books it."""
    writable(to_file, *tables.ENDINGS)

    async def work(runs: Runs) -> int:
        run, count = (await _found(runs, reconciliation_id)).run, 0
        with tables.table(to_file, pages.KEPT_HEADER, title="Differences") as add:
            async for kept in runs.every(reconciliation_id):
                add(pages.kept_cells(kept, run))
                count += 1
        return count

    count = _with_runs(data_dir, work)
    err.print(f"{count} differences are in {to_file.name}")


@cli.command("settle")
def reconcile_settle(
    reconciliation_id: Id,
    numbers: Annotated[list[int], typer.Argument(help="Numbers of its differences.")],
    why: Annotated[str, typer.Option(help="Why: stands beside them and in the audit.")],
    reopen: Annotated[
        bool, typer.Option("--reopen", help="They are not settled after all.")
    ] = False,
    by: By = WHO,
    data_dir: DataDir = None,
) -> None:
    """Say that differences are done with. Whenever they are found again, they are known as such."""
    if not 3 <= len(why) <= 500:
        raise used_wrongly("--why takes a reason of 3 to 500 characters")

    async def work(runs: Runs) -> int:
        run = (await _found(runs, reconciliation_id)).run
        known = await runs.findings(reconciliation_id, numbers=numbers)
        missing = sorted(set(numbers) - {one.number for one in known})
        if missing:
            raise typer.Exit(_unknown(f"it has no difference {', '.join(map(str, missing))}"))
        return await runs.settle(run, numbers, by=by, why=why, is_settled=not reopen)

    count = _with_runs(data_dir, work)
    out.print(f"{count} differences are {'open again' if reopen else 'settled'}")


@cli.command("resolve")
def reconcile_resolve(
    reconciliation_id: Id,
    attempt: Annotated[
        list[str] | None, typer.Option(help="Only this post in doubt; repeat it.")
    ] = None,
    unlisted: Annotated[
        bool, typer.Option("--unlisted", help="What the file does not list was not bought.")
    ] = False,
    why: Annotated[str, typer.Option(help="Why: stands in the audit.")] = "the partner's file",
    by: By = WHO,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only show it.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End the posts in doubt that a buyer's file speaks of: as it says, sold or rejected, with the
    file's hash as evidence. Without --yes only shows which."""

    async def work(base: Ground) -> tuple[Resolution, ...]:
        run = (await _found(Runs(base.database), reconciliation_id)).run
        return await resolved_by(
            base, run, by=by, why=why, attempts=attempt or None, unlisted=unlisted, yes=yes
        )

    found = with_tools(data_dir, work)
    if as_json:
        print_json(found)
    else:
        pages.resolutions(found, dry_run=not yes, out=out)


# --- what they share ------------------------------------------------------------------------------


def _with_runs(data_dir: str | None, work: Callable[[Runs], Coroutine[Any, Any, T]]) -> T:
    async def worked(urls: Urls) -> T:
        async with database_of(urls) as database:
            return await work(Runs(database))

    with plainly(), servers(settings_of(data_dir=data_dir)) as urls:
        return asyncio.run(worked(urls))


async def _found(runs: Runs, reconciliation_id: str) -> Done:
    if not is_id(reconciliation_id) or await runs.run(reconciliation_id) is None:
        raise typer.Exit(_unknown("there is no such reconciliation; see exchange reconcile list"))
    return await shown_of(runs, reconciliation_id)


def _print_as_json(done: Done, data_dir: str | None) -> None:
    """One document, its differences written as they are read: there may be as many as lines."""
    write = sys.stdout.buffer.write

    async def work(runs: Runs) -> None:
        head = {
            "reconciliation_id": done.run.reconciliation_id,
            "result": done.run,
            "differences": done.run.differences,
            "changed": done.changed,
            "resolved": done.resolved,
        }
        write(msgspec.json.encode(head)[:-1] + b',"findings":[')
        comma = b"\n"
        async for kept in runs.every(done.run.reconciliation_id):
            said = msgspec.structs.asdict(kept.finding) | {
                "number": kept.number,
                "settled": kept.settled,
                "command": pages.command(kept, done.run),
            }
            write(comma + msgspec.json.encode(said))
            comma = b",\n"
        write(b"]}\n")
        sys.stdout.flush()

    _with_runs(data_dir, work)


def partner_of(buyer: str | None, seller: str | None) -> tuple[Side, str]:
    """Whose file it is."""
    if buyer is not None and seller is None:
        return "buyer", buyer
    if seller is not None and buyer is None:
        return "seller", seller
    raise used_wrongly("say whose file it is: --buyer KEY or --seller KEY")


def _columns(given: Sequence[str]) -> dict[Field, str]:
    found: dict[Field, str] = {}
    for one in given:
        field, is_said, name = one.partition("=")
        if not is_said or field not in get_args(Field):
            known = ", ".join(get_args(Field))
            raise used_wrongly(f"--column takes FIELD='Header'; fields are {known}")
        found[cast(Field, field)] = name
    return found


def _day_order(days: str | None) -> DayOrder | None:
    if days not in (None, *get_args(DayOrder)):
        raise used_wrongly("--days is one of ymd, mdy, dmy")
    return cast(DayOrder | None, days)


def _unknown(words: str) -> int:
    err.print(f"[red]unknown[/] {words}", highlight=False)
    return 1
