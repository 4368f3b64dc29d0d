"""The search for leaks finds every form of every canary at whoever should not have it, and nothing
else."""

import base64
import hashlib
import json
import urllib.parse
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buyers_sim.events import Event
from buyers_sim.forms import forms
from buyers_sim.truth import Truth

AT = datetime(2026, 1, 5, tzinfo=UTC)
PHONE = "+1 (310) 555-0142"
EMAIL = "Zoë.O'Neil+7@canary.example"
NAME = 'Anne "Anni" Müller/Smith'


def event(received: str | bytes, kind: str = "ping", **more: str) -> Event:
    raw = received if isinstance(received, bytes) else received.encode()
    body = {"body_base64": base64.b64encode(raw).decode()}
    return Event(at=AT, buyer="b", kind=kind, accepted=False, answered="bid", **{**body, **more})


def found(received: str | bytes | Event, canary: str, **winners: set[str]) -> list[str]:
    """The forms in which `canary` of the lead `l` is found at the buyer `b`."""
    one = received if isinstance(received, Event) else event(received)
    truth = Truth({"b": [event("nothing here"), one, event("nor here")]})
    return [leak.form for leak in truth.leaks({"l": [canary]}, winners).leaks]


def written(canary: str) -> dict[str, str]:
    """How a leak might write a canary; independent of the search's own list."""
    ways = {"plain": canary, "lower": canary.lower()}
    if canary == PHONE:
        ways |= {"digits": "3105550142", "with 1": "13105550142", "e164": "+13105550142"}
    return ways


def encodings(text: str) -> dict[str, str]:
    raw = text.encode()
    ways = {
        "as it is": text,
        "url": urllib.parse.quote(text, safe=""),
        "url, slashes kept": urllib.parse.quote(text),
        "url, lower hex": urllib.parse.quote(text, safe="").lower(),
        "form": urllib.parse.quote_plus(text),
        "url, every byte": "".join(f"%{byte:02X}" for byte in raw),
        "json": json.dumps(text)[1:-1],
        "json, utf-8": json.dumps(text, ensure_ascii=False)[1:-1],
        "json, slash escaped": json.dumps(text)[1:-1].replace("/", "\\/"),
        "json, all escaped": "".join(f"\\u{ord(letter):04X}" for letter in text),
    }
    for before in ("", "x", "xy"):
        inside = f"{before}{text}&more".encode()
        ways[f"base64 after {len(before)}"] = base64.b64encode(inside).decode()
        ways[f"base64 url after {len(before)}"] = base64.urlsafe_b64encode(inside).decode()
    for name in ("md5", "sha1", "sha256"):
        digest = hashlib.new(name, raw)
        ways[f"{name}"] = digest.hexdigest()
        ways[f"{name} upper"] = digest.hexdigest().upper()
        ways[f"{name} base64"] = base64.b64encode(digest.digest()).decode()
        ways[f"{name} base64 url"] = base64.urlsafe_b64encode(digest.digest()).decode()
    return ways


CASES = [
    pytest.param(canary, text, id=f"{kind}-{way}-{how}")
    for kind, canary in (("phone", PHONE), ("email", EMAIL), ("name", NAME))
    for way, variant in written(canary).items()
    for how, text in encodings(variant).items()
]


@pytest.mark.parametrize(("canary", "text"), CASES)
def test_every_form_is_found_at_a_loser_wherever_it_stands(canary, text):
    for padding in range(9):
        assert found("." * padding + text + "&" * (8 - padding), canary)


def test_upper_case_hides_nothing():
    assert found("CANARY.SEVEN@EXAMPLE.COM", "canary.seven@example.com") == ["plain"]


@pytest.mark.parametrize("place", ["head", "body", "body_base64"])
def test_a_leak_is_found_in_headers_and_bodies_of_any_kind(place):
    text = base64.b64encode(b"3105550142").decode() if place == "body_base64" else "3105550142"
    for kind in ("ping", "post", "status", "fragment"):
        assert found(event("", kind, **{"body_base64": "", place: text}), PHONE) == ["digits"]


def test_a_winner_may_have_it_in_a_post_and_nowhere_else():
    assert found(event(PHONE, "post"), PHONE, l={"b"}) == []
    assert found(event(PHONE, "ping"), PHONE, l={"b"}) == ["plain"]
    assert found(event(PHONE, "post"), PHONE, l={"other"}) == ["plain"]


def test_one_consumer_of_two_leads_may_be_at_the_winner_of_either():
    truth = Truth({"a": [event("3105550142", "post")], "b": [event(PHONE, "post")]})
    canaries = {"l1": [PHONE], "l2": ["310-555-0142"]}
    assert truth.leaks(canaries, {"l1": {"a"}, "l2": {"b"}}).leaks == ()
    (leak,) = truth.leaks(canaries, {"l1": {"a"}}).leaks
    assert leak.buyer == "b"


def test_a_leak_names_the_place_and_never_the_value():
    one = event(PHONE, ping_id="p9")
    (leak,) = Truth({"b": [event("-"), one]}).leaks({"l": [EMAIL, PHONE]}, {}).leaks
    assert (leak.buyer, leak.lead_id, leak.canary, leak.event) == ("b", "l", 1, one)
    assert "p9" in str(leak)
    assert "310" not in str(leak)


def test_each_event_with_a_leak_is_told_once():
    assert len(found(f"{PHONE} 3105550142 {PHONE}", PHONE)) == 1
    truth = Truth({"b": [event(PHONE), event("-"), event(PHONE)]})
    assert len(truth.leaks({"l": [PHONE]}, {}).leaks) == 2


def test_near_misses_are_no_leaks():
    near = ("3105550143", "310555014", "canary.example", "Anne", "0142", "310 555 0142")
    for canary in (PHONE, EMAIL, NAME):
        assert found(" ".join(near), canary) == []


def test_a_canary_that_would_be_found_by_chance_is_refused():
    with pytest.raises(ValueError, match="by chance"):
        found("", "Smith")


@given(st.text(min_size=4, max_size=30), st.binary(max_size=9), st.binary(max_size=9))
def test_any_text_is_found_in_any_of_its_forms(text, before, after):
    if len(text.encode("utf-8", "replace")) < 8:
        text += "-canary-"
    for _, needle, _ in forms(text):
        assert found(before + needle + after, text)


def test_a_big_clean_run_has_no_leaks_and_one_planted_is_found():
    """Two thousand consumers, all at their winners, and one at a loser too."""
    canaries: dict[str, list[str]] = {}
    winners: dict[str, set[str]] = {}
    events: dict[str, list[Event]] = {name: [] for name in "abcd"}
    for n in range(2_000):
        token = hashlib.sha256(str(n).encode()).hexdigest()
        canaries[token] = [f"+1310{n:07d}", f"{token[:12]}@canary.example"]
        winners[token] = {"abcd"[n % 4]}
        events["abcd"[n % 4]].append(event(json.dumps(canaries[token]), "post"))
        for name in "abcd":
            body = json.dumps({"ping_id": token[::-1], "zip": "90210", "contract": name})
            events[name].append(event(body))
    clean = Truth(events).leaks(canaries, winners)
    assert (clean.leaks, clean.canaries) == ((), 4_000)
    planted = hashlib.sha1(b"13100001234", usedforsecurity=False).hexdigest().upper()
    events["d"].append(event(planted))
    (leak,) = Truth(events).leaks(canaries, winners).leaks
    assert leak.lead_id == list(canaries)[1_234]
