"""Each kind of lead, against an exchange that answers rightly and against one that does not."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.load import market as markets
from loadtest.load.mix import SHARES, Mix
from loadtest.load.replies import Judged, Reply
from loadtest.load.sellers import Call, Sellers

MARKET = markets.read(Path(__file__).parents[2] / "examples" / "market.toml")
KEYS = {"brightleads": "ex_live_a_b", "homequote": "ex_live_c_d", "ratewise": "ex_live_e_f"}
SEED = 7


def reply(status: int, body: Any) -> Reply:
    return Reply(status=status, body=msgspec.json.encode(body))


def problem(status: int, title: str, *fields: str) -> Reply:
    errors = [{"field": field, "message": "m", "hint": "h"} for field in fields]
    return reply(status, {"status": status, "title": title, "errors": errors})


class RightExchange:
    """Answers as the real one does, as far as the mix goes; and is the wire as well."""

    def __init__(self) -> None:
        self.time, self.calls = 0.0, list[tuple[Call, Judged]]()
        self._pings: dict[str, dict[str, Any]] = {}
        self._leads: dict[str, tuple[str, dict[str, Any]]] = {}
        self._sold: set[str] = set()

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def ask(self, call: Call, judge: Callable[[Reply], Judged]) -> Reply:
        answer = self.answer(call)
        self.calls.append((call, judge(answer)))
        return answer

    def answer(self, call: Call) -> Reply:
        if "nobody" in call.headers["Authorization"]:
            return problem(401, "No valid key")
        if call.method == "GET":
            lead = self._leads.get(call.path.rpartition("/")[2])
            return reply(200, lead[1]) if lead else problem(404, "Not found")
        try:
            body = json.loads(call.body or b"")
        except ValueError:
            return problem(400, "Body is not JSON", "body")
        return self._ping(body) if call.path == "/v1/ping" else self._sale(call, body)

    def _ping(self, body: dict[str, Any]) -> Reply:
        fields = MARKET.verticals[body["vertical"]].fields
        sources = {name: one for s in MARKET.sellers.values() for name, one in s.terms().items()}
        gate = sources[body["source"]].gate
        dropped = []
        for name, value in body["fields"].items():
            if name not in fields and gate != "watch":
                return problem(422, "Request not valid", name)
            if name in fields and isinstance(value, list):
                return problem(422, "Request not valid", name)
            if name not in fields or fields[name].personal:
                dropped.append(name)
        if dropped and gate == "refuse":
            return problem(422, "personal_data_in_ping", *dropped)
        for name, field in fields.items():
            if field.required and field.ping is True and name not in body["fields"]:
                return problem(422, "Request not valid", name)
        told = {"status": "no_offer", "reason": {"name": "no_contract"}, "dropped": dropped}
        if not body.get("test"):
            ping_id = f"ping-{len(self._pings)}"
            self._pings[ping_id] = body
            told = {"status": "offer", "payout": "20.00", "offers": [{"offer_id": ping_id}]}
            told |= {"ping_id": ping_id} | ({"dropped": dropped} if dropped else {})
        return reply(200, told)

    def _sale(self, call: Call, body: dict[str, Any]) -> Reply:
        key = call.headers["Idempotency-Key"]
        for known, told in self._leads.values():
            if known == key:
                return reply(200, told)
        pinged = self._pings.get(body.get("ping_id", ""), {}).get("fields", {})
        if wrong := [name for name, value in pinged.items() if body["lead"].get(name) != value]:
            return problem(422, "ping_mismatch", *(f"lead.{name}" for name in wrong))
        lead_id = body.get("ping_id") or f"lead-{len(self._leads)}"
        told = {"lead_id": lead_id, "status": "rejected", "reason": {"name": "consent_missing"}}
        if "consent" in body:
            told = {"lead_id": lead_id, "status": "duplicate", "reason": {"name": "duplicate"}}
            if body["lead"]["phone"] not in self._sold:
                told = {"lead_id": lead_id, "status": "sold", "payout": "20.00"}
                self._sold.add(body["lead"]["phone"])
                self._leads[lead_id] = (key, told)
        return reply(200, told)


def sold_to(exchange: RightExchange, leads: int = 600) -> list[tuple[Call, Judged]]:
    sellers = Sellers(wire=exchange, market=MARKET, keys=KEYS, seed=SEED, fresh=True)
    for number in range(1, leads + 1):
        sellers.lead(number, exchange.now())
    return exchange.calls


def test_an_exchange_that_is_right_is_found_right() -> None:
    calls = sold_to(RightExchange())
    assert [judged for _, judged in calls if judged.word != "expected"] == []
    assert {call.kind for call, _ in calls} == set(SHARES)
    words = Counter(judged.what for _, judged in calls)
    for what in ("offer", "sold", "duplicate", "retry", "consent_missing", "422 ping_mismatch"):
        assert words[what] > 0, words


def test_only_the_first_request_of_a_lead_has_a_place_in_the_schedule() -> None:
    calls = sold_to(RightExchange())
    assert sum(call.first for call, _ in calls) == 600
    assert all(call.tmax_ms > 0 for call, _ in calls if call.name == "ping")


def test_what_follows_is_due_when_the_seller_has_thought() -> None:
    for call, _ in sold_to(exchange := RightExchange()):
        assert call.due <= exchange.now()
    posts = [call for call, _ in exchange.calls if call.name == "post"]
    assert posts == sorted(posts, key=lambda call: call.due)


class WrongExchange(RightExchange):
    """Right but for one kind of lead, to which it says the same to everything."""

    def __init__(self, kind: str, said: Reply, call: str | None = None) -> None:
        super().__init__()
        self._kind, self._said, self._call = kind, said, call

    def answer(self, call: Call) -> Reply:
        right = super().answer(call)
        return (
            self._said if (call.kind, call.name) == (self._kind, self._call or call.name) else right
        )


OFFER = {"status": "offer", "payout": "20.00", "offers": [{"offer_id": "x"}], "ping_id": "x"}
SOLD = {"lead_id": "x", "status": "sold", "payout": "20.00"}
BREACHES: dict[str, tuple[str, str, Reply]] = {
    "a bug": ("two_step", "ping", problem(500, "Internal error")),
    "an offer below the floor": ("two_step", "ping", reply(200, OFFER | {"payout": "0.01"})),
    "no offer, no reason": ("two_step", "ping", reply(200, {"status": "no_offer"})),
    "less than was promised": ("two_step", "post", reply(200, SOLD | {"payout": "0.01"})),
    "a new consumer as a duplicate": (
        "direct",
        "direct",
        reply(200, SOLD | {"status": "duplicate"}),
    ),
    "a consumer sold again": ("again", "post", reply(200, SOLD)),
    "half a body as a ping": ("malformed", "ping", reply(200, OFFER)),
    "a wrong type as a ping": ("wrong_type", "ping", reply(200, OFFER)),
    "a wrong field named": ("missing", "ping", problem(422, "Request not valid", "nose")),
    "personal data let through": ("personal", "ping", reply(200, OFFER)),
    "a post that contradicts": ("contradicts", "post", reply(200, SOLD)),
    "a lead without consent sold": ("no_consent", "post", reply(200, SOLD)),
    "a stranger let in": ("stranger", "ping", reply(200, OFFER)),
    "a lead there never was": ("lost_lead", "lead", reply(200, SOLD)),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_an_answer_that_does_not_fit_is_caught(breach: str) -> None:
    kind, call, said = BREACHES[breach]
    calls = sold_to(WrongExchange(kind, said, call))
    wrong = [one for one, judged in calls if judged.word == "wrong"]
    assert wrong, breach
    assert {one.kind for one in wrong} == {kind}


class TwiceSellingExchange(RightExchange):
    """Forgets the keys it has seen, so every post is a sale of its own."""

    def answer(self, call: Call) -> Reply:
        self._leads.clear()
        self._sold.clear()
        right = super().answer(call)
        sale = {"sales": [{"sale_id": f"sale {len(self.calls)}"}]}
        return reply(right.status, right.document() | sale)


def test_a_retry_that_is_sold_anew_is_caught() -> None:
    exchange = TwiceSellingExchange()
    retries = [n for n in range(1, 200) if Mix(MARKET, tuple(KEYS), SEED).lead(n).kind == "retry"]
    sellers = Sellers(wire=exchange, market=MARKET, keys=KEYS, seed=SEED, fresh=True)
    for number in retries:
        sellers.lead(number, 0.0)
    words = [judged.word for call, judged in exchange.calls if call.name == "post"]
    assert words == ["expected", "wrong"] * len(retries)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (Reply(status=0, failure="ConnectionResetError"), "lost"),
        (problem(503, "Overloaded"), "refused"),
        (problem(429, "Rate limit"), "refused"),
        (problem(409, "offer_unknown"), "refused"),
        (reply(200, {"status": "no_offer", "reason": {"name": "offers_unavailable"}}), "refused"),
        (Reply(status=200, body=b"<html>"), "wrong"),
    ],
)
def test_silence_and_honest_refusals_are_told_from_wrong_answers(said: Reply, word: str) -> None:
    calls = sold_to(WrongExchange("two_step", said), 20)
    assert {judged.word for call, judged in calls if call.kind == "two_step"} == {word}


def test_on_an_exchange_that_knows_them_consumers_may_be_duplicates() -> None:
    lead = next(n for n in range(1, 99) if Mix(MARKET, tuple(KEYS), SEED).lead(n).kind == "direct")
    said = reply(200, SOLD | {"status": "duplicate", "reason": {"name": "duplicate"}})
    exchange = WrongExchange("direct", said)
    Sellers(wire=exchange, market=MARKET, keys=KEYS, seed=SEED, fresh=False).lead(lead, 0.0)
    assert [judged.word for _, judged in exchange.calls] == ["expected"]
