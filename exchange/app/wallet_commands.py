"""Commands about wallets: what buyers that pay ahead may still spend."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.app.commands import AsJson, DataDir, err, out, print_json, with_tools
from exchange.app.ground import Ground
from exchange.core.money import text_of
from exchange.effects.caps import Rebuilt, Unreadable
from exchange.effects.wallets import Wallet, WalletStore

wallets = typer.Typer(help="What buyers that pay ahead may still spend.")


@wallets.command("list")
def wallets_list(
    buyer: Annotated[str | None, typer.Option(help="Only this buyer's.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show every wallet: what is left, what is held by leads under way, what the ledger says.

    A buyer pays ahead with `prepaid = true` in the market file. Exit code 0 when window and ledger
    agree, 1 when they do not (`exchange wallets recount BUYER` counts anew by the ledger)."""

    async def work(base: Ground) -> list[Wallet]:
        return await WalletStore(base.database).wallets(buyer)

    rows = with_tools(data_dir, work)
    if as_json:
        print_json([_told(row) for row in rows])
    else:
        _page(rows, out)
    if any(row.difference_micros for row in rows):
        raise typer.Exit(1)


@wallets.command("recount")
def wallets_recount(
    buyer: Annotated[str, typer.Argument(help="The buyer's key.")],
    data_dir: DataDir = None,
) -> None:
    """Count a buyer's wallets anew by the ledger, in Postgres and in Valkey.

    Needed only after a buyer began to pay ahead while leads were being sold to it."""

    async def work(base: Ground) -> tuple[list[Wallet], Rebuilt | Unreadable | None]:
        store = WalletStore(base.database)
        if not await store.recount(buyer):
            return [], None
        rows = await store.wallets(buyer)
        return rows, await base.caps.rebuild(rows[0].buyer_id)

    rows, rebuilt = with_tools(data_dir, work)
    if rebuilt is None:
        err.print(f"[red]unknown[/] {escape(buyer)} has no wallet")
        raise typer.Exit(1)
    if isinstance(rebuilt, Unreadable):
        err.print(f"[red]refused[/] {escape(rebuilt.detail)}")
        raise typer.Exit(1)
    _page(rows, out)


def _told(row: Wallet) -> dict[str, str]:
    return {
        "buyer": row.buyer,
        "currency": row.currency,
        "left": text_of(row.left_micros),
        "held": text_of(row.held_micros),
        "ledger": text_of(-row.owed_micros),
        "difference": text_of(row.difference_micros),
    }


def _page(rows: Sequence[Wallet], out: Console) -> None:
    table = Table("buyer", "", box=box.SIMPLE_HEAD)
    for head in ("left", "held", "by the ledger", "difference"):
        table.add_column(head, justify="right")
    for row in rows:
        told = _told(row)
        style = "red" if row.difference_micros else ""
        amounts = (told[name] for name in ("left", "held", "ledger", "difference"))
        table.add_row(escape(row.buyer), row.currency, *amounts, style=style)
    out.print(table if rows else "no buyer pays ahead")
