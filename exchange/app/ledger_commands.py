"""Commands of finance: what is kept of the ledger, and what is booked in it by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import msgspec
import typer
from rich.progress import Progress

from exchange.app import finance_pages, period_pages
from exchange.app.commands import (
    WHO,
    AsJson,
    By,
    DataDir,
    err,
    out,
    plainly,
    print_json,
    used_wrongly,
    writable,
)
from exchange.app.finance_commands import books
from exchange.app.period_commands import with_books
from exchange.core.entries import Correction, Entry, NotBooked
from exchange.core.model import is_id
from exchange.core.money import text_of
from exchange.effects.clock import Clock
from exchange.effects.lead_money import LeadBooks, Leg
from exchange.effects.papers import tables
from exchange.effects.periods import Balance, Periods
from exchange.effects.postgres import Database
from exchange.effects.proof import Proven, proven
from exchange.effects.rollups import Rollups
from exchange.effects.vault import Vault
from exchange.flows.entries import Booking
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


@ledger.command("balances")
def ledger_balances(
    party: Annotated[str | None, typer.Argument(help="Only this party's.")] = None,
    negative: Annotated[
        bool, typer.Option("--negative", help="Only sellers who owe the house.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what every account has now: debits less credits. What a buyer owes is positive, what the
    house owes a seller negative."""

    async def work(database: Database) -> tuple[Balance, ...]:
        return await Periods(database).balances(datetime.now(UTC), party)

    with plainly():
        found = with_books(data_dir, work)
    if negative:
        found = tuple(one for one in found if one.party_kind == "seller" and one.balance_micros > 0)
    if as_json:
        print_json(found)
    else:
        period_pages.balances(found, out)


# --- booked by hand -------------------------------------------------------------------------------

Why = Annotated[str, typer.Option(help="Why: stands in the audit.")]
Key = Annotated[
    str | None, typer.Option(help="Books once under this key.  [default: once a day as said]")
]
Currency = Annotated[str, typer.Option(help="Such as USD.")]


def _booked(made: Any, *, is_new: bool, as_json: bool, says: str) -> None:
    if as_json:
        print_json({"booked_now": is_new, **msgspec.structs.asdict(made)})
    else:
        out.print(says if is_new else f"{says} (it was booked before: nothing is booked twice)")


@ledger.command("adjust")
def ledger_adjust(
    party: Annotated[str, typer.Argument(help="The buyer's or seller's key.")],
    currency: Currency,
    why: Why,
    credit: Annotated[str | None, typer.Option(help="An amount in the party's favour.")] = None,
    charge: Annotated[str | None, typer.Option(help="An amount against the party.")] = None,
    cites: Annotated[str, typer.Option(help="The document or period it concerns.")] = "",
    key: Key = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Correct a party's balance, in its favour (--credit) or against it (--charge).

    It is dated now: what concerns a closed period cites it."""
    amount = credit if credit is not None else charge
    if amount is None or (credit is not None and charge is not None):
        raise used_wrongly("say --credit or --charge with an amount")
    said, against = amount, credit is None

    async def work(database: Database) -> tuple[Entry, bool]:
        booking = Booking(database, clock=Clock())
        return await booking.adjust(
            party, said, currency.upper(), against=against, by=by, why=why, cites=cites, key=key
        )

    with _refusals():
        made, is_new = with_books(data_dir, work)
    way = "against" if against else "in favour of"
    says = f"{text_of(abs(made.amount_micros))} {made.currency} {way} {party}: {made.entry_id}"
    _booked(made, is_new=is_new, as_json=as_json, says=says)


@ledger.command("write-off")
def ledger_write_off(
    party: Annotated[str, typer.Argument(help="The buyer's or seller's key.")],
    currency: Currency,
    why: Why,
    amount: Annotated[str | None, typer.Option(help="How much.  [default: all it owes]")] = None,
    key: Key = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give up what a party owes and will never pay: bad debt. Never more than it owes."""

    async def work(database: Database) -> tuple[Entry, bool]:
        booking = Booking(database, clock=Clock())
        return await booking.write_off(party, amount, currency.upper(), by=by, why=why, key=key)

    with _refusals():
        made, is_new = with_books(data_dir, work)
    says = f"{text_of(abs(made.amount_micros))} {made.currency} of {party} written off"
    _booked(made, is_new=is_new, as_json=as_json, says=f"{says}: {made.entry_id}")


@ledger.command("correct")
def ledger_correct(
    sale_id: Annotated[str, typer.Argument(help="The sale: the attempt_id its buyer was posted.")],
    price: Annotated[str, typer.Option(help="What the sale shall stand at.")],
    why: Why,
    key: Key = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring a sale to another price, in its own proportion of payout and fee. Credits of returns
    are off already: the price is what the buyer pays after them."""

    async def work(database: Database) -> tuple[Correction, bool]:
        booking = Booking(database, clock=Clock())
        return await booking.correct(sale_id, price, by=by, why=why, key=key)

    with _refusals():
        made, is_new = with_books(data_dir, work)
    says = f"sale {sale_id} stands at {price}: {made.correction_id}"
    _booked(made, is_new=is_new, as_json=as_json, says=says)


@contextmanager
def _refusals() -> Iterator[None]:
    """What cannot be booked is told in a sentence, and ends with 1."""
    try:
        with plainly():
            yield
    except NotBooked as refused:
        err.print(f"[red]refused[/] {refused}", highlight=False)
        raise typer.Exit(1) from None


# --- leads, back to back --------------------------------------------------------------------------

LEAD_HEADER = (
    *("lead id", "sale id", "at", "buyer", "seller", "currency", "price", "payout", "returned"),
    *("clawed back", "corrected", "buyer", "seller", "house", "sum"),
)


@ledger.command("lead")
def ledger_lead(
    lead_id: Annotated[str | None, typer.Argument(help="One lead.")] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")
    ] = None,
    to_file: Annotated[
        Path | None, typer.Option("--out", help="Write the sales of these days: .csv or .xlsx.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a lead back to back: what its buyer pays, its seller gets and the house keeps, with
    every return, clawback and correction. The three sides sum to zero.

    With --from, --to and --out every sale of the leads of those days (UTC), one line each. Exit
    code 1 when anything does not sum to zero."""
    if lead_id is None:
        if first is None or last is None or to_file is None:
            raise used_wrongly("name a lead, or --from, --to and --out FILE.csv")
        wrong = _lead_file(data_dir, first.date(), last.date(), to_file)
    else:
        wrong = _lead_page(data_dir, lead_id, as_json=as_json)
    if wrong:
        raise typer.Exit(1)


def _lead_page(data_dir: str | None, lead_id: str, *, as_json: bool) -> bool:
    if not is_id(lead_id):
        raise used_wrongly(f"{lead_id} is no lead_id")

    async def work(connection: asyncpg.Connection, _vault: Vault) -> tuple[Leg, ...]:
        return await LeadBooks(connection).legs(lead_id)

    with plainly():
        legs = books(data_dir, "exchange_reader", work)
    if not legs:
        err.print(f"[red]unknown[/] nothing is booked of a lead {lead_id}")
        raise typer.Exit(1)
    if as_json:
        print_json(legs)
    else:
        period_pages.lead(legs, out)
    return any(one.buyer_micros + one.seller_micros + one.house_micros for one in legs)


def _lead_file(data_dir: str | None, first: date, last: date, to_file: Path) -> int:
    writable(to_file, *tables.ENDINGS)

    async def work(connection: asyncpg.Connection, _vault: Vault) -> tuple[int, int]:
        number = wrong = 0
        with tables.table(to_file, LEAD_HEADER, title="Leads") as add:
            async for one in LeadBooks(connection).sales(first, last):
                total = one.buyer_micros + one.seller_micros + one.house_micros
                number, wrong = number + 1, wrong + (total != 0)
                add(
                    (
                        *(one.lead_id, one.sale_id, one.at.date(), one.buyer, one.seller),
                        one.currency,
                        *map(tables.amount, (one.price, one.payout, one.returned)),
                        *map(tables.amount, (one.clawed_back, one.corrected, one.buyer_micros)),
                        *map(tables.amount, (one.seller_micros, one.house_micros, total)),
                    )
                )
        return number, wrong

    with plainly():
        number, wrong = books(data_dir, "exchange_reader", work)
    out.print(f"{number} sales written to {to_file.name}; {wrong} do not sum to zero")
    return wrong
