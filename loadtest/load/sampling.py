"""Beside a load, every second: the exchange's metrics and the CPU and memory of everybody.

    python -m loadtest.load.sampling --url http://127.0.0.1:8080 --to FOLDER --watch exchange=4711

A process of its own, so that neither a busy generator nor Locust's gevent gets between. `--watch
NAME=PID` (again and again) names a process; its children are found each second, because servers and
workers come and go, and are told apart: workers, jobs, Postgres, Valkey. Counters are kept as what
they grew by, so a second in which little happened is a short line.
"""

import argparse
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec

from loadtest.load.notes import SAMPLES

EVERY_S = 1.0
SCRAPE_TIMEOUT_S = 2.0
FAMILIES = (
    "exchange_pings_total",
    "exchange_ping_added_seconds_bucket",
    "exchange_post_part_seconds_bucket",
    "exchange_pings_late_total",
    "exchange_answers_total",
    "exchange_deliveries_total",
    "exchange_price_micros_total",
    "exchange_payout_micros_total",
    "exchange_limit_hits_total",
    "exchange_dropped_total",
)
"""What the report reads; everything else is left with the exchange."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One second. `at` is wall time. `grew` is what counters grew by since the last sample, by
    metric and labels as Prometheus prints them; `cpu_s` what each group of processes used since;
    `busy_s` what the whole machine did, of `cores` cores; `memory` is resident bytes."""

    at: float
    seconds: float
    grew: dict[str, float]
    cpu_s: dict[str, float]
    memory: dict[str, int]
    busy_s: float
    cores: int
    scraped: bool


def scraped(text: str) -> dict[str, float]:
    """The metrics of interest out of Prometheus' text format."""
    found = {}
    for line in text.splitlines():
        if line.startswith(FAMILIES):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def growth(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """What grew, and by how much. A counter that fell began anew."""
    grown = {name: value - before.get(name, 0.0) for name, value in now.items()}
    return {
        name: round(by if by > 0 else now[name], 6)
        for name, by in grown.items()
        if by and now[name]
    }


class Processes:
    """The processes that are watched, by group."""

    def __init__(self, watched: dict[str, int]) -> None:
        self._watched = watched
        self._seen: dict[int, float] = {}
        self._workers: dict[int, str] = {}

    def used(self) -> tuple[dict[str, float], dict[str, int]]:
        """CPU seconds since the last call, and resident bytes, by group."""
        cpu_s: dict[str, float] = {}
        memory: dict[str, int] = {}
        for pid, group in self._living():
            try:
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            so_far = (int(stat[11]) + int(stat[12])) / _TICKS
            used = so_far - self._seen.get(pid, 0.0)
            self._seen[pid] = so_far
            cpu_s[group] = round(cpu_s.get(group, 0.0) + used, 3)
            memory[group] = memory.get(group, 0) + int(stat[21]) * _PAGE
        return cpu_s, memory

    def _living(self) -> Iterator[tuple[int, str]]:
        for name, root in self._watched.items():
            own = words_of(root)
            yield root, name
            for pid in children_of(root):
                yield pid, self._group(name, own, pid)

    def _group(self, name: str, own: list[str], pid: int) -> str:
        words = words_of(pid)
        program = Path(words[0]).name if words else ""
        for known in ("postgres", "valkey"):
            if program.startswith(known):
                return known
        if words == own:  # forked, not started: a worker of gunicorn
            return self._workers.setdefault(pid, f"worker {len(self._workers) + 1}")
        return f"{name} jobs" if "jobs" in words else name


def words_of(pid: int) -> list[str]:
    """Its command line; none when it has ended. A postgres backend's tells more than its name."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return []
    words = raw.rstrip("\0").split("\0")
    return ["postgres"] if words[0].startswith("postgres:") else words


def children_of(pid: int) -> Iterator[int]:
    """Every process below this one."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from children_of(child)


def _busy_s() -> float:
    """CPU seconds that anybody on this machine has used."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, first[:8])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def samples(url: str, processes: Processes) -> Iterator[Sample]:
    """One sample a second, for ever. The first tells what happened in the second before it."""
    counters = _scrape(url) or {}
    processes.used()
    busy_s, at = _busy_s(), time.time()
    while True:
        time.sleep(max(0.0, at + EVERY_S - time.time()))
        now, fresh = time.time(), _scrape(url)
        cpu_s, memory = processes.used()
        busy_now = _busy_s()
        yield Sample(
            at=now,
            seconds=now - at,
            grew=growth(counters, fresh) if fresh is not None else {},
            cpu_s=cpu_s,
            memory=memory,
            busy_s=busy_now - busy_s,
            cores=os.cpu_count() or 1,
            scraped=fresh is not None,
        )
        counters, busy_s, at = fresh if fresh is not None else counters, busy_now, now


def _scrape(url: str) -> dict[str, float] | None:
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=SCRAPE_TIMEOUT_S) as answer:
            return scraped(answer.read().decode())
    except (OSError, ValueError):
        return None


def main() -> None:
    """Until SIGTERM, or the process that started it is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--watch", action="append", default=[], metavar="NAME=PID")
    spec = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    watched = {name: int(pid) for name, _, pid in (one.partition("=") for one in spec.watch)}
    watched["sampler"] = os.getpid()
    with (spec.to / SAMPLES).open("wb", buffering=0) as file:
        for sample in samples(spec.url, Processes(watched)):
            file.write(msgspec.json.encode(sample) + b"\n")
            if os.getppid() != parent:
                return


if __name__ == "__main__":
    main()
