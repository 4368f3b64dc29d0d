"""What Prometheus is told: counts made from the records, in batches, right with several workers.

The idea: a worker keeps its counts as plain numbers (a batch of pings is a few dictionary
additions; a prometheus-client child per bid would cost forty times as much) and writes them to a
file of its own about once a second. Whoever is scraped writes its own file, reads everybody's, and
adds up; prometheus-client spells the text.

A file belongs to a *slot*, not to a process. A process holds its slot by a file lock, which the
kernel lets go however the process dies; the next process that takes the slot starts from the counts
it finds there. So a sum never goes backwards when a worker dies, a crash loses at most what was
counted since the last write, and there are never more files than processes ran at once.

Counters and histograms are summed over slots. Gauges carry the slot as the label `worker`, and
those of a file that nobody has written for `FRESH_MS` are left out: their process is gone.

`FAMILIES` is the table of everything there is; adding a metric is one line there and one where the
record is read. No label value comes from outside unbounded: a family holds at most `series_max`
label sets, what comes after is counted as `other`, and the limit is counted as bitten. The slowest
ping of a batch, and each post, leave their id as the exemplar of their bucket, for who asks for
OpenMetrics.
"""

import asyncio
import os
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, Protocol

from exchange.core.reasons import Delivery, Loss, NonBid, Reason
from exchange.core.records import PingRecord, PostRecord, RequestRecord, ReturnRecord
from exchange.core.resale import Resold
from exchange.effects.metrics.families import FAMILIES, LABELS, Family, Labels
from exchange.effects.metrics.slots import (
    Counts,
    counts_in,
    decoded,
    encoded,
    file_of,
    free_slot,
    replace,
)
from exchange.effects.metrics.text import told

__all__ = ["FAMILIES", "LABELS", "Family", "Labels", "Metrics"]

LAG_EVERY_S: Final = 0.1
"""How often the event loop's lag is taken; ten turns make one write of the slot's file."""

_ANSWER: Final[dict[int | None, str]] = {None: "bid", **{int(m): m.label for m in NonBid}}
_REASON: Final[dict[int | None, str]] = {None: "", **{int(m): m.label for m in Reason}}
_LIMIT: Final = {
    int(NonBid.NOT_INVITED): "invited_max",
    int(NonBid.REPLY_TOO_LARGE): "reply_bytes_max",
}
"""Limits whose bite stands in the record of a ping."""

Reading = Mapping[Labels, float]


class Clock(Protocol):
    """What metrics need of the clock."""

    def now_ms(self) -> int: ...


class Metrics:
    """The counts of this process and, when scraped, of all processes that share `folder`.

    `folder` is `None` for a process alone. `party` names a buyer for a label, `vertical` a
    vertical; both must answer for any id. Everything is called from one thread, the loop's.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        folder: Path | None,
        party: Callable[[int], str] = str,
        vertical: Callable[[int], str] = str,
        series_max: int = 5_000,
    ) -> None:
        self._clock = clock
        self._party = party
        self._vertical = vertical
        self._series_max = series_max
        self._counts = Counts()
        self._gauges: list[tuple[str, Callable[[], Reading]]] = []
        self._followed: list[tuple[str, Callable[[], Reading], dict[Labels, float]]] = []
        self._images = self._written = 0
        self._writing = Lock()
        self._folder = folder
        self._slot = 0
        self._slot_fd: int | None = None
        if folder is not None:
            self._slot, self._slot_fd = free_slot(folder)
            self._counts = counts_in(file_of(folder, self._slot)) or Counts()

    # --- what happened ---------------------------------------------------------------------------

    def pings(self, records: Sequence[PingRecord]) -> None:
        """Count a batch of pings: added up here first, then one addition per label set."""
        outcomes: Counter[Labels] = Counter()
        waited: defaultdict[tuple[int, int | None], list[float]] = defaultdict(list)
        not_asked: Counter[int] = Counter()
        for record in records:
            outcomes[self._ping_labels(record)] += 1
            for code, count in record.reason_counts.items():
                not_asked[code] += count
            for answer in record.answers:
                waited[answer.buyer_id, answer.non_bid].append(answer.waited_ms)
        answers = Counter({answer: len(waits) for answer, waits in waited.items()})
        self._add("exchange_pings_total", outcomes)
        self._add("exchange_answers_total", self._by_buyer(answers))
        self._add(
            "exchange_contracts_not_asked_total",
            {(_ANSWER[code],): count for code, count in not_asked.items()},
        )
        self._add("exchange_offer_holds_total", self._offer_holds(records))
        self._limits_in(not_asked, answers)
        late = sum(record.late_ms > 0 for record in records)
        self._add("exchange_pings_late_total", {(): late})
        self._observe_all("exchange_ping_seconds", (), [r.took_ms / 1e3 for r in records])
        self._observe_all("exchange_ping_added_seconds", (), [r.added_ms / 1e3 for r in records])
        for (buyer, _), waits in waited.items():
            seconds = [waited_ms / 1e3 for waited_ms in waits]
            self._observe_all("exchange_answer_seconds", (self._party(buyer),), seconds)
        if records:
            slow = max(records, key=lambda record: record.added_ms)
            self._exemplify("exchange_ping_seconds", (), slow.took_ms, slow.ping.ping_id)
            self._exemplify("exchange_ping_added_seconds", (), slow.added_ms, slow.ping.ping_id)

    def post(self, record: PostRecord) -> None:
        """Count one post. Replays and tests are counted, but no money of theirs."""
        sold = record.status == "sold" and not (record.replayed or record.test)
        labels = (
            self._vertical(record.vertical_id),
            "direct" if record.direct else "two_step",
            record.status,
            _REASON[record.reason],
        )
        self._add("exchange_posts_total", {labels: 1})
        self._observe("exchange_post_seconds", (record.status,), [record.took_ms / 1e3])
        self._exemplify("exchange_post_seconds", (record.status,), record.took_ms, record.lead_id)
        if not record.replayed:
            self._steps(record)
        if sold:
            winner = next(step.buyer_id for step in record.steps if step.loss == Loss.WON)
            bought = (self._party(winner), record.currency)
            self._add("exchange_price_micros_total", {bought: record.price_micros})
            self._add("exchange_payout_micros_total", {(record.currency,): record.payout_micros})
            if not record.direct:  # a direct lead's auction waits for buyers as well
                added_ms = record.took_ms - record.delivered_ms
                self._observe("exchange_sale_added_seconds", (), [added_ms / 1e3])
                self._exemplify("exchange_sale_added_seconds", (), added_ms, record.lead_id)

    def returned(self, record: ReturnRecord) -> None:
        """Count a step of a return; a retry is none."""
        if record.replayed:
            return
        buyer = self._party(record.buyer_id)
        labels = (buyer, record.reason, record.decision)
        self._add("exchange_returns_total", {labels: 1})
        self._observe("exchange_return_seconds", (), [record.took_ms / 1e3])
        if record.credit_micros:
            credited = (buyer, record.currency)
            self._add("exchange_credit_micros_total", {credited: record.credit_micros})

    def resold(self, resold: Resold) -> None:
        """Count a returned lead that was looked at for another sale."""
        self._add("exchange_resales_total", {(resold.kind, resold.rule or ""): 1})
        if resold.kind == "sold" and resold.buyer_id is not None:
            bought = (self._party(resold.buyer_id), resold.currency)
            self._add("exchange_price_micros_total", {bought: resold.price_micros})
            self._add("exchange_payout_micros_total", {(resold.currency,): resold.payout_micros})

    def source_paused(self, buyer_id: int) -> None:
        """A rule paused a source at a buyer."""
        self._add("exchange_source_pauses_total", {(self._party(buyer_id),): 1})

    def request(self, record: RequestRecord) -> None:
        """Count a request that ended before any flow began."""
        labels = (record.route, str(record.status), record.problem)
        self._add("exchange_requests_refused_total", {labels: 1})

    def commit_batch(self, size: int, took_ms: float) -> None:
        """One group commit: how many units, how long."""
        self._observe("exchange_commit_batch_size", (), [size])
        self._observe("exchange_commit_seconds", (), [took_ms / 1e3])

    def round_trip(self, server: Literal["postgres", "valkey"], took_s: float) -> None:
        """One try of a server that did nothing else."""
        self._observe("exchange_server_seconds", (server,), [took_s])

    def limit_hit(self, limit: str, count: int = 1) -> None:
        """A limit bit `count` times; `limit` is its name in the table of limits."""
        self._add("exchange_limit_hits_total", {(limit,): count})

    def reconciled(self, cases: Mapping[str, int]) -> None:
        """One turn of reconcile: how many cases of each kind."""
        counted: dict[Labels, int] = {(what,): count for what, count in cases.items() if count}
        self._add("exchange_reconcile_cases_total", counted)

    def job_run(self, job: str, outcome: Literal["done", "failed", "deposed"]) -> None:
        """One turn of a job that did something, failed, or found its lease lost."""
        self._add("exchange_job_runs_total", {(job, outcome): 1})

    def gauge(self, name: str, read: Callable[[], Reading]) -> None:
        """Ask `read` for the gauge `name` at every write: label values to number, `{(): n}` when
        the family has no labels."""
        _known(name, "gauge")
        self._gauges.append((name, read))

    def follow(self, name: str, read: Callable[[], Reading]) -> None:
        """Let counter `name` follow numbers that a part keeps itself. What a number grew by since
        the last look is added; one that shrank began anew."""
        _known(name, "counter")
        self._followed.append((name, read, {}))

    # --- what is told ----------------------------------------------------------------------------

    def render(self) -> bytes:
        """All processes' metrics in Prometheus' text format."""
        return self._told(self._image(), "")[0]

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """All processes' metrics and their content type: OpenMetrics, with exemplars, for who
        accepts it. Only the look at our own counts stops the loop; files and text are made in a
        thread."""
        return await asyncio.to_thread(self._told, self._image(), accept)

    async def run(self) -> None:
        """Take the loop's lag and write the slot's file once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(10):
                due = loop.time() + LAG_EVERY_S
                await asyncio.sleep(LAG_EVERY_S)
                self._observe("exchange_loop_lag_seconds", (), [max(0.0, loop.time() - due)])
            await asyncio.to_thread(self._write, self._image())

    def close(self) -> None:
        """Write the last counts and let go of the slot."""
        self._write(self._image())
        if self._slot_fd is not None:
            os.close(self._slot_fd)
            self._slot_fd = None

    def _image(self) -> tuple[int, bytes]:
        """The counts as of now, numbered, so that an older image never replaces a newer one."""
        self._look()
        self._counts.at_ms = self._clock.now_ms()
        self._images += 1
        return self._images, encoded(self._counts)

    def _write(self, image: tuple[int, bytes]) -> None:
        number, counts = image
        if self._folder is None:
            return
        with self._writing:
            if number > self._written:
                self._written = number
                # a full disk costs the other workers' view of this one, nothing else
                with suppress(OSError):
                    replace(file_of(self._folder, self._slot), counts)

    def _told(self, image: tuple[int, bytes], accept: str) -> tuple[bytes, str]:
        """Written first, then told: whoever is scraped next tells no less."""
        self._write(image)
        mine = decoded(image[1])
        return told(dict(self._everyone(mine)), now_ms=mine.at_ms, accept=accept)

    # --- adding up -------------------------------------------------------------------------------

    def _ping_labels(self, record: PingRecord) -> Labels:
        return (
            self._vertical(record.ping.vertical_id),
            "direct" if record.ping.direct else "two_step",
            record.outcome,
            _REASON[record.reason],
        )

    def _by_buyer(self, answers: Counter[tuple[int, int | None]]) -> dict[Labels, int]:
        return {
            (self._party(buyer), _ANSWER[code]): count for (buyer, code), count in answers.items()
        }

    def _offer_holds(self, records: Sequence[PingRecord]) -> Counter[Labels]:
        """The attempt's id is minted with the offer where room is held for it."""
        return Counter(
            (self._party(record.ranking[0].buyer_id),)
            for record in records
            if record.ranking and record.ranking[0].attempt_id is not None
        )

    def _limits_in(
        self, not_asked: Mapping[int, int], answers: Mapping[tuple[int, int | None], int]
    ) -> None:
        """One bite for each contract that was not asked, or not heard out, because of a limit."""
        counted = [*not_asked.items(), *((code, count) for (_, code), count in answers.items())]
        for code, count in counted:
            if code in _LIMIT:
                self.limit_hit(_LIMIT[code], count)

    def _steps(self, record: PostRecord) -> None:
        for step in record.steps:
            buyer = self._party(step.buyer_id)
            if step.delivery is not None:
                kind = Delivery(step.delivery).name.lower()
                self._add("exchange_deliveries_total", {(buyer, kind): 1})
            if step.loss != Loss.WON:
                self._add("exchange_losses_total", {(buyer, Loss(step.loss).label): 1})
            if step.loss == Loss.RELEASES_SPENT:
                self.limit_hit("releases_max")
        parts = (
            ("commit", record.committed_ms),
            ("deliver", record.delivered_ms),
            ("reserve", record.reserved_ms),
        )
        for part, took_ms in parts:
            if took_ms > 0:
                self._observe("exchange_post_part_seconds", (part,), [took_ms / 1e3])

    def _add(self, name: str, amounts: Mapping[Labels, float]) -> None:
        series = self._counts.counters.setdefault(name, {})
        for labels, amount in amounts.items():
            key = self._bounded(name, series, labels)
            series[key] = series.get(key, 0) + amount

    def _observe(self, name: str, labels: Labels, values: Iterable[float]) -> None:
        bounds, row = FAMILIES[name].buckets, self._row(name, labels)
        for value in values:
            row[bisect_left(bounds, value)] += 1
            row[-1] += value

    def _observe_all(self, name: str, labels: Labels, values: list[float]) -> None:
        """As `_observe`, for many values: sorted, they are counted by bucket and not one by one."""
        bounds, row = FAMILIES[name].buckets, self._row(name, labels)
        row[-1] += sum(values)
        values.sort()
        counted = 0
        for place, bound in enumerate(bounds):
            upto = bisect_right(values, bound, counted)
            row[place] += upto - counted
            counted = upto
        row[len(bounds)] += len(values) - counted

    def _row(self, name: str, labels: Labels) -> list[float]:
        series = self._counts.histograms.setdefault(name, {})
        key = self._bounded(name, series, labels)
        return series.setdefault(key, [0] * (len(FAMILIES[name].buckets) + 2))

    def _exemplify(self, name: str, labels: Labels, value_ms: float, record_id: str) -> None:
        """The newest of a bucket is kept: an id that `exchange explain` knows."""
        value = value_ms / 1e3
        series = self._counts.exemplars.setdefault(name, {})
        bucket = bisect_left(FAMILIES[name].buckets, value)
        row = series.setdefault(self._bounded(name, series, labels), {})
        row[bucket] = (record_id, value, self._clock.now_ms())

    def _bounded(self, name: str, series: Mapping[Labels, Any], labels: Labels) -> Labels:
        if labels in series or len(series) < self._series_max:
            return labels
        hits = self._counts.counters.setdefault("exchange_limit_hits_total", {})
        hits[("metric_series_max",)] = hits.get(("metric_series_max",), 0) + 1
        return ("other",) * len(FAMILIES[name].labels)

    def _look(self) -> None:
        self._counts.gauges = {}
        for name, read in self._gauges:
            self._counts.gauges.setdefault(name, {}).update(read())
        for name, read, seen in self._followed:
            now = dict(read())
            grown = {key: _growth(seen.get(key, 0), value) for key, value in now.items()}
            is_told_at_zero = "buyer" not in FAMILIES[name].labels  # else the first would be missed
            counted = {key: amount for key, amount in grown.items() if amount or is_told_at_zero}
            self._add(name, counted)
            seen.clear()
            seen.update(now)

    def _everyone(self, mine: Counts) -> Iterator[tuple[int, Counts]]:
        yield self._slot, mine
        if self._folder is None:
            return
        for path in sorted(self._folder.glob("slot-*.counts")):
            slot = int(path.stem.removeprefix("slot-"))
            if slot != self._slot and (counts := counts_in(path)) is not None:
                yield slot, counts


def _growth(before: float, now: float) -> float:
    return now - before if now >= before else now


def _known(name: str, kind: str) -> None:
    if FAMILIES[name].kind != kind:
        raise ValueError(f"{name} is a {FAMILIES[name].kind}, not a {kind}")
