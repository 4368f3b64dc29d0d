"""The exchange and the simulated buyers read the house dialect independently, and agree."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from buyers_sim import plans, profile
from buyers_sim.answers import MALFORMED_PINGS, MALFORMED_POSTS, Plan
from buyers_sim.buyer import Buyer, Request
from exchange.core.model import Bid, Contract, Lead, Personal, Ping
from exchange.core.reasons import Delivery, NonBid
from exchange.core.terms import ContractTerms
from exchange.core.wire import HttpReply
from exchange.dialects import json as dialect

SECRET = "whsec_c2VjcmV0LW9mLXRoZS1zZWFsZWQtYnV5ZXI="
CONTRACT = Contract(
    id=3,
    key="acme-solar",
    buyer_id=2,
    vertical_id=1,
    terms=ContractTerms(buyer="acme", vertical="solar"),
    price_micros=None,
    bid_min_micros=0,
    bid_max_micros=None,
    caps=(),
    time_zone=None,
)
PING = Ping(
    ping_id="01920000-0000-7000-8000-000000000001",
    seller_id=5,
    source_id=6,
    vertical_id=1,
    fields={"state": "CA"},
    received_at=datetime(2026, 1, 5, tzinfo=UTC),
    tmax_ms=500,
)


@pytest.fixture
def buyer(tmp_path):
    table = {"latency": {"kind": "constant", "value": 0}, "secret": SECRET}
    playing = Buyer("acme", table=table, seed=1, truth_dir=tmp_path)
    yield playing
    playing.close()


def request(body: bytes, headers: tuple[tuple[str, str], ...] = (), **query: str) -> Request:
    lower = {name.lower(): value for name, value in headers}
    return Request(method="POST", path="/", query=query, headers=lower, head="", body=body)


def reply(plan: Plan) -> HttpReply:
    return HttpReply(status=plan.http, body=plan.body)


def posted(buyer: Buyer, attempt_id: str) -> Plan:
    lead = Lead(
        lead_id=PING.ping_id,
        fields=Personal({"phone": "+13105550142"}),
        consent=Personal({"text": "yes"}),
    )
    body = dialect.post_body(
        lead,
        attempt_id=attempt_id,
        contract_key=CONTRACT.key,
        buyer_ref="acme-solar~1",
        price_micros=12_500_000,
        custody={},
        test=False,
    )
    headers = dialect.post_headers(
        attempt_id=attempt_id, timestamp=int(time.time()), body=body, secret=SECRET.encode()
    )
    return buyer.post(request(body, headers))


def test_a_ping_of_the_exchange_gets_a_bid_that_the_exchange_reads(buyer):
    shared = dialect.ping_shared(PING, vertical_key="solar", tmax_ms=490)
    plan = buyer.ping(request(dialect.ping_prefix(CONTRACT.key) + shared))
    bid = dialect.read_bid(CONTRACT, reply(plan))
    assert isinstance(bid, Bid)
    assert f"{bid.price_micros / 1e6:.2f}" == json.loads(plan.body)["bid"]
    assert bid.buyer_ref == json.loads(plan.body)["ref"]


@pytest.mark.parametrize("plan", MALFORMED_PINGS, ids=lambda plan: plan.answered)
def test_no_malformed_answer_is_a_bid(plan):
    assert isinstance(dialect.read_bid(CONTRACT, reply(plan)), NonBid)


@pytest.mark.parametrize("plan", MALFORMED_POSTS, ids=lambda plan: plan.answered)
def test_no_malformed_answer_ends_a_post(plan):
    assert dialect.read_delivery(reply(plan)).delivery is Delivery.UNKNOWN


def test_a_signed_post_is_accepted_once_and_its_status_says_so(buyer):
    first = dialect.read_delivery(reply(posted(buyer, "attempt-1")))
    assert first.delivery is Delivery.ACCEPTED
    again = buyer.status(request(b"", (), attempt_id="attempt-1"))
    assert dialect.read_status(reply(again)) == first
    second = dialect.read_delivery(reply(posted(buyer, "attempt-2")))
    assert (second.delivery, second.buyer_reason) == (Delivery.REJECTED, "duplicate")


def test_an_attempt_never_seen_reads_as_never_seen(buyer):
    plan = buyer.status(request(b"", (), attempt_id="unheard-of"))
    assert dialect.read_status(reply(plan)).never_seen


def test_a_refused_signature_and_a_missing_status_end_nothing(buyer):
    body: dict[str, Any] = {"attempt_id": "a", "lead_id": "l", "price": "1", "lead": {}}
    refused = buyer.post(request(json.dumps(body).encode()))
    assert refused.http == 401
    assert dialect.read_delivery(reply(refused)).delivery is Delivery.UNKNOWN
    buyer.change({"status": False})
    silent = dialect.read_status(reply(buyer.status(request(b"", (), attempt_id="a"))))
    assert (silent.delivery, silent.never_seen) == (Delivery.UNKNOWN, False)


def test_every_reason_for_a_rejection_is_read_as_the_buyer_wrote_it():
    for reason in profile.PostFaults().reasons:
        given = plans.rejection("l", reason)
        read = dialect.read_delivery(HttpReply(status=200, body=given.body))
        assert (read.delivery, read.buyer_reason) == (Delivery.REJECTED, reason)
