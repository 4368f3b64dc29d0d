"""The truth is written before the answer, byte for byte, and survives a kill."""

import base64
import json
import signal
import socket

import pytest

from buyers_sim.buyer import Buyer, Request
from buyers_sim.truth import Truth

QUIET = {"latency": {"kind": "constant", "value": 0}}


def request(body: dict, path: str = "/b/ping") -> Request:
    return Request(
        method="POST", path=path, query={}, headers={}, head="", body=json.dumps(body).encode()
    )


def test_the_truth_stands_before_anything_is_answered(tmp_path, ping, post):
    buyer = Buyer("b", table=QUIET, seed=1, truth_dir=tmp_path)
    for decide, body in ((buyer.ping, ping()), (buyer.post, post())):
        plan = decide(request(body))
        last = json.loads((tmp_path / "b.jsonl").read_text().splitlines()[-1])
        assert last["reply"] == plan.body.decode()
    buyer.close()


def test_no_truth_means_no_answer(tmp_path, ping):
    buyer = Buyer("b", table=QUIET, seed=1, truth_dir=tmp_path)
    buyer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        buyer.ping(request(ping()))


def test_everything_received_is_kept_byte_for_byte(sim):
    body = b'{"ping_id": "odd \\u00e9 \xc3\xa9", "contract": "c", "vertical": "solar"}'
    sim.call("/good/ping", body, headers={"X-Odd": "caf\xe9"})
    event = Truth.read(sim.truth_dir).by_buyer["good"][-1]
    assert event.received().endswith(b"\r\n" + body)
    assert event.head.startswith("POST /good/ping\r\n")
    assert b"X-Odd: caf\xe9" in event.received()


def test_bytes_that_are_no_text_are_kept_too(sim):
    sim.call("/good/ping", b"\xff\xfe phone")
    event = sim.truth("good")[-1]
    assert base64.b64decode(event["body_base64"]) == b"\xff\xfe phone"


def test_a_request_broken_off_leaves_its_fragment(start, one_of_each):
    sim = start("--profile", str(one_of_each))
    with sim.connect() as raw:
        raw.sendall(b"POST /good/post HTTP/1.1\r\nContent-Length: 99\r\n\r\n+13105550142")
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1) == b""  # the simulator has given up on it
    (event,) = sim.truth("good")
    assert (event["kind"], event["body"]) == ("fragment", "+13105550142")


def test_kill_9_loses_nothing_answered_and_the_books_are_there_again(start, one_of_each, post):
    sim = start("--profile", str(one_of_each))
    for n in range(50):
        sim.call("/good/post", post(f"a{n}", f"l{n}"))
    sim.call("/rejecting/post", post("no", "no"))
    sim.kill()
    assert len(sim.truth("good")) == 50
    again = start("--profile", str(one_of_each))
    first = again.call("/good/status?attempt_id=a17", method="GET")
    assert first.json() == json.loads(sim.truth("good")[17]["reply"])
    assert again.call("/good/post", post("other", "l17")).json()["reason"] == "duplicate"
    rejected = again.call("/rejecting/status?attempt_id=no", method="GET")
    assert rejected.json() == json.loads(sim.truth("rejecting")[0]["reply"])


def test_a_torn_last_line_is_left_out_and_any_other_is_an_error(tmp_path):
    event = {"at": "2026-01-01T00:00:00Z", "buyer": "b", "kind": "ping"}
    line = json.dumps({**event, "accepted": False, "answered": "bid"}).encode()
    (tmp_path / "b.jsonl").write_bytes(line + b"\n" + line[:40])
    assert len(list(Truth.read(tmp_path).events())) == 1
    (tmp_path / "b.jsonl").write_bytes(line[:40] + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match="truncated"):
        Truth.read(tmp_path)


def test_a_buyer_starts_anew_after_a_torn_line(tmp_path, post):
    for n in range(2):
        buyer = Buyer("b", table=QUIET, seed=1, truth_dir=tmp_path)
        buyer.post(request(post(f"a{n}", f"l{n}")))
        buyer.close()
        with (tmp_path / "b.jsonl").open("ab") as file:
            file.write(b'{"at":"2026')
    assert list(Truth.read(tmp_path).accepted_leads()) == ["l0", "l1"]


def test_accepted_leads_count_an_attempt_once(tmp_path, post):
    buyer = Buyer("b", table=QUIET, seed=1, truth_dir=tmp_path)
    for attempt_id, lead_id in (("a1", "l1"), ("a1", "l1"), ("a2", "l1"), ("a3", "l3")):
        buyer.post(request(post(attempt_id, lead_id)))
    buyer.close()
    accepted = Truth.read(tmp_path).accepted_leads()
    assert {lead_id: [e.attempt_id for e in events] for lead_id, events in accepted.items()} == {
        "l1": ["a1"],
        "l3": ["a3"],
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(start, number):
    sim = start("--profile", "quiet")
    sim.process.send_signal(number)
    assert sim.process.wait(timeout=10) == 0
    sim.close()


def test_what_was_half_received_at_the_end_is_recorded_too(start, one_of_each):
    sim = start("--profile", str(one_of_each))
    with sim.connect() as raw:
        whole = b"POST /good/status HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
        half = b"POST /good/post HTTP/1.1\r\nContent-Length: 99\r\n\r\n+13105550142"
        raw.sendall(whole + half)
        assert raw.recv(100).startswith(b"HTTP/1.1 405")
        assert sim.close() == 0
    assert [event["body"] for event in sim.truth("good")] == ["+13105550142"]
