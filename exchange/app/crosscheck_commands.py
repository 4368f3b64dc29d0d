"""The command that compares the books with themselves."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.app.commands import AsJson, DataDir, err, out, plainly, print_json, settings_of
from exchange.app.ground import Ground, Urls, tools
from exchange.app.processes import servers
from exchange.config import Settings
from exchange.effects.crosscheck import Crosscheck
from exchange.effects.postgres import Database
from exchange.effects.wallets import WalletStore
from exchange.flows.crosscheck import Checked, crosscheck

BETWEEN_LOOKS_S = 1.0
"""Between two looks at Valkey: an INTENT takes milliseconds, and what Valkey was not told it is
told again several times a second."""
STATEMENT_TIMEOUT_MS = 600_000
"""Every sale is looked at; longer than ten minutes is a mistake."""


def reconcile_books(
    buyer: Annotated[str | None, typer.Option(help="Only this buyer's.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compare our books with themselves: the ledger, the attempts, the caps in Postgres and in
    Valkey, the wallets, the journal. Every difference is named with what mends it.

    Exit code 0 when all agree, 1 when anything differs."""

    with plainly(), servers(settings := settings_of(data_dir=data_dir)) as urls:
        found = asyncio.run(_compared(settings, urls, buyer))
    if as_json:
        print_json({"agree": not any(one.wrong for one in found), "checks": found})
    else:
        page(found, out)
    if any(one.wrong for one in found):
        raise typer.Exit(1)


async def _compared(settings: Settings, urls: Urls, buyer: str | None) -> tuple[Checked, ...]:
    async with tools(settings, urls) as base:
        buyer_id = _buyer_id(base, buyer)
        database = await Database.open(
            urls.database_url,
            role="exchange_app",
            size=1,
            application_name="reconcile-books",
            statement_timeout_ms=STATEMENT_TIMEOUT_MS,
        )
        try:
            return await crosscheck(
                buyer_id=buyer_id,
                postgres=Crosscheck(database),
                caps=base.caps,
                wallets=WalletStore(database),
                book=base.standing.book,
                now=base.clock.now,
                pause=lambda: asyncio.sleep(BETWEEN_LOOKS_S),
            )
        finally:
            await database.close()


def _buyer_id(base: Ground, key: str | None) -> int | None:
    if key is None:
        return None
    for buyer in base.standing.book.buyers.values():
        if buyer.key == key:
            return buyer.id
    err.print(f"[red]unknown[/] there is no buyer {escape(key)}")
    raise typer.Exit(1)


def page(found: Sequence[Checked], out: Console) -> None:
    """Each comparison, then every difference with what mends it."""
    checks = Table("", "check", "looked at", "wrong", "left out", box=box.SIMPLE_HEAD)
    for one in found:
        mark = "[red]differs[/]" if one.wrong else "[green]agrees[/]"
        checks.add_row(mark, one.sentence, str(one.looked), str(one.wrong), one.margin)
    out.print(checks)
    told = [difference for one in found for difference in one.differences]
    if not told:
        return
    table = Table("", "buyer", "sale or window", "what", "what mends it", box=box.SIMPLE_HEAD)
    table.columns[2].min_width = 36  # an id that is cut is none
    for each in told:
        said = (each.check, each.buyer, each.subject, each.detail, each.mends)
        table.add_row(*map(escape, said))
    out.print(table)
    rest = sum(one.wrong for one in found) - len(told)
    if rest:
        out.print(f"and {rest} differences more")
