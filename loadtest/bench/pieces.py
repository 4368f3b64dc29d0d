"""The pieces of a ping and a sale by themselves: reserve, group commit, journal, dialect, custody;
and eligibility. Probes in processes of their own, beside a running exchange where one is needed."""

import json
import subprocess
import sys
from pathlib import Path

from loadtest import eligibility
from loadtest.bench import market
from loadtest.bench.figures import Figures
from loadtest.bench.loads import failed, loaded
from loadtest.bench.measures import SALES_PER_S, TMAX_MS
from loadtest.bench.stage import Bench

PROBE = Path(__file__).with_name("pieces_probe.py")


def pieces(bench: Bench) -> list[Figures]:
    """Every round of the probe, beside an exchange that has just sold some leads."""
    running = bench.exchange
    report = loaded(
        running.port,
        market.pings("plain", running.key, tmax_ms=TMAX_MS),
        seconds=1.0,
        rate=SALES_PER_S,
        follow_up=market.posting(running.key, bench.people),
    )
    command = [sys.executable, str(PROBE), str(running.folder), str(bench.rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the probe of the pieces failed:\n{done.stderr[-2000:]}")
    rounds = [{"pieces": one} for one in json.loads(done.stdout)]
    return [{**rounds[0], "failed": failed(report)}, *rounds[1:]]


def eligible(bench: Bench) -> list[Figures]:
    """Eligibility at a thousand, ten thousand, a hundred thousand contracts."""
    return [
        {
            "eligibility_us": {size: row["invite_us"] for size, row in one.items()},
            "eligibility_300_us": {size: row["invite_300_us"] for size, row in one.items()},
            "eligibility": one,
        }
        for one in eligibility.rounds(count=bench.rounds)
    ]
