"""Commands of finance: a buyer's sheet of returns, and what its words mean."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID

from exchange.app import return_import_pages as pages
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
    writable,
)
from exchange.app.ground import Ground
from exchange.app.worker import returns_of
from exchange.core.partner_sheet import BadHeader
from exchange.core.sheet_words import (
    BadWord,
    Learnt,
    SheetWord,
    column_word,
    days_word,
    reason_word,
)
from exchange.effects.papers import tables
from exchange.effects.papers.return_papers import ReplyLine, write_notices, write_reply
from exchange.effects.reconciliation import Sales
from exchange.effects.return_sheets import ReturnSheets
from exchange.effects.sheets import BadSheet, SheetLimits, rows
from exchange.flows.partner_file import CannotReconcile
from exchange.flows.return_sheet import (
    CannotImport,
    SheetAsked,
    SheetDone,
    SheetReturns,
    Tick,
)

T = TypeVar("T")
LINES_MAX = 50_000
"""Lines of one sheet: more than that in returns is another kind of file."""
LIMITS = SheetLimits(rows_max=LINES_MAX)

Buyer = Annotated[str, typer.Option("--buyer", help="The buyer whose sheet it is.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="Teach a column: reason='Disposition'; repeat it."),
]
Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="Teach a phrase: 'bad number=invalid_phone'; repeat it."),
]
Book = Annotated[
    bool, typer.Option("--book/--preview", help="Make the returns, or only show them.")
]
Zone = Annotated[
    str | None, typer.Option(help="Whose days it has.  [default: the buyer's time zone]")
]
Tolerance = Annotated[
    int, typer.Option(min=0, max=31, help="Days apart for a match by phone or e-mail.")
]
Undated = Annotated[
    bool, typer.Option(help="Match a line without a day, if its person has one sale alone.")
]
Reply = Annotated[
    Path | None, typer.Option("--out", help="Write the buyer's reply: .csv or .xlsx.")
]
Notices = Annotated[
    Path | None, typer.Option(help="With --book: a folder for a notice to each seller.")
]
Days = Annotated[
    str | None, typer.Option(help="Teach how days are written: mdy or dmy; 2026-03-31 needs none.")
]


def returns_import(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX.")],
    buyer: Buyer,
    book: Book = False,
    column: Columns = None,
    reason: Reasons = None,
    days: Days = None,
    zone: Zone = None,
    tolerance: Tolerance = 1,
    undated: Undated = False,
    reply: Reply = None,
    notices: Notices = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring in a buyer's sheet of returns: every line is matched with its sale and decided by the
    contract it was sold on. Without --book nothing is returned: you see what would be.

    The buyer's headers and phrases are remembered. The same sheet again changes nothing.

    Exit code 0 when every line was decided, 1 when lines need a person (flagged or referred), 2
    when the sheet cannot be read."""
    writable(reply, *tables.ENDINGS)
    if notices is not None and not book:
        raise used_wrongly("sellers are told what was returned: --notices goes with --book")
    asked = SheetAsked(
        buyer=buyer,
        by=by,
        book=book,
        taught=_taught(column, reason, days),
        zone=zone,
        tolerance_days=tolerance,
        undated=undated,
    )

    try:
        done = _with_flow(data_dir, lambda _, flow: flow.bring_in(asked, rows(file, LIMITS)))
        if notices is not None:
            _write_notices(notices, done)
        if reply is not None:
            write_reply(reply, rows(file, LIMITS), _said(done), width=done.width)
    except (CannotImport, CannotReconcile, BadSheet, BadHeader) as bad:
        raise used_wrongly(f"{file.name}: {bad}") from None
    if as_json:
        print_json(pages.told(done))
    else:
        pages.imported(done, out)
    if done.needs_a_person:
        raise typer.Exit(1)


def returns_headers(
    buyer: Buyer,
    column: Columns = None,
    reason: Reasons = None,
    days: Days = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show, or teach, how a buyer's sheets are read: which header is which field, which phrase is
    which reason, how its days are written."""
    taught = _taught(column, reason, days)

    async def work(_base: Ground, flow: SheetReturns) -> Learnt:
        if taught:
            await flow.teach(buyer, taught, by=by)
        return await flow.learnt(buyer)

    try:
        learnt = _with_flow(data_dir, work)
    except CannotImport as bad:
        raise used_wrongly(str(bad)) from None
    if as_json:
        print_json(pages.words_told(learnt))
    else:
        pages.words(buyer, learnt, out)


# --- parts ----------------------------------------------------------------------------------------


def _write_notices(folder: Path, done: SheetDone) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = (
        (one.seller, one.case, one.external_id) for one in done.lines if one.case and one.counts
    )
    write_notices(folder, told)


def _with_flow(
    data_dir: str | None, work: Callable[[Ground, SheetReturns], Coroutine[Any, Any, T]]
) -> T:
    with _progress() as tick:

        async def worked(base: Ground) -> T:
            sales = Sales(base.database)
            peppers = await sales.peppers()

            def hashed(kind: str, plain: str) -> tuple[bytes, ...]:
                found = (base.vault.person(kind, plain, pepper_epoch=one)[1] for one in peppers)
                return tuple(map(bytes.fromhex, found))

            flow = SheetReturns(
                returns=returns_of(base, base.database),
                sheets=ReturnSheets(base.database),
                partners=sales,
                clock=base.clock,
                hashed=hashed,
                tick=tick,
            )
            return await work(base, flow)

        return with_tools(data_dir, worked)


@contextmanager
def _progress() -> Iterator[Tick]:
    """A bar on the terminal for each step; nothing where there is no terminal."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def tick(what: str, more: int, total: int | None = None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.advance(tasks[what], more)

        yield tick


def _said(done: SheetDone) -> Callable[[int], ReplyLine | None]:
    known = {one.line: one for one in done.lines}

    def said(number: int) -> ReplyLine | None:
        one = known.get(number)
        if one is None:
            return None
        return ReplyLine(
            state=one.state,
            rule=one.rule,
            says=one.says,
            case=one.case,
            is_foreseen=not (done.booked or one.replayed),
            twin_of=one.twin_of,
        )

    return said


def _taught(
    columns: Sequence[str] | None, reasons: Sequence[str] | None, days: str | None
) -> tuple[SheetWord, ...]:
    try:
        return (
            *map(column_word, columns or ()),
            *map(reason_word, reasons or ()),
            *([days_word(days)] if days else ()),
        )
    except BadWord as bad:
        raise used_wrongly(escape(str(bad))) from None
