"""A partner's file compared and kept: the servers, one snapshot, the memory on disk, the bar."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import Progress, TaskID

from exchange.app import reconcile_pages as pages
from exchange.app.commands import err, settings_of
from exchange.app.ground import Ground, Urls, tools
from exchange.app.processes import servers
from exchange.app.worker import resolving_of
from exchange.config import Settings
from exchange.core.kept_reconciliation import Changed, KeptFinding, Run
from exchange.core.model import Fact
from exchange.core.partner_sheet import Hashed
from exchange.core.verdicts import Finding
from exchange.effects.clock import Clock
from exchange.effects.papers import tables
from exchange.effects.partner_stage import Stage
from exchange.effects.postgres import HOUSE_PARTY, Database, connect
from exchange.effects.reconciliation import Sales
from exchange.effects.reconciliations import Runs
from exchange.effects.sheets import SheetLimits, rows, sha256_of
from exchange.effects.vault import Vault
from exchange.flows.partner_file import Asked, Tick, reconcile
from exchange.flows.reconciliations import Resolution, resolve_by_file, run_of

STATEMENT_TIMEOUT_MS = 600_000
"""A month takes longer than what a seller waits for; longer than ten minutes is a mistake."""
SHOWN_MAX = 40
"""How many differences stand on the terminal; an export has them all."""
LINES_MAX = 2_000_000
"""Lines of one partner's file. They wait on disk, about half a kilobyte each; a longer file is more
likely a mistake, and can be sent in parts."""


class Done(Fact, frozen=True, kw_only=True):
    """What a command made: the run as it is kept, its first differences, the doubts it ended."""

    run: Run
    changed: Changed | None
    shown: tuple[KeptFinding, ...]
    resolved: tuple[Resolution, ...] = ()


def compared(
    data_dir: str | None,
    asked: Asked,
    file: Path,
    to_file: Path | None,
    *,
    by: str,
    resolves: bool,
) -> Done:
    settings = settings_of(data_dir=data_dir)
    with servers(settings) as urls, ExitStack() as stack:
        add = None
        if to_file is not None:
            writing = tables.table(to_file, pages.FINDING_HEADER, title="Reconciliation")
            add = stack.enter_context(writing)
        tick = stack.enter_context(_progress())
        stage = Stage()
        stack.callback(stage.close)

        def tell(finding: Finding) -> None:
            if add is not None:
                add(pages.finding_cells(finding))
            if finding.verdict != "agreed":
                stage.keep(finding)

        work = _kept_run(settings, urls, asked, file, stage, tell, tick, by=by)
        return asyncio.run(_with_doubts(settings, urls, work, by=by) if resolves else work)


async def _kept_run(
    settings: Settings,
    urls: Urls,
    asked: Asked,
    file: Path,
    stage: Stage,
    tell: Callable[[Finding], None],
    tick: Tick,
    *,
    by: str,
) -> Done:
    """Compare within one snapshot that nothing can be written through; then keep it."""
    vault = Vault.open_file(settings.key_file(), create=settings.is_embedded)
    sha256, clock = sha256_of(file), Clock()
    connection = await connect(
        urls.database_url,
        role="exchange_app",  # the reader may not read keyed hashes
        application_name="reconcile",
        statement_timeout_ms=STATEMENT_TIMEOUT_MS,
        party_id=HOUSE_PARTY,
    )
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            sales = Sales(connection)
            done = await reconcile(
                asked,
                rows(file, SheetLimits(rows_max=LINES_MAX)),
                ours=sales,
                hashed=_hashing(vault, await sales.peppers()),
                memory=stage,
                tell=tell,
                tick=tick,
            )
    finally:
        await connection.close()
    async with database_of(urls) as database:
        runs = Runs(database)
        run = run_of(
            done,
            asked,
            reconciliation_id=clock.new_id(),
            at=clock.now(),
            by=by,
            file_sha256=sha256,
            previous=await runs.previous(done.partner_id, sha256),
        )
        async with database.transaction() as writing:
            await runs.keep(writing, run, stage.kept())
        return await shown_of(runs, run.reconciliation_id)


async def _with_doubts(
    settings: Settings, urls: Urls, work: Coroutine[Any, Any, Done], *, by: str
) -> Done:
    done = await work
    async with tools(settings, urls) as base:
        resolved = await resolved_by(
            base, done.run, by=by, why="the partner's file", attempts=None, unlisted=False, yes=True
        )
        shown = await shown_of(Runs(base.database), done.run.reconciliation_id)
    return msgspec.structs.replace(shown, resolved=resolved)


async def shown_of(runs: Runs, reconciliation_id: str) -> Done:
    run = await runs.run(reconciliation_id)
    assert run is not None  # it was just written, or looked for
    return Done(
        run=run,
        changed=await runs.changed(run),
        shown=await runs.findings(reconciliation_id, limit=SHOWN_MAX),
    )


def _hashing(vault: Vault, peppers: Sequence[int]) -> Hashed:
    def hashed(kind: str, plain: str) -> tuple[bytes, ...]:
        found = (vault.person(kind, plain, pepper_epoch=epoch)[1] for epoch in peppers)
        return tuple(map(bytes.fromhex, found))

    return hashed


@contextmanager
def _progress() -> Iterator[Tick]:
    """A bar on the terminal for each side; nothing where there is no terminal."""
    words = {"theirs": "their lines", "ours": "our sales"}
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def tick(side: str, more: int, total: int | None = None) -> None:
            if side not in tasks:
                tasks[side] = bars.add_task(words[side], total=total)
            bars.advance(tasks[side], more)

        yield tick


async def resolved_by(
    base: Ground,
    run: Run,
    *,
    by: str,
    why: str,
    attempts: Sequence[str] | None,
    unlisted: bool,
    yes: bool,
) -> tuple[Resolution, ...]:
    found: list[Resolution] = []
    await resolve_by_file(
        run,
        runs=Runs(base.database),
        resolving=resolving_of(base),
        by=by,
        why=why,
        attempts=attempts,
        unlisted=unlisted,
        dry_run=not yes,
        tell=found.append,
    )
    return tuple(found)


@asynccontextmanager
async def database_of(urls: Urls) -> AsyncIterator[Database]:
    database = await Database.open(
        urls.database_url,
        role="exchange_app",
        size=2,
        application_name="reconcile",
        statement_timeout_ms=STATEMENT_TIMEOUT_MS,
    )
    try:
        yield database
    finally:
        await database.close()
