"""The command `exchange`: everything an operator does, each with a `--help` that teaches.

Every command works on the exchange of `--data-dir` (embedded servers, started for the moment if
none run there) or, with `EXCHANGE_DATABASE_URL` and `EXCHANGE_VALKEY_URL` set, on those.

Exit codes: 0 done; 1 the thing asked for did not hold or was refused; 2 the command was used
wrongly.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
import typer
from rich.console import Console

from exchange.app import pages
from exchange.app.ground import Ground, Urls, tools
from exchange.app.processes import run_jobs, servers
from exchange.app.processes import serve as serve_until_stopped
from exchange.app.worker import explainer, resolving_of
from exchange.config import BadSettings, Settings, read_settings
from exchange.core.book import Book
from exchange.core.model import Role
from exchange.core.story import Story
from exchange.effects.book import Moved, TooManyKeys
from exchange.effects.caps import Rebuilt, Unreadable
from exchange.effects.doubts import DoubtFilter, Doubts
from exchange.effects.postgres import migrate as migrated
from exchange.embedded import EmbeddedError
from exchange.flows import market
from exchange.flows.caps import CapRow, NoSuchBuyer, rebuild, show
from exchange.flows.doubt import BulkResolved, DoubtRow, Outcome, listing, resolve_many, totals
from exchange.flows.explain import NoSuchStory
from exchange.flows.story_page import page as story_page

T = TypeVar("T")

cli = typer.Typer(
    name="exchange",
    help="A real-time ping-post auction exchange for leads.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", help="Folder of the embedded servers' data.  [default: data]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
out = Console()
err = Console(stderr=True)


@contextmanager
def _plainly() -> Iterator[None]:
    """Errors an operator can mend are sentences, not tracebacks."""
    try:
        yield
    except BadSettings as bad:
        for problem in bad.problems:
            err.print(f"[red]setting[/] {problem}", highlight=False)
        raise typer.Exit(2) from None
    except EmbeddedError as bad:
        err.print(f"[red]servers[/] {bad}", highlight=False)
        raise typer.Exit(1) from None


def _settings(**given: Any) -> Settings:
    return read_settings(os.environ, **given)


def _with_tools(data_dir: str | None, work: Callable[[Ground], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on the ground of this data folder or database."""
    with _plainly():
        settings = _settings(data_dir=data_dir)
        with servers(settings) as urls:
            return asyncio.run(_worked(settings, urls, work))


async def _worked(
    settings: Settings, urls: Urls, work: Callable[[Ground], Coroutine[Any, Any, T]]
) -> T:
    async with tools(settings, urls) as base:
        return await work(base)


def _print_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


# --- running --------------------------------------------------------------------------------------


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    data_dir: DataDir = None,
    jobs: Annotated[bool | None, typer.Option(help="Run the jobs process beside.")] = None,
    lab: Annotated[
        bool | None, typer.Option(help="Allow plain http and private addresses to buyers.")
    ] = None,
    log: Annotated[str | None, typer.Option(help="Log file; - is standard output.")] = None,
    ready_line: Annotated[
        bool, typer.Option(help="Print one line of JSON with the address when it listens.")
    ] = False,
) -> None:
    """Answer sellers and buyers until stopped (Ctrl-C or SIGTERM: drains, loses nothing)."""
    with _plainly():
        settings = _settings(
            host=host,
            port=port,
            workers=workers,
            data_dir=data_dir,
            jobs=jobs,
            lab=lab,
            log=log,
        )
        serve_until_stopped(
            settings,
            on_ready=lambda url: _say_ready(url, for_programs=ready_line),
        )


def _say_ready(url: str, *, for_programs: bool) -> None:
    if for_programs:
        sys.stdout.buffer.write(msgspec.json.encode({"ready": True, "url": url}) + b"\n")
        sys.stdout.flush()
    else:
        err.print(f"listening on {url} (docs: {url}/docs)", soft_wrap=True)


@cli.command()
def jobs(data_dir: DataDir = None) -> None:
    """Run what nobody waits for: resolve posts in doubt, send webhooks, keep partitions ahead."""
    with _plainly():
        run_jobs(_settings(data_dir=data_dir))


@cli.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database's schema up to date. Harmless when it is."""
    with _plainly():
        with servers(_settings(data_dir=data_dir)) as urls:
            asyncio.run(migrated(urls.database_url))
        err.print("the schema is up to date")


# --- the market -----------------------------------------------------------------------------------

market_file = typer.Argument(exists=True, dir_okay=False, help="The market as a TOML file.")
MarketFile = Annotated[Path, market_file]
By = Annotated[str, typer.Option("--by", help="Who does this: stands in the audit.")]
WHO = os.environ.get("USER") or "operator"


@cli.command()
def plan(
    file: MarketFile,
    data_dir: DataDir = None,
    rebase: Annotated[bool, typer.Option(help="Put the file's changes on the live ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what applying a market file would change, and every mistake in it. Writes nothing."""
    mode: market.Mode = "rebase" if rebase else "refuse"

    async def work(base: Ground) -> market.Plan:
        now = base.clock.now()
        return await market.plan(base.store, file.read_text(), at=now, mode=mode)

    made = _with_tools(data_dir, work)
    if as_json:
        _print_json(made)
    else:
        pages.plan(made, file, out)
    if made.problems:
        raise typer.Exit(1)


@cli.command()
def apply(
    file: MarketFile,
    data_dir: DataDir = None,
    by: By = WHO,
    why: Annotated[str, typer.Option(help="Why: stands in the audit.")] = "",
    rebase: Annotated[bool, typer.Option(help="Put the file's changes on the live ones.")] = False,
    discard_live: Annotated[
        bool, typer.Option(help="Let the file win over changes made live.")
    ] = False,
) -> None:
    """Put a market file in force, in every worker within two seconds. All of it or nothing."""
    mode: market.Mode = "rebase" if rebase else "discard_live" if discard_live else "refuse"

    async def work(base: Ground) -> tuple[int, market.Plan]:
        now = base.clock.now()
        return await market.apply(base.store, file.read_text(), by=by, why=why, at=now, mode=mode)

    try:
        version, made = _with_tools(data_dir, work)
    except market.NotApplied as refused:
        pages.plan(refused.plan, file, err)
        err.print(f"[red]not applied[/] {refused}")
        raise typer.Exit(1) from None
    except Moved as moved:
        err.print(f"[red]not applied[/] {moved}; plan again")
        raise typer.Exit(1) from None
    pages.plan(made, file, out)
    out.print(f"version {version} is in force")


@cli.command()
def export(
    data_dir: DataDir = None,
    version: Annotated[int | None, typer.Option(help="An older version.")] = None,
) -> None:
    """Print the market in force as TOML that `apply` takes back."""
    text = _with_tools(data_dir, lambda base: market.export(base.store, version=version))
    sys.stdout.write(text)


keys = typer.Typer(help="API keys: one role each, shown once, two at a time for rotation.")
cli.add_typer(keys, name="key", no_args_is_help=True)


@keys.command("create")
def key_create(
    role: Annotated[str, typer.Argument(help="seller, buyer, operator or finance")],
    party: Annotated[str | None, typer.Argument(help="The seller's or buyer's key.")] = None,
    data_dir: DataDir = None,
    by: By = WHO,
    days: Annotated[int | None, typer.Option(help="Expires after so many days.")] = None,
) -> None:
    """Make an API key. It is printed once and kept nowhere: only its hash is."""
    if role not in ("seller", "buyer", "operator", "finance"):
        err.print("[red]role[/] is one of seller, buyer, operator, finance")
        raise typer.Exit(2)

    async def work(base: Ground) -> market.NewKey:
        return await market.create_key(
            base.store, cast(Role, role), party, by=by, at=base.clock.now(), days=days
        )

    try:
        made = _with_tools(data_dir, work)
    except market.UnknownParty as refused:
        err.print(f"[red]no key[/] {refused}")
        raise typer.Exit(1) from None
    except TooManyKeys:
        err.print("[red]no key[/] two keys work already; revoke one first: exchange key revoke")
        raise typer.Exit(1) from None
    sys.stdout.write(made.text + "\n")


@keys.command("revoke")
def key_revoke(
    key_id: Annotated[str, typer.Argument(help="The id in ex_live_<id>_...")],
    data_dir: DataDir = None,
    by: By = WHO,
) -> None:
    """End a key, in every worker within two seconds."""
    if not _with_tools(data_dir, lambda base: base.store.revoke_key(key_id, by=by)):
        err.print(f"[red]no such key[/] {key_id}")
        raise typer.Exit(1)
    out.print(f"key {key_id} is revoked")


secret = typer.Typer(help="Secrets that the market file names; kept sealed.")
cli.add_typer(secret, name="secret", no_args_is_help=True)


@secret.command("set")
def secret_set(
    name: Annotated[str, typer.Argument(help="The name the market file uses.")],
    data_dir: DataDir = None,
    by: By = WHO,
) -> None:
    """Keep a secret, read from standard input (or asked for without echo)."""
    if sys.stdin.isatty():
        value = str(typer.prompt("value", hide_input=True)).encode()
    else:
        value = sys.stdin.buffer.read().strip()

    async def work(base: Ground) -> None:
        await market.set_secret(base.store, name, value, seal_secret=base.vault.seal_secret, by=by)

    _with_tools(data_dir, work)
    err.print(f"secret {name} is set")


# --- looking and mending --------------------------------------------------------------------------


@cli.command()
def explain(
    ping_or_lead_id: Annotated[str, typer.Argument(help="The ping_id or lead_id (they are one).")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell the whole story of a ping or lead: who was asked, who was not and why, what each said,
    the posts, the money, the custody."""
    settings = _settings(data_dir=data_dir)

    async def work(base: Ground) -> Story | NoSuchStory:
        return await explainer(base, settings.limits.invited_max).story(ping_or_lead_id)

    story = _with_tools(data_dir, work)
    if isinstance(story, NoSuchStory):
        err.print(f"[red]unknown[/] there is no ping or lead {ping_or_lead_id}")
        raise typer.Exit(1)
    if as_json:
        _print_json(story)
    else:
        out.print(story_page(story))


doubt = typer.Typer(help="Posts that were sent and never clearly answered.")
cli.add_typer(doubt, name="doubt", no_args_is_help=True)


@doubt.command("list")
def doubt_list(
    data_dir: DataDir = None,
    buyer: Annotated[str | None, typer.Option(help="Only this buyer's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the posts in doubt, with the leads, money and caps they hold."""

    async def work(base: Ground) -> tuple[DoubtRow, ...]:
        book = base.standing.book
        narrowed = DoubtFilter(buyer_id=_buyer_id(book, buyer))
        return await listing(narrowed, doubts=Doubts(base.database), book=book)

    rows = _with_tools(data_dir, work)
    if as_json:
        _print_json({"rows": rows, "totals": totals(rows)})
    else:
        pages.doubts(rows, out)


@doubt.command("resolve")
def doubt_resolve(
    outcome: Annotated[str, typer.Argument(help="sold, rejected or written_off")],
    ids: Annotated[list[str] | None, typer.Argument(help="Attempts or leads.")] = None,
    data_dir: DataDir = None,
    buyer: Annotated[str | None, typer.Option(help="All of this buyer's.")] = None,
    why: Annotated[str, typer.Option(help="Why: stands in the audit.")] = "",
    by: By = WHO,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only show it.")] = False,
    as_json: AsJson = False,
) -> None:
    """End doubts on your word. Without --yes: shows which leads, money and caps it would move."""
    if outcome not in ("sold", "rejected", "written_off") or not (ids or buyer):
        err.print("[red]usage[/] name an outcome (sold, rejected, written_off) and ids or --buyer")
        raise typer.Exit(2)

    async def work(base: Ground) -> BulkResolved:
        book = base.standing.book
        return await resolve_many(
            DoubtFilter(buyer_id=_buyer_id(book, buyer), ids=tuple(ids) if ids else None),
            cast(Outcome, outcome),
            by=by,
            why=why,
            dry_run=not yes,
            doubts=Doubts(base.database),
            resolving=resolving_of(base),
            book=book,
        )

    done = _with_tools(data_dir, work)
    if as_json:
        _print_json(done)
    else:
        pages.resolved(done, out)


caps = typer.Typer(help="What counts against the caps.")
cli.add_typer(caps, name="caps", no_args_is_help=True)


@caps.command("show")
def caps_show(
    data_dir: DataDir = None,
    buyer: Annotated[str | None, typer.Option(help="Only this buyer's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show every open cap window: used, held, limit, and the database's own count beside it."""

    async def work(base: Ground) -> tuple[CapRow, ...]:
        return await show(
            caps=base.caps, book=base.standing.book, at=base.clock.now(), buyer_key=buyer
        )

    try:
        rows = _with_tools(data_dir, work)
    except NoSuchBuyer as unknown:
        err.print(f"[red]unknown[/] {unknown}")
        raise typer.Exit(1) from None
    if as_json:
        _print_json(rows)
    else:
        pages.caps(rows, out)


@caps.command("rebuild")
def caps_rebuild(
    buyer: Annotated[str, typer.Argument(help="The buyer's key.")], data_dir: DataDir = None
) -> None:
    """Count a buyer's caps anew from the database, whatever Valkey says."""

    async def work(base: Ground) -> Rebuilt | Unreadable:
        return await rebuild(buyer, caps=base.caps, book=base.standing.book)

    try:
        done = _with_tools(data_dir, work)
    except NoSuchBuyer as unknown:
        err.print(f"[red]unknown[/] {unknown}")
        raise typer.Exit(1) from None
    if isinstance(done, Unreadable):
        err.print(f"[red]not rebuilt[/] {done.detail}")
        raise typer.Exit(1)
    out.print(
        f"generation {done.generation}: {done.windows} windows, {done.holds} live holds counted anew"
    )


def _buyer_id(book: Book, key: str | None) -> int | None:
    if key is None:
        return None
    for buyer in book.buyers.values():
        if buyer.key == key:
            return buyer.id
    err.print(f"[red]unknown[/] there is no buyer {key}")
    raise typer.Exit(1)


# --- the demo -------------------------------------------------------------------------------------


@cli.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long sellers send leads.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Same seed, same leads, same misbehaviour.")] = 7,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for everything it writes.  [default: a new one]")
    ] = None,
    market_path: Annotated[
        Path, typer.Option("--market", help="The market to play.", exists=True)
    ] = Path("examples/market.toml"),
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the result here, for programs.")
    ] = None,
    stay: Annotated[bool, typer.Option(help="Leave it running afterwards.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 0,
) -> None:
    """Play the example market with simulated buyers and seeded sellers, and check that it holds.

    Exit code 0 only if every check holds, and a cap filled, a lead fell through, a post came in
    doubt and was resolved, and a hung buyer was met."""
    from exchange.demo import Asked, play

    with _plainly(), _folder(data_dir) as folder:
        asked = Asked(
            seconds=seconds,
            seed=seed,
            data_dir=folder,
            market=market_path,
            json=json_path,
            stay=stay,
            workers=workers,
            port=port,
        )
        try:
            holds = play(asked, out)
        except (RuntimeError, market.NotApplied) as failed:
            err.print(f"[red]demo[/] {failed}", highlight=False)
            raise typer.Exit(1) from None
    if not holds:
        raise typer.Exit(1)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The folder given, or a new one that is removed afterwards."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="exchange-demo-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def main() -> None:
    """The entry point."""
    cli()


if __name__ == "__main__":
    main()
