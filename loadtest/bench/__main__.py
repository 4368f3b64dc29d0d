"""The figures of speed: `make bench`, or `python -m loadtest.bench [--quick] [--only NAME]`.

Everything runs on this machine, the load generator and the buyers included, so absolute figures
move with it; the ratios to the peers, taken in turns with them, are what counts. Writes
`bench.json`, with every round, and `bench.svg`; `python -m loadtest.bench.compare` compares two.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.bench import footprint, growth, machine, market, measures, pieces, plot, tables
from loadtest.bench.figures import Figures, joined, merged, missed, with_rounds
from loadtest.bench.profile import breakdown
from loadtest.bench.stage import Bench

SECONDS, ROUNDS = 4.0, 5


@dataclass(frozen=True, kw_only=True)
class Measure:
    """`taken` answers all its rounds."""

    name: str
    what: str
    taken: Callable[[Bench], list[Figures]]


def _each(
    round_of: Callable[[Bench], Figures], *, most: int = 1_000
) -> Callable[[Bench], list[Figures]]:
    """One round after the other, so many at most where a round takes long and differs little."""

    def taken(bench: Bench) -> list[Figures]:
        rounds = []
        for number in range(min(bench.rounds, most)):
            bench.tell(f"round {number + 1} of {bench.rounds}")
            rounds.append(round_of(bench))
        return rounds

    return taken


def _where(bench: Bench) -> list[Figures]:
    running = bench.exchange
    requests = market.pings("plain", running.key, tmax_ms=measures.TMAX_MS)
    shares = breakdown(
        running.worker_pid, running.port, requests, seconds=bench.seconds, folder=bench.folder
    )
    return [{"where_share": shares}]


def _measure(name: str, what: str, taken: Callable[[Bench], list[Figures]]) -> Measure:
    return Measure(name=name, what=what, taken=taken)


MEASURES = (
    _measure("start", "command to /readyz", _each(footprint.starting)),
    _measure("ping", "CPU of a ping, in turns with the peers", _each(measures.ping_cost)),
    _measure("latency", "latency added to a ping", _each(measures.added)),
    _measure("hanging", "a fifth of the buyers hanging", _each(measures.hanging)),
    _measure("sale", "durable sales", _each(measures.sale)),
    _measure("changing", "the market changing every second", _each(measures.during_changes)),
    _measure("where", "where the time goes", _where),
    _measure("invited", "CPU of a ping, 1 to 50 invited", _each(growth.invited)),
    _measure("changes", "CPU of a ping by market changes", _each(growth.book_changes)),
    _measure("contracts", "CPU of a ping among 10,000 contracts", _each(growth.contracts)),
    _measure("sellers", "CPU of a ping among 1,000 sellers", _each(growth.sellers)),
    _measure("workers", "CPU of a ping on two workers", _each(growth.workers)),
    _measure("memory", "memory of a worker and a contract", _each(footprint.memory, most=3)),
    _measure("pieces", "reserve, commit, journal, dialect, custody", pieces.pieces),
    _measure("eligibility", "eligibility (markets of up to 100,000)", pieces.eligible),
)


def benched(spec: argparse.Namespace, out: Console) -> Figures:
    """Every figure, as `bench.json` has them."""
    wanted = [one for one in MEASURES if not spec.only or one.name in spec.only]
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "seconds": spec.seconds,
        "rounds": spec.rounds,
    }
    rounds: list[list[Figures]] = []
    with ExitStack() as stack:
        step, tell = stack.enter_context(_steps(out, count=len(wanted)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bench = _started(stack, folder, spec)
        bench.tell = tell
        for measure in wanted:
            step(f"{measure.name}: {measure.what}")
            rounds.append(measure.taken(bench))
        peers = bench.peers if any(one.name == "ping" for one in wanted) else None
    found = joined([merged(one) for one in rounds])
    if peers is not None:
        about["versions"] = machine.versions(peers.running)
        found["skipped"] = peers.skipped
    if "ping" in found and "cpu_us" in found["ping"]:
        shares = found.get("where_share", {}).items()
        found["where_us"] = {part: round(one * found["ping"]["cpu_us"], 1) for part, one in shares}
    figures = joined([with_rounds(one) for one in rounds])
    return {**about, "failed": 0, **found, "figures": figures}


def _started(stack: ExitStack, folder: Path, spec: argparse.Namespace) -> Bench:
    """Where everything is measured. The baselines listen from the start; the rest is started when
    it is first asked for."""
    bench = Bench(stack, folder, seconds=spec.seconds, rounds=spec.rounds)
    baseline, baseline_tls = bench.baseline, bench.baseline_tls
    assert baseline["port"] != baseline_tls["port"]
    return bench


@contextmanager
def _steps(
    out: Console, count: int
) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """Shows which measure is under way, and what within it."""
    bar = Progress(
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description} [dim]{task.fields[detail]}"),
        console=out,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=count, completed=-1, detail="")

        def step(what: str) -> None:
            bar.update(task, advance=1, description=what, detail="")
            if not out.is_terminal:
                out.print(what, style="dim")

        def tell(what: str) -> None:
            bar.update(task, detail=what)

        yield step, tell


def _spec(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    names = [measure.name for measure in MEASURES]
    parser.add_argument("--only", action="append", choices=names, help="this measure; may repeat")
    parser.add_argument("--quick", action="store_true", help="short rounds, two of each")
    parser.add_argument("--check", action="store_true", help="exit 1 when a budget is missed")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each measure, in turns")
    spec = parser.parse_args(arguments)
    if spec.quick:
        spec.seconds, spec.rounds = 1.0, 2
    return spec


def main() -> None:
    """The command line."""
    spec, out = _spec(), Console()
    document = benched(spec, out)
    spec.json.write_text(json.dumps(document, indent=2) + "\n")
    drawing = spec.json.with_suffix(".svg")
    drawing.write_text(plot.drawn(document), encoding="utf-8")
    tables.show(document, out)
    out.print(f"written to {spec.json} and {drawing}")
    if spec.check and (missed(document["figures"]) or document["failed"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
