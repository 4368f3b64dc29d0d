"""What the exchange takes before the first ping: memory and time to start."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.bench import market
from loadtest.bench.figures import Figures
from loadtest.bench.processes import apply, served, start_s
from loadtest.bench.stage import MORE_CONTRACTS, Bench


def memory(bench: Bench) -> Figures:
    """Memory of a worker with the usual market, and by how much each further contract adds to it.
    Private memory: what would be free again if the worker ended."""
    usual = private_bytes(bench.exchange.worker_pid)
    grown = private_bytes(bench.more_contracts.worker_pid)
    figures = {
        "worker_mib": usual / 2**20,
        "second_worker_mib": private_bytes(bench.two_workers.worker_pids[1]) / 2**20,
        "bytes_per_contract": (grown - usual) / MORE_CONTRACTS,
    }
    return {"memory": figures}


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
        origins = {"plain": [f"http://127.0.0.1:{port}" for port in bench.buyers["ports"]]}
        with served(folder):
            apply(folder, market.market_text(origins, ""))
        return {"start": {"first_s": first, "again_s": start_s(folder, "/readyz")}}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
        yield Path(folder)
