"""The figures: which of what was measured is shown, judged against a budget and compared with
another run. Each keeps its rounds, for one number says nothing about noise.

A measure answers its rounds as nested mappings of plain numbers. `merged` makes one of them, the
medians, which stands in `bench.json`; the figures named here stand there once more under `figures`,
by their path, with every round. Less is better in all of them.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Figures = dict[str, Any]
SUMMED = ("failed", "versions", "sold", "posts")
"""Counts: of all rounds together."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`path` leads to it in `bench.json` (a star stands for any step); `most` is its budget. Two
    runs differ beyond noise when their rounds lie apart by more than `noise` of the value, and by
    more than `slack`, for a value near nought: so much do runs of one commit on one machine."""

    what: str
    path: str
    unit: str = ""
    most: float | None = None
    noise: float = 0.05
    slack: float = 0.0


def _cpu(what: str, path: str, most: float | None = None) -> Figure:
    return Figure(what=what, path=path, unit="us", most=most, noise=0.1)


def _latency(what: str, path: str, most: float | None = None) -> Figure:
    return Figure(what=what, path=path, unit="ms", most=most, noise=0.25, slack=0.5)


def _ratio(what: str, path: str, most: float | None = None) -> Figure:
    return Figure(what=what, path=path, most=most)


TABLE = (
    _ratio("CPU of a ping, to Go's bare fan-out", "ping/cpu_ratio_to_go", 0.6),
    _ratio("CPU of a ping, to nginx and Lua's", "ping/cpu_ratio_to_nginx_lua", 1.6),
    _ratio("CPU of a ping, to aiohttp's client", "ping/cpu_ratio_to_aiohttp_client", 0.35),
    _ratio("CPU of a ping, to Node and undici's", "ping/cpu_ratio_to_node_undici"),
    _ratio("CPU of a ping, to FastAPI and httpx's", "ping/cpu_ratio_to_fastapi_httpx"),
    _ratio("TLS to plain", "ping/tls_over_plain", 2.2),
    _ratio("CPU of a ping with two workers, to one", "workers/cpu_ratio", 1.1),
    _cpu("CPU of a ping", "ping/cpu_us"),
    _cpu("CPU of a ping over TLS", "ping/tls_cpu_us"),
    _latency("added to a ping, outside, p50", "ping/added_ms_p50", 1.0),
    _latency("added to a ping, outside, p99", "ping/added_ms_p99", 5.0),
    _latency("added to a ping, inside, p50", "ping/added_inside_ms/p50", 1.0),
    _latency("added to a ping, inside, p99", "ping/added_inside_ms/p99", 5.0),
    _latency("added while the market changes, p99", "changing/outside_ms/p99"),
    _latency("past tmax, a fifth of buyers hanging, p99", "hanging/late_ms/p99", 5.0),
    _latency("past tmax, a fifth of buyers hanging, p99.9", "hanging/late_ms/p999", 10.0),
    _latency("added to a durable sale, p50", "sale_added_ms/p50", 2.0),
    _latency("added to a durable sale, p99", "sale_added_ms/p99", 8.0),
    _cpu("CPU of a ping and its sale", "sale_added_ms/cpu_us_per_ping_and_post"),
    _cpu("eligibility, 1,000 contracts", "eligibility_us/1000"),
    _cpu("eligibility, 10,000 contracts", "eligibility_us/10000", 60),
    _cpu("eligibility, 100,000 contracts", "eligibility_us/100000", 500),
    _cpu("eligibility, 100,000 contracts, 300 survivors", "eligibility_300_us/100000", 500),
    _cpu("CPU of a ping by buyers invited", "growth/invited/*/cpu_us"),
    _ratio("by contracts, to 1,000", "growth/contracts/*/cpu_ratio"),
    _ratio("by sellers, to 1", "growth/sellers/*/cpu_ratio"),
    _ratio("by market changes a second, to none", "growth/changes/*/cpu_ratio"),
    _cpu("reserve: the exchange", "pieces/reserve_us"),
    _cpu("reserve: Valkey", "pieces/reserve_valkey_us"),
    _cpu("group commit, a unit of 64 waiting", "pieces/commit_us"),
    _latency("group commit, 64 waiting, p50", "pieces/commit_ms_p50"),
    _cpu("journal, a row", "pieces/journal_us"),
    _cpu("dialect: a ping encoded for ten", "pieces/encode_us"),
    _cpu("dialect: a bid decoded", "pieces/decode_us"),
    _cpu("custody: an event appended", "pieces/custody_us"),
    Figure(what="custody: bytes of a sale's chain", path="pieces/custody_bytes", unit="B", noise=0),
    Figure(what="memory of a contract", path="memory/bytes_per_contract", unit="B", noise=0.1),
    Figure(what="memory of a worker", path="memory/worker_mib", unit="MiB", noise=0.1),
    Figure(what="start in a new folder, to /healthz", path="start/first_s", unit="s", noise=0.25),
    Figure(
        what="start with 1,000 contracts, to /readyz", path="start/again_s", unit="s", noise=0.25
    ),
)


def merged(rounds: Sequence[Mapping[str, Any]]) -> Figures:
    """One mapping of several: medians of numbers, sums of counts, the last of what is neither."""
    keys = dict.fromkeys(key for one in rounds for key in one)
    return {key: _merged(key, [one[key] for one in rounds if key in one]) for key in keys}


def _merged(key: str, values: list[Any]) -> Any:
    last = values[-1]
    if isinstance(last, Mapping):
        return merged(values)
    if not isinstance(last, int | float):
        return last
    return sum(values) if key in SUMMED else round(statistics.median(values), 4)


def joined(parts: Sequence[Mapping[str, Any]]) -> Figures:
    """One mapping of what several measures told, member by member; counts are added up."""
    whole: Figures = {}
    for part in parts:
        for key, value in part.items():
            if key in SUMMED:
                whole[key] = whole.get(key, 0) + value
            elif isinstance(value, Mapping):
                whole[key] = joined([whole.get(key, {}), value])
            else:
                whole[key] = value
    return whole


def with_rounds(rounds: Sequence[Mapping[str, Any]]) -> Figures:
    """The figures of the table that these rounds have, by path."""
    found: Figures = {}
    for path in dict.fromkeys(path for one in rounds for path, _ in leaves(one)):
        figure = next((one for one in TABLE if fnmatchcase(path, one.path)), None)
        if figure is not None:
            values = [value for one in rounds for at, value in leaves(one) if at == path]
            found[path] = {
                "what": _what(figure, path),
                "unit": figure.unit,
                "min": min(values),
                "median": statistics.median(values),
                "max": max(values),
                "noise": figure.noise,
                "slack": figure.slack,
                "rounds": values,
            }
    return found


def _what(figure: Figure, path: str) -> str:
    steps = zip(figure.path.split("/"), path.split("/"), strict=True)
    stars = [found for wanted, found in steps if wanted == "*"]
    return ": ".join((figure.what, *stars))


def leaves(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Every number and its path."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{before}{key}/")
        elif isinstance(value, int | float):
            yield f"{before}{key}", value


def budgeted(figures: Mapping[str, Figures]) -> Iterator[tuple[Figure, Figures]]:
    """Every figure that has a budget and was measured."""
    for figure in TABLE:
        if figure.most is not None and figure.path in figures:
            yield figure, figures[figure.path]


def missed(figures: Mapping[str, Figures]) -> list[Figure]:
    """The budgets that do not hold."""
    return [
        figure
        for figure, found in budgeted(figures)
        if figure.most is not None and found["median"] > figure.most
    ]
