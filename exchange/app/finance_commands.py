"""Commands of finance: reconcile with a partner's file, statements, the proof of the ledger."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import asyncpg
import msgspec
import typer
from rich.progress import Progress, TaskID

from exchange.app import finance_pages
from exchange.app.commands import (
    AsJson,
    DataDir,
    err,
    out,
    plainly,
    print_json,
    settings_of,
    used_wrongly,
    writable,
)
from exchange.app.processes import servers
from exchange.core.partner_sheet import BadHeader, DayOrder, Field
from exchange.core.reconciliation import Finding
from exchange.core.statements import Statement
from exchange.effects.papers import tables
from exchange.effects.papers.statement_table import write_table
from exchange.effects.postgres import HOUSE_PARTY, Role, connect
from exchange.effects.proof import Proven, proven
from exchange.effects.reconciliation import Sales
from exchange.effects.sheets import BadSheet, SheetLimits, rows
from exchange.effects.statements import PartyBooks
from exchange.effects.vault import Vault
from exchange.flows.partner_file import Asked, CannotReconcile, Reconciled, Tick, reconcile
from exchange.flows.statements import NoStatement, statements_of

T = TypeVar("T")
STATEMENT_TIMEOUT_MS = 600_000
"""A month takes longer than what a seller waits for; longer than ten minutes is a mistake."""
SHOWN_MAX = 40
"""How many differences stand on the terminal; a file (--out) has them all."""
HOUSE_NAME = "The exchange"
"""Who sends statements, as the house's own row of the table `party` has it."""
TOLERANCE_DAYS = 1
"""A partner's clock and ours may disagree about midnight, and no more."""

First = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the period.")
]
Last = Annotated[
    datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")
]


def books(
    data_dir: str | None,
    role: Role,
    work: Callable[[asyncpg.Connection, Vault], Coroutine[Any, Any, T]],
) -> T:
    """Run `work` on one connection of this role, within one snapshot of the database that nothing
    can be written through."""
    settings = settings_of(data_dir=data_dir)
    with servers(settings) as urls:
        vault = Vault.open_file(settings.key_file(), create=settings.is_embedded)

        async def looked() -> T:
            connection = await connect(
                urls.database_url,
                role=role,
                application_name="finance",
                statement_timeout_ms=STATEMENT_TIMEOUT_MS,
                party_id=HOUSE_PARTY,
            )
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    return await work(connection, vault)
            finally:
                await connection.close()

        return asyncio.run(looked())


# --- reconcile ------------------------------------------------------------------------------------


def reconcile_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX.")],
    buyer: Annotated[str, typer.Option(help="The buyer whose file it is.")],
    first: First = None,
    last: Last = None,
    zone: Annotated[
        str | None, typer.Option(help="Whose days it has.  [default: the buyer's time zone]")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A column by name: amount='Net price'; repeat it.")
    ] = None,
    days: Annotated[
        str | None, typer.Option(help="How days are written: mdy or dmy; 2026-03-31 needs none.")
    ] = None,
    currency: Annotated[str, typer.Option(help="Of lines that name none.")] = "",
    tolerance: Annotated[
        int, typer.Option(min=0, help="Days apart for a match by phone or e-mail.")
    ] = TOLERANCE_DAYS,
    to_file: Annotated[
        Path | None, typer.Option("--out", help="Write every finding: .csv or .xlsx.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compare a partner's list of what they bought with ours, line by line.

    Exit code 0 when both say the same, 1 when they differ."""
    asked = Asked(
        buyer=buyer,
        first=first.date() if first else None,
        last=last.date() if last else None,
        zone=zone,
        currency=currency.upper(),
        columns=_columns(column or []),
        day_order=_day_order(days),
        tolerance_days=tolerance,
    )
    writable(to_file, *tables.ENDINGS)
    shown: list[Finding] = []
    try:
        with plainly(), _told(to_file, shown, keep_all=as_json) as tell:
            done = _reconciled(data_dir, asked, file, tell)
    except (CannotReconcile, BadSheet, BadHeader) as bad:
        raise used_wrongly(f"{file.name}: {bad}") from None
    if as_json:
        print_json({"result": done, "differences": done.differences, "findings": shown})
    else:
        finance_pages.reconciled(done, shown, out)
    if done.differences:
        raise typer.Exit(1)


def _reconciled(
    data_dir: str | None, asked: Asked, file: Path, tell: Callable[[Finding], None]
) -> Reconciled:
    with _progress() as tick:

        async def work(connection: asyncpg.Connection, vault: Vault) -> Reconciled:
            sales = Sales(connection)
            peppers = await sales.peppers()

            def hashed(kind: str, plain: str) -> tuple[bytes, ...]:
                found = (vault.person(kind, plain, pepper_epoch=epoch)[1] for epoch in peppers)
                return tuple(map(bytes.fromhex, found))

            read = rows(file, SheetLimits())
            return await reconcile(asked, read, ours=sales, hashed=hashed, tell=tell, tick=tick)

        return books(data_dir, "exchange_app", work)  # the reader may not read keyed hashes


@contextmanager
def _told(
    to_file: Path | None, shown: list[Finding], *, keep_all: bool
) -> Iterator[Callable[[Finding], None]]:
    """Where findings go: every one to the file, differences to the page."""
    with ExitStack() as stack:
        add = None
        if to_file is not None:
            add = stack.enter_context(
                tables.table(to_file, finance_pages.FINDING_HEADER, title="Reconciliation")
            )

        def tell(finding: Finding) -> None:
            if add is not None:
                add(finance_pages.finding_cells(finding))
            if finding.verdict != "agreed" and (keep_all or len(shown) < SHOWN_MAX):
                shown.append(finding)

        yield tell


@contextmanager
def _progress() -> Iterator[Tick]:
    """A bar on the terminal for each side; nothing where there is no terminal."""
    words = {"theirs": "their lines", "ours": "our sales"}
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def tick(side: str, more: int, total: int | None = None) -> None:
            if side not in tasks:
                tasks[side] = bars.add_task(words[side], total=total)
            bars.advance(tasks[side], more)

        yield tick


# --- statements -----------------------------------------------------------------------------------


def statement(
    party: Annotated[str, typer.Argument(help="The buyer's or seller's key.")],
    first: Annotated[
        datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the period.")
    ],
    last: Annotated[
        datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")
    ],
    zone: Annotated[
        str | None, typer.Option(help="Whose days.  [default: the buyer's time zone]")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write it as CSV.")] = None,
    xlsx_file: Annotated[Path | None, typer.Option("--xlsx", help="Write it as XLSX.")] = None,
    pdf_file: Annotated[Path | None, typer.Option("--pdf", help="Write it as PDF.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a buyer or seller and the house owe one another over some days: opening balance,
    sales, returns, adjustments, payments, closing balance, one statement per currency."""

    async def work(connection: asyncpg.Connection, _vault: Vault) -> tuple[Statement, ...]:
        return await statements_of(
            party, first.date(), last.date(), books=PartyBooks(connection), zone=zone
        )

    for path, ending in ((csv_file, ".csv"), (xlsx_file, ".xlsx"), (pdf_file, ".pdf")):
        writable(path, ending)
    try:
        with plainly():
            made = books(data_dir, "exchange_reader", work)
    except NoStatement as bad:
        raise used_wrongly(str(bad)) from None
    for path in (csv_file, xlsx_file):
        if path is not None:
            write_table(path, made)
    if pdf_file is not None:
        from exchange.effects.papers.statement_pdf import write_pdf  # no other command draws

        write_pdf(pdf_file, made, house=HOUSE_NAME)
    if as_json:
        print_json(made)
    else:
        finance_pages.statements(made, out)


# --- the ledger -----------------------------------------------------------------------------------

ledger = typer.Typer(help="The books.")


@ledger.command("prove")
def ledger_prove(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Recompute everything from transfers and compare it with sales, credits and returns.

    Exit code 0 when all of it holds, 1 when anything does not."""

    async def work(connection: asyncpg.Connection, _vault: Vault) -> Proven:
        return await proven(connection)

    with plainly():
        found = books(data_dir, "exchange_reader", work)
    if as_json:
        print_json({"holds": not found.wrong, **msgspec.structs.asdict(found)})
    else:
        finance_pages.proof(found, out)
    if found.wrong:
        raise typer.Exit(1)


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
