"""What a ping and a sale cost. Each function is one round of a measurement and answers plain
figures (times in ms, CPU in us), under the paths they have in `bench.json`."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from loadtest.bench import market
from loadtest.bench.figures import Figures
from loadtest.bench.loads import CONNECTIONS, bought, failed, loaded, log_of, quantiles, saturated
from loadtest.bench.processes import changes
from loadtest.bench.stage import BUYERS, Bench
from loadtest.generator import quantiles_ms, request_bytes

TMAX_MS = 1_000
HANGING_TMAX_MS = 150
"""Short, so that pings to buyers that hang do not pile up: at 500 a second 75 are under way."""
SALES_PER_S = 200.0


# --- CPU ------------------------------------------------------------------------------------------


def ping_cost(bench: Bench) -> Figures:
    """CPU of a whole ping, plain and TLS, and of every peer's, in turns. The ratios are of one
    round: the machine was the same."""
    exchange = bench.exchange
    requests = {
        wire: market.pings(wire, exchange.key, tmax_ms=TMAX_MS) for wire in ("plain", "tls")
    }
    bare = bare_of(requests["plain"])
    aiohttp = _saturated(bench, bench.baseline["port"], bench.baseline["pid"], bare)
    plain = bought(exchange, requests["plain"], seconds=bench.seconds)
    others = {
        name: _saturated(bench, one["port"], one["pid"], bare)
        for name, one in bench.peers.running.items()
    }
    aiohttp_tls = _saturated(bench, bench.baseline_tls["port"], bench.baseline_tls["pid"], bare)
    tls = bought(exchange, requests["tls"], seconds=bench.seconds)
    all_of_them = (plain, tls, aiohttp, aiohttp_tls, *others.values())
    ping = {
        "cpu_us": plain["cpu_us"],
        "cpu_us_per_bid_request": plain["cpu_us"] / BUYERS,
        "cpu_ratio_to_aiohttp_client": plain["cpu_us"] / aiohttp["cpu_us"],
        **{f"cpu_ratio_to_{name}": plain["cpu_us"] / one["cpu_us"] for name, one in others.items()},
        "tls_cpu_us": tls["cpu_us"],
        "tls_over_plain": tls["cpu_us"] / plain["cpu_us"],
        "tls_ratio_to_aiohttp_client": tls["cpu_us"] / aiohttp_tls["cpu_us"],
        "aiohttp_cpu_us": aiohttp["cpu_us"],
        "aiohttp_tls_cpu_us": aiohttp_tls["cpu_us"],
        "bids": plain["bids"],
        "tls_bids": tls["bids"],
        "per_s": plain["per_s"],
        "per_s_of_a_core": 1e6 / plain["cpu_us"],
        "aiohttp_per_s": aiohttp["per_s"],
    }
    shown = {"aiohttp": aiohttp, **others}
    peers = {name: {"cpu_us": one["cpu_us"], "per_s": one["per_s"]} for name, one in shown.items()}
    return {"ping": ping, "peers": peers, "failed": sum(one["failed"] for one in all_of_them)}


def bare_of(requests: Sequence[bytes]) -> list[bytes]:
    """What a peer is sent: the first of these pings, without a key."""
    return [request_bytes("/ping", "127.0.0.1", (), requests[0].split(b"\r\n\r\n", 1)[1])]


def _saturated(bench: Bench, port: int, pid: int, requests: Sequence[bytes]) -> Figures:
    return saturated(port, (pid,), requests, seconds=bench.seconds)


# --- latency --------------------------------------------------------------------------------------


def added(bench: Bench) -> Figures:
    """What the exchange adds to a ping. Outside: the client's time less the delay the buyers chose
    (none). Inside: read to written less the slowest awaited answer."""
    figures = _added(bench)
    outside = figures["outside_ms"]
    ping = {
        "added_ms_p50": outside["p50"],
        "added_ms_p99": outside["p99"],
        "added_rate": bench.rate,
        "added_outside_ms": outside,
        "added_inside_ms": figures["inside_ms"],
        "added_cpu_us": figures["cpu_us"],
        "generator_late_ms": figures["generator_late_ms"],
    }
    return {"ping": ping, "failed": figures["failed"]}


def during_changes(bench: Bench) -> Figures:
    """The same while a changed market is applied every second."""
    with changes(bench.exchange) as changed:
        figures = _added(bench)
        figures["versions"] = changed()
    return {"changing": figures, "failed": figures.pop("failed")}


def _added(bench: Bench) -> Figures:
    running = bench.exchange
    requests = market.pings("plain", running.key, tmax_ms=TMAX_MS)
    with log_of(running) as lines:
        report = loaded(
            running.port,
            requests,
            seconds=bench.seconds,
            rate=bench.rate,
            pids=running.worker_pids,
        )
    return {
        "rate": bench.rate,
        "outside_ms": report["latency_ms"],
        "inside_ms": quantiles(line["added_ms"] for line in lines if line["event"] == "ping"),
        "generator_late_ms": report["late_start_ms"],
        "cpu_us": report["cpu_us_per_request"][str(running.worker_pid)],
        "failed": failed(report),
    }


def hanging(bench: Bench) -> Figures:
    """How late a ping ends when a fifth of its buyers never answers: the client's time over tmax,
    of all pings. `waited` is the share of pings that had to wait for the deadline (after a few
    silent answers a buyer is rested and not asked), `waited_late_ms` by how much those ended after
    it, on the exchange's own clock."""
    running = bench.exchange
    with log_of(running) as lines:
        report = loaded(
            running.port,
            market.pings("hanging", running.key, tmax_ms=HANGING_TMAX_MS),
            seconds=bench.seconds,
            rate=bench.rate,
            connections=CONNECTIONS + int(bench.rate * HANGING_TMAX_MS / 1000),
        )
    pings = [line for line in lines if line["event"] == "ping"]
    latency = report["latency_ms"]
    timed_out = [line for line in pings if "timeout" in line["answers"].values()]
    figures = {
        "rate": bench.rate,
        "tmax_ms": HANGING_TMAX_MS,
        "late_ms": {name: latency[name] - HANGING_TMAX_MS for name in ("p99", "p999", "max")},
        "waited": len(timed_out) / max(1, len(pings)),
        "waited_late_ms": quantiles(line["took_ms"] - HANGING_TMAX_MS for line in timed_out),
    }
    return {"hanging": figures, "failed": failed(report)}


# --- sales ----------------------------------------------------------------------------------------


def sale(bench: Bench) -> Figures:
    """What a sale adds to a post: two durable commits. The buyer answers at once, so the client's
    time is all ours; and the log's own account of where it went."""
    exchange = bench.exchange
    with log_of(exchange) as lines:
        report = loaded(
            exchange.port,
            market.pings("plain", exchange.key, tmax_ms=TMAX_MS),
            seconds=bench.seconds,
            rate=SALES_PER_S,
            follow_up=market.posting(exchange.key, bench.people),
            pids=[exchange.worker_pid],
        )
    posts = [line for line in lines if line["event"] == "post"]
    parts = ("took_ms", "committed_ms", "delivered_ms", "reserved_ms")
    figures = {
        **report["second"]["latency_ms"],
        "rate": SALES_PER_S,
        "sold": sum(line["status"] == "sold" for line in posts),
        "posts": len(posts),
        "inside_ms": {part: quantiles(line[part] for line in posts) for part in parts},
        "cpu_us_per_ping_and_post": report["cpu_us_per_request"][str(exchange.worker_pid)],
        "sync_ms": _sync_ms(exchange.folder),
    }
    return {"sale_added_ms": figures, "failed": failed(report)}


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
