"""What every command shares: settings, the ground it works on, and how it speaks."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from exchange.app.ground import Ground, Urls, tools
from exchange.app.processes import servers
from exchange.config import BadSettings, Settings, read_settings
from exchange.effects.postgres import DatabaseDown
from exchange.effects.valkey import ValkeyDown
from exchange.effects.vault import VaultError
from exchange.embedded import EmbeddedError

T = TypeVar("T")
AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    DatabaseDown,
    ValkeyDown,
)
"""What a server that is away, or named wrongly, makes a command raise."""
DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", help="Folder of the embedded servers' data.  [default: data]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
WIDTH = 140
"""Columns where there is no terminal to ask: a page that goes to a file or a pipe."""
out = Console(width=None if sys.stdout.isatty() else WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH, highlight=False)
WHO = os.environ.get("USER") or "operator"
By = Annotated[str, typer.Option("--by", help="Who does this: stands in the audit.")]


@contextmanager
def plainly() -> Iterator[None]:
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
    except VaultError as bad:
        err.print(f"[red]key[/] {bad}", highlight=False)
        raise typer.Exit(1) from None
    except AWAY as bad:
        said = escape(f"{type(bad).__name__}: {bad}")
        err.print(f"[red]servers[/] Postgres or Valkey cannot be reached: {said}", highlight=False)
        raise typer.Exit(1) from None


def settings_of(**given: Any) -> Settings:
    return read_settings(os.environ, **given)


def with_tools(data_dir: str | None, work: Callable[[Ground], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on the ground of this data folder or database."""
    with plainly():
        settings = settings_of(data_dir=data_dir)
        with servers(settings) as urls:
            return asyncio.run(_worked(settings, urls, work))


async def _worked(
    settings: Settings, urls: Urls, work: Callable[[Ground], Coroutine[Any, Any, T]]
) -> T:
    async with tools(settings, urls) as base:
        return await work(base)


def print_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def writable(path: Path | None, *endings: str) -> None:
    """Says before the work, not after it, that a file cannot be written."""
    if path is None:
        return
    if path.suffix.lower() not in endings:
        raise used_wrongly(f"{path.name} does not end in {' or '.join(endings)}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise used_wrongly(f"nothing can be written in {path.parent}")


def used_wrongly(words: str) -> typer.Exit:
    """What to raise when a command was called in a way that cannot work; says why."""
    err.print(f"[red]usage[/] {words}", highlight=False, markup=True)
    return typer.Exit(2)
