"""Commands about single leads: offering a returned one again."""

from typing import Annotated

import typer
from rich.markup import escape

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
)
from exchange.app.ground import Ground, Urls, tools
from exchange.app.processes import servers
from exchange.app.resale import reselling
from exchange.config import Settings
from exchange.core.money import text_of
from exchange.core.resale import Resold
from exchange.effects.postgres import Database

leads = typer.Typer(help="Single leads.")


@leads.command("resell")
def leads_resell(
    lead_id: Annotated[str, typer.Argument(help="A lead whose sale was returned.")],
    why: Annotated[str, typer.Option(help="Why: stands in the audit.")],
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Offer a returned lead again, to buyers that never had it and that its consent allows.

    Where a vertical or seller says `resell = { within_hours = 72, reasons = [...] }` this happens
    by itself. By hand no such terms are needed, but a lead returned for what holds of every buyer
    (no consent, fraud, a wrong number, ...) is never sold again.

    Exit code 0 when it is sold, or its new buyer's answer is outstanding; 1 when it is not."""
    if len(why) < 3:
        err.print("[red]usage[/] say --why")
        raise typer.Exit(2)
    with plainly():
        settings = settings_of(data_dir=data_dir)
        with servers(settings) as urls:
            came = _run(settings, urls, lead_id, by, why)
    if as_json:
        print_json({"says": came.says, **_shown(came)})
    elif came.kind == "refused":
        err.print(f"[red]refused[/] {escape(came.says)}")
    else:
        out.print(_said(came))
    if came.kind in ("refused", "unsold"):
        raise typer.Exit(1)


def _run(settings: Settings, urls: Urls, lead_id: str, by: str, why: str) -> Resold:
    import asyncio

    async def work() -> Resold:
        async with tools(settings, urls) as base:
            return await _resold(base, settings, urls, lead_id, by, why)

    return asyncio.run(work())


async def _resold(
    base: Ground, settings: Settings, urls: Urls, lead_id: str, by: str, why: str
) -> Resold:
    sealed = await Database.open(
        urls.database_url, role="exchange_sealed", size=1, application_name="resell-sealed"
    )
    try:
        async with reselling(base, settings, urls, sealed) as selling:
            return await selling.resell(lead_id, by=by, why=why)
    finally:
        await sealed.close()


def _shown(came: Resold) -> dict[str, str | None]:
    money = {"price": text_of(came.price_micros), "payout": text_of(came.payout_micros)}
    return {
        "lead_id": came.lead_id,
        "outcome": came.kind,
        "rule": came.rule,
        "resale_id": came.resale_id,
        "currency": came.currency,
        **money,
    }


def _said(came: Resold) -> str:
    told = f"`exchange explain {came.lead_id}` tells the story"
    if came.kind == "sold":
        price, payout = text_of(came.price_micros), text_of(came.payout_micros)
        return f"sold again for {price} {came.currency}, {payout} to its seller; {told}"
    if came.kind == "in_doubt":
        return f"in doubt: a buyer was sent it and has not clearly answered; {told}"
    return f"not sold: buyers had it and none bought; {told}"
