"""What the parts of a process keep themselves, as gauges and counters: looked at once a second and
at every scrape, so that no part knows of metrics.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from exchange.app.ground import AWAY, Ground
from exchange.effects.buyers.endpoint import Stats
from exchange.effects.journal import Journal
from exchange.effects.metrics import Labels
from exchange.flows.inspection import PROOFS, Seen

TRY_S: Final = 1.0
"""Between two tries of how long Postgres and Valkey take."""


def dials(base: Ground, journal: Journal) -> None:
    """Let the metrics of a worker look at its parts."""
    metrics, standing = base.metrics, base.standing
    ground_dials(base)
    metrics.gauge("exchange_queue_length", lambda: {("journal",): float(journal.queued)})
    metrics.follow("exchange_dropped_total", lambda: {("journal",): float(journal.dropped)})
    metrics.gauge(
        "exchange_cap_windows_full", lambda: {(): float(sum(1 for _ in standing.full_windows()))}
    )
    _buyers(base)


def ground_dials(base: Ground) -> None:
    """Let the metrics of any process look at what it stands on."""
    _servers(base)
    _market(base)
    metrics, started_s = base.metrics, base.clock.now_ms() / 1_000
    metrics.gauge("exchange_start_timestamp_seconds", lambda: {(): started_s})
    metrics.follow(
        "exchange_dropped_total",
        lambda: {("log",): float(base.log.dropped), ("caps",): float(base.caps.dropped)},
    )
    metrics.follow("exchange_cap_rebuilds_total", lambda: {(): float(base.caps.rebuilds)})


def _servers(base: Ground) -> None:
    metrics = base.metrics
    metrics.gauge(
        "exchange_up",
        lambda: {("postgres",): float(base.commits.up), ("valkey",): float(base.valkey.up)},
    )
    metrics.gauge(
        "exchange_queue_length",
        lambda: {
            ("log",): float(base.log.queued),
            ("commits",): float(base.commits.queued),
            ("valkey",): float(base.valkey.queued),
            ("caps",): float(base.caps.untold),
        },
    )
    metrics.follow("exchange_commit_failures_total", lambda: {(): float(base.commits.stats.down)})


def _market(base: Ground) -> None:
    metrics, standing = base.metrics, base.standing
    metrics.gauge("exchange_book_version", lambda: {(): float(standing.book.version)})
    metrics.gauge(
        "exchange_book_age_seconds",
        lambda: {(): (base.clock.now_ms() - standing.adopted_at_ms) / 1_000},
    )
    metrics.gauge(
        "exchange_book_contracts",
        lambda: {(): float(sum(not each.closed for each in standing.book.contracts.values()))},
    )


async def trying(base: Ground) -> None:
    """Time a round trip to each server once a second, until cancelled: no request waits for it."""
    while True:
        try:
            began = base.clock.loop_time()
            await base.database.fetchval("SELECT 1")
            base.metrics.round_trip("postgres", base.clock.loop_time() - began)
        except AWAY:
            pass  # `exchange_up` tells
        try:
            began = base.clock.loop_time()
            await base.valkey.call("", "PING")
            base.metrics.round_trip("valkey", base.clock.loop_time() - began)
        except AWAY:
            pass
        await asyncio.sleep(TRY_S)


def inspected(base: Ground, seen: Callable[[], Seen | None], read: Callable[[], int]) -> None:
    """Let the metrics of the jobs process tell what its inspection saw. A process that no longer
    holds the job's lease sees nothing: another one tells."""
    metrics = base.metrics

    def told(name: str, number: Callable[[Seen], Mapping[Labels, float]]) -> None:
        metrics.gauge(name, lambda: {} if (now := seen()) is None else number(now))

    def name_of(buyer_id: int) -> str:
        buyer = base.standing.book.buyers.get(buyer_id)
        return str(buyer_id) if buyer is None else buyer.key

    def open_attempts(now: Seen) -> dict[Labels, float]:
        sums: Counter[Labels] = Counter()
        for one in now.attempts:
            sums[name_of(one.buyer_id), one.state] += one.attempts
        return {labels: float(count) for labels, count in sums.items()}

    def holds(now: Seen) -> dict[Labels, float]:
        sums: Counter[Labels] = Counter()
        for one in now.attempts:
            sums[(name_of(one.buyer_id),)] += one.holds
        return {labels: float(count) for labels, count in sums.items()}

    def doubted(now: Seen) -> dict[Labels, float]:
        sums: Counter[Labels] = Counter()
        for one in now.doubts:
            sums[(one.currency,)] += one.price_micros
        return {labels: float(micros) for labels, micros in sums.items()}

    told("exchange_open_attempts", open_attempts)
    told("exchange_cap_holds", holds)
    told("exchange_doubt_price_micros", doubted)
    told("exchange_doubt_oldest_seconds", lambda now: {(): now.doubt_oldest_s})
    told("exchange_outbox_pending", lambda now: {(): float(now.outbox_pending)})
    told("exchange_outbox_oldest_seconds", lambda now: {(): now.outbox_oldest_s})
    told("exchange_proof_timestamp_seconds", lambda now: {(): now.at.timestamp()})
    told("exchange_custody_lag_seconds", lambda now: {(): now.custody_lag_s})
    told(
        "exchange_proof_violations",
        lambda now: {(proof,): float(len(now.violations[proof])) for proof in PROOFS},
    )
    metrics.follow("exchange_proof_leads_total", lambda: {(): float(read())})


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

    def braked() -> dict[Labels, float]:
        now = base.clock.now()
        return {
            (buyer.key,): float(base.standing.is_braked(buyer.id, now))
            for buyer in base.standing.book.buyers.values()
        }

    metrics = base.metrics
    metrics.gauge("exchange_buyer_healthy", healthy)
    metrics.gauge("exchange_buyer_braked", braked)
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
