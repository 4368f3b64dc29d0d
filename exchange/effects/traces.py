"""Traces for OpenTelemetry, made from finished records: off unless a collector is named.

    ping ─┬─ ask acme          a direct lead: post ─┬─ ping ─┬─ ask acme
          ├─ ask beacon                             │        └─ ask beacon
          └─ post ─┬─ try acme                      └─ try beacon
                   └─ try beacon

A ping and its post are one trace, and its id is the lead's own (a UUID is as long as a trace's id):
`exchange explain` takes it, and metrics' exemplars name it. Nothing is measured for a trace, so
nothing on a ping's path knows of it: what the record does not say (how long the filter took before
the asking began, which is less than `added_ms`) the trace does not say either; asking begins where
its ping does.

A share of the leads is kept, chosen by the lead's id, so that all of a lead is kept or nothing;
late pings and posts in doubt always are. A thread of its own makes the spans and sends them as
OTLP/HTTP in JSON, giving way to the loop after each record. What cannot be sent is dropped and
counted: a collector that is away costs nobody anything.
"""

import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event, Thread
from typing import Any, Final
from urllib.error import URLError

import orjson

from exchange.core.model import ContractAnswer
from exchange.core.reasons import Delivery, Loss, NonBid, Reason
from exchange.core.records import PingRecord, PostRecord, PostStep

GATHER_S: Final = 1.0
"""Spans of this long leave together."""
BATCH_MAX: Final = 200
"""Records in one request: some hundred kilobytes at most."""
SEND_S: Final = 5.0
CLOSE_S: Final = 2.0
"""How long `close` waits for a collector that has stopped reading."""
SERVER, CLIENT = 2, 3
"""OTLP's kinds of span: we are asked, we ask."""
ERROR: Final = 2
"""OTLP's status of a span that failed."""
POST_SPAN: Final = 1 << 32
"""Spans are numbered within their trace: 0 is the ping, then its answers, from here on the post and
its tries."""

Span = dict[str, Any]


class Traces:
    """Sends spans to `url` (OTLP/HTTP, such as `http://collector:4318/v1/traces`). `share` (0 to 1)
    is the share of leads kept; `queue_max` the most records waiting. `party` names a buyer,
    `vertical` a vertical. `dropped` counts records that found the queue full or were not taken."""

    def __init__(
        self,
        *,
        url: str,
        share: float,
        queue_max: int,
        worker: str,
        party: Callable[[int], str] = str,
        vertical: Callable[[int], str] = str,
        gather_s: float = GATHER_S,
    ) -> None:
        self.dropped = 0
        self._url, self._below, self._queue_max = url, int(share * 2**32), queue_max
        self._party, self._vertical, self._gather_s = party, vertical, gather_s
        self._resource = {
            "attributes": _attributes({"service.name": "exchange", "service.instance.id": worker})
        }
        self._queue: deque[PingRecord | tuple[PostRecord, int]] = deque()
        self._closing = Event()
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._thread = Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Records waiting to be sent."""
        return len(self._queue)

    def pings(self, records: Sequence[PingRecord]) -> None:
        """Keep of a batch of pings what is to be traced."""
        below = self._below
        for record in records:
            if int(record.ping.ping_id[-8:], 16) < below or record.late_ms > 0:
                self._keep(record)

    def post(self, record: PostRecord, *, ended_ms: int) -> None:
        """Keep a post that has just ended, in Unix ms. One that was only told again is none."""
        is_doubt = record.reason == Reason.IN_DOUBT
        if not record.replayed and (int(record.lead_id[-8:], 16) < self._below or is_doubt):
            self._keep((record, ended_ms))

    def close(self) -> None:
        """Send what is queued and stop."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def _keep(self, record: PingRecord | tuple[PostRecord, int]) -> None:
        if len(self._queue) < self._queue_max:
            self._queue.append(record)
        else:
            self.dropped += 1

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.wait(self._gather_s):
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._queue:
            count = min(len(self._queue), BATCH_MAX)
            spans: list[Span] = []
            for _ in range(count):
                spans += self._spans(self._queue.popleft())
                time.sleep(0)  # the loop first: it shares the interpreter with us
            if not self._send(spans):
                self.dropped += count

    def _spans(self, record: PingRecord | tuple[PostRecord, int]) -> Iterator[Span]:
        if isinstance(record, PingRecord):
            return ping_spans(record, party=self._party, vertical=self._vertical)
        return post_spans(*record, party=self._party, vertical=self._vertical)

    def _send(self, spans: Sequence[Span]) -> bool:
        scope = {"scope": {"name": "exchange"}, "spans": spans}
        body = {"resourceSpans": [{"resource": self._resource, "scopeSpans": [scope]}]}
        request = urllib.request.Request(
            self._url, orjson.dumps(body), {"Content-Type": "application/json"}
        )
        try:
            with self._open(request, timeout=SEND_S) as answer:
                return 200 <= int(answer.status) < 300
        except URLError as fault:  # HTTPError among them, which holds a connection
            getattr(fault, "close", int)()
            return False
        except OSError:
            return False


# --- spans of records -----------------------------------------------------------------------------


def ping_spans(
    record: PingRecord, *, party: Callable[[int], str], vertical: Callable[[int], str]
) -> Iterator[Span]:
    """A ping, and what it asked. Nothing of its fields is among the attributes."""
    ping = record.ping
    began_ns = int(ping.received_at.timestamp() * 1e6) * 1_000
    yield _span(
        ping.ping_id,
        0,
        "ping",
        SERVER,
        began_ns,
        record.took_ms,
        parent=POST_SPAN if ping.direct else None,
        failed=record.late_ms > 0,
        about={
            "exchange.vertical": vertical(ping.vertical_id),
            "exchange.seller_id": ping.seller_id,
            "exchange.source_id": ping.source_id,
            "exchange.tmax_ms": ping.tmax_ms,
            "exchange.test": ping.test,
            "exchange.outcome": record.outcome,
            "exchange.reason": None if record.reason is None else Reason(record.reason).label,
            "exchange.eligible": record.eligible,
            "exchange.asked": len(record.answers),
            "exchange.payout_micros": record.payout_micros,
            "exchange.added_ms": round(record.added_ms, 3),
            "exchange.late_ms": round(record.late_ms, 3),
            "exchange.book_version": record.book_version,
        },
    )
    for number, answer in enumerate(record.answers, 1):
        yield _answer_span(ping.ping_id, number, answer, began_ns, party(answer.buyer_id))


def _answer_span(
    trace_id: str, number: int, answer: ContractAnswer, began_ns: int, buyer: str
) -> Span:
    code = answer.non_bid
    return _span(
        trace_id,
        number,
        f"ask {buyer}",
        CLIENT,
        began_ns,
        answer.waited_ms,
        parent=0,
        failed=code in (NonBid.ERROR, NonBid.TIMEOUT, NonBid.UNREACHABLE, NonBid.INVALID_BID),
        about={
            "exchange.buyer": buyer,
            "exchange.contract_id": answer.contract_id,
            "exchange.answer": "bid" if code is None else NonBid(code).label,
            "exchange.price_micros": answer.price_micros,
        },
    )


def post_spans(
    record: PostRecord,
    ended_ms: int,
    *,
    party: Callable[[int], str],
    vertical: Callable[[int], str],
) -> Iterator[Span]:
    """A post that ended at a moment, and each buyer's turn."""
    began_ns = ended_ms * 1_000_000 - int(record.took_ms * 1e6)
    yield _span(
        record.lead_id,
        POST_SPAN,
        "post",
        SERVER,
        began_ns,
        record.took_ms,
        parent=None if record.direct else 0,
        failed=record.reason == Reason.IN_DOUBT,
        about={
            "exchange.vertical": vertical(record.vertical_id),
            "exchange.seller_id": record.seller_id,
            "exchange.source_id": record.source_id,
            "exchange.test": record.test,
            "exchange.status": record.status,
            "exchange.reason": None if record.reason is None else Reason(record.reason).label,
            "exchange.price_micros": record.price_micros,
            "exchange.payout_micros": record.payout_micros,
            "exchange.committed_ms": round(record.committed_ms, 3),
            "exchange.delivered_ms": round(record.delivered_ms, 3),
            "exchange.reserved_ms": round(record.reserved_ms, 3),
        },
    )
    for number, step in enumerate(record.steps, POST_SPAN + 1):
        yield _step_span(record.lead_id, number, step, began_ns, party(step.buyer_id))


def _step_span(trace_id: str, number: int, step: PostStep, post_ns: int, buyer: str) -> Span:
    """A buyer's own words (`buyer_reason`) may quote the lead: they stay in Postgres."""
    delivery = None if step.delivery is None else Delivery(step.delivery)
    return _span(
        trace_id,
        number,
        f"try {buyer}",
        CLIENT,
        post_ns + int(step.began_ms * 1e6),
        step.took_ms,
        parent=POST_SPAN,
        failed=delivery in (Delivery.UNKNOWN, Delivery.NOT_SENT),
        about={
            "exchange.buyer": buyer,
            "exchange.contract_id": step.contract_id,
            "exchange.rank": step.rank,
            "exchange.loss": Loss(step.loss).label,
            "exchange.delivery": None if delivery is None else delivery.name.lower(),
            "exchange.attempt_id": step.attempt_id,
            "exchange.price_micros": step.price_micros,
        },
    )


def _span(
    trace_id: str,
    number: int,
    name: str,
    kind: int,
    began_ns: int,
    took_ms: float,
    *,
    parent: int | None,
    failed: bool,
    about: Mapping[str, Any],
) -> Span:
    span: Span = {
        "traceId": trace_id.replace("-", ""),
        "spanId": _span_id(trace_id, number),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(began_ns),
        "endTimeUnixNano": str(began_ns + int(took_ms * 1e6)),
        "attributes": _attributes(about),
    }
    if parent is not None:
        span["parentSpanId"] = _span_id(trace_id, parent)
    if failed:
        span["status"] = {"code": ERROR}
    return span


def _span_id(trace_id: str, number: int) -> str:
    """Told by the lead's id and the number alone, so that ping and post, which may end in different
    processes, name one another."""
    return f"{int(trace_id[-17:].replace('-', ''), 16) ^ number:016x}"


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": _value(value)} for key, value in values.items() if value is not None
    ]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # as proto3's JSON spells 64 bits
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
