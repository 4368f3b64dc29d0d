"""Commands that change the market: plan, apply, export, API keys, secrets."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from exchange.app import pages
from exchange.app.commands import WHO, AsJson, By, DataDir, err, out, print_json, with_tools
from exchange.app.ground import Ground
from exchange.core.model import Role
from exchange.effects.book import POLL_MS, Moved, TooManyKeys
from exchange.flows import market

market_file = typer.Argument(exists=True, dir_okay=False, help="The market as a TOML file.")
MarketFile = Annotated[Path, market_file]


IN_FORCE_S = 2 * POLL_MS / 1000
"""Every worker asks for changes each `POLL_MS`: after two of them what a command did is in force,
so that the next command of a script can rely on it."""


def plan(
    file: MarketFile,
    data_dir: DataDir = None,
    rebase: Annotated[bool, typer.Option(help="Put the file's changes on the live ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what applying a market file would change, and every mistake in it. Writes nothing."""
    mode: market.Mode = "rebase" if rebase else "refuse"
    text = _text(file)

    async def work(base: Ground) -> market.Plan:
        return await market.plan(base.store, text, at=base.clock.now(), mode=mode)

    made = with_tools(data_dir, work)
    if as_json:
        print_json(made)
    else:
        pages.plan(made, file, out)
    if made.problems:
        raise typer.Exit(1)


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
    text = _text(file)

    async def work(base: Ground) -> tuple[int, market.Plan]:
        now = base.clock.now()
        made = await market.apply(base.store, text, by=by, why=why, at=now, mode=mode)
        await asyncio.sleep(IN_FORCE_S)
        return made

    try:
        version, made = with_tools(data_dir, work)
    except market.NotApplied as refused:
        pages.plan(refused.plan, file, err)
        err.print(f"[red]not applied[/] {refused}")
        raise typer.Exit(1) from None
    except Moved as moved:
        err.print(f"[red]not applied[/] {moved}; plan again")
        raise typer.Exit(1) from None
    pages.plan(made, file, out)
    out.print(f"version {version} is in force")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        err.print(f"[red]market[/] {file} cannot be read as text in UTF-8", highlight=False)
        raise typer.Exit(2) from None


def export(
    data_dir: DataDir = None,
    version: Annotated[int | None, typer.Option(help="An older version.")] = None,
) -> None:
    """Print the market in force as TOML that `apply` takes back."""
    try:
        text = with_tools(data_dir, lambda base: market.export(base.store, version=version))
    except market.UnknownVersion as unknown:
        err.print(f"[red]market[/] {unknown}", highlight=False)
        raise typer.Exit(1) from None
    sys.stdout.write(text)


keys = typer.Typer(help="API keys: one role each, shown once, two at a time for rotation.")


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
        made = await market.create_key(
            base.store, cast(Role, role), party, by=by, at=base.clock.now(), days=days
        )
        await asyncio.sleep(IN_FORCE_S)
        return made

    try:
        made = with_tools(data_dir, work)
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
    if not with_tools(data_dir, lambda base: base.store.revoke_key(key_id, by=by)):
        err.print(f"[red]no such key[/] {key_id}")
        raise typer.Exit(1)
    out.print(f"key {key_id} is revoked")


secret = typer.Typer(help="Secrets that the market file names; kept sealed.")


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
    if not value:
        err.print("[red]no secret[/] nothing was given on standard input")
        raise typer.Exit(2)

    async def work(base: Ground) -> None:
        await market.set_secret(base.store, name, value, seal_secret=base.vault.seal_secret, by=by)

    with_tools(data_dir, work)
    err.print(f"secret {name} is set")
