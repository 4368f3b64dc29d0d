"""The command `exchange report`: what the trade came to, from the tallies; and making them anew."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import typer
from rich.markup import escape
from rich.progress import Progress

from exchange.app import report_pages
from exchange.app.commands import (
    AsJson,
    DataDir,
    err,
    out,
    plainly,
    print_json,
    settings_of,
    used_wrongly,
)
from exchange.app.processes import servers
from exchange.core.quality import PAUSE_LEAST, PAUSE_OVER, PauseRule, Quality
from exchange.core.reports import BY, By, Name, Report, plain, wrong_question
from exchange.core.tallies import days
from exchange.effects.clock import Clock
from exchange.effects.papers import tables
from exchange.effects.postgres import HOUSE_PARTY, Database, connect
from exchange.effects.sums import SumStore
from exchange.effects.tallies import TallyStore
from exchange.flows.reports import NoReport, Question, quality_of, report_of, window
from exchange.flows.tallies import FactsGone, Tallies

T = TypeVar("T")
SHOWN_DAYS = 28
"""The days of a report that names none."""
REPORT_TIMEOUT_MS = 60_000
"""Years of tallies are seconds of reading; longer than a minute is a fault."""
REBUILD_TIMEOUT_MS = 3_600_000
"""A day of ten million pings takes some minutes; longer than an hour is a fault."""

report = typer.Typer(
    help="What the trade came to: profit and loss, funnel, returns, buyers, quality of sources. "
    "Days are UTC days; currencies never mix."
)
First = Annotated[
    datetime | None,
    typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day.  [default: 27 days ago]"),
]
Last = Annotated[
    datetime | None,
    typer.Option("--to", formats=["%Y-%m-%d"], help="Last UTC day, included.  [default: today]"),
]
Told = Annotated[str | None, typer.Option("--by", help=f"One of {', '.join(get_args(By))}.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write every column: .csv or .xlsx.")]


@report.command("pnl")
def report_pnl(
    by: Told = None,
    first: First = None,
    last: Last = None,
    csv_file: Csv = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Profit and loss: revenue, payouts, fee, credits, clawbacks, net margin.

    Counts what was booked on these days, and adds up to the ledger to the micro."""
    _told("pnl", by, first, last, csv_file, data_dir, as_json=as_json)


@report.command("funnel")
def report_funnel(
    by: Told = None,
    first: First = None,
    last: Last = None,
    csv_file: Csv = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """From ping to sale: offers, leads, bids, wins, posts, sales, and what a ping earns."""
    _told("funnel", by, first, last, csv_file, data_dir, as_json=as_json)


@report.command("returns")
def report_returns(
    by: Told = None,
    first: First = None,
    last: Last = None,
    csv_file: Csv = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Returns of the leads of these days: how many of the sales, why, and who bears them."""
    _told("returns", by, first, last, csv_file, data_dir, as_json=as_json)


@report.command("buyers")
def report_buyers(
    by: Told = None,
    first: First = None,
    last: Last = None,
    csv_file: Csv = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """How buyers answer: bids, time-outs, errors, wins, accepted posts, what they spend."""
    _told("buyers", by, first, last, csv_file, data_dir, as_json=as_json)


def _told(
    name: Name,
    by: str | None,
    first: datetime | None,
    last: datetime | None,
    csv_file: Path | None,
    data_dir: str | None,
    *,
    as_json: bool,
) -> None:
    begins, ends = _days(first, last)
    if wrong := wrong_question(name, by or BY[name][0], begins, ends):
        raise used_wrongly(escape(wrong))
    _writable(csv_file)
    asked = Question(name=name, first=begins, last=ends, by=cast(By | None, by))

    async def work(sums: SumStore) -> tuple[Report, datetime | None]:
        return await report_of(asked, sums=sums), await sums.until()

    made, until = _with_sums(data_dir, work)
    if csv_file is not None:
        with tables.table(csv_file, report_pages.header(made), title=name) as add:
            for row in report_pages.cells(made):
                add(row)
    if as_json:
        print_json(
            {
                "report": made.name,
                "by": made.by,
                "from": made.first,
                "to": made.last,
                "zone": "UTC",
                "until": until,
                "lines": [plain(made, line) for line in made.lines],
                "totals": [plain(made, line) for line in made.totals],
            }
        )
    else:
        report_pages.report(made, until, out)


@report.command("quality")
def report_quality(
    first: First = None,
    last: Last = None,
    over: Annotated[
        float, typer.Option("--pause-over", min=0, max=1, help="A return rate that would pause.")
    ] = PAUSE_OVER,
    least: Annotated[
        int, typer.Option("--pause-least", min=1, help="Sales that it needs.")
    ] = PAUSE_LEAST,
    csv_file: Csv = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """How good each source is: accepted posts and returns, raw and drawn to its vertical's rate
    (small numbers prove little), and which would be paused. Pauses nobody itself."""
    begins, ends = _days(first, last)
    _writable(csv_file)

    async def work(sums: SumStore) -> tuple[Quality, ...]:
        return await quality_of(begins, ends, sums=sums, rule=PauseRule(over=over, least=least))

    try:
        rows = _with_sums(data_dir, work)
    except NoReport as bad:
        raise used_wrongly(escape(str(bad))) from None
    if csv_file is not None:
        with tables.table(csv_file, report_pages.QUALITY_HEADER, title="quality") as add:
            for one in rows:
                add(report_pages.quality_cells(one))
    if as_json:
        print_json({"from": begins, "to": ends, "zone": "UTC", "rows": rows})
    else:
        report_pages.quality(rows, out)


# --- the tallies ----------------------------------------------------------------------------------

Begins = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day.")]
Ends = Annotated[
    datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last UTC day, included.")
]


@report.command("rebuild")
def report_rebuild(
    first: Begins,
    last: Ends,
    now: Annotated[
        bool,
        typer.Option("--now", help="Up to this very moment: for an exchange that does not run."),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make the tallies of these days anew from pings, events and transfers.

    Harmless at any time, also while the exchange runs: the same facts give the same sums. What is
    younger than two minutes (leads: fifteen) is left for later, for it may still be on its way."""
    asked = _asked_days(first, last)

    async def work(tallies: Tallies) -> None:
        with Progress(console=err, transient=True, disable=not err.is_terminal) as bars:
            bar = bars.add_task("days", total=len(asked))
            await tallies.rebuild(
                asked[0], asked[-1], to_the_moment=now, tick=lambda _: bars.advance(bar)
            )

    try:
        _with_tallies(data_dir, work)
    except FactsGone as gone:
        err.print(f"[red]refused[/] {gone}", highlight=False)
        raise typer.Exit(1) from None
    out.print(f"{len(asked)} days were made anew, {asked[0]} to {asked[-1]}")


@report.command("check")
def report_check(
    first: Begins, last: Ends, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Count the facts of these days once more and compare them with the tallies.

    Exit code 0 when they agree, 1 when a day differs: `exchange report rebuild` mends it."""
    asked = _asked_days(first, last)

    async def work(tallies: Tallies) -> Any:
        return await tallies.wrong(asked[0], asked[-1])

    wrong = _with_tallies(data_dir, work)
    if as_json:
        print_json({"holds": not wrong, "days": {str(day): found for day, found in wrong.items()}})
    for day, found in {} if as_json else wrong.items():
        for what, (facts, tally) in found.items():
            out.print(f"[red]{day}[/] {what}: {facts} facts, {tally} in the tally")
    if wrong:
        raise typer.Exit(1)
    if not as_json:
        out.print(f"{len(asked)} days agree with their facts")


def _with_tallies(data_dir: str | None, work: Callable[[Tallies], Coroutine[Any, Any, T]]) -> T:
    async def worked(url: str) -> T:
        database = await Database.open(
            url,
            role="exchange_app",
            size=1,
            application_name="tallies",
            statement_timeout_ms=REBUILD_TIMEOUT_MS,
        )
        try:
            return await work(Tallies(store=TallyStore(database), clock=Clock()))
        finally:
            await database.close()

    with plainly(), servers(settings_of(data_dir=data_dir)) as urls:
        return asyncio.run(worked(urls.database_url))


def _with_sums(data_dir: str | None, work: Callable[[SumStore], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on one snapshot of the tallies, as the house's reader."""

    async def worked(url: str) -> T:
        connection = await connect(
            url,
            role="exchange_reader",
            application_name="report",
            statement_timeout_ms=REPORT_TIMEOUT_MS,
            party_id=HOUSE_PARTY,
        )
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await work(SumStore(connection))
        finally:
            await connection.close()

    with plainly(), servers(settings_of(data_dir=data_dir)) as urls:
        return asyncio.run(worked(urls.database_url))


def _days(first: datetime | None, last: datetime | None) -> tuple[date, date]:
    ends = last.date() if last else datetime.now(UTC).date()
    return first.date() if first else window(ends, SHOWN_DAYS)[0], ends


def _asked_days(first: datetime, last: datetime) -> tuple[date, ...]:
    found = days(first.date(), last.date())
    if not found:
        raise used_wrongly("the last day is before the first")
    return found


def _writable(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix.lower() not in tables.ENDINGS:
        raise used_wrongly(escape(f"{path.name} does not end in {' or '.join(tables.ENDINGS)}"))
    if not path.absolute().parent.is_dir():
        raise used_wrongly(escape(f"there is no folder {path.parent}"))
