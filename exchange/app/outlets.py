"""Where finished records go: metrics, the log and, where a collector is named, traces."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from exchange.app.ground import Ground
from exchange.config import Settings
from exchange.core.records import PingRecord, PostRecord

if TYPE_CHECKING:
    from exchange.effects.traces import Traces


POSTS_GATHER_S: Final = 0.05
"""A post is told of after at most so long: not while its seller waits for the answer."""


class Outlets:
    """What is told of every record; each outlet reads it by itself."""

    def __init__(self, base: Ground, traces: "Traces | None") -> None:
        self._metrics, self._log, self._clock = base.metrics, base.log, base.clock
        self._traces = traces
        self._ended: list[tuple[PostRecord, int]] = []

    def pings(self, records: Sequence[PingRecord]) -> None:
        """A batch of pings, behind their answers."""
        self._metrics.pings(records)
        self._log.pings(records)
        if self._traces is not None:
            self._traces.pings(records)

    def post(self, record: PostRecord) -> None:
        """A post that has just ended."""
        if not self._ended:
            asyncio.get_running_loop().call_later(POSTS_GATHER_S, self.tell_posts)
        self._ended.append((record, self._clock.now_ms()))

    def tell_posts(self) -> None:
        """Tell of the posts gathered."""
        ended, self._ended = self._ended, []
        for record, ended_ms in ended:
            self._metrics.post(record)
            self._log.post(record)
            if self._traces is not None:
                self._traces.post(record, ended_ms=ended_ms)


@asynccontextmanager
async def outlets(base: Ground, settings: Settings) -> AsyncIterator[Outlets]:
    """The outlets of a worker; what is queued for the collector is sent at the end."""
    traces = None if settings.traces_url is None else _traces(base, settings, settings.traces_url)
    told = Outlets(base, traces)
    try:
        yield told
    finally:
        told.tell_posts()
        if traces is not None:
            await asyncio.to_thread(traces.close)


def _traces(base: Ground, settings: Settings, url: str) -> "Traces":
    from exchange.effects.traces import Traces  # without a collector nobody pays for it

    book = base.standing
    traces = Traces(
        url=url,
        share=settings.traces_share,
        queue_max=settings.limits.traces_queue_max,
        worker=base.boot_id,
        party=lambda one: buyer.key if (buyer := book.book.buyers.get(one)) else str(one),
        vertical=lambda one: found.key if (found := book.book.verticals.get(one)) else str(one),
    )
    base.metrics.gauge("exchange_queue_length", lambda: {("traces",): float(traces.queued)})
    base.metrics.follow("exchange_dropped_total", lambda: {("traces",): float(traces.dropped)})
    return traces
