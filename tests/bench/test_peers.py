"""The bench's peers: skipped by name where they cannot run; where they can, they do the same job as
ours: the same best bid of the same buyers, and an answer in spite of buyers that never give one."""

import json
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench import peers
from loadtest.bench.peers import PEERS, Command, Missing, Peer
from loadtest.bench.processes import peer as process

NAMES = {peer.name: peer for peer in PEERS}
MADE_FIRST = {"fastapi_httpx", "node_undici", "go"}
"""Fetched or compiled, once, into the cache."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# --- skipped by name ------------------------------------------------------------------------------


def lacking(cache: Path) -> Command:
    raise Missing("no such platform")


def ending(cache: Path) -> Command:
    return Command(words=(sys.executable, "-c", "pass"), version="1")


def running(cache: Path) -> Command:
    return Command(words=(sys.executable, "-m", "loadtest.peers.aiohttp_fanout"), version="3.2")


def test_a_peer_that_cannot_run_is_skipped_and_the_others_are_not(
    stack: ExitStack, tmp_path: Path
) -> None:
    wanted = [
        Peer(name=made.__name__, title=made.__name__, made=made)
        for made in (lacking, ending, running)
    ]
    found = peers.started(stack, [1], tmp_path, peers=wanted)
    assert found.skipped == {"lacking": "no such platform", "ending": "ending did not start"}
    assert list(found.running) == ["running"]
    assert found.running["running"]["version"] == "3.2"


@pytest.mark.parametrize(
    ("name", "why"), [("node_undici", "no Node"), ("go", "no Go"), ("nginx_lua", "no nginx")]
)
def test_a_platform_that_is_not_installed_is_named(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "TOOLS", str(tmp_path))
    with pytest.raises(Missing, match=why):
        NAMES[name].made(tmp_path)


def test_a_failed_build_says_its_last_words_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "FASTAPI", ("./nowhere.whl",))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Missing, match=r"FastAPI and httpx: .*nowhere"):
        NAMES["fastapi_httpx"].made(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- the same job ---------------------------------------------------------------------------------


def best_bid(port: int) -> str | None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/ping", data=b'{"ping_id":"1"}')
    with urllib.request.urlopen(request, timeout=20.0) as reply:
        bid: str | None = json.loads(reply.read())["bid"]
        return bid


def ours(stack: ExitStack, ports: Sequence[int], tmax_ms: int) -> Decimal:
    spec = ("--ports", ",".join(map(str, ports)), "--tmax-ms", str(tmax_ms))
    engine = stack.enter_context(process("loadtest.peers.engine_fanout", *spec))
    return Decimal(best_bid(engine["port"]) or 0) / 1_000_000


@pytest.mark.real
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in MADE_FIRST else ()) for n in NAMES]
)
def test_a_peer_answers_the_same_best_bid_as_the_exchanges_engine(
    name: str, stack: ExitStack, tmp_path: Path
) -> None:
    """Two of the ten buyers, the ones that would bid most, never answer."""
    buyers: dict[str, Any] = stack.enter_context(
        process("loadtest.peers.raw_buyer", "--buyers", "10", "--hanging", "2")
    )
    ports, tmax_ms = buyers["ports"], 300
    found = peers.started(stack, ports, tmp_path, peers=[NAMES[name]], tmax_ms=tmax_ms)
    if found.skipped:
        pytest.skip(f"skipped: {found.skipped[name]}")
    theirs = [Decimal(best_bid(found.running[name]["port"]) or 0) for _ in range(2)]
    assert theirs == [ours(stack, ports, tmax_ms)] * 2 == [Decimal("27.50")] * 2
