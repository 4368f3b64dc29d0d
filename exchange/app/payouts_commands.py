"""Commands about sellers' money and the accountant's books: who is paid, the bank's file, what was
paid, the journal."""

import csv
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich import box
from rich.table import Table

from exchange.app.commands import WHO, AsJson, By, DataDir, err, out, print_json, used_wrongly
from exchange.app.papers import First, Last, Papers, Zone, amount_of, with_papers
from exchange.core.accounting import JournalRow, journal
from exchange.core.messages import Refusal
from exchange.core.money import text_of
from exchange.core.payout_run import SENTENCES, Payout, payouts
from exchange.core.terms import HouseTerms
from exchange.effects.papers.bank_file import HEADER, bank_xml, write_bank_csv
from exchange.effects.papers.journal_table import Program, write_journal
from exchange.flows.payments import Done, Telling

payout_runs = typer.Typer(help="Paying sellers.")


@payout_runs.command("due")
def payouts_due(
    at: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="What is due on this day.  [default: today]"),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Only this currency.")] = None,
    to_file: Annotated[
        Path | None,
        typer.Option("--out", help="Write the bank's file: .xml (ISO 20022 pain.001) or .csv."),
    ] = None,
    zone: Zone = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show which sellers are paid now, and why others are not; write the file for the bank.

    Nothing is recorded: once the bank has paid, `exchange payments paid FILE.csv` does that."""
    if to_file is not None and to_file.suffix.lower() not in (".xml", ".csv"):
        raise used_wrongly(f"{to_file.name} ends neither in .xml nor in .csv")
    day = (at or datetime.now(UTC)).date()

    async def work(papers: Papers) -> tuple[HouseTerms, tuple[Payout, ...]]:
        async with papers.period_books() as books:
            billed = {one.party.id: one for one in await books.parties()}
        payables = await papers.payments.payables(day, await papers.day_end(day, zone))
        found = payouts(payables, billed, await papers.payments.holds())
        wanted = currency.upper() if currency else None
        return papers.house, tuple(one for one in found if wanted in (None, one.currency))

    house, rows = with_papers(data_dir, work)
    paid = [one for one in rows if one.state == "pay"]
    if to_file is not None:
        _write(to_file, paid, house, day)
    if as_json:
        print_json([_told(one) for one in rows])
    else:
        _page(rows)


def payments_paid(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The run's CSV.")],
    day: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="When the bank paid.  [default: today]"),
    ] = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Record the payouts of a file that `exchange payouts due --out FILE.csv` wrote as paid.

    Take the lines out that the bank did not pay. Recording a file twice changes nothing.
    Exit code 0 when every line is recorded, 1 when one was refused."""
    told = _tellings(file, (day or datetime.now(UTC)).date(), by)

    async def work(papers: Papers) -> list[Done | Refusal]:
        return [await papers.paying.record(one) for one in told]

    done = with_papers(data_dir, work)
    bad = [(line, one) for line, one in enumerate(done, 2) if isinstance(one, Refusal)]
    good = [one for one in done if isinstance(one, Done)]
    if as_json:
        refusals = [{"line": line, "problems": one.problems} for line, one in bad]
        print_json({"recorded": [one for one in good if not one.replayed],
                    "before": sum(one.replayed for one in good), "refused": refusals})  # fmt: skip
    else:
        before = sum(one.replayed for one in good)
        out.print(f"{len(good) - before} payouts recorded, {before} recorded before")
    for line, one in bad:
        err.print(f"[red]line {line}[/] {one.detail}", highlight=False)
    if bad:
        raise typer.Exit(1)


def ledger_export(
    first: First,
    last: Last,
    to_file: Annotated[Path, typer.Option("--out", help="The CSV to write.")],
    program: Annotated[str, typer.Option("--for", help="quickbooks or xero.")] = "quickbooks",
    currency: Annotated[str | None, typer.Option(help="Only this currency.")] = None,
    zone: Zone = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write a period's journal for the accountant's program; its totals are the ledger's."""
    if program not in get_args(Program):
        raise used_wrongly(f"--for is one of {', '.join(get_args(Program))}")
    if to_file.suffix.lower() != ".csv" or not to_file.parent.is_dir():
        raise used_wrongly(f"{to_file} is no .csv in a folder that is there")

    async def work(papers: Papers) -> tuple[JournalRow, ...]:
        return journal(await papers.payments.moved(await papers.period(first, last, zone)))

    wanted = currency.upper() if currency else None
    rows = [row for row in with_papers(data_dir, work) if wanted in (None, row.currency)]
    try:
        write_journal(to_file, rows, cast(Program, program))
    except ValueError as bad:
        raise used_wrongly(f"{bad}: --currency") from None
    totals: dict[str, list[int]] = {}
    for row in rows:
        both = totals.setdefault(row.currency, [0, 0])
        both[0] += row.debit_micros
        both[1] += row.credit_micros
    said = {one: {"debit": text_of(both[0]), "credit": text_of(both[1])}
            for one, both in totals.items()}  # fmt: skip
    if as_json:
        print_json({"rows": len(rows), "totals": said})
    else:
        out.print(f"{len(rows)} rows in {to_file}", highlight=False)
        for one, both_said in said.items():
            out.print(f"  {both_said['debit']} {one} debit and credit", highlight=False)


def _tellings(file: Path, day: date, by: str) -> list[Telling]:
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    missing = {"key", "seller", "currency", "amount", "statement"} - set(
        rows[0] if rows else HEADER
    )
    if missing:
        raise used_wrongly(f"{file.name} has no column {', '.join(sorted(missing))}")
    return [
        Telling(
            party=f"seller:{row['seller']}",
            amount_micros=amount_of(row["amount"]),
            currency=row["currency"],
            value_day=day,
            reference=row["key"],
            by=by,
            key=row["key"],
        )
        for row in rows
    ]


def _write(path: Path, paid: list[Payout], house: HouseTerms, day: date) -> None:
    try:
        if path.suffix.lower() == ".csv":
            write_bank_csv(path, paid)
        else:
            path.write_bytes(bank_xml(paid, house=house, at=datetime.now(UTC), execute_on=day))
    except (OSError, ValueError) as bad:
        raise used_wrongly(str(bad)) from None


def _told(one: Payout) -> dict[str, str]:
    return {
        "seller": one.billed.party.key,
        "currency": one.currency,
        "due": text_of(one.due_micros),
        "held": text_of(one.held_micros),
        "amount": text_of(one.amount_micros),
        "state": one.state,
        "key": one.key,
        "statement": one.statement,
    }


def _page(rows: tuple[Payout, ...]) -> None:
    table = Table("seller", "", box=box.SIMPLE_HEAD)
    for head in ("due", "held", "pay"):
        table.add_column(head, justify="right")
    table.add_column("statement")
    table.add_column("")
    for one in rows:
        pay = text_of(one.amount_micros) if one.state == "pay" else ""
        amounts = text_of(one.due_micros), text_of(one.held_micros), pay
        table.add_row(one.billed.party.key, one.currency, *amounts, one.statement,
                      SENTENCES[one.state])  # fmt: skip
    out.print(table if rows else "no seller is owed anything that is due")
