"""Commands for buyers' lists of the consumers they have."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import track

from exchange.app.commands import (
    WHO,
    AsJson,
    By,
    DataDir,
    err,
    out,
    print_json,
    used_wrongly,
    with_tools,
)
from exchange.app.ground import Ground
from exchange.app.worker import customers_of
from exchange.core.customer_list import BadList
from exchange.effects.customers import Standing, Way
from exchange.effects.reconciliation import Sales
from exchange.effects.sheets import BadSheet, SheetLimits, rows

T = TypeVar("T")
buyers = typer.Typer(help="What buyers give the house to know.")
Buyer = Annotated[str, typer.Option("--buyer", help="The buyer's key.")]
LIMITS = SheetLimits(rows_max=1_000_000)
"""Customers of one list: a million takes some 200 MB while it is read."""


@buyers.command("list-upload")
def list_upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX.")],
    buyer: Buyer,
    more: Annotated[
        bool, typer.Option("--more/--whole", help="Add to the list, or take its place.")
    ] = False,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take in a buyer's list of the consumers it has, by phone or e-mail: only keyed hashes are
    kept. From then on its returns as duplicate or existing customer are checked against it, for
    leads that were posted after the upload.

    Exit code 0 when it is in, 2 when it cannot be read."""

    async def work(base: Ground, buyer_id: int) -> tuple[Standing, int]:
        flow = customers_of(base)
        read = track(
            rows(file, LIMITS),
            description="their lines",
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        customers = flow.read(cells for _, cells in read)
        way: Way = "more" if more else "whole"
        return await flow.upload(buyer_id, customers, way=way, by=by), customers.unread

    try:
        standing, unread = _of_buyer(data_dir, buyer, work)
    except (BadList, BadSheet) as bad:
        raise used_wrongly(escape(f"{file.name}: {bad}")) from None
    if as_json:
        print_json({"list": standing, "unread": unread})
    else:
        _page(buyer, standing)
        out.print(f"rows with neither phone nor e-mail: {unread}")


@buyers.command("list-show")
def list_show(buyer: Buyer, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show how many consumers are on a buyer's list, and since when."""

    async def work(base: Ground, buyer_id: int) -> Standing | None:
        return await customers_of(base).standing(buyer_id)

    standing = _of_buyer(data_dir, buyer, work)
    if as_json:
        print_json({"list": standing})
    elif standing is None:
        out.print(f"{escape(buyer)} has uploaded no list")
    else:
        _page(buyer, standing)


def _page(buyer: str, standing: Standing) -> None:
    kinds = " and ".join(standing.kinds)
    what = "whole" if standing.way == "whole" else "more of it"
    out.print(f"{escape(buyer)}: {standing.keys} consumers listed by {kinds}", highlight=False)
    out.print(f"last upload ({what}) {standing.at:%Y-%m-%d %H:%M:%S} UTC by {escape(standing.by)}")


def _of_buyer(
    data_dir: str | None, buyer: str, work: Callable[[Ground, int], Coroutine[Any, Any, T]]
) -> T:
    async def found(base: Ground) -> T:
        partner = await Sales(base.database).partner("buyer", buyer)
        if partner is None:
            raise used_wrongly(f"there is no buyer {escape(buyer)}")
        return await work(base, partner.id)

    return with_tools(data_dir, found)
