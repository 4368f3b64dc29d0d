"""Where a ping's CPU time goes: py-spy samples the worker's stacks (Python frames; time inside a C
call, the kernel's part included, counts for the frame that made it), and every sample is booked to
the innermost part of the exchange on its stack.

py-spy is no dependency: without it, or without the right to trace, there is no breakdown.
"""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import uvloop

from loadtest.generator import Load, cycled, run

RATE = 250
"""Samples a second. Sampling costs the worker a little: no other figure is taken meanwhile."""
PARTS = (
    ("asking the buyers (fan-out)", ("exchange/effects/buyers/",)),
    ("reading bids", ("exchange/dialects/", "exchange/flows/asking")),
    ("gate and admission of the ping", ("exchange/core/fields", "_admitted (exchange/flows/ping")),
    ("eligibility", ("exchange/core/filters", "exchange/core/masks", "exchange/flows/standing")),
    ("ranking", ("exchange/core/auction", "exchange/core/money")),
    ("offer in Valkey", ("exchange/effects/offers", "exchange/effects/valkey")),
    ("metrics", ("exchange/effects/metrics",)),
    ("log", ("exchange/effects/logs",)),
    ("journal", ("exchange/effects/journal", "asyncpg/")),
    ("record and flow", ("exchange/flows/ping",)),
    ("keys, rates, decoding, reply", ("exchange/api/", "exchange/flows/admission")),
    ("HTTP server (aiohttp)", ("aiohttp/web", "aiohttp/http", "aiohttp/base", "aiohttp/streams")),
    ("event loop, reading and waiting", ("aiohttp/worker",)),
)
"""In order: of a stack's innermost frame that any part names, the first part that names it."""
IDLE = ("_worker (concurrent/futures", "(threading.py")


def breakdown(
    pid: int, port: int, requests: Sequence[bytes], *, seconds: float, folder: Path
) -> dict[str, float]:
    """The share of each part of a ping at saturation; empty when py-spy cannot say."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if spy is None:
        return {}
    stacks = folder / "stacks.txt"
    command = [spy, "record", "--pid", str(pid), "--duration", str(max(1, int(seconds))), "--rate"]
    command += [str(RATE), "--format", "raw", "--output", str(stacks), "--nonblocking"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as sampling:
        load = Load(
            host="127.0.0.1",
            port=port,
            next_request=cycled(requests),
            seconds=seconds,
        )
        uvloop.run(run(load))
    if sampling.returncode or not stacks.exists():
        return {}
    return _shares(stacks.read_text().splitlines())


def _shares(lines: Sequence[str]) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, number = line.rpartition(" ")
        frames = stack.split(";")
        if not any(idle in frames[-1] for idle in IDLE):
            counts[_part(frames)] += int(number)
    total = counts.total()
    return {part: number / total for part, number in counts.most_common()}


def _part(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for part, names in PARTS:
            if any(name in frame for name in names):
                return part
    return "other"
