"""The engine against the baseline, in one run on one machine: CPU per auction of ten buyers.

    python -m loadtest.fanout_bench --seconds 5 --rounds 3

Both are a bare aiohttp server that asks the same raw-protocol buyers and answers the best bid; one
with aiohttp's client and `gather`, one with the exchange's engine; plain and with TLS. Absolute
times move with the machine, the ratio counts. The rounds take turns, the medians are printed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import uvloop

from loadtest.generator import Load, cycled, request_bytes, run

PING = (
    b'{"contract":"bench","ping_id":"0198c0de-0000-7000-8000-000000000000","vertical":"auto_insurance",'
    b'"tmax_ms":1490,"exclusive":true,"fields":{"zip":"94110","state":"CA","age":42,"homeowner":true,'
    b'"credit":"good","insured":false,"vehicle_year":2019},"consent":{"kind":"tcpa"},"test":false}'
)


@contextmanager
def peer(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """A process of its own that says in one line of JSON when and where it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def measured(server: dict[str, Any], spec: argparse.Namespace) -> dict[str, Any]:
    """One round of load on one server."""
    load = Load(
        host="127.0.0.1",
        port=server["port"],
        next_request=cycled([request_bytes("/ping", "127.0.0.1", (), PING)]),
        connections=spec.connections,
        seconds=spec.seconds,
        warmup_s=1.0,
        pids=[server["pid"]],
    )
    report = uvloop.run(run(load))
    report["cpu_us"] = report["cpu_us_per_request"][str(server["pid"])]
    return report


def bench(spec: argparse.Namespace) -> dict[str, Any]:
    """Every server, round by round."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        buyers = stack.enter_context(
            peer("loadtest.peers.raw_buyer", "--buyers", str(spec.buyers), "--tls-dir", folder)
        )
        plain = ("--ports", ",".join(map(str, buyers["ports"])))
        tls = ("--ports", ",".join(map(str, buyers["tls_ports"])), "--ca", buyers["ca"])
        servers = {
            f"{name}_{wire}": stack.enter_context(peer(f"loadtest.peers.{name}_fanout", *arguments))
            for wire, arguments in (("plain", plain), ("tls", tls))
            for name in ("aiohttp", "engine")
        }
        rounds = [
            {name: measured(server, spec) for name, server in servers.items()}
            for _ in range(spec.rounds)
        ]
    return summary(rounds, spec)


def summary(rounds: list[dict[str, Any]], spec: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds, and the ratios."""
    cpu_us = {name: statistics.median(one[name]["cpu_us"] for one in rounds) for name in rounds[0]}
    return {
        "buyers": spec.buyers,
        "cpu_us": cpu_us,
        "cpu_us_per_bid_request": {
            name: round(value / spec.buyers, 2) for name, value in cpu_us.items()
        },
        "per_s": {name: statistics.median(one[name]["per_s"] for one in rounds) for name in cpu_us},
        "latency_ms": {name: rounds[-1][name]["latency_ms"] for name in cpu_us},
        "failed": {
            name: sum(
                number
                for one in rounds
                for status, number in one[name]["statuses"].items()
                if status != "200"
            )
            + sum(one[name]["lost"] for one in rounds)
            for name in cpu_us
        },
        "ratio_plain": round(cpu_us["engine_plain"] / cpu_us["aiohttp_plain"], 3),
        "ratio_tls": round(cpu_us["engine_tls"] / cpu_us["aiohttp_tls"], 3),
        "tls_over_plain": round(cpu_us["engine_tls"] / cpu_us["engine_plain"], 2),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buyers", type=int, default=10)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    print(json.dumps(bench(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
