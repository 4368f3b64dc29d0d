"""The processes of a benchmark: the exchange by its own command, buyers and baseline as peers. All
die with us."""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.bench.market import SELLER

LOG = "exchange.jsonl"
READY_S = 60.0
STOP_S = 40.0
CHANGES_START_S = 2.0
"""The first change is on its way by then."""


class NotStarted(RuntimeError):
    """A process ended before it was ready."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A running exchange. `log` is its log of records; `keys` are its sellers'."""

    port: int
    worker_pids: tuple[int, ...]
    folder: Path
    log: Path
    keys: tuple[str, ...]

    @property
    def worker_pid(self) -> int:
        """The one worker, or the first."""
        return self.worker_pids[0]

    @property
    def key(self) -> str:
        """The key of the one seller, or of the first."""
        return self.keys[0]


@contextmanager
def peer(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """A process that says in one line of JSON when and where it is ready; yields that line."""
    with child([sys.executable, "-m", module, *arguments]) as process:
        yield first_line(process, module)


@contextmanager
def exchange(
    folder: Path, market: str, *, workers: int = 1, sellers: Sequence[str] = (SELLER,)
) -> Iterator[Exchange]:
    """An exchange in this folder with this market in force, and a key for each of these sellers."""
    with served(folder, workers=workers) as (process, url):
        apply(folder, market)
        keys = [_done(_exchange("key", "create", "seller", one, folder=folder)) for one in sellers]
        _wait_until_ready(url)
        yield Exchange(
            port=int(url.rsplit(":", 1)[1]),
            worker_pids=_workers_of(process.pid, workers),
            folder=folder,
            log=folder / LOG,
            keys=tuple(key.strip() for key in keys),
        )


@contextmanager
def served(folder: Path, *, workers: int = 1) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command `exchange serve` in this folder, and its address once it listens."""
    command = ["serve", "--port", "0", "--workers", str(workers), "--lab", "--ready-line"]
    command += ["--log", str(folder / LOG)]
    with child(_exchange(*command, folder=folder), EXCHANGE_LAB="true") as process:
        yield process, first_line(process, "the exchange")["url"]


def apply(folder: Path, market: str) -> None:
    """Put this market in force in the exchange that runs in this folder."""
    file = folder / "market.toml"
    file.write_text(market)
    _done(_exchange("apply", str(file), folder=folder))


def start_s(folder: Path, page: str) -> float:
    """Seconds from the command, in this folder, until this page answers 200."""
    began = time.perf_counter()
    with served(folder) as (_, url):
        _wait_until_ready(url, page=page, look_s=0.005)
        return time.perf_counter() - began


@contextmanager
def changes(running: Exchange, *, every_s: float = 1.0) -> Iterator[Callable[[], int]]:
    """The market is changed so often while the block lasts; call what it yields to end it and hear
    how many times."""
    probe = Path(__file__).with_name("changes.py")
    market = str(running.folder / "market.toml")
    command = [str(probe), str(running.folder), market, str(every_s)]
    with subprocess.Popen(
        ["nice", sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_die_with_parent,
    ) as process:
        time.sleep(CHANGES_START_S)
        yield lambda: int(process.communicate()[0])


@contextmanager
def child(command: list[str], **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that dies with us and is stopped at the end."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=_die_with_parent,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _die_with_parent() -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches us alone; we stop the children in order
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def _exchange(*arguments: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "exchange", *arguments, "--data-dir", str(folder)]


def _done(command: list[str]) -> str:
    """The standard output of a command; raises `RuntimeError` with its last words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


def first_line(process: "subprocess.Popen[str]", what: str) -> dict[str, Any]:
    """What a child says when it is ready. Raises `NotStarted`."""
    assert process.stdout is not None, "children are started with a pipe"
    is_said, _, _ = select.select([process.stdout], [], [], READY_S)
    line = process.stdout.readline() if is_said else ""
    if not line:
        raise NotStarted(f"{what} did not start")
    ready: dict[str, Any] = json.loads(line)
    return ready


def _wait_until_ready(url: str, *, page: str = "/readyz", look_s: float = 0.1) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}{page}", timeout=5.0):
                return
        except OSError:
            time.sleep(look_s)
    raise RuntimeError("the exchange is not ready")


def _workers_of(master: int, count: int) -> tuple[int, ...]:
    """The workers: forked by the master, so their command line is the master's."""
    command = Path(f"/proc/{master}/cmdline").read_bytes()
    pids = [
        int(pid)
        for task in Path(f"/proc/{master}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    workers = tuple(pid for pid in pids if Path(f"/proc/{pid}/cmdline").read_bytes() == command)
    if len(workers) != count:
        raise RuntimeError(f"expected {count} workers, found {len(workers)}")
    return workers
