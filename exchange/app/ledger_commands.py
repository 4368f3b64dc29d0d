"""Commands of finance: what is kept of the ledger, and what is booked in it by hand."""

from datetime import UTC, datetime
from typing import Annotated

import asyncpg
import msgspec
import typer
from rich.progress import Progress

from exchange.app import finance_pages
from exchange.app.commands import AsJson, DataDir, err, out, plainly, print_json
from exchange.app.finance_commands import books
from exchange.app.period_commands import with_books
from exchange.effects.postgres import Database
from exchange.effects.proof import Proven, proven
from exchange.effects.rollups import Rollups
from exchange.effects.vault import Vault
from exchange.flows.rollups import roll_up

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


@ledger.command("rollup")
def ledger_rollup(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Every day anew, not only those that are due.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Sum the balances of every day that is over. The jobs process does it by itself; by hand it is
    harmless, however often."""

    async def work(database: Database) -> int:
        with Progress(console=err, transient=True, disable=not err.is_terminal) as bars:
            bar = bars.add_task("days", total=None)

            def tick(done: int, total: int) -> None:
                bars.update(bar, completed=done, total=total)

            return await roll_up(Rollups(database), datetime.now(UTC), anew=rebuild, tick=tick)

    with plainly():
        days = with_books(data_dir, work)
    if as_json:
        print_json({"days": days})
    else:
        out.print(f"{days} days rolled up")
