"""One look at `/metrics`, and what lies between two: sums, rates, quantiles.

Histograms keep their buckets, so a quantile is of what happened between the two looks, not of all
since the start; it is as exact as its bucket is narrow, as in Prometheus.
"""

import math
from collections.abc import Iterator, Mapping

import msgspec
from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]
Series = dict[tuple[tuple[str, str], ...], float]


class Reading(msgspec.Struct, frozen=True):
    """Everything one scrape told, at a moment of the monotonic clock: by name, by labels."""

    at_s: float
    series: dict[str, Series]

    def each(self, name: str) -> Iterator[tuple[Labels, float]]:
        """Every series of a name."""
        for labels, value in self.series.get(name, {}).items():
            yield dict(labels), value

    def by(self, label: str, name: str, **only: str) -> dict[str, float]:
        """The sums by a label's values, of series that have `only`'s."""
        sums: dict[str, float] = {}
        for labels, value in self.each(name):
            if only.items() <= labels.items():
                sums[labels.get(label, "")] = sums.get(labels.get(label, ""), 0) + value
        return sums

    def most(self, name: str) -> float | None:
        """The largest of a gauge's values over all processes, `None` when nobody tells it."""
        return max(self.series.get(name, {}).values(), default=None)


def read(text: str, at_s: float) -> Reading:
    """What a scrape told. Raises `ValueError` for what is not Prometheus' text."""
    series: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            series.setdefault(sample.name, {})[labels] = float(sample.value)
    return Reading(at_s, series)


class Between(msgspec.Struct, frozen=True):
    """What happened from one reading to a later one."""

    before: Reading
    now: Reading

    @property
    def seconds(self) -> float:
        """How long that was."""
        return max(self.now.at_s - self.before.at_s, 1e-9)

    def by(self, label: str, name: str, **only: str) -> dict[str, float]:
        """How much counters grew, by a label's values."""
        before = self.before.by(label, name, **only)
        now = self.now.by(label, name, **only)
        return {key: _grown(before.get(key, 0), value) for key, value in now.items()}

    def sum(self, name: str, **only: str) -> float:
        """How much a counter grew."""
        return sum(self.by("", name, **only).values())

    def per_s(self, name: str, **only: str) -> float:
        """How much a counter grew in a second."""
        return self.sum(name, **only) / self.seconds

    def quantile(self, share: float, name: str, **only: str) -> float | None:
        """Below which value so large a share lies, in the metric's unit; `None` when nothing
        happened."""
        grown = self.by("le", f"{name}_bucket", **only)
        bounds = sorted((float(le), count) for le, count in grown.items())
        total = bounds[-1][1] if bounds else 0
        if total <= 0:
            return None
        low = seen = 0.0
        for bound, count in bounds:
            if count >= share * total:
                within = (share * total - seen) / max(count - seen, 1e-9)
                return low if math.isinf(bound) else low + (bound - low) * within
            low, seen = bound, count
        return low


def _grown(before: float, now: float) -> float:
    """A counter that fell began anew."""
    return now - before if now >= before else now
