"""Traces made from records, heard by a collector of the test's own."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchange.core.reasons import NonBid, Reason
from exchange.effects.traces import Traces
from tests.effects.test_metrics import PING, ping_record, post_record

ENDED_MS = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp() * 1000)


class Collector(ThreadingHTTPServer):
    """Keeps what it is sent; answers `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hears)
        self.status, self.bodies = 200, list[bytes]()
        self.url = f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for body in self.bodies
            for resource in json.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


class Hears(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def traces(url: str, **settings: Any) -> Traces:
    """Sends only when it is closed."""
    given = {"share": 1.0, "queue_max": 100, "gather_s": 60.0, **settings}
    return Traces(url=url, worker="w", party=lambda i: f"buyer-{i}", **given)


def about(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_a_ping_and_its_post_are_one_trace_named_by_the_lead(collector: Collector) -> None:
    sending = traces(collector.url)
    sending.pings([ping_record()])
    sending.post(post_record(), ended_ms=ENDED_MS)
    sending.close()
    spans = collector.spans()
    assert {span["traceId"] for span in spans} == {PING.ping_id.replace("-", "")}
    assert len({span["spanId"] for span in spans}) == len(spans)
    by_id = {span["spanId"]: span["name"] for span in spans}
    tree = {span["name"]: by_id.get(span.get("parentSpanId", "")) for span in spans}
    assert tree == {
        "ping": None,
        "ask buyer-21": "ping",
        "ask buyer-22": "ping",
        "post": "ping",
        "try buyer-21": "post",
        "try buyer-22": "post",
    }
    named = {span["name"]: span for span in spans}
    ping, asked = named["ping"], named["ask buyer-22"]
    assert int(ping["endTimeUnixNano"]) - int(ping["startTimeUnixNano"]) == 41_000_000
    assert int(named["post"]["endTimeUnixNano"]) == ENDED_MS * 1_000_000
    assert about(asked)["exchange.answer"] == "timeout"
    assert asked["status"] == {"code": 2}
    assert "status" not in ping


def test_the_auction_of_a_direct_lead_lies_within_its_post(collector: Collector) -> None:
    sending = traces(collector.url)
    sending.pings([ping_record(ping=msgspec.structs.replace(PING, direct=True))])
    sending.post(post_record(direct=True), ended_ms=ENDED_MS)
    sending.close()
    named = {span["name"]: span for span in collector.spans()}
    assert named["ping"]["parentSpanId"] == named["post"]["spanId"]
    assert "parentSpanId" not in named["post"]


def test_the_share_is_of_leads_and_late_pings_and_doubts_are_always_kept(
    collector: Collector,
) -> None:
    sending = traces(collector.url, share=0.0)
    sending.pings([ping_record(), ping_record(late_ms=1.0)])
    sending.post(post_record(), ended_ms=ENDED_MS)
    sending.post(post_record(reason=Reason.IN_DOUBT, status="pending"), ended_ms=ENDED_MS)
    sending.post(post_record(reason=Reason.IN_DOUBT, replayed=True), ended_ms=ENDED_MS)
    assert sending.queued == 2
    sending.close()
    assert [span["name"] for span in collector.spans() if span["name"] in ("ping", "post")] == [
        "ping",
        "post",
    ]


def test_nothing_that_a_seller_or_buyer_wrote_is_told(collector: Collector) -> None:
    sending = traces(collector.url)
    ping = msgspec.structs.replace(
        PING, fields={"zip": "canary-zip"}, sub_id="canary-sub", external_id="canary-id"
    )
    sending.pings([ping_record(ping=ping)])
    [lost, won] = post_record().steps
    said = msgspec.structs.replace(lost, buyer_reason="canary-words")
    sending.post(post_record(steps=(said, won)), ended_ms=ENDED_MS)
    sending.close()
    assert collector.bodies
    assert b"canary" not in b"".join(collector.bodies)


@pytest.mark.parametrize("trouble", ["full", "refused", "away"])
def test_what_cannot_be_sent_is_dropped_and_counted(collector: Collector, trouble: str) -> None:
    collector.status = 503 if trouble == "refused" else 200
    url = "http://127.0.0.1:1/v1/traces" if trouble == "away" else collector.url
    sending = traces(url, queue_max=1 if trouble == "full" else 100)
    sending.pings([ping_record(), ping_record()])
    sending.close()
    assert sending.dropped == (1 if trouble == "full" else 2)


def test_every_answer_and_every_end_makes_a_span(collector: Collector) -> None:
    sending = traces(collector.url, queue_max=1_000)
    answer = ping_record().answers[0]
    for code in (None, *NonBid):
        one = msgspec.structs.replace(answer, non_bid=code)
        sending.pings([ping_record(answers=(one,), outcome="no_offer", reason=Reason.NO_BIDS)])
    sending.close()
    told = {about(span).get("exchange.answer") for span in collector.spans()}
    assert told == {None, "bid", *(code.label for code in NonBid)}


def test_without_a_collector_named_nothing_of_it_is_even_imported() -> None:
    code = "import sys, exchange.app.worker; sys.exit('exchange.effects.traces' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
