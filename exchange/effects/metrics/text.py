"""All processes' counts as Prometheus reads them; prometheus-client spells the text.

Counters and histograms are summed over slots. Gauges carry the slot as the label `worker`, and
those of a file that nobody has written for `FRESH_MS` are left out: their process is gone.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from exchange.effects.metrics.families import FAMILIES, Family, Labels
from exchange.effects.metrics.slots import Counts

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FRESH_MS: Final = 10_000
"""Ten missed writes of one second: a process that silent is dead or stuck, its gauges are lies."""


def text(slots: Mapping[int, Counts], *, now_ms: int) -> bytes:
    """The counts of all slots in the text format of `CONTENT_TYPE`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Text(slots, now_ms=now_ms))
    return generate_latest(registry)


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
            for bound, count in zip(bounds, row[:-1], strict=True):
                running += count
                buckets.append((bound, running))
            metric.add_metric(labels, buckets, sum_value=row[-1])
        return metric
