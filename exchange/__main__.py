"""The command `exchange`: everything an operator does, each with a `--help` that teaches.

Every command works on the exchange of `--data-dir` (embedded servers, started for the moment if
none run there) or, with `EXCHANGE_DATABASE_URL` and `EXCHANGE_VALKEY_URL` set, on those.

Exit codes: 0 done; 1 the thing asked for did not hold or was refused; 2 the command was used
wrongly.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console

from exchange.app.ground import Ground, Urls, tools
from exchange.app.processes import run_jobs, servers
from exchange.app.processes import serve as serve_until_stopped
from exchange.config import BadSettings, Settings, read_settings
from exchange.embedded import EmbeddedError

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
            on_ready=lambda url: err.print(
                f"listening on {url} (docs: {url}/docs)", soft_wrap=True
            ),
        )


@cli.command()
def jobs(data_dir: DataDir = None) -> None:
    """Run what nobody waits for: resolve posts in doubt, send webhooks, keep partitions ahead."""
    with _plainly():
        run_jobs(_settings(data_dir=data_dir))


@cli.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database's schema up to date. Harmless when it is."""
    from exchange.effects.postgres import migrate as migrated

    with _plainly():
        with servers(_settings(data_dir=data_dir)) as urls:
            asyncio.run(migrated(urls.database_url))
        err.print("the schema is up to date")


def main() -> None:
    """The entry point."""
    cli()


if __name__ == "__main__":
    main()
