"""The figures of speed: `make bench`, or `python -m loadtest.bench [--quick] [--check]`.

Everything runs on this machine, the load generator and the buyers included, so absolute figures
move with it; the ratio to the baseline, taken in turns with it, is what counts. Writes
`bench.json`.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest import eligibility
from loadtest.bench import market, measures, tables
from loadtest.bench.budgets import missed
from loadtest.bench.measures import Bench
from loadtest.bench.processes import exchange, peer
from loadtest.bench.profile import breakdown

HANGING = 2
"""Of ten buyers."""


def benched(spec: argparse.Namespace, out: Console) -> dict[str, Any]:
    """Every figure, as `bench.json` has them."""
    with ExitStack() as stack:
        step = stack.enter_context(_steps(out, count=9))
        step("starting the exchange, buyers and baseline")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bench = _started(stack, folder, spec)
        step("CPU of a ping, in turns with the baseline")
        cost = measures.ping_cost(bench)
        rate = min(measures.LATENCY_RATE, cost["per_s"] / 2)
        step(f"latency added, at {rate:.0f} pings a second")
        latency = measures.added(bench, rate)
        step("a fifth of the buyers hanging")
        hanging = measures.hanging(bench, rate)
        step("durable sales, 200 a second")
        sale = measures.sale(bench)
        step("the market changing every second")
        changing = measures.during_changes(bench, rate)
        step("where the time goes")
        shares = _breakdown(bench, folder)
        step("eligibility (building markets of up to 100,000 contracts)")
        eligible = eligibility.figures()
        step("done")
    return _document(cost, latency, hanging, sale, changing, shares, eligible)


def _started(stack: ExitStack, folder: Path, spec: argparse.Namespace) -> Bench:
    start = stack.enter_context
    count = ("--buyers", str(measures.BUYERS))
    fine = start(peer("loadtest.peers.raw_buyer", *count, "--tls-dir", str(folder)))
    hung = start(peer("loadtest.peers.raw_buyer", *count, "--hanging", str(HANGING)))
    ports, tls_ports = (",".join(map(str, fine[one])) for one in ("ports", "tls_ports"))
    baseline = start(peer("loadtest.peers.aiohttp_fanout", "--ports", ports))
    tls = ("--ports", tls_ports, "--ca", fine["ca"])
    baseline_tls = start(peer("loadtest.peers.aiohttp_fanout", *tls))
    origins = {
        "plain": [f"http://127.0.0.1:{port}" for port in fine["ports"]],
        "tls": [f"https://127.0.0.1:{port}" for port in fine["tls_ports"]],
        "hanging": [f"http://127.0.0.1:{port}" for port in hung["ports"]],
    }
    data_dir = folder / "exchange"
    data_dir.mkdir()
    return Bench(
        exchange=start(exchange(data_dir, market.market_text(origins, fine["ca"]))),
        baseline=baseline,
        baseline_tls=baseline_tls,
        seconds=spec.seconds,
        rounds=spec.rounds,
    )


def _breakdown(bench: Bench, folder: Path) -> dict[str, float]:
    running = bench.exchange
    requests = market.pings("plain", running.key, tmax_ms=measures.TMAX_MS)
    return breakdown(
        running.worker_pid, running.port, requests, seconds=bench.seconds, folder=folder
    )


def _document(
    cost: dict[str, Any],
    latency: dict[str, Any],
    hanging: dict[str, Any],
    sale: dict[str, Any],
    changing: dict[str, Any],
    shares: dict[str, float],
    eligible: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    outside = latency["outside_ms"]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"python": platform.python_version(), "cores": _cores()},
        "ping": {
            **cost,
            "added_ms_p50": outside["p50"],
            "added_ms_p99": outside["p99"],
            "added_rate": latency["rate"],
            "added_outside_ms": outside,
            "added_inside_ms": latency["inside_ms"],
            "generator_late_ms": latency["generator_late_ms"],
        },
        "where_us": {part: round(share * cost["cpu_us"], 1) for part, share in shares.items()},
        "hanging": hanging,
        "changing": changing,
        "sale_added_ms": sale,
        "eligibility_us": {size: row["invite_us"] for size, row in eligible.items()},
        "eligibility_300_us": {size: row["invite_300_us"] for size, row in eligible.items()},
        "eligibility": eligible,
        "failed": sum(one["failed"] for one in (cost, latency, hanging, sale, changing)),
    }


def _cores() -> str:
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{len(names)} x {names[0]}" if names else "unknown"


@contextmanager
def _steps(out: Console, count: int) -> Iterator[Callable[[str], None]]:
    """Shows which step is under way."""
    bar = Progress(
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=out,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=count, completed=-1)

        def step(what: str) -> None:
            bar.update(task, advance=1, description=what)
            if not out.is_terminal:
                out.print(what, style="dim")

        yield step


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds: about a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 when a budget is missed")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of CPU, in turns")
    spec = parser.parse_args()
    if spec.quick:
        spec.seconds, spec.rounds = 2.0, 2
    out = Console()
    document = benched(spec, out)
    spec.json.write_text(json.dumps(document, indent=2) + "\n")
    tables.show(document, out)
    out.print(f"written to {spec.json}")
    if spec.check and (missed(document) or document["failed"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
