"""What a load is told on the command line and in the environment, and what it says when it is not
told enough."""

import argparse
import json
import os
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from loadtest.load import market as markets
from loadtest.load.shapes import SHAPES

URL = "http://127.0.0.1:8080"
MARKET = Path("examples/market.toml")
TO = Path("build/load")
ANSWER_S = 10.0
TROUBLED = ("brownout", "valkey-restart", "churn")
"""Shapes in which something must be done to buyers, servers or the market: `make load` can."""
KEYS_WANTED = """no sellers' keys.

A load sells as the sellers of {market} do: {sellers}.
Give at least one key, made on the exchange that is to be loaded:

    exchange apply {market}
    export LOADTEST_KEYS="{first}=$(exchange key create seller {first})"
    locust -f loadtest/locustfile.py

or let `make load` start an exchange of its own, with buyers."""


def add_shape_to(parser: Any, *, seed: int) -> None:
    """What load, and where its reports go."""
    add = parser.add_argument
    about = "; ".join(f"{name}: {shape.about}" for name, shape in SHAPES.items())
    add("--shape", choices=tuple(SHAPES), default="steady", help=about)
    add("--rate", type=float, default=None, help="leads a second (of ramp: the last step's)")
    add("--seconds", type=float, default=None, help="how long, a short warm-up not counted")
    add("--seed", type=int, default=seed, help="same seed, same leads")
    add("--market", type=Path, default=MARKET, help="the market file that is in force there")
    add("--to", type=Path, default=TO, help="folder of the reports")
    add("--verdict", action="store_true", help="exit code 1 when the budget does not hold")


def add_to(parser: argparse.ArgumentParser) -> None:
    """The arguments that Locust does not have. Without a seed the clock gives one: on an exchange
    that saw a seed before, its consumers would be duplicates."""
    group = parser.add_argument_group("the exchange's workload")
    add_shape_to(group, seed=int(time.time()) % 1_000_000)
    add = group.add_argument
    add("--keys", default=os.environ.get("LOADTEST_KEYS", ""), help="seller=key,seller=key")
    add("--watch", action="append", default=[], metavar="NAME=PID", help="show its CPU, too")
    add("--fresh", action="store_true", help="nobody was sold there before: no duplicates")
    add("--troubles", action="store_true", help=argparse.SUPPRESS)
    add("--setup", default="{}", help=argparse.SUPPRESS)


def keys_of(given: Any) -> dict[str, str]:
    """The keys by seller."""
    pairs = (one.strip().partition("=") for one in given.keys.split(",") if one.strip())
    return {seller: key for seller, _, key in pairs}


def setup_of(given: Any) -> dict[str, str]:
    """What the page tells of the set-up."""
    setup: dict[str, str] = json.loads(given.setup)
    return setup


def leave(words: str) -> NoReturn:
    """End with a sentence for the person at the keyboard."""
    sys.stderr.write(f"load: {words}\n")
    sys.exit(2)


def check(given: Any) -> None:
    """Leave with what is missing or wrong, before anything is sent in earnest."""
    try:
        market = markets.read(given.market)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        leave(f"--market {given.market} cannot be read: {error}")
    keys, sellers = keys_of(given), sorted(market.sellers)
    if not keys:
        leave(KEYS_WANTED.format(market=given.market, sellers=", ".join(sellers), first=sellers[0]))
    for seller in keys:
        if seller not in market.sellers:
            leave(f"no seller `{seller}` in {given.market}; there are: {', '.join(sellers)}")
    if given.shape in TROUBLED and not given.troubles:
        leave(
            f"the shape {given.shape} strikes buyers, servers or the market: it needs an exchange "
            f"of its own. Use: make load ARGS='--shape {given.shape}'"
        )
    for seller, key in keys.items():
        _tried(given.host, seller, key, market, given.market)


def _tried(url: str, seller: str, key: str, market: markets.Market, file: Path) -> None:
    """One test ping, which costs nobody anything; leaves with what is wrong."""
    body = {
        "vertical": sorted(market.verticals)[0],
        "source": sorted(market.sellers[seller].terms())[0],
        "fields": {},
        "test": True,
    }
    request = urllib.request.Request(
        f"{url}/v1/ping",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S):
            return
    except urllib.error.HTTPError as refused:
        named = {one["field"] for one in json.loads(refused.read() or b"{}").get("errors", ())}
        if refused.code == 422 and not named & {"vertical", "source"}:
            return  # the key is good, the market is known: only the record is empty, as meant
        if refused.code == 422:
            leave(f"{url} does not trade {file}; put it in force: exchange apply {file}")
        leave(
            f"{url} refuses the key of {seller} (HTTP {refused.code}); "
            f"make one: exchange key create seller {seller}"
        )
    except OSError as error:
        leave(
            f"nothing answers at {url} ({error}). Set LOADTEST_URL, or let `make load` start an "
            "exchange of its own"
        )
