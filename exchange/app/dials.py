"""What the parts of a worker keep themselves, as gauges and counters: looked at once a second and
at every scrape, so that no part knows of metrics.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from exchange.app.ground import Ground
from exchange.effects.buyers.endpoint import Stats
from exchange.effects.journal import Journal
from exchange.effects.metrics import Labels


def dials(base: Ground, journal: Journal) -> None:
    """Let the metrics of this process look at its parts."""
    metrics, standing = base.metrics, base.standing
    metrics.gauge(
        "exchange_up",
        lambda: {("postgres",): float(base.commits.up), ("valkey",): float(base.valkey.up)},
    )
    metrics.gauge("exchange_book_version", lambda: {(): float(standing.book.version)})
    metrics.gauge(
        "exchange_book_age_seconds",
        lambda: {(): (base.clock.now_ms() - standing.adopted_at_ms) / 1_000},
    )
    metrics.gauge(
        "exchange_queue_length",
        lambda: {
            ("journal",): float(journal.queued),
            ("log",): float(base.log.queued),
            ("commits",): float(base.commits.queued),
            ("valkey",): float(base.valkey.queued),
        },
    )
    metrics.follow(
        "exchange_dropped_total",
        lambda: {
            ("journal",): float(journal.dropped),
            ("log",): float(base.log.dropped),
            ("caps",): float(base.caps.dropped),
        },
    )
    _buyers(base)


JOB_OUTCOMES: Final[Mapping[str, Literal["done", "failed", "deposed"]]] = {
    "job": "done",
    "job_failed": "failed",
    "job_deposed": "deposed",
}


def heard(base: Ground) -> Callable[[str, Mapping[str, Any]], None]:
    """What the jobs say, as log lines; the ends of their turns are counted too."""

    def say(event: str, fields: Mapping[str, Any]) -> None:
        base.say(event, **dict(fields))
        if event in JOB_OUTCOMES:
            base.metrics.job_run(fields["job"], JOB_OUTCOMES[event])

    return say


def _buyers(base: Ground) -> None:
    """A buyer's endpoints (ping, post, status) together."""

    def each() -> Iterator[tuple[str, Stats]]:
        for key, stats in base.buyers.stats().items():
            buyer = base.standing.book.buyers.get(int(key.partition(".")[0]))
            if buyer is not None:
                yield buyer.key, stats

    def summed(amount: Callable[[Stats], int], *kind: str) -> dict[Labels, float]:
        sums: Counter[Labels] = Counter()
        for name, stats in each():
            sums[(name, *kind)] += amount(stats)
        return {labels: float(number) for labels, number in sums.items()}

    def healthy() -> dict[Labels, float]:
        return {
            (buyer.key,): float(base.buyers.is_healthy(f"{buyer.id}.ping"))
            for buyer in base.standing.book.buyers.values()
        }

    metrics = base.metrics
    metrics.gauge("exchange_buyer_healthy", healthy)
    metrics.gauge("exchange_buyer_in_flight", lambda: summed(lambda stats: stats.in_flight))
    metrics.follow("exchange_late_replies_total", lambda: summed(lambda stats: stats.late))
    metrics.follow(
        "exchange_buyer_connections_total",
        lambda: {
            **summed(lambda stats: stats.connects, "new"),
            **summed(lambda stats: stats.reused, "reused"),
            **summed(lambda stats: stats.connect_failures, "failed"),
        },
    )
