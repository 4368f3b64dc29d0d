"""Every behaviour of a simulated buyer, as a client sees it and as its truth has it."""

import http.client
import json
import time
from decimal import Decimal, InvalidOperation

import pytest

from buyers_sim.signing import signature

SECRET = "whsec_c2VjcmV0LW9mLXRoZS1zZWFsZWQtYnV5ZXI="


def test_a_good_buyer_bids_with_a_reference_and_says_its_delay(sim, ping):
    reply = sim.call("/good/ping", ping("fine"))
    assert reply.status == 200
    assert 10 <= Decimal(reply.json()["bid"]) <= 20
    assert reply.json()["ref"].startswith("c1~")
    assert reply.headers["X-Sim-Delay-Ms"] == "1.000"


def test_a_picky_buyer_says_no_by_204_or_by_a_code(sim, ping):
    replies = [sim.call("/picky/ping", ping(f"no-{n}")) for n in range(40)]
    assert {reply.status for reply in replies} == {200, 204}
    codes = {reply.json()["no_bid"] for reply in replies if reply.status == 200}
    assert codes == {0, 301, 302}


def test_a_vertical_without_bids_gets_no_bid(sim, ping):
    reply = sim.call("/good/ping", ping("boats", vertical="boats"))
    assert reply.status == 204 or "no_bid" in reply.json()


@pytest.mark.parametrize(
    ("buyer", "raised", "word"),
    [
        ("hanging", TimeoutError, "hung"),
        ("resetting", ConnectionResetError, "reset"),
    ],
)
def test_a_ping_that_gets_no_answer(sim, ping, buyer, raised, word):
    with pytest.raises(raised):
        sim.call(f"/{buyer}/ping", ping("lost"), timeout=0.15)
    assert sim.truth(buyer)[-1]["answered"] == word


def test_a_reset_is_a_reset_over_tls_too(sim, ping):
    with pytest.raises((ConnectionResetError, OSError)):
        sim.call("/resetting/ping", ping("tls"), base="https", timeout=2)


def test_a_dripped_answer_comes_byte_by_byte(sim, ping):
    with sim.connect() as raw:
        body = json.dumps(ping("drip")).encode()
        raw.sendall(b"POST /dripping/ping HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
        raw.sendall(body)
        first = raw.recv(65_536)
        answer = first
        while b"}" not in answer:
            answer += raw.recv(65_536)
    assert len(first) < 20
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["bid"]


def test_a_failing_buyer_answers_5xx(sim, ping):
    statuses = {sim.call("/failing/ping", ping(f"e{n}")).status for n in range(30)}
    assert statuses == {500, 502, 503}


def test_a_flooding_buyer_answers_more_than_anyone_reads(sim, ping):
    reply = sim.call("/flooding/ping", ping("flood"))
    assert len(reply.body) > 262_144
    assert reply.json()["bid"]


def test_a_late_bid_comes_after_tmax(sim, ping):
    start = time.monotonic()
    reply = sim.call("/late/ping", ping("late", tmax_ms=60))
    assert time.monotonic() - start >= 0.09
    assert reply.headers["X-Sim-Delay-Ms"] == "90.000"
    assert reply.json()["bid"]


def test_no_malformed_answer_to_a_ping_reads_as_a_bid(sim, ping):
    for n in range(150):
        try:
            reply = sim.call("/babbling/ping", ping(f"m{n}"))
            answer = reply.json() if reply.status == 200 else None
            bid = answer.get("bid") if isinstance(answer, dict) else None
            price = Decimal(bid) if isinstance(bid, str) else Decimal(-1)
        except (http.client.HTTPException, ValueError, RecursionError, InvalidOperation):
            continue
        assert price < 0, reply
    words = {event["answered"] for event in sim.truth("babbling")}
    assert len(words) == 15  # every variant was met
    assert all(word.startswith("malformed:") for word in words)


@pytest.mark.parametrize(
    ("buyer", "raised", "status", "word", "books"),
    [
        ("good", None, 200, "accepted", "accepted"),
        ("rejecting", None, 200, "rejected", "rejected"),
        ("post_hanging", TimeoutError, 0, "hung", None),
        ("post_resetting", ConnectionResetError, 0, "reset", None),
        ("post_failing", None, 503, "error", None),
        ("accept_resetting", ConnectionResetError, 0, "accepted_then_reset", "accepted"),
        ("accept_hanging", TimeoutError, 0, "accepted_then_hung", "accepted"),
        ("accept_failing", None, 500, "accepted_then_error", "accepted"),
        ("accept_late", TimeoutError, 200, "accepted_late", "accepted"),
        ("post_flooding", None, 200, "accepted:oversized", "accepted"),
        ("post_dripping", None, 200, "accepted:drip", "accepted"),
    ],
)
def test_a_post_and_what_the_books_say_afterwards(sim, post, buyer, raised, status, word, books):
    timeout = 0.1 if raised is TimeoutError else 5
    body = post("books", "books")
    if raised is not None:
        with pytest.raises(raised):
            sim.call(f"/{buyer}/post", body, timeout=timeout)
    else:
        assert sim.call(f"/{buyer}/post", body).status // 100 == status // 100
    event = sim.truth(buyer)[-1]
    assert (event["answered"], event["accepted"]) == (word, books == "accepted")
    found = sim.call(f"/{buyer}/status?attempt_id=books", method="GET")
    assert found.status == (200 if books else 404)
    assert books is None or found.json()["status"] == books


def test_a_malformed_answer_to_a_post_hides_a_booked_verdict(sim, post):
    for n in range(60):
        try:
            reply = sim.call("/post_babbling/post", post(f"m{n}", f"m{n}"))
            answer = reply.json() if reply.status == 200 else None
            status = answer.get("status") if isinstance(answer, dict) else None
        except (http.client.HTTPException, ValueError, RecursionError):
            status = None
        assert status not in ("accepted", "rejected")
        found = sim.call(f"/post_babbling/status?attempt_id=m{n}", method="GET")
        assert found.json()["status"] == "accepted"


def test_an_answer_after_the_deadline_is_still_given(sim, post):
    reply = sim.call("/accept_late/post", post("later", "later"), timeout=2)
    assert reply.json()["status"] == "accepted"
    assert reply.headers["X-Sim-Delay-Ms"] == "120.000"


def test_a_repost_of_an_attempt_gets_the_same_answer(sim, post):
    body = post("again", "again")
    first, second = (sim.call("/good/post", body).json() for _ in range(2))
    assert first == second
    assert [event.get("repeat", False) for event in sim.truth("good")[-2:]] == [False, True]


@pytest.mark.parametrize("buyer", ["accept_resetting", "post_resetting"])
def test_a_fault_strikes_the_first_post_of_an_attempt_only(sim, post, buyer):
    with pytest.raises(ConnectionResetError):
        sim.call(f"/{buyer}/post", post("twice", "twice"))
    assert sim.call(f"/{buyer}/post", post("twice", "twice")).json()["status"] == "accepted"


def test_a_stubborn_buyer_repeats_its_fault(sim, post):
    for _ in range(2):
        with pytest.raises(TimeoutError):
            sim.call("/stubborn/post", post(), timeout=0.1)


def test_a_second_attempt_for_a_lead_is_a_duplicate(sim, post):
    assert sim.call("/good/post", post("d1", "dup")).json()["status"] == "accepted"
    second = sim.call("/good/post", post("d2", "dup"))
    assert second.json() == {"status": "rejected", "reason": "duplicate"}
    assert sim.truth("good")[-1]["accepted"] is False


def test_a_forgetful_buyer_calls_a_repost_of_what_it_has_a_duplicate(sim, post):
    sim.call("/forgetful/post", post())
    assert sim.call("/forgetful/post", post()).json()["reason"] == "duplicate"
    assert sim.truth("forgetful")[-1]["accepted"] is True


def test_a_buyer_without_a_status_endpoint_never_says_never_seen(sim):
    assert sim.call("/silent/status?attempt_id=x", method="GET").status == 501


def signed(body: bytes, *, secret: str = SECRET, at: int | None = None) -> dict[str, str]:
    timestamp = str(at or int(time.time()))
    return {
        "webhook-id": "sig",
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1,AAAA " + signature("sig", timestamp, body, secret=secret),
    }


@pytest.mark.parametrize(
    ("headers", "status", "verdict"),
    [
        (lambda body: signed(body), 200, "ok"),
        (lambda body: signed(body + b" "), 401, "bad"),
        (lambda body: signed(body, secret="whsec_b3RoZXI="), 401, "bad"),
        (lambda body: signed(body, at=1_000_000), 401, "bad"),
        (lambda body: {}, 401, "missing"),
    ],
)
def test_a_buyer_with_a_secret_takes_only_signed_posts(sim, post, headers, status, verdict):
    body = json.dumps(post("sig", f"sig-{verdict}")).encode()
    assert sim.call("/sealed/post", body, headers=headers(body)).status == status
    event = sim.truth("sealed")[-1]
    assert event["signature"] == verdict
    assert event["accepted"] is (status == 200) or event.get("repeat", False)


def test_the_reference_signature_of_the_standard_verifies():
    """The example of the Standard Webhooks libraries."""
    assert (
        signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            b'{"test": 2432232314}',
            secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize(
    ("path", "body", "method", "status"),
    [
        ("/good/ping", b"{", "POST", 400),
        ("/good/ping", {"ping_id": 7}, "POST", 400),
        ("/good/post", {"attempt_id": "a"}, "POST", 400),
        ("/nobody/ping", {}, "POST", 404),
        ("/good/else", {}, "POST", 404),
        ("/good/ping", None, "GET", 405),
        ("/good/post", b"x" * 1_100_000, "POST", 413),
    ],
)
def test_what_does_not_read_is_refused(sim, path, body, method, status):
    assert sim.call(path, body, method=method).status == status


def test_what_is_not_http_is_refused(sim):
    with sim.connect() as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_requests_on_one_connection_are_answered_in_turn(sim, ping):
    with sim.connect() as raw:
        for name in ("turn-1", "turn-2"):
            body = json.dumps(ping(name)).encode()
            head = b"POST /good/ping HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            raw.sendall(head + body)
        answers = b""
        while answers.count(b"}") < 2:
            answers += raw.recv(65_536)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
