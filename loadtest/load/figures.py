"""The figures of a run, from its notes and samples: by phase, over time, by buyer, by kind.

Times are in ms. Percentiles of what the exchange adds come from its own histograms, so they are as
fine as its buckets; the budget's 1 ms and 5 ms are bounds of buckets, so the shares are exact.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, get_args

import msgspec

from loadtest.load.notes import Request, Run
from loadtest.load.replies import Word
from loadtest.load.sampling import Sample
from loadtest.load.shapes import Phase, Trouble

WINDOWS: Final = 60
"""About as many points as a plot has."""
WINDOW_S_MIN: Final = 2.0
"""The workers publish their counts once a second: a shorter window shows that beat."""
LAG_S: Final = 0.5
"""By how much the counts are late, in the mean."""
ADDED, PART = "exchange_ping_added_seconds", "exchange_post_part_seconds"
PARTS: Final = ("commit", "reserve", "deliver")
"""Of a post's time: durable commits, holds of caps in Valkey, waiting for buyers."""
OTHERS: Final = "others"
"""The group of everything on the machine that the load did not start."""
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution, in ms."""

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    most: float = 0.0


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange adds, by its own histogram; `under_1ms` and `under_5ms` are shares."""

    count: int
    p50: float
    p99: float
    under_1ms: float
    under_5ms: float


class PhaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One phase. `due` counts from when a request was due, `sent` from when it left. `past_tmax`:
    how long after its tmax the 99th of 100 pings was answered (negative: before), and
    `late` how many were by more than 5 ms. `start_late`: by how much the generator was behind its
    own schedule. `cpu`: cores used, by group; `busy`: the share of the whole machine."""

    name: str
    trouble: Trouble
    judged: bool
    begins: float
    ends: float
    rate: float
    leads_per_s: float
    pings_per_s: float
    posts_per_s: float
    ping_due: Times
    ping_sent: Times
    post_due: Times
    post_sent: Times
    added: Added | None
    parts: dict[str, Added]
    past_tmax_p99: float
    late: int
    start_late: Times
    words: dict[str, int]
    resent: int
    cpu: dict[str, float]
    busy: float
    memory: dict[str, int]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Values over time, one per window of `window_s` seconds; `None` where there is nothing to
    say. `at` is the middle of each window. `revenue` is in units of its currency per minute."""

    window_s: float
    at: list[float]
    due: list[float]
    answered: list[float]
    not_expected: list[int]
    due_p50: list[float | None]
    due_p99: list[float | None]
    sent_p99: list[float | None]
    added_p50: list[float | None]
    added_p99: list[float | None]
    part_p99: dict[str, list[float | None]]
    past_tmax: list[int]
    revenue: dict[str, list[float]]
    cpu: dict[str, list[float]]
    memory: dict[str, list[float]]


class BuyerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How a buyer's invitations and deliveries ended, and what it paid in micros by currency, if
    the exchange tells that by buyer."""

    answers: dict[str, int]
    deliveries: dict[str, int]
    price_micros: dict[str, int]


class Unexpected(msgspec.Struct, frozen=True, kw_only=True):
    """Answers that were not as expected, of one sort."""

    word: Word
    call: str
    kind: str
    what: str
    count: int
    first_at: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything counted."""

    phases: list[PhaseFigures]
    series: Series
    buyers: dict[str, BuyerFigures]
    kinds: dict[str, dict[str, int]]
    outcomes: dict[str, dict[str, int]]
    unexpected: list[Unexpected]
    revenue_micros: dict[str, int]
    scraped: bool


def figures(run: Run, requests: Sequence[Request], samples: Sequence[Sample]) -> Figures:
    """Count everything."""
    buyers, revenue = _buyers(samples)
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in requests:
        kinds[one.kind][one.word] += 1
        outcomes[one.call][one.what if one.word == "expected" else one.word] += 1
    return Figures(
        phases=[_phase(phase, requests, samples, run) for phase in run.phases],
        series=_series(run, requests, samples),
        buyers=buyers,
        kinds={kind: dict(counts) for kind, counts in sorted(kinds.items())},
        outcomes={call: dict(counts.most_common()) for call, counts in sorted(outcomes.items())},
        unexpected=_unexpected(requests),
        revenue_micros=revenue,
        scraped=any(sample.scraped for sample in samples),
    )


# --- by phase -------------------------------------------------------------------------------------


def _phase(
    phase: Phase, requests: Sequence[Request], samples: Sequence[Sample], run: Run
) -> PhaseFigures:
    mine = [one for one in requests if phase.begins <= one.at < phase.ends]
    seconds = phase.ends - phase.begins
    pings = [one for one in mine if one.call == "ping"]
    posts = [one for one in mine if one.call in ("post", "direct")]
    firsts = [one for one in mine if one.first]
    beside = [one for one in samples if phase.begins <= _middle(one, run) < phase.ends]
    grew = _summed(sample.grew for sample in beside)
    past = [one.from_sent_ms - one.tmax_ms for one in pings if one.tmax_ms]
    words = Counter(one.word for one in mine)
    return PhaseFigures(
        name=phase.name,
        trouble=phase.trouble,
        judged=phase.judged,
        begins=phase.begins,
        ends=phase.ends,
        rate=phase.rate,
        leads_per_s=round(len(firsts) / seconds, 1),
        pings_per_s=round(len(pings) / seconds, 1),
        posts_per_s=round(len(posts) / seconds, 1),
        ping_due=times(one.from_due_ms for one in pings),
        ping_sent=times(one.from_sent_ms for one in pings),
        post_due=times(one.from_due_ms for one in posts),
        post_sent=times(one.from_sent_ms for one in posts),
        added=added(grew, ADDED),
        parts={part: one for part in PARTS if (one := added(grew, PART, part)) is not None},
        past_tmax_p99=times(past).p99,
        late=sum(late > 5.0 for late in past),
        start_late=times(one.from_due_ms - one.from_sent_ms for one in firsts),
        words={word: words[word] for word in get_args(Word)},
        resent=sum(one.resent for one in mine),
        cpu=_cpu(beside),
        busy=_busy(beside),
        memory=dict(beside[-1].memory) if beside else {},
    )


def times(ms: Iterable[float]) -> Times:
    """The distribution of these times."""
    ranked = sorted(ms)
    if not ranked:
        return Times()
    last = len(ranked) - 1
    p50, p90, p99 = (
        round(ranked[min(last, int(part * len(ranked)))], 2) for part in (0.5, 0.9, 0.99)
    )
    return Times(count=len(ranked), p50=p50, p90=p90, p99=p99, most=round(ranked[-1], 2))


def added(grew: Mapping[str, float], family: str, part: str | None = None) -> Added | None:
    """The distribution in a histogram (of one part only) that grew so; `None` when it did not."""
    buckets: dict[float, float] = defaultdict(float)
    for name, by in grew.items():
        if name.startswith(f"{family}_bucket") and labels(name).get("part") == part:
            buckets[float(labels(name)["le"])] += by
    total = buckets.get(float("inf"), 0.0)
    if not total:
        return None
    bounds = sorted(buckets)
    return Added(
        count=int(total),
        p50=round(_quantile(bounds, buckets, total * 0.5) * 1000, 3),
        p99=round(_quantile(bounds, buckets, total * 0.99) * 1000, 3),
        under_1ms=round(buckets.get(0.001, 0.0) / total, 4),
        under_5ms=round(buckets.get(0.005, 0.0) / total, 4),
    )


def _quantile(bounds: Sequence[float], buckets: Mapping[float, float], rank: float) -> float:
    """As Prometheus reckons: evenly spread within a bucket; the last bound for what is beyond."""
    low = below = 0.0
    for bound in bounds:
        if bound == float("inf"):
            return low
        if buckets[bound] >= rank:
            within = buckets[bound] - below
            return low + (bound - low) * ((rank - below) / within if within else 1.0)
        low, below = bound, buckets[bound]
    return low


def _cpu(samples: Sequence[Sample]) -> dict[str, float]:
    seconds = sum(sample.seconds for sample in samples)
    used = _summed(sample.cpu_s for sample in samples)
    if seconds:
        used[OTHERS] = max(0.0, sum(sample.busy_s for sample in samples) - sum(used.values()))
    return {group: round(cpu / seconds, 3) for group, cpu in sorted(used.items())}


def _busy(samples: Sequence[Sample]) -> float:
    there = sum(sample.seconds * sample.cores for sample in samples)
    return min(1.0, round(sum(sample.busy_s for sample in samples) / there, 3)) if there else 0.0


# --- over time ------------------------------------------------------------------------------------


def _series(run: Run, requests: Sequence[Request], samples: Sequence[Sample]) -> Series:
    ends = run.phases[-1].ends
    width = max(WINDOW_S_MIN, round(ends / WINDOWS))
    count = max(1, int(ends / width))
    asked: list[list[Request]] = [[] for _ in range(count)]
    answered, beside = [0] * count, [list[Sample]() for _ in range(count)]
    for one in requests:
        if one.at < count * width:
            asked[int(max(one.at, 0.0) / width)].append(one)
        done = int((one.at + one.from_due_ms / 1000) / width)
        if 0 <= done < count:
            answered[done] += 1
    for sample in samples:
        if 0 <= _middle(sample, run) < count * width:
            beside[int(_middle(sample, run) / width)].append(sample)
    due = [times(one.from_due_ms for one in window if one.call == "ping") for window in asked]
    sent = [times(one.from_sent_ms for one in window if one.call == "ping") for window in asked]
    pings = [added(_summed(s.grew for s in window), ADDED) for window in beside]
    spent = {
        part: [added(_summed(s.grew for s in window), PART, part) for window in beside]
        for part in PARTS
    }
    return Series(
        window_s=width,
        at=[round((index + 0.5) * width, 2) for index in range(count)],
        due=[round(len(window) / width, 1) for window in asked],
        answered=[round(number / width, 1) for number in answered],
        not_expected=[sum(one.word != "expected" for one in window) for window in asked],
        due_p50=[one.p50 if one.count else None for one in due],
        due_p99=[one.p99 if one.count else None for one in due],
        sent_p99=[one.p99 if one.count else None for one in sent],
        added_p50=[one.p50 if one else None for one in pings],
        added_p99=[one.p99 if one else None for one in pings],
        part_p99={part: [one.p99 if one else None for one in row] for part, row in spent.items()},
        past_tmax=[
            sum(bool(one.tmax_ms) and one.from_sent_ms > one.tmax_ms for one in window)
            for window in asked
        ],
        revenue=_revenue(beside),
        cpu=_by_group([_cpu(window) for window in beside]),
        memory=_by_group(
            [{g: b / 2**20 for g, b in w[-1].memory.items()} if w else {} for w in beside]
        ),
    )


def _revenue(windows: Sequence[Sequence[Sample]]) -> dict[str, list[float]]:
    """What buyers paid, per minute, by currency."""
    found: dict[str, list[float]] = {}
    for index, window in enumerate(windows):
        seconds = sum(sample.seconds for sample in window)
        for name, by in _summed(sample.grew for sample in window).items():
            if name.startswith("exchange_price_micros_total"):
                row = found.setdefault(labels(name).get("currency", "?"), [0.0] * len(windows))
                row[index] = round(row[index] + by / 1e6 / seconds * 60, 2)
    return found


def _by_group(windows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    groups = sorted({group for window in windows for group in window})
    return {g: [round(window.get(g, 0.0), 3) for window in windows] for g in groups}


# --- by buyer, by sort ----------------------------------------------------------------------------


def _buyers(samples: Sequence[Sample]) -> tuple[dict[str, BuyerFigures], dict[str, int]]:
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    deliveries: defaultdict[str, Counter[str]] = defaultdict(Counter)
    price: defaultdict[str, Counter[str]] = defaultdict(Counter)
    revenue: Counter[str] = Counter()
    for name, by in _summed(sample.grew for sample in samples).items():
        found = labels(name)
        buyer = found.get("buyer")
        if name.startswith("exchange_price_micros_total"):
            revenue[found["currency"]] += int(by)
            if buyer is not None:
                price[buyer][found["currency"]] += int(by)
        elif buyer is not None and "answer" in found:
            answers[buyer][found["answer"]] += int(by)
        elif buyer is not None and "delivery" in found:
            deliveries[buyer][found["delivery"]] += int(by)
    everyone = sorted({*answers, *deliveries})
    return {
        buyer: BuyerFigures(
            answers=dict(answers[buyer].most_common()),
            deliveries=dict(deliveries[buyer].most_common()),
            price_micros=dict(price[buyer]),
        )
        for buyer in everyone
    }, dict(revenue)


def _unexpected(requests: Iterable[Request]) -> list[Unexpected]:
    counts: Counter[tuple[Word, str, str, str]] = Counter()
    first: dict[tuple[Word, str, str, str], float] = {}
    for one in requests:
        if one.word != "expected":
            sort = (one.word, one.call, one.kind, one.what)
            counts[sort] += 1
            first[sort] = min(first.get(sort, one.at), one.at)
    return [
        Unexpected(
            word=sort[0], call=sort[1], kind=sort[2], what=sort[3], count=n, first_at=first[sort]
        )
        for sort, n in counts.most_common()
    ]


# --- samples --------------------------------------------------------------------------------------


def labels(name: str) -> dict[str, str]:
    """The labels of a metric as Prometheus prints it."""
    return dict(_LABEL.findall(name))


def _middle(sample: Sample, run: Run) -> float:
    return sample.at - sample.seconds / 2 - LAG_S - run.began


def _summed(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        for name, by in part.items():
            total[name] += by
    return dict(total)
