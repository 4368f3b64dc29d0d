"""The processes of a benchmark: the exchange by its own command, buyers and baseline as peers. All
die with us."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.bench.market import SELLER

READY_S = 60.0
STOP_S = 40.0
CHANGES_START_S = 2.0
"""The first change is on its way by then."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A running exchange with one worker. `log` is its log of records; `key` a seller's key."""

    port: int
    worker_pid: int
    folder: Path
    log: Path
    key: str


@contextmanager
def peer(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """A process that says in one line of JSON when and where it is ready; yields that line."""
    with child([sys.executable, "-m", module, *arguments]) as process:
        yield _first_line(process, module)


@contextmanager
def exchange(folder: Path, market: str) -> Iterator[Exchange]:
    """An exchange in this folder with this market in force."""
    file, log = folder / "market.toml", folder / "exchange.jsonl"
    file.write_text(market)
    command = ["serve", "--port", "0", "--workers", "1", "--lab", "--log", str(log), "--ready-line"]
    with child(_exchange(*command, folder=folder), EXCHANGE_LAB="true") as process:
        url = _first_line(process, "the exchange")["url"]
        _done(_exchange("apply", str(file), folder=folder))
        key = _done(_exchange("key", "create", "seller", SELLER, folder=folder)).strip()
        _wait_until_ready(url)
        yield Exchange(
            port=int(url.rsplit(":", 1)[1]),
            worker_pid=_worker_of(process.pid),
            folder=folder,
            log=log,
            key=key,
        )


@contextmanager
def changes(running: Exchange) -> Iterator[Callable[[], int]]:
    """The market is changed every second while the block lasts; call what it yields to end it and
    hear how often."""
    probe = Path(__file__).with_name("changes.py")
    command = [str(probe), str(running.folder), str(running.folder / "market.toml")]
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


def _first_line(process: "subprocess.Popen[str]", what: str) -> dict[str, Any]:
    assert process.stdout is not None, "children are started with a pipe"
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{what} did not start")
    ready: dict[str, Any] = json.loads(line)
    return ready


def _wait_until_ready(url: str) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5.0):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the exchange is not ready")


def _worker_of(master: int) -> int:
    """The one worker: forked by the master, so its command line is the master's."""
    command = Path(f"/proc/{master}/cmdline").read_bytes()
    pids = [
        int(pid)
        for task in Path(f"/proc/{master}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    workers = [pid for pid in pids if Path(f"/proc/{pid}/cmdline").read_bytes() == command]
    if len(workers) != 1:
        raise RuntimeError(f"expected one worker, found {len(workers)}")
    return workers[0]
