"""What the exchange takes before the first ping: memory and time to start."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.bench import market
from loadtest.bench.figures import Figures
from loadtest.bench.loads import saturated
from loadtest.bench.measures import TMAX_MS
from loadtest.bench.processes import apply, exchange, served, start_s
from loadtest.bench.stage import MORE_CONTRACTS, Bench


def memory(bench: Bench) -> Figures:
    """Memory of a worker that has just started and answered some pings, and by how much each
    further contract adds to it; beside it, of the worker that this run has measured so far. Private
    memory: what would be free again if the worker ended."""
    usual, grown = (_fresh_bytes(bench, more) for more in (0, MORE_CONTRACTS))
    figures = {
        "worker_mib": usual / 2**20,
        "worker_after_loads_mib": private_bytes(bench.exchange.worker_pid) / 2**20,
        "bytes_per_contract": (grown - usual) / MORE_CONTRACTS,
    }
    return {"memory": figures}


def _fresh_bytes(bench: Bench, more_contracts: int) -> int:
    text = market.market_text(bench.origins, bench.buyers["ca"], more_contracts=more_contracts)
    with _folder() as folder, exchange(folder, text) as running:
        pings = market.pings("plain", running.key, tmax_ms=TMAX_MS)
        saturated(running.port, running.worker_pids, pings, seconds=1.0)
        return private_bytes(running.worker_pid)


def private_bytes(pid: int) -> int:
    """Memory of a process that it shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def starting(bench: Bench) -> Figures:
    """Seconds from the command to the first answer: of `/healthz` in a new folder (Postgres is
    made, the schema too; there is no market to be ready for), and later of `/readyz` with a market
    of a thousand contracts."""
    with _folder() as folder:
        first = start_s(folder, "/healthz")
        origins = {"plain": bench.origins["plain"]}
        with served(folder):
            apply(folder, market.market_text(origins, ""))
        return {"start": {"first_s": first, "again_s": start_s(folder, "/readyz")}}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
        yield Path(folder)
