"""`exchange top`: the exchange of this moment in a terminal, from the metrics that it tells anyway.

Each frame is of what happened within the last `WINDOW_S`. Caps are read from Postgres and Valkey
themselves where those are known, at a pace of their own. Nothing is written anywhere.
"""

import asyncio
import contextlib
import sys
import termios
import time
import tty
import urllib.error
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from exchange.app.commands import AWAY, AsJson, DataDir, err, out, plainly, print_json, settings_of
from exchange.app.ground import Urls, tools
from exchange.app.processes import running_servers, serving_url
from exchange.app.top.frame import Frame, frame
from exchange.app.top.page import page
from exchange.app.top.reading import Between, Reading, read
from exchange.config import Settings
from exchange.effects.vault import VaultError
from exchange.flows.caps import CapRow, show

WINDOW_S = 10.0
"""A frame tells of so long: shorter jumps about, longer comes late."""
CAPS_EVERY_S = 5.0
"""Between two counts of the caps: each is a few questions to both servers."""
ANSWER_S = 5.0
FIRST_S = 1.0
"""The first frame comes sooner than the others, and tells of less."""
HISTORY = 24
"""Bars of pings per second."""


class Silent(Exception):
    """Nothing that tells metrics answers there; the message says what happened instead."""


def top(
    url: Annotated[
        str | None, typer.Option(help="The exchange's address, if it is another.")
    ] = None,
    data_dir: DataDir = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two frames.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a running exchange: rates, latencies, buyers, caps, doubts, queues.

    q or Ctrl-C ends. The numbers are those of /metrics, of all workers, over
    the last ten seconds; with --once and --json over one --every. The exchange
    is found by --url, else by the data folder it runs in, else at
    EXCHANGE_HOST and EXCHANGE_PORT. Caps are counted where the exchange of the
    data folder runs, or where EXCHANGE_DATABASE_URL and EXCHANGE_VALKEY_URL
    say.

    \b
      offers/s         pings that were promised a payout
      late/s           answered after their tmax: should be 0
      added to a ping  what the exchange takes beside its slowest buyer
      added to a sale  the same of a sale in two steps
      silent           share of a buyer's pings not answered in time
      wins             share of a buyer's bids that became sales
      flying           requests to the buyer under way
      resting          the buyer's endpoint fails, it is not asked
      braked           too many of its posts are in doubt, it gets none
      books proven     the last day's custody chains and bookings hold
    """
    with plainly():
        settings = settings_of(data_dir=data_dir)
        where = url or serving_url(Path(settings.data_dir)) or _listening(settings)
        try:
            if once or as_json:
                _tell_once(asyncio.run(_one(where, settings, every)), where, as_json=as_json)
            else:
                asyncio.run(_live(where, settings, every))
        except Silent as silent:
            err.print(
                f"[red]nothing to watch[/] {where} {silent}; start one with `exchange serve`, or "
                "name another with --url or --data-dir",
                soft_wrap=True,
            )
            raise typer.Exit(1) from None


def _listening(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{host}:{settings.port}"


# --- one frame ------------------------------------------------------------------------------------


async def _one(where: str, settings: Settings, every: float) -> Frame:
    async with _counting(settings) as count:
        before = await _look(where)
        caps = await count()
        await asyncio.sleep(every)
        between = Between(before, await _look(where))
        return frame(between, wall_s=time.time(), caps=caps)


def _tell_once(made: Frame, where: str, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    height = out.height if out.is_terminal else 60
    out.print(page(made, where=_short(where), history=(), width=out.width, height=height))


def _short(where: str) -> str:
    return where.removeprefix("http://").rstrip("/")


async def _look(where: str) -> Reading:
    """One scrape. Raises `Silent`."""
    try:
        text = await asyncio.to_thread(_fetched, where.rstrip("/") + "/metrics")
        reading = read(text, time.monotonic())
    except urllib.error.HTTPError as fault:
        fault.close()
        raise Silent(f"answers {fault.code}") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "reason", fault)
        raise Silent(f"does not answer ({type(reason).__name__})") from None
    if "exchange_up" not in reading.series:
        raise Silent("is no exchange")
    return reading


def _fetched(url: str) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=ANSWER_S) as answer:
        return str(answer.read().decode())


# --- caps -----------------------------------------------------------------------------------------

Count = Callable[[], Awaitable[tuple[CapRow, ...] | None]]


@asynccontextmanager
async def _counting(settings: Settings) -> AsyncIterator[Count]:
    """What counts the caps, in servers that are named or that run in the data folder; `None` where
    there are none, or where they cannot be reached. No server is started for it."""
    urls = running_servers(Path(settings.data_dir))
    if settings.database_url is not None and settings.valkey_url is not None:
        urls = Urls(database_url=settings.database_url, valkey_url=settings.valkey_url)

    async def nothing() -> None:
        return None

    async with contextlib.AsyncExitStack() as stack:
        if urls is None:
            yield nothing
            return
        try:
            base = await stack.enter_async_context(tools(settings, urls))
        except (*AWAY, VaultError):
            yield nothing
            return

        async def count() -> tuple[CapRow, ...] | None:
            try:
                return await show(caps=base.caps, book=base.standing.book, at=base.clock.now())
            except AWAY:
                return None

        yield count


# --- the live view --------------------------------------------------------------------------------


class View(msgspec.Struct):
    """What the live view has seen so far."""

    readings: deque[Reading]
    history: deque[float]
    caps: tuple[CapRow, ...] | None = None
    counted_s: float = float("-inf")
    note: str = ""

    def learn(self, reading: Reading) -> None:
        """One more reading; those that are too old are forgotten."""
        if self.readings:
            self.history.append(Between(self.readings[-1], reading).per_s("exchange_pings_total"))
        self.readings.append(reading)
        while len(self.readings) > 2 and reading.at_s - self.readings[1].at_s >= WINDOW_S:
            self.readings.popleft()

    def frame(self) -> Frame:
        """The frame of the readings so far."""
        between = Between(self.readings[0], self.readings[-1])
        return frame(between, wall_s=time.time(), caps=self.caps)


async def _live(where: str, settings: Settings, every: float) -> None:
    view = View(readings=deque([await _look(where)]), history=deque(maxlen=HISTORY))
    console = Console()
    async with _counting(settings) as count:
        await asyncio.sleep(min(every, FIRST_S))
        with _quitting() as quits, Live(console=console, screen=True, auto_refresh=False) as live:
            while not quits.is_set():
                await _watched(view, where, count)
                live.update(
                    page(
                        view.frame(),
                        where=_short(where),
                        history=tuple(view.history),
                        width=console.width,
                        height=console.height,
                        note=view.note,
                    ),
                    refresh=True,
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(quits.wait(), every)


async def _watched(view: View, where: str, count: Count) -> None:
    """One more look; an exchange that is away for a while is told, not given up."""
    try:
        view.learn(await _look(where))
        view.note = ""
    except Silent as silent:
        view.note = f"{silent} "
    if time.monotonic() - view.counted_s >= CAPS_EVERY_S:
        view.caps, view.counted_s = await count(), time.monotonic()


@contextmanager
def _quitting() -> Iterator[asyncio.Event]:
    """Set when somebody presses q or Ctrl-C; keys are not echoed meanwhile."""
    quits = asyncio.Event()
    if not sys.stdin.isatty():
        yield quits
        return
    keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)

    def pressed() -> None:
        if sys.stdin.read(1) in ("q", "Q", ""):
            quits.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, pressed)
    try:
        yield quits
    except asyncio.CancelledError:  # Ctrl-C ends it as well
        return
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
