"""Loads on a process, and what its log says of them."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvloop

from loadtest.bench.figures import Figures
from loadtest.bench.processes import Exchange
from loadtest.generator import Load, cycled, quantiles_ms, run

CONNECTIONS = 16
WARMUP_S = 1.0
LOG_LAG_S = 0.4
"""A record is in the log file after at most so long: the journal's batch and the log's own."""


def loaded(port: int, requests: Sequence[bytes], **more: Any) -> Figures:
    """The generator's report of one load."""
    load = Load(
        host="127.0.0.1",
        port=port,
        next_request=cycled(requests),
        warmup_s=WARMUP_S,
        **{"connections": CONNECTIONS, **more},
    )
    return uvloop.run(run(load))


def saturated(
    port: int, pids: Sequence[int], requests: Sequence[bytes], *, seconds: float, **more: Any
) -> Figures:
    """As many as it takes: CPU per request, of all these processes, and requests a second."""
    report = loaded(port, requests, seconds=seconds, pids=pids, **more)
    return {
        "cpu_us": sum(report["cpu_us_per_request"][str(pid)] or 0.0 for pid in pids),
        "per_s": report["per_s"],
        "failed": failed(report),
    }


def bought(running: Exchange, requests: Sequence[bytes], *, seconds: float, **more: Any) -> Figures:
    """The exchange at saturation, and how many bids its pings got: a ping that asked fewer buyers
    (because they were rested, say) would be cheap and prove nothing."""
    with log_of(running) as lines:
        figures = saturated(running.port, running.worker_pids, requests, seconds=seconds, **more)
    bids = [
        sum(answer == "bid" for answer in line["answers"].values())
        for line in lines
        if line["event"] == "ping"
    ]
    return {**figures, "bids": sum(bids) / max(1, len(bids))}


def failed(report: Figures) -> int:
    """Requests that were refused or lost."""
    refused = sum(number for status, number in report["statuses"].items() if status != "200")
    return int(refused + report["lost"])


@contextmanager
def log_of(running: Exchange) -> Iterator[list[Figures]]:
    """The log lines of the block, filled in at its end."""
    time.sleep(LOG_LAG_S)
    lines: list[Figures] = []
    before = running.log.stat().st_size
    yield lines
    time.sleep(LOG_LAG_S)
    with running.log.open("rb") as log:
        log.seek(before)
        lines += map(json.loads, log.read().splitlines())


def quantiles(ms: Iterator[float]) -> dict[str, float]:
    """Quantiles of times in ms."""
    return quantiles_ms([one / 1000 for one in ms])
