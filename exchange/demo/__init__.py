"""The demo: the whole exchange on this machine, a market of simulated buyers, seeded sellers, and
the checks that say whether it may be trusted.

It starts `buyers_sim` and `exchange serve` as processes of their own, applies
`examples/market.toml`, sells leads for a while with a live view, waits for every doubt to end, and
prints what came of it. Then it plays the month before and closes it, with the commands that finance
would type. The checks are judged from the buyers' truth files and what the sellers were told; the
database is only asked to prove its own books. A demo in which nothing happened fails.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import orjson
from msgspec.structs import replace
from rich.console import Console
from rich.live import Live

from exchange.app.ground import Ground, Urls, tools
from exchange.app.processes import running_servers
from exchange.config import Settings
from exchange.core.market import read_market
from exchange.core.terms import MarketDoc
from exchange.demo import last_month, page
from exchange.demo.month_end import Finance
from exchange.demo.sellers import Sellers
from exchange.effects.proof import proven
from exchange.effects.report import Report
from exchange.flows import market

SIM_ORIGINS = ("http://127.0.0.1:9100", "https://127.0.0.1:9143")
"""Where the example market says its buyers are; the demo puts the simulated ones there."""
START_S = 60.0
"""How long the processes may take to be ready: the first start makes the database."""
SETTLE_S = 45.0
"""How long after the last lead the doubts may take to end."""
PER_SECOND = 25.0
SELLER_WAIT_S = 30.0
"""Longer than any post may take: what a seller waits before it asks again."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    seconds: float
    seed: int
    data_dir: Path
    papers: Path
    market: Path
    json: Path | None
    stay: bool
    workers: int
    port: int


class Playing(msgspec.Struct, frozen=True, kw_only=True):
    """A demo under way: where everything is."""

    asked: Asked
    url: str
    market: MarketDoc
    truth: Path
    notes: Path
    keys: dict[str, str]


def play(asked: Asked, out: Console) -> bool:
    """Play the demo; whether everything held."""
    asked.data_dir.mkdir(parents=True, exist_ok=True)
    truth = asked.data_dir / "truth"
    with _buyers(asked, truth) as sim:
        text = _market_text(asked.market, sim)
        with _exchange(asked) as (url, settings):
            with out.status("applying the market"):
                keys = asyncio.run(_applied(settings, text))
            agreed_market = read_market(text).doc
            if agreed_market is None:
                raise RuntimeError("the market that was just applied does not load")
            playing = Playing(
                asked=asked,
                url=url,
                market=agreed_market,
                truth=truth,
                notes=asked.data_dir / "sellers.jsonl",
                keys=keys,
            )
            result = asyncio.run(_played(playing, settings, out))
            page.show(result, out)
            month = asyncio.run(_month(asked, settings, out))
            closed = Finance(asked.data_dir, asked.papers, out).close(month, asked.seed)
            result = replace(result, checks=[*result.checks, *closed])
            page.verdict(result, asked.papers, out)
            if asked.json is not None:
                asked.json.write_bytes(orjson.dumps(result.summary(), option=orjson.OPT_INDENT_2))
            if asked.stay:
                _stay(playing, out)
            return result.holds


async def _played(playing: Playing, settings: Settings, out: Console) -> "page.Result":
    async with _tools(settings) as base, _client() as session:
        began = base.clock.now()
        sellers = Sellers(
            url=playing.url,
            market=playing.market,
            keys=playing.keys,
            seed=playing.asked.seed,
            notes=playing.notes,
            session=session,
        )
        report = Report(base.database, began)
        await _ready(session, playing.url)
        await _traded(sellers, playing.asked, out)
        with out.status("waiting for every post in doubt to be resolved"):
            await _settled(report)
        await sellers.finals()
        sellers.close()
        with out.status("judging from the buyers' books"):
            judgement = await _judged(playing)
        ledger = await proven(base.database)
        return await page.result(playing.asked.seed, sellers.heard, report, judgement, ledger)


async def _month(asked: Asked, settings: Settings, out: Console) -> last_month.Month:
    """The month before, as the same market would have traded it."""
    async with _tools(settings) as base:
        with out.status("playing the month before"):
            return await last_month.traded(base, asked.seed, today=base.clock.now())


def _client() -> aiohttp.ClientSession:
    """The sellers' HTTP client: as many connections as leads under way, and patience."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, force_close=False),
        timeout=aiohttp.ClientTimeout(total=SELLER_WAIT_S, connect=None, sock_read=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


async def _traded(sellers: Sellers, asked: Asked, out: Console) -> None:
    """Sell, with a live view twice a second."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    trading = asyncio.create_task(sellers.trade(seconds=asked.seconds, per_second=PER_SECOND))
    try:
        with Live(console=out, refresh_per_second=4, transient=True) as live:
            while not trading.done():
                passed = min(loop.time() - began, asked.seconds)
                live.update(page.view(sellers.heard, passed, asked.seconds))
                await asyncio.wait({trading}, timeout=0.25)
    finally:
        trading.cancel()  # Ctrl-C: no seller begins another lead
        await asyncio.wait({trading})
    await trading


async def _settled(report: Report) -> None:
    """Until no attempt is open, or patience ends (the checks then say so)."""
    for _ in range(int(SETTLE_S / 0.5)):
        if not await report.open_doubts():
            break
        await asyncio.sleep(0.5)
    await asyncio.sleep(0.5)  # the journal's last batch


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    """Until every worker trades the market (each answers some of the questions)."""
    ready = 0
    while ready < 8:
        async with session.get(url + "/readyz", headers={"Connection": "close"}) as response:
            ready = ready + 1 if response.status == 200 else 0
        await asyncio.sleep(0.1)


# --- the processes --------------------------------------------------------------------------------


@contextmanager
def _child(
    command: list[str], log: Path, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that dies with us; its stderr goes to `log`."""
    with log.open("wb") as errors:
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | environment,
            preexec_fn=_die_with_parent,
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _die_with_parent() -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches us alone; we stop the children in order
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


@contextmanager
def _buyers(asked: Asked, truth: Path) -> Iterator[dict[str, Any]]:
    """The simulated buyers; what their ready line says."""
    command = [sys.executable, "-m", "buyers_sim", "--profile", "demo", "--port", "0"]
    command += ["--tls-port", "0", "--seed", str(asked.seed), "--truth-dir", str(truth)]
    with _child(command, asked.data_dir / "buyers_sim.log") as child:
        yield _first_line(child, "the simulated buyers", asked.data_dir / "buyers_sim.log")


@contextmanager
def _exchange(asked: Asked) -> Iterator[tuple[str, Settings]]:
    """The exchange; its address, and settings by which a command finds its servers."""
    log = asked.data_dir / "exchange.log"
    command = [sys.executable, "-m", "exchange", "serve", "--data-dir", str(asked.data_dir)]
    command += ["--port", str(asked.port), "--workers", str(asked.workers), "--lab"]
    command += ["--log", str(asked.data_dir / "exchange.jsonl"), "--ready-line"]
    with _child(command, log, EXCHANGE_LAB="true") as child:
        ready = _first_line(child, "the exchange", log)
        yield ready["url"], Settings(data_dir=str(asked.data_dir), lab=True)


def _first_line(child: "subprocess.Popen[bytes]", what: str, log: Path) -> dict[str, Any]:
    """The ready line of a child; raises `RuntimeError` with its last words if it ends before."""
    assert child.stdout is not None, "children are started with a pipe"
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"{what} did not start; {log} says:\n{log.read_text()[-2000:]}")
    ready: dict[str, Any] = orjson.loads(line)
    return ready


# --- the market -----------------------------------------------------------------------------------


def _market_text(file: Path, sim: dict[str, Any]) -> str:
    """The example market with its buyers where the simulated ones are."""
    text = file.read_text(encoding="utf-8")
    http, https = SIM_ORIGINS
    origins = {http: sim["http"], https: sim["https"], "sim-ca.pem": str(sim["ca"])}
    return market.substituted(text, origins)


async def _applied(settings: Settings, text: str) -> dict[str, str]:
    """Apply the market and make a key for every seller."""
    async with _tools(settings) as base:
        now = base.clock.now()
        await market.apply(base.store, text, by="demo", why="the example market", at=now)
        book = await base.store.load()
        keys = {}
        for seller in book.sellers.values():
            made = await market.create_key(base.store, "seller", seller.key, by="demo", at=now)
            keys[seller.key] = made.text
        return keys


@asynccontextmanager
async def _tools(settings: Settings) -> AsyncIterator[Ground]:
    urls: Urls | None = running_servers(Path(settings.data_dir))
    if urls is None:
        raise RuntimeError("the exchange of this demo is not running any more")
    async with tools(settings, urls) as base:
        yield base


# --- the judge ------------------------------------------------------------------------------------


async def _judged(playing: Playing) -> dict[str, Any]:
    """The checks of `buyers_sim.judge`, which knows nothing of the exchange."""
    facts = playing.asked.data_dir / "agreed.json"
    facts.write_bytes(orjson.dumps(agreed(playing.market)))
    command = ["-m", "buyers_sim.judge", "--truth", str(playing.truth)]
    command += ["--sellers", str(playing.notes), "--market", str(facts), "--json"]
    judge = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await judge.communicate()
    judgement: dict[str, Any] = orjson.loads(said)
    return judgement


def agreed(doc: MarketDoc) -> dict[str, Any]:
    """What a judge needs of the market: caps in their zones, and which fields are personal."""
    return {
        "contracts": {
            key: {
                "buyer": terms.buyer,
                "zone": terms.time_zone or doc.buyers[terms.buyer].time_zone,
                "caps": [msgspec.to_builtins(cap) for cap in terms.caps],
            }
            for key, terms in doc.contracts.items()
        },
        "personal": {
            key: [name for name, field in terms.fields.items() if field.personal]
            for key, terms in doc.verticals.items()
        },
    }


def _stay(playing: Playing, out: Console) -> None:
    """Leave it running, with the lines for a first ping and post, until Ctrl-C."""
    page.first_steps(
        playing.url,
        next(iter(sorted(playing.keys.items()))),
        playing.market,
        playing.asked.data_dir,
        out,
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        out.print("stopping")
