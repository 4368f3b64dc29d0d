"""Commands about documents: issue a period, list, show, cancel."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich import box
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from exchange.app.commands import WHO, AsJson, By, DataDir, err, out, print_json, used_wrongly
from exchange.app.papers import First, Last, Papers, Zone, with_papers
from exchange.core.documents import DocumentKind
from exchange.core.money import text_of
from exchange.effects.documents import Kept, Listed
from exchange.effects.papers.document_table import write_document_table
from exchange.flows.documents import Asked, NotIssued, Tick, Told, cancel, issue

documents = typer.Typer(help="Invoices, credit memos, payout statements.")
SHOWN_MAX = 40
"""How many documents of a run stand on the terminal; --json and `documents list` have them all."""
Ending = Literal["pdf", "csv", "xlsx", "json"]


@documents.command("issue")
def documents_issue(
    first: First,
    last: Last,
    party: Annotated[
        list[str] | None,
        typer.Option(help="Only this buyer or seller (buyer:KEY where both have it); repeat it."),
    ] = None,
    cycle: Annotated[
        str | None, typer.Option(help="Only parties billed by: month or week.")
    ] = None,
    zone: Zone = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be issued; issue nothing.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Write each new document into this folder.")
    ] = None,
    with_pdf: Annotated[bool, typer.Option("--pdf", help="As PDF, into --out.")] = False,
    with_csv: Annotated[bool, typer.Option("--csv", help="As CSV, into --out.")] = False,
    with_xlsx: Annotated[bool, typer.Option("--xlsx", help="As XLSX, into --out.")] = False,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Issue the invoices and credit memos of buyers and the payout statements of sellers for a
    period that has ended.

    Running it again issues nothing twice: what a document covers already is left out. Exit code 1
    when such a document is not what the ledger says (by now): cancel it, and issue anew."""
    wanted: dict[Ending, bool] = {"pdf": with_pdf, "csv": with_csv, "xlsx": with_xlsx}
    endings = [ending for ending, is_wanted in wanted.items() if is_wanted]
    if endings and folder is None:
        raise used_wrongly("--pdf, --csv and --xlsx need a folder: --out DIR")
    if cycle not in (None, "month", "week"):
        raise used_wrongly("--cycle is month or week")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)

    async def work(papers: Papers) -> list[Told]:
        asked = Asked(
            period=await papers.period(first, last, zone),
            by=by,
            parties=tuple(party or ()),
            cycle=cycle,
            dry_run=dry_run,
        )
        return await _issued(papers, asked, folder, endings or ["json"])

    try:
        told = with_papers(data_dir, work)
    except NotIssued as bad:
        raise used_wrongly(str(bad)) from None
    if as_json:
        print_json(told)
    else:
        _run_page(told, dry_run=dry_run)
    _told_differences(told)


def _told_differences(told: Sequence[Told]) -> None:
    wrong = [one for one in told if one.differs_micros]
    for one in wrong:
        said = f"{one.number} differs from the ledger by {text_of(one.differs_micros)}"
        err.print(f"[red]does not hold[/] {said} {one.currency}", highlight=False)
    if wrong:
        raise typer.Exit(1)


async def _issued(
    papers: Papers, asked: Asked, folder: Path | None, endings: Sequence[Ending]
) -> list[Told]:
    """Issue, and write what is new into the folder at once: no run is held in memory."""
    told: list[Told] = []

    def tell(one: Told) -> None:
        if folder is not None and one.document is not None:
            for ending in endings:
                _write(folder / f"{one.document.number}.{ending}", one.document.content)
        told.append(msgspec.structs.replace(one, document=None))

    async with papers.period_books() as books:
        with _progress(await books.weight(asked.period)) as tick:
            await issue(
                asked,
                books=books,
                store=papers.documents,
                clock=papers.clock,
                house=papers.house,
                tell=tell,
                tick=tick,
            )
    return told


@contextmanager
def _progress(sales: int) -> Iterator[Tick]:
    """A bar of lines; a sale is one on its buyer's papers and one on its seller's."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        task = bars.add_task("lines", total=2 * sales)
        yield lambda lines: bars.advance(task, lines)


@documents.command("list")
def documents_list(
    party: Annotated[str | None, typer.Option(help="Only this buyer's or seller's.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="invoice, credit_memo, payout_statement or cancellation."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    before: Annotated[str | None, typer.Option(help="Only those before this number.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show documents, the newest first: what they come to and what payments cover of them."""
    if kind is not None and kind not in DocumentKind.__args__:  # type: ignore[attr-defined]
        raise used_wrongly(f"--kind is one of {', '.join(DocumentKind.__args__)}")  # type: ignore[attr-defined]

    async def work(papers: Papers) -> tuple[Listed, ...]:
        party_id = None
        if party is not None:
            found = await papers.documents.party(party)
            if len(found) != 1:
                raise used_wrongly(f"say which: buyer:{party} or seller:{party}" if found
                                   else f"there is no buyer or seller {party}")  # fmt: skip
            party_id = found[0].id
        return await papers.documents.listing(
            party_id=party_id, kind=kind, before=before, limit=limit
        )

    rows = with_papers(data_dir, work)
    if as_json:
        print_json(rows)
    else:
        _list_page(rows)


@documents.command("show")
def documents_show(
    number: Annotated[str, typer.Argument(help="Such as INV-2026-000001.")],
    pdf_file: Annotated[Path | None, typer.Option("--pdf", help="Write it as PDF.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write it as CSV.")] = None,
    xlsx_file: Annotated[Path | None, typer.Option("--xlsx", help="Write it as XLSX.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Write all forms into this folder.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a document as it was issued; --json prints its very bytes."""
    kept = with_papers(data_dir, lambda papers: papers.documents.one(number))
    if kept is None:
        err.print(f"[red]unknown[/] there is no document {number}", highlight=False)
        raise typer.Exit(1)
    files = [path for path in (pdf_file, csv_file, xlsx_file) if path is not None]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        files += [folder / f"{number}.{ending}" for ending in ("pdf", "csv", "xlsx", "json")]
    for path in files:
        try:
            _write(path, kept.document.content)
        except OSError as bad:
            raise used_wrongly(f"nothing can be written to {path}: {bad.strerror}") from None
    if as_json:
        typer.echo(kept.document.content.decode(), nl=True)
    else:
        _page(kept)


@documents.command("cancel")
def documents_cancel(
    number: Annotated[str, typer.Argument(help="The document to take back, whole.")],
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take a document back by another that cites it; its period may then be issued anew."""

    async def work(papers: Papers) -> str:
        made = await cancel(
            number, by=by, store=papers.documents, clock=papers.clock, house=papers.house
        )
        return made.number

    try:
        made = with_papers(data_dir, work)
    except NotIssued as bad:
        err.print(f"[red]refused[/] {bad}", highlight=False)
        raise typer.Exit(1) from None
    if as_json:
        print_json({"number": made, "cancels": number})
    else:
        out.print(f"{number} is cancelled by {made}", highlight=False)


def _write(path: Path, content: bytes) -> None:
    """One form of a document, by the file's name."""
    ending = path.suffix.lower()
    if ending == ".json":
        path.write_bytes(content)
    elif ending == ".pdf":
        from exchange.effects.papers.document_pdf import document_pdf  # no other command draws

        path.write_bytes(document_pdf(msgspec.json.decode(content)))
    elif ending in (".csv", ".xlsx"):
        write_document_table(path, msgspec.json.decode(content))
    else:
        raise used_wrongly(f"{path.name} ends in none of .pdf, .csv, .xlsx, .json")


# --- pages ----------------------------------------------------------------------------------------


def _run_page(told: list[Told], *, dry_run: bool) -> None:
    table = Table("document", "party", "", box=box.SIMPLE_HEAD)
    for head in ("lines", "total"):
        table.add_column(head, justify="right")
    table.add_column("")
    new = [one for one in told if one.new]
    for one in told[:SHOWN_MAX]:
        state = ("would be issued" if dry_run else "issued") if one.new else "issued before"
        table.add_row(
            one.number or one.kind,
            one.party,
            one.currency,
            f"{one.line_count:,}",
            text_of(one.total_micros),
            state,
            style="" if one.new else "dim",
        )
    if told:
        out.print(table)
    if len(told) > SHOWN_MAX:
        out.print(f"and {len(told) - SHOWN_MAX} more: `exchange documents list`")
    words = "would be issued" if dry_run else "issued"
    out.print(f"{len(new)} {words}, {len(told) - len(new)} covered before", highlight=False)
    totals: dict[tuple[str, str], int] = {}
    for one in new:
        key = one.kind, one.currency
        totals[key] = totals.get(key, 0) + one.total_micros
    for (kind, currency), micros in sorted(totals.items()):
        out.print(f"  {kind}: {text_of(micros)} {currency}", highlight=False)


def _list_page(rows: tuple[Listed, ...]) -> None:
    table = Table("number", "party", "period", "", box=box.SIMPLE_HEAD)
    for head in ("total", "paid"):
        table.add_column(head, justify="right")
    for head in ("due", "state"):
        table.add_column(head)
    for row in rows:
        table.add_row(
            row.number,
            row.party,
            f"{row.first_day} to {row.last_day}",
            row.currency,
            text_of(row.total_micros),
            text_of(row.paid_micros),
            str(row.due_on),
            f"cancelled by {row.cancelled_by}" if row.cancelled_by else "",
        )
    out.print(table if rows else "no document")


def _page(kept: Kept) -> None:
    said = kept.content()
    out.print(
        f"[bold]{said['number']}[/] {said['kind'].replace('_', ' ')} to {said['party']['name']}"
        f" ({said['party']['key']}), {said['first_day']} to {said['last_day']} in {said['zone']}"
    )
    out.print(f"issued {said['issued_on']} by {kept.document.issued_by}, due {said['due_on']}")
    if kept.cancelled_by:
        out.print(f"[red]cancelled by {kept.cancelled_by}[/]")
    table = Table("line", "item", box=box.SIMPLE_HEAD)
    for head in ("count", "amount"):
        table.add_column(head, justify="right")
    for kind, item, count, amount in said["summary"]:
        table.add_row(kind, item, f"{count:,}", amount)
    table.add_section()
    table.add_row("total", said["currency"], f"{len(said['lines']):,}", said["total"])
    out.print(table)
    for cited, amount in said["cites"]:
        out.print(f"takes back {amount} of {cited}", highlight=False)
    out.print(f"sha256 {kept.hash.hex()}", highlight=False)
