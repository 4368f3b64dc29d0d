"""Commands of finance: accounting periods, from opening to closing."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from exchange.app import period_pages
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
)
from exchange.app.processes import servers
from exchange.effects.clock import Clock
from exchange.effects.postgres import Database
from exchange.flows.periods import Accounting, NotDone, Unknown

T = TypeVar("T")
BOOKS_TIMEOUT_MS = 1_800_000
"""The proof of years of trade takes minutes; longer than half an hour is a mistake."""

periods = typer.Typer(help="Accounting periods: open them, check them, close them for good.")
PeriodId = Annotated[int, typer.Argument(help="The period's number: see `period list`.")]


def with_books(data_dir: str | None, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on connections that may write the books, and have time to sum them."""
    settings = settings_of(data_dir=data_dir)
    with servers(settings) as urls:

        async def worked() -> T:
            database = await Database.open(
                urls.database_url,
                role="exchange_app",
                size=2,
                application_name="books",
                statement_timeout_ms=BOOKS_TIMEOUT_MS,
            )
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(worked())


@contextmanager
def refusals() -> Iterator[None]:
    """What is refused is told as a list, and ends with 1."""
    try:
        with plainly():
            yield
    except NotDone as refused:
        for field, problem in refused.problems.items():
            err.print(f"[red]refused[/] {field}: {problem}", highlight=False)
        raise typer.Exit(1) from None
    except Unknown as unknown:
        err.print(f"[red]unknown[/] there is no period {unknown}; see `exchange period list`")
        raise typer.Exit(1) from None


def accounting_of(database: Database) -> Accounting:
    """Who opens, checks and closes periods, over these connections."""
    return Accounting(database, clock=Clock())


@periods.command("open")
def period_open(
    month: Annotated[str | None, typer.Option(help="A whole month, such as 2026-11.")] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day. Only the first needs one."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="Whose days, chosen with the first period.  [default: UTC]")
    ] = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Open the next period. It begins where the last one ended: periods leave no gap.

    Selling needs no open period; a period is what you will close."""
    begins, ends = _days(month, first, last)

    async def work(database: Database) -> Any:
        return await accounting_of(database).open(begins, ends, zone=zone, by=by)

    with refusals():
        period, is_new = with_books(data_dir, work)
    if as_json:
        print_json({"period": period, "made": is_new})
    else:
        out.print(f"period {period.id}: {period.first} to {period.last} ({period.zone}) is open")


@periods.command("list")
def period_list(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show every period, the oldest first: its days, and who closed it."""
    with refusals():
        rows = with_books(data_dir, lambda database: accounting_of(database).listing())
    if as_json:
        print_json(rows)
    else:
        period_pages.listing(rows, out)


@periods.command("show")
def period_show(period_id: PeriodId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show a period: of a closed one every account's opening, movement and closing balance, what
    was waived and why, and how the accrual of expected returns came about."""
    with refusals():
        shown = with_books(data_dir, lambda database: accounting_of(database).show(period_id))
    if as_json:
        print_json(shown)
    else:
        period_pages.period(shown, out)


@periods.command("check")
def period_check(period_id: PeriodId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Go through the checklist: each line is ok, or says what is wrong and the command that mends
    it. Changes nothing.

    Exit code 0 when the period may close, 1 when a line stands against it."""
    with refusals():
        checked = with_books(data_dir, lambda database: accounting_of(database).check(period_id))
    if as_json:
        print_json({"may_close": checked.may_close, **msgspec.structs.asdict(checked)})
    else:
        period_pages.checked(checked, out)
    if not checked.may_close:
        raise typer.Exit(1)


@periods.command("close")
def period_close(
    period_id: PeriodId,
    waive: Annotated[
        list[str] | None,
        typer.Option(help="Let this line of the checklist pass; repeat it. Needs --why."),
    ] = None,
    why: Annotated[str, typer.Option(help="Why a line is let pass: stands in the audit.")] = "",
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Close a period for good: nothing is booked in it any more, whoever tries.

    Every line of the checklist must hold, or be waived by name with a reason; lock, rollups and
    proof cannot be. Exit code 0 when it is closed, 1 when something stands against it."""

    async def work(database: Database) -> Any:
        accounting = accounting_of(database)
        return await accounting.close(period_id, waived=waive or (), by=by, why=why)

    with refusals():
        shown, is_new = with_books(data_dir, work)
    if as_json:
        print_json({"closed_now": is_new, **msgspec.structs.asdict(shown)})
    else:
        period_pages.period(shown, out)


def _days(
    month: str | None, first: datetime | None, last: datetime | None
) -> tuple[date | None, date]:
    """The days asked for: a month's, or those named."""
    if (month is None) == (last is None):
        raise used_wrongly("say --month 2026-11, or --to with the last day")
    if month is None:
        assert last is not None
        return first.date() if first else None, last.date()
    try:
        begins = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise used_wrongly("--month is a year and a month, such as 2026-11") from None
    after = (begins + timedelta(days=31)).replace(day=1)
    return begins, after - timedelta(days=1)
