"""What one frame of `exchange top` says, computed from two looks at the metrics: plain values, for
the page and for programs alike.
"""

from collections.abc import Sequence

from exchange.app.top.reading import Between
from exchange.core.model import Fact
from exchange.core.money import text_of
from exchange.flows.caps import CapRow


class Latency(Fact, frozen=True, kw_only=True):
    """Of one thing that takes time, in ms; `None` when it did not happen."""

    name: str
    p50_ms: float | None
    p99_ms: float | None


class BuyerLine(Fact, frozen=True, kw_only=True):
    """One buyer: how often it was asked, how it answered, what it bought. Shares are of what it was
    asked, `won` of its bids; `health` is `ok`, `resting` (its endpoint fails) or `braked` (too many
    of its posts are in doubt)."""

    buyer: str
    asked_per_s: float
    bid: float
    timed_out: float
    p50_ms: float | None
    sold_per_min: float
    won: float
    in_flight: int
    health: str


class CapLine(Fact, frozen=True, kw_only=True):
    """One cap window: `taken` of `limit` (leads, or an amount), as a share; `None` when it cannot
    be read."""

    contract: str
    cap: str
    taken: str
    limit: str
    share: float | None


class Frame(Fact, frozen=True, kw_only=True):
    """Rates are per second over `seconds`, unless their name says per minute."""

    seconds: float
    processes: int
    up_s: float
    book_version: int
    contracts: int
    servers: dict[str, bool]
    violations: int | None
    pings_per_s: float
    offers_per_s: float
    late_per_s: float
    posts_per_s: float
    sold_per_s: float
    pings_total: int
    sold_total: int
    revenue_per_min: dict[str, str]
    latencies: tuple[Latency, ...]
    outcomes: dict[str, float]
    not_sold: dict[str, float]
    refused: dict[str, float]
    doubts: int
    doubt_oldest_s: float
    doubt_money: dict[str, str]
    queues: dict[str, int]
    dropped: dict[str, float]
    limits: dict[str, float]
    buyers: tuple[BuyerLine, ...]
    caps: tuple[CapLine, ...] | None


TIMED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("added to a ping", "exchange_ping_added_seconds", {}),
    ("ping, whole", "exchange_ping_seconds", {}),
    ("added to a sale", "exchange_sale_added_seconds", {}),
    ("commit", "exchange_commit_seconds", {}),
    ("postgres", "exchange_server_seconds", {"server": "postgres"}),
    ("valkey", "exchange_server_seconds", {"server": "valkey"}),
    ("loop late by", "exchange_loop_lag_seconds", {}),
)


CENT = 10_000
"""Micros: a rate of money is told to the cent."""


def frame(
    between: Between,
    *,
    wall_s: float,
    caps: Sequence[CapRow] | None,
    buyers_max: int = 50,
    caps_max: int = 20,
) -> Frame:
    """The frame of what happened between two readings. `wall_s` is now in Unix time, `caps` every
    cap window (`None`: not known), of which those nearest to full are kept; of the buyers those
    asked most."""
    now, seconds = between.now, between.seconds
    started = [value for _, value in now.each("exchange_start_timestamp_seconds")]
    violations = now.by("", "exchange_proof_violations")
    return Frame(
        seconds=round(seconds, 1),
        processes=len(started),
        up_s=max(0.0, wall_s - min(started, default=wall_s)),
        book_version=int(now.most("exchange_book_version") or 0),
        contracts=int(now.most("exchange_book_contracts") or 0),
        servers=_servers(between),
        violations=int(sum(violations.values())) if violations else None,
        pings_per_s=between.per_s("exchange_pings_total"),
        offers_per_s=between.per_s("exchange_pings_total", outcome="offer"),
        late_per_s=between.per_s("exchange_pings_late_total"),
        posts_per_s=between.per_s("exchange_posts_total"),
        sold_per_s=between.per_s("exchange_posts_total", status="sold"),
        pings_total=int(sum(now.by("", "exchange_pings_total").values())),
        sold_total=int(sum(now.by("", "exchange_posts_total", status="sold").values())),
        revenue_per_min={
            currency: text_of(int(micros * 60 / seconds / CENT) * CENT)
            for currency, micros in between.by("currency", "exchange_price_micros_total").items()
        },
        latencies=tuple(_latency(between, name, metric, only) for name, metric, only in TIMED),
        outcomes=_rates(between, "reason", "exchange_pings_total", outcome="no_offer"),
        not_sold=_rates(between, "loss", "exchange_losses_total"),
        refused=_rates(between, "problem", "exchange_requests_refused_total"),
        doubts=int(sum(now.by("", "exchange_open_attempts", state="unknown").values())),
        doubt_oldest_s=now.most("exchange_doubt_oldest_seconds") or 0.0,
        doubt_money={
            currency: text_of(int(micros))
            for currency, micros in now.by("currency", "exchange_doubt_price_micros").items()
        },
        queues=_queues(between),
        dropped=_rates(between, "queue", "exchange_dropped_total"),
        limits=_rates(between, "limit", "exchange_limit_hits_total"),
        buyers=_buyers(between, buyers_max),
        caps=None if caps is None else fullest(caps, caps_max),
    )


def _latency(between: Between, name: str, metric: str, only: dict[str, str]) -> Latency:
    p50, p99 = (between.quantile(share, metric, **only) for share in (0.5, 0.99))
    return Latency(name=name, p50_ms=_ms(p50), p99_ms=_ms(p99))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1_000, 3)


def _rates(between: Between, label: str, name: str, **only: str) -> dict[str, float]:
    """What happened at all, the most first, per second."""
    grown = between.by(label, name, **only)
    rates = {key: amount / between.seconds for key, amount in grown.items() if amount}
    return dict(sorted(rates.items(), key=lambda one: -one[1]))


def _servers(between: Between) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for labels, value in between.now.each("exchange_up"):
        found[labels["server"]] = found.get(labels["server"], True) and value == 1
    return found


def _queues(between: Between) -> dict[str, int]:
    waiting = {k: int(v) for k, v in between.now.by("queue", "exchange_queue_length").items()}
    return {**waiting, "outbox": int(between.now.most("exchange_outbox_pending") or 0)}


def _buyers(between: Between, most: int) -> tuple[BuyerLine, ...]:
    """Those asked most first, then by name."""
    now, seconds = between.now, between.seconds
    asked = between.by("buyer", "exchange_answers_total")
    bids = between.by("buyer", "exchange_answers_total", answer="bid")
    silent = between.by("buyer", "exchange_answers_total", answer="timeout")
    sold = between.by("buyer", "exchange_deliveries_total", delivery="accepted")
    in_flight = now.by("buyer", "exchange_buyer_in_flight")
    healths = _healths(between)
    return tuple(
        BuyerLine(
            buyer=buyer,
            asked_per_s=asked.get(buyer, 0) / seconds,
            bid=_share(bids.get(buyer, 0), asked.get(buyer, 0)),
            timed_out=_share(silent.get(buyer, 0), asked.get(buyer, 0)),
            p50_ms=_ms(between.quantile(0.5, "exchange_answer_seconds", buyer=buyer)),
            sold_per_min=sold.get(buyer, 0) * 60 / seconds,
            won=_share(sold.get(buyer, 0), bids.get(buyer, 0)),
            in_flight=int(in_flight.get(buyer, 0)),
            health=healths.get(buyer, "ok"),
        )
        for buyer in sorted({*healths, *asked}, key=lambda one: (-asked.get(one, 0), one))[:most]
    )


def _healths(between: Between) -> dict[str, str]:
    found: dict[str, str] = {}
    for labels, value in between.now.each("exchange_buyer_healthy"):
        worst = "ok" if value == 1 else "resting"
        found[labels["buyer"]] = max(found.get(labels["buyer"], "ok"), worst)
    for labels, value in between.now.each("exchange_buyer_braked"):
        if value == 1:
            found[labels["buyer"]] = "braked"
    return found


def fullest(rows: Sequence[CapRow], most: int) -> tuple[CapLine, ...]:
    """The cap windows nearest to full, those that cannot be read first."""
    lines = [
        CapLine(
            contract=row.contract,
            cap=f"{row.unit} a {row.per}" + (f", {row.each} {row.segment}" if row.each else ""),
            taken="?"
            if row.used is None or row.held is None
            else _amount(row, row.used + row.held),
            limit=_amount(row, row.limit),
            share=(
                None
                if row.used is None or row.held is None
                else _share(row.used + row.held, row.limit)
            ),
        )
        for row in rows
    ]
    return tuple(sorted(lines, key=lambda one: -9.0 if one.share is None else -one.share)[:most])


def _amount(row: CapRow, count: int) -> str:
    return text_of(count) if row.unit == "money" else str(count)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
