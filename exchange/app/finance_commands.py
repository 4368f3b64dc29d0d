"""Commands of finance: statements."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer

from exchange.app import finance_pages
from exchange.app.commands import (
    AsJson,
    DataDir,
    out,
    plainly,
    print_json,
    settings_of,
    used_wrongly,
    writable,
)
from exchange.app.processes import servers
from exchange.core.statements import Statement
from exchange.effects.papers.statement_table import write_table
from exchange.effects.postgres import HOUSE_PARTY, Role, connect
from exchange.effects.statements import PartyBooks
from exchange.effects.vault import Vault
from exchange.flows.statements import NoStatement, statements_of

T = TypeVar("T")
STATEMENT_TIMEOUT_MS = 600_000
"""A month takes longer than what a seller waits for; longer than ten minutes is a mistake."""
HOUSE_NAME = "The exchange"
"""Who sends statements, as the house's own row of the table `party` has it."""


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
