"""One function per measurement; each answers plain figures (times in ms, CPU in us)."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from loadtest.bench import market
from loadtest.bench.processes import Exchange, changes
from loadtest.generator import Load, cycled, quantiles_ms, request_bytes, run

CONNECTIONS = 16
BUYERS = 10
WARMUP_S = 1.0
TMAX_MS = 1_000
HANGING_TMAX_MS = 150
"""Short, so that pings to buyers that hang do not pile up: at 500 a second 75 are under way."""
LATENCY_RATE = 500.0
SALES_PER_S = 200.0
LOG_LAG_S = 0.4
"""A record is in the log file after at most so long: the journal's batch and the log's own."""
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured: the exchange, the baseline, and for how long a figure is taken."""

    exchange: Exchange
    baseline: dict[str, Any]
    baseline_tls: dict[str, Any]
    seconds: float
    rounds: int


# --- CPU ------------------------------------------------------------------------------------------


def ping_cost(bench: Bench) -> Figures:
    """CPU of a whole ping, plain and TLS, and of the baseline's, in turns; medians of the rounds.
    The ratio is the median of the rounds' own: within one, the machine was the same."""
    rounds = [_round(bench) for _ in range(bench.rounds)]
    names = rounds[0].keys()
    cpu_us = {name: _median(one[name]["cpu_us"] for one in rounds) for name in names}
    return {
        "cpu_us": cpu_us["plain"],
        "cpu_us_per_bid_request": cpu_us["plain"] / BUYERS,
        "cpu_ratio_to_aiohttp_client": _ratio(rounds, "plain", "aiohttp"),
        "tls_cpu_us": cpu_us["tls"],
        "tls_over_plain": _ratio(rounds, "tls", "plain"),
        "tls_ratio_to_aiohttp_client": _ratio(rounds, "tls", "aiohttp_tls"),
        "aiohttp_cpu_us": cpu_us["aiohttp"],
        "aiohttp_tls_cpu_us": cpu_us["aiohttp_tls"],
        "bids": _median(one["plain"]["bids"] for one in rounds),
        "tls_bids": _median(one["tls"]["bids"] for one in rounds),
        "per_s": _median(one["plain"]["per_s"] for one in rounds),
        "per_s_of_a_core": 1e6 / cpu_us["plain"],
        "aiohttp_per_s": _median(one["aiohttp"]["per_s"] for one in rounds),
        "failed": sum(one[name]["failed"] for one in rounds for name in names),
    }


def _round(bench: Bench) -> dict[str, Figures]:
    exchange = bench.exchange
    plain, tls = (market.pings(one, exchange.key, tmax_ms=TMAX_MS) for one in ("plain", "tls"))
    body = plain[0].split(b"\r\n\r\n", 1)[1]
    bare = [request_bytes("/ping", "127.0.0.1", (), body)]
    return {
        "aiohttp": _saturated(bench, bench.baseline["port"], bench.baseline["pid"], bare),
        "plain": _bought(bench, plain),
        "aiohttp_tls": _saturated(
            bench, bench.baseline_tls["port"], bench.baseline_tls["pid"], bare
        ),
        "tls": _bought(bench, tls),
    }


def _bought(bench: Bench, requests: Sequence[bytes]) -> Figures:
    """The exchange at saturation, and how many bids its pings got: a ping that asked fewer buyers
    (because they were rested, say) would be cheap and prove nothing."""
    exchange = bench.exchange
    with _log_of(exchange) as lines:
        figures = _saturated(bench, exchange.port, exchange.worker_pid, requests)
    bids = [
        sum(answer == "bid" for answer in line["answers"].values())
        for line in lines
        if line["event"] == "ping"
    ]
    return {**figures, "bids": sum(bids) / max(1, len(bids))}


def _saturated(bench: Bench, port: int, pid: int, requests: Sequence[bytes]) -> Figures:
    """As many as it takes: CPU per request and requests a second."""
    report = _loaded(port, requests, seconds=bench.seconds, pids=[pid])
    return {
        "cpu_us": report["cpu_us_per_request"][str(pid)],
        "per_s": report["per_s"],
        "failed": _failed(report),
    }


def _ratio(rounds: list[dict[str, Figures]], name: str, other: str) -> float:
    return _median(one[name]["cpu_us"] / one[other]["cpu_us"] for one in rounds)


# --- latency --------------------------------------------------------------------------------------


def added(bench: Bench, rate: float) -> Figures:
    """What the exchange adds to a ping at this rate. Outside: the client's time less the delay the
    buyers chose (none). Inside: read to written less the slowest awaited answer."""
    with _log_of(bench.exchange) as lines:
        report = _pinged(bench, "plain", rate=rate, tmax_ms=TMAX_MS)
    return {
        "rate": rate,
        "outside_ms": report["latency_ms"],
        "inside_ms": _quantiles(line["added_ms"] for line in lines if line["event"] == "ping"),
        "generator_late_ms": report["late_start_ms"],
        "failed": _failed(report),
    }


def during_changes(bench: Bench, rate: float) -> Figures:
    """The same while a changed market is applied every second."""
    with changes(bench.exchange) as changed:
        figures = added(bench, rate)
        figures["versions"] = changed()
    return figures


def hanging(bench: Bench, rate: float) -> Figures:
    """How late a ping ends when a fifth of its buyers never answers: the client's time over tmax,
    of all pings. `waited` is the share of pings that had to wait for the deadline (after a few
    silent answers a buyer is rested and not asked), `waited_late_ms` by how much those ended after
    it, on the exchange's own clock."""
    with _log_of(bench.exchange) as lines:
        report = _pinged(bench, "hanging", rate=rate, tmax_ms=HANGING_TMAX_MS)
    pings = [line for line in lines if line["event"] == "ping"]
    latency = report["latency_ms"]
    timed_out = [line for line in pings if "timeout" in line["answers"].values()]
    return {
        "rate": rate,
        "tmax_ms": HANGING_TMAX_MS,
        "late_ms": {name: latency[name] - HANGING_TMAX_MS for name in ("p99", "p999", "max")},
        "waited": len(timed_out) / max(1, len(pings)),
        "waited_late_ms": _quantiles(line["took_ms"] - HANGING_TMAX_MS for line in timed_out),
        "failed": _failed(report),
    }


def sale(bench: Bench) -> Figures:
    """What a sale adds to a post: two durable commits. The buyer answers at once, so the client's
    time is all ours; and the log's own account of where it went."""
    exchange = bench.exchange
    with _log_of(exchange) as lines:
        report = _loaded(
            exchange.port,
            market.pings("plain", exchange.key, tmax_ms=TMAX_MS),
            seconds=bench.seconds,
            rate=SALES_PER_S,
            follow_up=market.posting(exchange.key),
            pids=[exchange.worker_pid],
        )
    posts = [line for line in lines if line["event"] == "post"]
    parts = ("took_ms", "committed_ms", "delivered_ms", "reserved_ms")
    return {
        **report["second"]["latency_ms"],
        "rate": SALES_PER_S,
        "sold": sum(line["status"] == "sold" for line in posts),
        "posts": len(posts),
        "inside_ms": {part: _quantiles(line[part] for line in posts) for part in parts},
        "cpu_us_per_ping_and_post": report["cpu_us_per_request"][str(exchange.worker_pid)],
        "sync_ms": _sync_ms(exchange.folder),
        "failed": _failed(report),
    }


def _sync_ms(folder: Path) -> dict[str, float]:
    """What the disk itself takes to make 8 KiB durable: a sale waits for it twice."""
    took: list[float] = []
    fd = os.open(folder / "sync.probe", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(100):
            os.pwrite(fd, os.urandom(8192), 0)
            began = time.perf_counter()
            os.fdatasync(fd)
            took.append(time.perf_counter() - began)
    finally:
        os.close(fd)
    return quantiles_ms(took)


# --- loads and logs -------------------------------------------------------------------------------


def _pinged(bench: Bench, vertical: str, *, rate: float, tmax_ms: int) -> Figures:
    exchange = bench.exchange
    requests = market.pings(vertical, exchange.key, tmax_ms=tmax_ms)
    connections = CONNECTIONS + int(rate * tmax_ms / 1000) if vertical == "hanging" else CONNECTIONS
    return _loaded(
        exchange.port, requests, seconds=bench.seconds, rate=rate, connections=connections
    )


def _loaded(port: int, requests: Sequence[bytes], **more: Any) -> Figures:
    load = Load(
        host="127.0.0.1",
        port=port,
        next_request=cycled(requests),
        warmup_s=WARMUP_S,
        **{"connections": CONNECTIONS, **more},
    )
    return uvloop.run(run(load))


def _failed(report: Figures) -> int:
    refused = sum(number for status, number in report["statuses"].items() if status != "200")
    return int(refused + report["lost"])


@contextmanager
def _log_of(exchange: Exchange) -> Iterator[list[Figures]]:
    """The log lines of the block, filled in at its end."""
    time.sleep(LOG_LAG_S)
    lines: list[Figures] = []
    before = exchange.log.stat().st_size
    yield lines
    time.sleep(LOG_LAG_S)
    with exchange.log.open("rb") as log:
        log.seek(before)
        lines += map(json.loads, log.read().splitlines())


def _median(values: Iterator[float]) -> float:
    return round(statistics.median(values), 3)


def _quantiles(ms: Iterator[float]) -> dict[str, float]:
    return quantiles_ms([one / 1000 for one in ms])


def settle(exchange: Exchange) -> None:
    """Let the journal and Postgres's own chores of the last load come to rest."""
    time.sleep(1.0)
    subprocess.run(["sync", "-f", str(exchange.folder)], check=False)
