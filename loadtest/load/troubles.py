"""What strikes while a load runs: done by the process that started the grounds, at the times that
the run's phases say."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loadtest.load import notes
from loadtest.load.grounds import Grounds
from loadtest.load.sampling import children_of, words_of
from loadtest.load.shapes import Phase

HANGING_SHARE = 0.2
LOOK_S = 0.1
CONTROL_S = 5.0


@contextmanager
def troubles(where: Grounds, folder: Path) -> Iterator[None]:
    """Strike as the run in `folder` says, for as long as the block lasts."""
    over = threading.Event()
    thread = threading.Thread(target=_strike, args=(where, folder, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _strike(where: Grounds, folder: Path, over: threading.Event) -> None:
    while not (folder / notes.RUN).exists():
        if over.wait(LOOK_S):
            return
    run = notes.run_in(folder)
    for phase in run.phases:
        if over.wait(max(0.0, run.began + phase.begins - time.time())):
            return
        _struck(phase, where, over, run.began + phase.ends)


def _struck(phase: Phase, where: Grounds, over: threading.Event, ends: float) -> None:
    match phase.trouble:
        case "brownout":
            hanging = brown(sorted(where.sim["buyers"]))
            for buyer in hanging:
                _control(where, buyer, {"ping": {"hang": 1.0}, "post": {"hang": 1.0}})
            over.wait(ends - time.time())
            for buyer in hanging:
                _control(where, buyer, None)
        case "valkey":
            for pid in children_of(where.exchange_pid):
                if words_of(pid) and "valkey" in Path(words_of(pid)[0]).name:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        case "churn":
            _churn(where, over, ends)
        case "none" | "spike":
            pass


def brown(buyers: list[str]) -> list[str]:
    """The fifth of the buyers that hangs: spread over the list, and at least one."""
    count = max(1, math.floor(len(buyers) * HANGING_SHARE))
    return [buyers[index * len(buyers) // count] for index in range(count)]


def _control(where: Grounds, buyer: str, change: dict[str, object] | None) -> None:
    request = urllib.request.Request(
        f"{where.sim['http']}/control/{buyer}",
        data=None if change is None else json.dumps(change).encode(),
        method="DELETE" if change is None else "POST",
    )
    with suppress(OSError), urllib.request.urlopen(request, timeout=CONTROL_S):
        pass


def _churn(where: Grounds, over: threading.Event, ends: float) -> None:
    command = [sys.executable, "-m", "loadtest.load.churn", str(where.data_dir), str(where.market)]
    with subprocess.Popen(["nice", *command], stdin=subprocess.PIPE) as changing:
        over.wait(ends - time.time())
        changing.communicate()
