"""An exchange to load: embedded Postgres and Valkey, workers, simulated buyers and the example
market, all on free ports, in a folder of their own, and gone when the load is over.

The market is the example with three things changed, because it was made to be played for a minute:
the buyers are where the simulated ones listen; sellers may call as fast as the load does; and caps
are so many times larger that they fill as slowly as they would in a day's trade. One contract keeps
its cap, so that a full one is always among those asked about.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from loadtest.bench.processes import child, exchange, first_line

BUYERS = Path(__file__).with_name("buyers.toml")
SIM_ORIGINS = ("http://127.0.0.1:9100", "https://127.0.0.1:9143", "sim-ca.pem")
CAPS_TIMES = 1_000
KEEPS_ITS_CAP = "acme-auto-west"
RATE_PER_S = 100_000


class Grounds(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is. `sim` is what the simulated buyers said when they were ready."""

    url: str
    keys: dict[str, str]
    market: Path
    data_dir: Path
    exchange_pid: int
    buyers_pid: int
    sim: dict[str, Any]


@contextmanager
def grounds(
    folder: Path, *, market: Path, workers: int, seed: int, sellers: Sequence[str]
) -> Iterator[Grounds]:
    """Everything started, in `folder`, for as long as the block lasts. Raises `RuntimeError` when
    something does not come up."""
    sims = [sys.executable, "-m", "buyers_sim", "--profile", str(BUYERS), "--seed", str(seed)]
    with child([*sims, "--truth-dir", str(folder / "truth")]) as buyers:
        sim = first_line(buyers, "the simulated buyers")
        text = loaded_market(market.read_text(encoding="utf-8"), sim)
        home = folder / "exchange"
        home.mkdir()
        with exchange(home, text, workers=workers, sellers=sellers) as running:
            yield Grounds(
                url=f"http://127.0.0.1:{running.port}",
                keys=dict(zip(sellers, running.keys, strict=True)),
                market=home / "market.toml",
                data_dir=home,
                exchange_pid=_parent_of(running.worker_pids[0]),
                buyers_pid=buyers.pid,
                sim=sim,
            )


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def loaded_market(text: str, sim: dict[str, Any]) -> str:
    """The market for a load: its buyers the simulated ones, its sellers quick, its caps wide."""
    for origin, where in zip(SIM_ORIGINS, (sim["http"], sim["https"], sim["ca"]), strict=True):
        text = text.replace(origin, str(where))
    text = re.sub(r"^rate_per_s = \d+\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(\[sellers\.\w+\]\n)", rf"\1rate_per_s = {RATE_PER_S}\n", text, flags=re.M)
    parts = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    return "".join(
        part if part.startswith(f"[contracts.{KEEPS_ITS_CAP}]") else _widened(part)
        for part in parts
    )


def _widened(part: str) -> str:
    part = re.sub(r"leads = (\d+)", lambda m: f"leads = {int(m[1]) * CAPS_TIMES}", part)
    return re.sub(r'money = "(\d+)\.00"', lambda m: f'money = "{int(m[1]) * CAPS_TIMES}.00"', part)


def generator(
    where: Grounds, arguments: Sequence[str], *, setup: dict[str, str]
) -> "subprocess.Popen[bytes]":
    """Locust, started on these grounds."""
    keys = ",".join(f"{seller}={key}" for seller, key in where.keys.items())
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(Path(__file__).parents[1] / "locustfile.py"),
    ]
    command += ["--host", where.url, "--market", str(where.market)]
    command += ["--fresh", "--troubles", "--setup", msgspec.json.encode(setup).decode()]
    command += [f"--watch=exchange={where.exchange_pid}", f"--watch=buyers={where.buyers_pid}"]
    return subprocess.Popen(
        [*command, *arguments],
        env=os.environ | {"LOADTEST_KEYS": keys},
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches who started it alone, and is passed on
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs begin without it
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
