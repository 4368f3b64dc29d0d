"""What each figure may be at most. The figures stand in `bench.json` under the same paths."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Budget:
    """`path` leads to the figure in `bench.json`; `unit` is how it is shown."""

    what: str
    path: tuple[str, ...]
    most: float
    unit: str


def _budget(what: str, path: str, most: float, unit: str) -> Budget:
    return Budget(what=what, path=tuple(path.split("/")), most=most, unit=unit)


BUDGETS = (
    _budget("CPU of a ping, to aiohttp's client", "ping/cpu_ratio_to_aiohttp_client", 0.35, ""),
    _budget("TLS to plain", "ping/tls_over_plain", 2.2, ""),
    _budget("added to a ping, outside, p50", "ping/added_ms_p50", 1.0, "ms"),
    _budget("added to a ping, outside, p99", "ping/added_ms_p99", 5.0, "ms"),
    _budget("added to a ping, inside, p50", "ping/added_inside_ms/p50", 1.0, "ms"),
    _budget("added to a ping, inside, p99", "ping/added_inside_ms/p99", 5.0, "ms"),
    _budget("past tmax, a fifth of buyers hanging, p99", "hanging/late_ms/p99", 5.0, "ms"),
    _budget("past tmax, a fifth of buyers hanging, p99.9", "hanging/late_ms/p999", 10.0, "ms"),
    _budget("eligibility, 10,000 contracts", "eligibility_us/10000", 60, "us"),
    _budget("eligibility, 100,000 contracts", "eligibility_us/100000", 500, "us"),
    _budget("the same, 300 survivors", "eligibility_300_us/100000", 500, "us"),
    _budget("added to a durable sale, p50", "sale_added_ms/p50", 3.0, "ms"),
    _budget("added to a durable sale, p99", "sale_added_ms/p99", 10.0, "ms"),
)


def figure(document: dict[str, Any], budget: Budget) -> float:
    """The figure a budget is about."""
    found: Any = document
    for step in budget.path:
        found = found[step]
    return float(found)


def missed(document: dict[str, Any]) -> list[Budget]:
    """The budgets that do not hold."""
    return [budget for budget in BUDGETS if figure(document, budget) > budget.most]
