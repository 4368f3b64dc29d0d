"""All processes' counts as Prometheus reads them; prometheus-client spells the text.

Counters and histograms are summed over slots. Gauges carry the slot as the label `worker`, and
those of a file that nobody has written for `FRESH_MS` are left out: their process is gone. Of a
bucket's exemplars the newest is told, to who accepts OpenMetrics; the older format knows none.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from exchange.effects.metrics.families import FAMILIES, Family, Labels
from exchange.effects.metrics.slots import Counts

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
FRESH_MS: Final = 10_000
"""Ten missed writes of one second: a process that silent is dead or stuck, its gauges are lies."""


def told(slots: Mapping[int, Counts], *, now_ms: int, accept: str) -> tuple[bytes, str]:
    """The counts of all slots and their content type; `accept` is the request's header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Text(slots, now_ms=now_ms))
    if "application/openmetrics-text" in accept:
        return bytes(open_metrics(registry)), OPEN_METRICS  # type: ignore[no-untyped-call]
    return generate_latest(registry), TEXT


class _Text(Collector):
    """Every slot's counts as families for prometheus-client's text."""

    def __init__(self, slots: Mapping[int, Counts], *, now_ms: int) -> None:
        self._slots = slots
        self._now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        for name, family in FAMILIES.items():
            if family.kind == "counter":
                yield self._counter(name, family)
            elif family.kind == "gauge":
                yield self._gauge(name, family)
            else:
                yield self._histogram(name, family)

    def _counter(self, name: str, family: Family) -> Metric:
        metric = CounterMetricFamily(name, family.help, labels=family.labels)
        total: dict[Labels, float] = {}
        for counts in self._slots.values():
            for labels, value in counts.counters.get(name, {}).items():
                total[labels] = total.get(labels, 0) + value
        for labels, value in total.items():
            metric.add_metric(labels, value)
        return metric

    def _gauge(self, name: str, family: Family) -> Metric:
        metric = GaugeMetricFamily(name, family.help, labels=(*family.labels, "worker"))
        for slot, counts in self._slots.items():
            if self._now_ms - counts.at_ms <= FRESH_MS:
                for labels, value in counts.gauges.get(name, {}).items():
                    metric.add_metric((*labels, str(slot)), value)
        return metric

    def _histogram(self, name: str, family: Family) -> Metric:
        metric = HistogramMetricFamily(name, family.help, labels=family.labels)
        total: dict[Labels, list[float]] = {}
        for counts in self._slots.values():
            for labels, row in counts.histograms.get(name, {}).items():
                old = total.get(labels)
                total[labels] = (
                    row if old is None else [a + b for a, b in zip(old, row, strict=True)]
                )
        bounds = [*map(str, family.buckets), "+Inf"]
        for labels, row in total.items():
            running, buckets = 0.0, []
            newest = self._exemplars(name, labels)
            for place, (bound, count) in enumerate(zip(bounds, row[:-1], strict=True)):
                running += count
                found = newest.get(place)
                buckets.append((bound, running) if found is None else (bound, running, found))
            metric.add_metric(labels, buckets, sum_value=row[-1])
        return metric

    def _exemplars(self, name: str, labels: Labels) -> dict[int, Exemplar]:
        """The newest exemplar of each bucket, over all slots. Their id is one trace's."""
        found: dict[int, tuple[str, float, int]] = {}
        for counts in self._slots.values():
            for place, seen in counts.exemplars.get(name, {}).get(labels, {}).items():
                found[place] = max(seen, found.get(place, seen), key=lambda one: one[2])
        return {
            place: Exemplar({"trace_id": id_.replace("-", "")}, value, at_ms / 1e3)
            for place, (id_, value, at_ms) in found.items()
        }
