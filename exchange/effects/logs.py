"""The log: one wide JSON line per request, written from its record, and never in the loop's way.

A line is made on the loop (about a microsecond with orjson) and queued; a thread joins what is
queued and hands it to the kernel in one write. When the reader of the log is slow the queue fills,
lines are dropped, and the drops are counted; a ping is never late because of its log line.

Pings without an offer are most of the traffic and the least interesting: a share of them is logged,
chosen by the ping's own id, so every process and every later reader agrees on which. Everything
else always is.

What a line may carry is written out here field by field. Fields of a lead, a consumer or a
request's body are not among them, and exceptions are logged by type and place, not by message:
messages quote input.
"""

import logging
import os
import sys
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Final, Protocol

import msgspec
import orjson
import structlog

from exchange.core.reasons import Delivery, Loss, NonBid, Reason
from exchange.core.records import (
    PingRecord,
    PostRecord,
    PostStep,
    RequestRecord,
    ReturnRecord,
)

GATHER_S: Final = 0.05
"""Lines of this long go out in one write: twenty wakings a second, however many lines."""
FLUSH_S: Final = 2.0
"""How long `close` waits for a reader of the log that has stopped reading."""
TEXT_MAX: Final = 200
"""A word of ours or an error's place is shorter; what is longer is cut."""


_ANSWER: Final[dict[int | None, str]] = {None: "bid", **{int(m): m.label for m in NonBid}}
_REASON: Final[dict[int | None, str | None]] = {None: None, **{int(m): m.label for m in Reason}}

_encode_lines = msgspec.json.Encoder().encode_lines
_FORM: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS


class Clock(Protocol):
    """What the log needs of the clock."""

    def now_ms(self) -> int: ...


class Log:
    """Lines to `target`: `"-"` is standard output, else a file that is appended to.

    `no_offer_share` is the share (0 to 1) of pings without an offer that are logged; `queue_max`
    the most lines waiting to be written. `dropped` counts lines that found the queue full or could
    not be written.
    """

    def __init__(
        self, *, clock: Clock, target: str, no_offer_share: float, queue_max: int, worker: str = ""
    ) -> None:
        self.dropped = 0
        self._clock = clock
        self._worker = worker
        self._sampled_below = int(no_offer_share * 2**32)
        self._queue_max = queue_max
        self._lines: list[bytes] = []
        self._changed = Condition()
        self._closing = False
        self._owns = target != "-"
        self._fd = _opened(target) if self._owns else sys.stdout.fileno()
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Lines waiting to be written."""
        return len(self._lines)

    # --- one line per record ---------------------------------------------------------------------

    def pings(self, records: Sequence[PingRecord]) -> None:
        """A line for every ping with an offer and for a share of the others."""
        at_ms, worker = self._clock.now_ms(), self._worker
        lines = [
            _ping_line(record, at_ms, worker)
            for record in records
            if record.outcome == "offer" or self._is_sampled(record.ping.ping_id)
        ]
        self._queue(_encode_lines(lines).splitlines(keepends=True))

    def post(self, record: PostRecord) -> None:
        """A line for every post."""
        self._put("post", _post_line(record))

    def returned(self, record: ReturnRecord) -> None:
        """A line for every step of a return."""
        self._put("return", _return_line(record))

    def request(self, record: RequestRecord) -> None:
        """A line for a request that ended before any flow began."""
        self._put(
            "request",
            {
                "route": record.route[:TEXT_MAX],
                "status": record.status,
                "problem": record.problem[:TEXT_MAX],
                "party_id": record.party_id,
                "took_ms": round(record.took_ms, 3),
            },
        )

    # --- events of the process -------------------------------------------------------------------

    def events(self, **always: Any) -> structlog.typing.FilteringBoundLogger:
        """A structlog logger for the few events of the process itself (start, stop, a job's
        failure). `log.events(part="jobs").error("reconcile_failed", exc_info=error)`."""
        logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            _Sink(),
            processors=[structlog.processors.add_log_level, _without_message, self._to_line],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            **always,
        )
        return logger

    def bridge(self) -> logging.Handler:
        """A handler that brings libraries' own warnings here: who warned, how loud, the wording
        before its arguments are filled in, and the type of an exception."""
        return _Bridge(self)

    # --- the way out -----------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is queued and stop; gives up on a reader that takes more than `FLUSH_S`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(FLUSH_S)
        if self._owns and not self._thread.is_alive():
            os.close(self._fd)

    def _is_sampled(self, ping_id: str) -> bool:
        return int(ping_id[-8:], 16) < self._sampled_below

    def _put(self, event: str, fields: Mapping[str, Any]) -> None:
        line = {**self._head(event), **fields}
        self._queue([orjson.dumps(line, default=_kind, option=_FORM)])

    def _head(self, event: str) -> dict[str, Any]:
        return {"at_ms": self._clock.now_ms(), "event": event, "worker": self._worker}

    def _queue(self, lines: Sequence[bytes]) -> None:
        with self._changed:
            room = 0 if self._closing else max(0, self._queue_max - len(self._lines))
            self.dropped += max(0, len(lines) - room)
            was_empty = not self._lines
            self._lines += lines[:room]
            if was_empty and self._lines:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                self._changed.wait_for(lambda: self._closing, timeout=GATHER_S)
                lines, self._lines = self._lines, []
            if not lines:
                return
            try:
                _write_all(self._fd, b"".join(lines))
            except OSError:
                self.dropped += len(lines)

    def _to_line(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        self._put(str(event.pop("event")), event)
        raise structlog.DropEvent


class _Sink:
    """What structlog wraps. Nothing arrives: `_to_line` has queued the line by then."""

    def msg(self, *_: Any) -> None: ...

    debug = info = warning = error = critical = msg


class _Bridge(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(level=logging.WARNING)
        self._events = log.events()

    def emit(self, record: logging.LogRecord) -> None:
        """The arguments stay behind: a parser's complaint quotes the bytes it complains about."""
        kind = record.exc_info[0] if record.exc_info else None
        wording = record.msg if isinstance(record.msg, str) and record.args else ""
        self._events.warning(
            "library_warning",
            library=record.name,
            library_level=record.levelname.lower(),
            wording=wording[:TEXT_MAX],
            exception=kind.__qualname__ if kind else None,
            place=f"{record.module}:{record.lineno}",
        )


# --- what a line carries --------------------------------------------------------------------------


class _PingLine(msgspec.Struct, frozen=True, gc=False):
    at_ms: int
    event: str
    worker: str
    ping_id: str
    seller_id: int
    source_id: int
    vertical_id: int
    direct: bool
    test: bool
    tmax_ms: int
    gated: int
    outcome: str
    reason: str | None
    payout_micros: int | None
    eligible: int
    answers: dict[int, str]
    winner: int | None
    book_version: int
    took_ms: float
    waited_ms: float
    added_ms: float
    late_ms: float


def _ping_line(record: PingRecord, at_ms: int, worker: str) -> _PingLine:
    ping = record.ping
    return _PingLine(
        at_ms,
        "ping",
        worker,
        ping.ping_id,
        ping.seller_id,
        ping.source_id,
        ping.vertical_id,
        ping.direct,
        ping.test,
        ping.tmax_ms,
        len(ping.gated),
        record.outcome,
        _REASON[record.reason],
        record.payout_micros,
        record.eligible,
        {answer.contract_id: _ANSWER[answer.non_bid] for answer in record.answers},
        record.ranking[0].contract_id if record.ranking else None,
        record.book_version,
        int(record.took_ms * 1000) / 1000,  # `round` costs four times as much
        int(record.waited_ms * 1000) / 1000,
        int(record.added_ms * 1000) / 1000,
        int(record.late_ms * 1000) / 1000,
    )


def _post_line(record: PostRecord) -> dict[str, Any]:
    return {
        "lead_id": record.lead_id,
        "seller_id": record.seller_id,
        "source_id": record.source_id,
        "vertical_id": record.vertical_id,
        "direct": record.direct,
        "test": record.test,
        "status": record.status,
        "reason": _REASON[record.reason],
        "replayed": record.replayed,
        "price_micros": record.price_micros,
        "payout_micros": record.payout_micros,
        "fee_micros": record.fee_micros,
        "currency": record.currency,
        "steps": [_step(step) for step in record.steps],
        "took_ms": round(record.took_ms, 3),
        "committed_ms": round(record.committed_ms, 3),
        "delivered_ms": round(record.delivered_ms, 3),
        "reserved_ms": round(record.reserved_ms, 3),
    }


def _return_line(record: ReturnRecord) -> dict[str, Any]:
    """What a buyer brought as evidence stays in Postgres."""
    return {
        "return_id": record.return_id,
        "lead_id": record.lead_id,
        "attempt_id": record.attempt_id,
        "seller_id": record.seller_id,
        "buyer_id": record.buyer_id,
        "contract_id": record.contract_id,
        "reason": record.reason,
        "decision": record.decision,
        "rule": record.rule,
        "by": record.by,
        "credit_micros": record.credit_micros,
        "clawback_micros": record.clawback_micros,
        "currency": record.currency,
        "replayed": record.replayed,
        "took_ms": round(record.took_ms, 3),
    }


def _step(step: PostStep) -> dict[str, Any]:
    """A buyer's own words (`buyer_reason`) may quote the lead back at us: they stay in Postgres."""
    return {
        "contract_id": step.contract_id,
        "rank": step.rank,
        "attempt_id": step.attempt_id,
        "loss": Loss(step.loss).label,
        "delivery": None if step.delivery is None else Delivery(step.delivery).name.lower(),
        "took_ms": round(step.took_ms, 3),
    }


def _kind(value: object) -> str:
    """What orjson cannot say is named by its type: its text might say too much."""
    return type(value).__qualname__


def _without_message(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """An exception by its type and where it was raised."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["exception"] = type(error).__qualname__
        event["frames"] = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-8:]]
    return event


# --- the file -------------------------------------------------------------------------------------


def _opened(target: str) -> int:
    return os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _write_all(fd: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(fd, rest) :]
