"""The command `python -m buyers_sim`: plays buyers until it is told to stop."""

import asyncio
import ctypes
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvloop

from . import profile as profiles
from .buyer import Buyer
from .certificates import Authority
from .server import Cast, listen

TEACH = """Play simulated buyers over real HTTP, for demos and tests of a lead exchange.

\b
Every buyer has three addresses:
  POST /<buyer>/ping    POST /<buyer>/post    GET /<buyer>/status?attempt_id=
When all are ready, ONE line of JSON on stdout says where they are.

\b
A profile (a TOML file) and a seed say what a buyer does; the same ping meets
the same behaviour, whatever came before it. What it received and answered
stands in <truth-dir>/<buyer>.jsonl, written before the answer leaves.

\b
Change a buyer while it runs ($URL is "http" of the ready line):
  curl $URL/control/falcon -d '{"ping": {"hang": 1.0}}'    hang from now on
  curl $URL/control/falcon -X DELETE                       back to the profile
  curl $URL/control/stats                                  what everyone did

\b
Profiles that come with it: demo, quiet, hanging-fifth, chaos.
Judge a run afterwards: python -m buyers_sim.judge --help
"""

_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal a process gets when its parent ends."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one run was asked for."""

    profile: profiles.Profile
    host: str
    port: int
    tls_port: int
    seed: int
    truth_dir: Path


def main(
    profile: Annotated[str, typer.Option(help="A profile's name, or a path.")] = "demo",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Plain HTTP; 0 takes a free port.")] = 0,
    tls_port: Annotated[int, typer.Option(help="HTTPS; 0 takes a free port.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 7,
    truth_dir: Annotated[
        Path | None, typer.Option(help="Folder of the truth files; none: a new temporary one.")
    ] = None,
    tenfold: Annotated[
        int, typer.Option(min=1, help="Play every buyer N times (acme, acme-2, ...).")
    ] = 1,
    die_with_parent: Annotated[
        bool, typer.Option("--die-with-parent", help="Stop when the starting process ends.")
    ] = False,
) -> None:
    """Play the buyers of a profile until SIGTERM or SIGINT."""
    if die_with_parent:
        _die_with_parent()
    try:
        loaded = profiles.load(profile, copies=tenfold)
    except profiles.ProfileError as error:
        print(f"buyers_sim: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    folder = truth_dir or Path(tempfile.mkdtemp(prefix="buyers-sim-truth-"))
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        profile=loaded, host=host, port=port, tls_port=tls_port, seed=seed, truth_dir=folder
    )
    uvloop.run(_play(settings))


async def _play(settings: Settings) -> None:
    buyers = {
        name: Buyer(name, table=table, seed=settings.seed, truth_dir=settings.truth_dir)
        for name, table in settings.profile.tables.items()
    }
    cast = Cast(buyers)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    authority = Authority()
    ca = settings.truth_dir / "ca.pem"
    ca.write_bytes(authority.pem())
    host = settings.host
    good = authority.server_context(host, expired=False)
    expired = authority.server_context(host, expired=True)
    plain_server, plain_port = await listen(cast, host=host, port=settings.port)
    good_server, good_port = await listen(cast, host=host, port=settings.tls_port, tls=good)
    expired_server, expired_port = await listen(cast, host=host, port=0, tls=expired)
    addresses = {
        "plain": f"http://{host}:{plain_port}",
        "good": f"https://{host}:{good_port}",
        "expired": f"https://{host}:{expired_port}",
    }
    print(msgspec.json.encode(_ready(settings, addresses, ca)).decode(), flush=True)
    await stop.wait()
    for server in (plain_server, good_server, expired_server):
        server.close()
    await cast.close()


def _ready(settings: Settings, addresses: dict[str, str], ca: Path) -> dict[str, Any]:
    buyers = settings.profile.buyers
    return {
        "ready": True,
        "http": addresses["plain"],
        "https": addresses["good"],
        "expired_https": addresses["expired"],
        "ca": str(ca.resolve()),
        "truth_dir": str(settings.truth_dir.resolve()),
        "profile": settings.profile.name,
        "seed": settings.seed,
        "buyers": list(buyers),
        "urls": {name: f"{addresses[rules.tls]}/{name}" for name, rules in buyers.items()},
        "status": [name for name, rules in buyers.items() if rules.status],
        "secrets": {name: rules.secret for name, rules in buyers.items() if rules.secret},
    }


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the request was in force
        sys.exit(0)


if __name__ == "__main__":
    main.__doc__ = TEACH
    typer.run(main)
