"""The command `exchange`: everything an operator does, each with a `--help` that teaches.

Every command works on the exchange of `--data-dir` (embedded servers, started for the moment if
none run there) or, with `EXCHANGE_DATABASE_URL` and `EXCHANGE_VALKEY_URL` set, on those.

Exit codes: 0 done; 1 the thing asked for did not hold or was refused; 2 the command was used
wrongly.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from exchange.app import (
    crosscheck_commands,
    customer_commands,
    documents_commands,
    finance_commands,
    incident_commands,
    leads_commands,
    ledger_commands,
    market_commands,
    mending_commands,
    payments_commands,
    payouts_commands,
    period_commands,
    reconcile_commands,
    report_commands,
    return_import_commands,
    returns_commands,
    source_commands,
    terms_commands,
    wallet_commands,
)
from exchange.app.commands import DataDir, err, out, plainly, settings_of
from exchange.app.processes import run_jobs, servers
from exchange.app.processes import serve as serve_until_stopped
from exchange.app.top import top
from exchange.effects.postgres import migrate as migrated
from exchange.effects.vault import Vault
from exchange.flows import market

cli = typer.Typer(
    name="exchange",
    help="A real-time ping-post auction exchange for leads.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
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
    with plainly():
        settings = settings_of(
            host=host,
            port=port,
            workers=workers,
            data_dir=data_dir,
            jobs=jobs,
            lab=lab,
            log=log,
        )
        if not settings.is_embedded:
            Vault.open_file(settings.key_file(), create=False)  # said once, not by every worker
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
    with plainly():
        run_jobs(settings_of(data_dir=data_dir))


@cli.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database's schema up to date. Harmless when it is."""
    with plainly():
        with servers(settings_of(data_dir=data_dir)) as urls:
            asyncio.run(migrated(urls.database_url))
        err.print("the schema is up to date")


# --- the demo -------------------------------------------------------------------------------------


@cli.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long sellers send leads.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Same seed, same leads, same misbehaviour.")] = 7,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for everything it writes.  [default: a new one]")
    ] = None,
    papers: Annotated[
        Path, typer.Option(help="Folder for the month's invoices, statements and lists.")
    ] = Path("build/demo"),
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
    """Play the example market with simulated buyers and seeded sellers, close the month before as
    finance would, and check that all of it holds.

    Exit code 0 only if every check holds, and a cap filled, a lead fell through, a post came in
    doubt and was resolved, and a hung buyer was met."""
    from exchange.demo import Asked, play

    with plainly(), _folder(data_dir) as folder:
        asked = Asked(
            seconds=seconds,
            seed=seed,
            data_dir=folder,
            papers=papers,
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: it is removed, too
    with tempfile.TemporaryDirectory(prefix="exchange-demo-", ignore_cleanup_errors=True) as made:
        yield Path(made)


for one in (market_commands.plan, market_commands.apply, market_commands.export):
    cli.command()(one)
cli.add_typer(market_commands.keys, name="key", no_args_is_help=True)
cli.add_typer(market_commands.secret, name="secret", no_args_is_help=True)
cli.command()(top)
cli.command()(mending_commands.explain)
cli.add_typer(mending_commands.doubt, name="doubt", no_args_is_help=True)
cli.add_typer(mending_commands.caps, name="caps", no_args_is_help=True)
reconcile_commands.cli.command("books")(crosscheck_commands.reconcile_books)
cli.add_typer(reconcile_commands.cli, name="reconcile", no_args_is_help=True)
cli.command()(finance_commands.statement)
returns_commands.returns.command("import")(return_import_commands.returns_import)
returns_commands.returns.command("headers")(return_import_commands.returns_headers)
cli.add_typer(returns_commands.returns, name="returns", no_args_is_help=True)
cli.add_typer(customer_commands.buyers, name="buyers", no_args_is_help=True)
cli.add_typer(source_commands.source, name="source", no_args_is_help=True)
cli.add_typer(incident_commands.incident, name="incident", no_args_is_help=True)
cli.add_typer(wallet_commands.wallets, name="wallets", no_args_is_help=True)
ledger_commands.ledger.command("export")(payouts_commands.ledger_export)
cli.add_typer(ledger_commands.ledger, name="ledger", no_args_is_help=True)
cli.add_typer(period_commands.periods, name="period", no_args_is_help=True)
cli.add_typer(documents_commands.documents, name="documents", no_args_is_help=True)
payments_commands.payments.command("paid")(payouts_commands.payments_paid)
cli.add_typer(payments_commands.payments, name="payments", no_args_is_help=True)
cli.add_typer(payouts_commands.payout_runs, name="payouts", no_args_is_help=True)
cli.command()(payments_commands.ageing)
cli.add_typer(terms_commands.terms, name="terms", no_args_is_help=True)
cli.add_typer(report_commands.report, name="report", no_args_is_help=True)
cli.add_typer(report_commands.report, name="reports", no_args_is_help=True, hidden=True)
cli.add_typer(leads_commands.leads, name="leads", no_args_is_help=True)


def main() -> None:
    """The entry point."""
    cli()


if __name__ == "__main__":
    main()
