"""The house dialect: its golden cases (a folder each: `reply.http`, `outcome.json`), and that no
bytes and no contract make it raise.

    pytest tests/dialects --update-golden      writes the outcomes; read the diff
"""

import base64
import hashlib
import hmac
import json
from datetime import UTC, date, datetime
from pathlib import Path

import httptools
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.doubt import Reading
from exchange.core.model import Bid, Contract, Lead, Personal, Ping, PingConsent
from exchange.core.reasons import Delivery, NonBid
from exchange.core.terms import ContractTerms
from exchange.core.wire import HttpReply, NoReply, NoReplyKind
from exchange.dialects import json as dialect

GOLDEN = sorted((Path(__file__).parent / "json").glob("*/*/reply.http"))
AT_MS = 1_700_000_000_000


def contract(**more):
    return Contract(
        **{
            "id": 7,
            "key": "acme-auto",
            "buyer_id": 3,
            "vertical_id": 1,
            "terms": ContractTerms(buyer="acme", vertical="auto"),
            "price_micros": None,
            "bid_min_micros": 2_000_000,
            "bid_max_micros": 80_000_000,
            "caps": (),
            "time_zone": None,
            **more,
        }
    )


def reply_of(wire: bytes) -> HttpReply:
    """The reply as the engine would hand it over."""
    found = {"body": b"", "content_type": ""}

    class Reader:
        def on_header(self, name, value):
            if name.lower() == b"content-type":
                found["content_type"] = value.decode()

        def on_body(self, body):
            found["body"] += body

    parser = httptools.HttpResponseParser(Reader())
    head, _, body = wire.partition(b"\n\n")
    parser.feed_data(head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body.rstrip(b"\n"))
    return HttpReply(status=parser.get_status_code(), **found)


def outcome_of(folder: Path, reply: HttpReply):
    """What the dialect reads: the first folder says as what the reply is read."""
    if folder.parent.name == "bids":
        read = dialect.read_bid(contract(), reply, at_ms=AT_MS)
        return shown(read)
    if folder.parent.name == "fixed":
        return shown(dialect.read_bid(contract(price_micros=18_000_000), reply, at_ms=AT_MS))
    reader = {"posts": dialect.read_delivery, "statuses": dialect.read_status}[folder.parent.name]
    reading = reader(reply)
    return {**msgspec.to_builtins(reading), "delivery": reading.delivery.name.lower()}


def shown(read: Bid | NonBid):
    return {"non_bid": read.label} if isinstance(read, NonBid) else msgspec.to_builtins(read)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_golden_reply_is_read_as_its_outcome(path, request):
    outcome = outcome_of(path.parent, reply_of(path.read_bytes()))
    kept = path.with_name("outcome.json")
    if request.config.getoption("--update-golden", default=False):
        kept.write_text(json.dumps(outcome, indent=2) + "\n")
    assert outcome == json.loads(kept.read_text())


def test_there_are_golden_cases_of_every_kind():
    assert {path.parts[-3] for path in GOLDEN} == {"bids", "fixed", "posts", "statuses"}


# --- what goes out --------------------------------------------------------------------------------

PING = Ping(
    ping_id="0198c0de-0000-7000-8000-000000000001",
    seller_id=1,
    source_id=2,
    vertical_id=1,
    fields={"zip": "94110", "age": 42, "owner": True, "born": date(1980, 1, 2)},
    received_at=datetime(2026, 1, 2, tzinfo=UTC),
    tmax_ms=1500,
    floor_micros=9_000_000,
    sub_id="aff-7",
    external_id="x-1",
    consent=PingConsent(kind="tcpa", captured_at="2026-01-02T00:00:00Z", buyers=("acme",)),
)


def test_a_contract_that_is_told_the_floor_hears_the_least_price_that_can_win():
    parts = (
        dialect.ping_prefix("acme"),
        dialect.ping_floor(12_500_000),
        dialect.ping_shared(PING, vertical_key="auto", tmax_ms=1490),
    )
    said = json.loads(b"".join(parts))
    assert said["price_floor"] == "12.50"
    assert said["contract"] == "acme"
    assert said["ping_id"] == PING.ping_id


def test_a_ping_says_what_the_buyer_needs_and_nothing_of_the_seller():
    body = dialect.ping_prefix('acme "auto"') + dialect.ping_shared(
        PING, vertical_key="auto", tmax_ms=1490
    )
    assert json.loads(body) == {
        "contract": 'acme "auto"',
        "ping_id": PING.ping_id,
        "vertical": "auto",
        "tmax_ms": 1490,
        "exclusive": True,
        "fields": {"zip": "94110", "age": 42, "owner": True, "born": "1980-01-02"},
        "consent": {"kind": "tcpa", "captured_at": "2026-01-02T00:00:00Z"},
        "test": False,
    }


def lead():
    return Lead(
        lead_id=PING.ping_id,
        fields=Personal({"phone": "+14155550100", "zip": "94110"}),
        consent=Personal({"kind": "tcpa", "ip": "198.51.100.9"}),
    )


def posted(**more):
    return dialect.post_body(
        lead(),
        **{
            "attempt_id": "0198c0de-0000-7000-8000-00000000000a",
            "contract_key": "acme-auto",
            "buyer_ref": "r-1",
            "price_micros": 25_500_000,
            "custody": {"head": "ab", "events": 3},
            "test": False,
            **more,
        },
    )


def test_a_post_carries_the_record_the_price_and_the_buyers_own_reference():
    assert json.loads(posted()) == {
        "attempt_id": "0198c0de-0000-7000-8000-00000000000a",
        "lead_id": PING.ping_id,
        "ping_id": PING.ping_id,
        "contract": "acme-auto",
        "ref": "r-1",
        "price": "25.50",
        "lead": {"phone": "+14155550100", "zip": "94110"},
        "consent": {"kind": "tcpa", "ip": "198.51.100.9"},
        "custody": {"head": "ab", "events": 3},
        "test": False,
    }


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        (b"plain words", b"plain words"),
        (b"whsec_" + base64.b64encode(b"24 bytes or more of this"), b"24 bytes or more of this"),
        (b"whsec_not base64!", b"whsec_not base64!"),
    ],
)
def test_a_post_is_signed_as_a_standard_webhook(secret, key):
    body = posted()
    headers = dict(
        dialect.post_headers(attempt_id="msg_1", timestamp=1_700_000_000, body=body, secret=secret)
    )
    expected = hmac.new(key, b"msg_1.1700000000." + body, hashlib.sha256).digest()
    assert headers == {
        "Idempotency-Key": "msg_1",
        "webhook-id": "msg_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": "v1," + base64.b64encode(expected).decode(),
    }


def test_the_signature_is_the_one_of_the_standards_own_example():
    """From the test vectors of the Standard Webhooks libraries."""
    headers = dict(
        dialect.post_headers(
            attempt_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp=1614265330,
            body=b'{"test": 2432232314}',
            secret=b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_buyer_without_a_secret_gets_no_signature():
    headers = dialect.post_headers(attempt_id="a", timestamp=1, body=b"", secret=None)
    assert "webhook-signature" not in dict(headers)
    assert dict(headers)["Idempotency-Key"] == "a"


# --- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NoReplyKind)
@pytest.mark.parametrize("sent", [False, True])
def test_silence_after_the_first_byte_is_unknown_and_before_it_not_sent(kind, sent):
    reading = dialect.read_delivery(NoReply(kind=kind, sent=sent))
    assert reading.delivery is (Delivery.UNKNOWN if sent else Delivery.NOT_SENT)


@pytest.mark.parametrize("kind", NoReplyKind)
@pytest.mark.parametrize("sent", [False, True])
def test_not_being_able_to_ask_about_an_attempt_says_nothing_about_it(kind, sent):
    assert dialect.read_status(NoReply(kind=kind, sent=sent)) == Reading()


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals().map(str),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NEAR_BIDS = st.fixed_dictionaries(
    {},
    optional={
        "bid": ANY_JSON | st.decimals(allow_nan=False, allow_infinity=False).map(str),
        "no_bid": ANY_JSON,
        "ref": ANY_JSON,
        "expires_in_s": ANY_JSON | st.floats(allow_nan=False),
        "status": st.sampled_from(["accepted", "rejected", "queued"]) | ANY_JSON,
        "reason": ANY_JSON,
        "redirect_url": ANY_JSON,
    },
)
BODIES = st.binary() | (NEAR_BIDS | ANY_JSON).map(lambda value: json.dumps(value).encode())
CONTRACTS = st.sampled_from([contract(), contract(price_micros=18_000_000, bid_max_micros=None)])


@given(CONTRACTS, st.integers(0, 999), BODIES)
def test_any_bytes_are_a_bid_the_contract_allows_or_a_reason(one, status, body):
    read = dialect.read_bid(one, HttpReply(status=status, body=body), at_ms=AT_MS)
    if isinstance(read, Bid):
        assert 200 <= status <= 299
        assert one.bid_min_micros <= read.price_micros
        assert read.price_micros <= (one.bid_max_micros or read.price_micros)
        assert one.price_micros in (None, read.price_micros)
        assert read.expires_at_ms is None or read.expires_at_ms >= AT_MS
    else:
        assert isinstance(read, NonBid)


@given(st.integers(0, 999), BODIES)
def test_any_bytes_are_a_delivery_and_only_a_clear_word_ends_it(status, body):
    reply = HttpReply(status=status, body=body)
    reading = dialect.read_delivery(reply)
    assert isinstance(reading, Reading)
    if reading.delivery is Delivery.ACCEPTED:
        assert 200 <= status <= 299
        assert json.loads(body)["status"] == "accepted"
    if reading.delivery is Delivery.REJECTED:
        assert 200 <= status <= 299 or 400 <= status <= 499
        assert json.loads(body)["status"] == "rejected"
    if status == 404:
        assert dialect.read_status(reply).never_seen
    else:
        assert dialect.read_status(reply) == reading


@pytest.mark.parametrize(
    "body",
    [
        b'{"bid":' + b"[" * 30_000,
        b'{"x":' + b'{"a":' * 20_000,
        b"[" * 60_000,
        b'{"bid":' + b"9" * 60_000 + b"}",
        b'{"bid":"' + b"9" * 60_000 + b'"}',
        b'{"bid":1e999999999}',
        b'{"bid":"1e-999999999"}',
        b'{"bid":1,"ref":' + b"9" * 60_000 + b"}",
        b'{"bid":5,"expires_in_s":1e300}',
        b'{"bid":"\xff"}',
        b'{"bid":"\\ud800"}',
    ],
)
def test_bytes_made_to_hurt_a_parser_are_answered(body):
    reply = HttpReply(status=200, body=body)
    assert isinstance(dialect.read_bid(contract(), reply, at_ms=AT_MS), Bid | NonBid)
    assert dialect.read_delivery(reply).delivery is Delivery.UNKNOWN


def test_a_bid_of_more_digits_than_arithmetic_keeps_is_not_rounded_into_a_price():
    body = b'{"bid":25.' + b"0" * 30 + b"1}"
    assert dialect.read_bid(contract(), HttpReply(status=200, body=body)) is NonBid.INVALID_BID


@pytest.mark.parametrize("said", ["Call 415-555-0100", "jane@example.com", "a" * 65, "éa", "", 7])
def test_a_reason_that_is_no_code_is_kept_as_other(said):
    body = json.dumps({"status": "rejected", "reason": said}).encode()
    reading = dialect.read_delivery(HttpReply(status=200, body=body))
    assert (reading.delivery, reading.buyer_reason) == (Delivery.REJECTED, "other")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://a b", "https://x/\n", "//x", 5, "https://" + "a" * 2048]
)
def test_a_redirect_that_is_no_plain_address_is_dropped(url):
    body = json.dumps({"status": "accepted", "redirect_url": url}).encode()
    reading = dialect.read_delivery(HttpReply(status=200, body=body))
    assert reading == Reading(delivery=Delivery.ACCEPTED)


@pytest.mark.parametrize(
    ("ref", "kept"),
    [
        ("sale-77", "sale-77"),
        (2135552368, "2135552368"),  # bare digits are what buyers number their sales with
        ("2026-11-22/0042", "2026-11-22/0042"),
        ("ada@mail.example", None),
        ("+12135552368", None),
        ("lead (213) 555-2368", None),
    ],
)
def test_a_reference_that_repeats_the_consumer_is_dropped(ref, kept):
    for status in ("accepted", "rejected"):
        body = json.dumps({"status": status, "ref": ref}).encode()
        assert dialect.read_delivery(HttpReply(status=200, body=body)).buyer_ref == kept
