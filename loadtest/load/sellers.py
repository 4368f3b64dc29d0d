"""The journey of one lead, as a seller makes it: each request at the time it is decided on, each
answer judged by what was sent. Plain blocking code: who calls it decides what blocking means.
"""

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec

from loadtest.load import people, replies
from loadtest.load.market import Market
from loadtest.load.mix import Lead, Mix
from loadtest.load.replies import Judged, Reply, Rule

PERSONAL: Final = "someone@mail.example"
STRANGER: Final = "Bearer ex_live_nobody_nothing"
YIELDS_TO: Final = Decimal("0.6")
SOLD_KEPT: Final = 2_000
"""Consumers remembered as sold: those who may come again."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `due`: when it was decided on, in seconds since the load began."""

    name: str
    kind: str
    method: str
    path: str
    due: float
    headers: dict[str, str]
    body: bytes | None = None
    tmax_ms: int = 0
    first: bool = False


class Wire(Protocol):
    """How requests are sent. `ask` notes the call and its judgement."""

    def ask(self, call: Call, judge: Callable[[Reply], Judged]) -> Reply: ...
    def now(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class Sellers:
    """All sellers of a load. `fresh`: the exchange has never heard of this seed's consumers, so one
    of them that it calls a duplicate is a fault."""

    def __init__(
        self,
        *,
        wire: Wire,
        market: Market,
        keys: Mapping[str, str],
        seed: int,
        fresh: bool,
    ) -> None:
        self._wire, self._market, self._seed, self._fresh = wire, market, seed, fresh
        self._mix = Mix(market, tuple(keys), seed)
        self._headers = {
            seller: {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            for seller, key in keys.items()
        }
        self._sold: deque[tuple[str, int]] = deque(maxlen=SOLD_KEPT)

    def lead(self, number: int, due: float) -> None:
        """Make the journey of lead `number`."""
        lead = self._mix.lead(number)
        match lead.kind:
            case "two_step" | "retry" | "contradicts" | "no_consent":
                self._two_step(lead, due)
            case "direct":
                self._direct(lead, due)
            case "again":
                self._again(lead, due)
            case "lost_lead":
                path = f"/v1/leads/{replies.a_stranger_id(f'{self._seed} {number}')}"
                self._look_up(lead, due, path, replies.a_problem(404), first=True)
            case _:
                self._odd_ping(lead, due)

    # --- pings ------------------------------------------------------------------------------------

    def _two_step(self, lead: Lead, due: float) -> None:
        record = self._record(lead.vertical, lead.number)
        reply = self._ping(
            lead, due, self._pinged(lead, record), replies.a_ping(floor=self._floor(lead))
        )
        offer = reply.document()
        if offer.get("status") == "offer" and (lead.takes or lead.kind != "two_step"):
            self._post(lead, record, offer)

    def _again(self, lead: Lead, due: float) -> None:
        """A consumer who was sold before, offered once more; a new one while there is none."""
        if not self._sold:
            self._two_step(lead, due)
            return
        vertical, number = self._sold[int(lead.detail * len(self._sold))]
        lead = msgspec.structs.replace(lead, vertical=vertical)
        record = self._record(vertical, number)
        reply = self._ping(
            lead, due, self._pinged(lead, record), replies.a_ping(floor=self._floor(lead))
        )
        offer = reply.document()
        if offer.get("status") == "offer":
            due = self._thought(lead)
            body = self._taken(lead, record, offer)
            self._asked(lead, "post", "/v1/post", due, body, replies.a_duplicate)

    def _odd_ping(self, lead: Lead, due: float) -> None:
        """A ping that is not as it should be."""
        body = self._pinged(lead, self._record(lead.vertical, lead.number))
        fields, rule = body["fields"], replies.a_ping(floor=self._floor(lead))
        gate = self._market.sellers[lead.seller].terms()[lead.source].gate
        required = [
            name
            for name, field in self._market.verticals[lead.vertical].fields.items()
            if field.required and field.ping is True
        ]
        name = required[int(lead.detail * len(required))]
        match lead.kind:
            case "test":
                body["test"], rule = True, replies.a_test
            case "personal":
                fields["email"] = PERSONAL
                refused = replies.a_problem(422, field="email")
                rule = refused if gate == "refuse" else replies.a_ping(dropped=["email"])
            case "wrong_type":
                fields[name], rule = ["forty"], replies.a_problem(422, field=name)
            case "missing":
                del fields[name]
                rule = replies.a_problem(422, field=name)
            case "unknown":
                fields["shoe_size"] = 9
                refused = replies.a_problem(422, field="shoe_size")
                rule = replies.a_ping(dropped=["shoe_size"]) if gate == "watch" else refused
            case "malformed":
                rule = replies.a_problem(400, title="Body is not JSON")
            case _:
                rule = replies.a_problem(401)
        self._ping(lead, due, body, rule)

    def _ping(self, lead: Lead, due: float, body: dict[str, Any], rule: Rule) -> Reply:
        encoded = msgspec.json.encode(body)
        headers = self._headers[lead.seller]
        if lead.kind == "malformed":
            encoded = encoded[: len(encoded) // 2]
        if lead.kind == "stranger":
            headers = headers | {"Authorization": STRANGER}
        call = Call(
            name="ping",
            kind=lead.kind,
            method="POST",
            path="/v1/ping",
            due=due,
            headers=headers,
            body=encoded,
            tmax_ms=lead.tmax_ms,
            first=True,
        )
        return self._wire.ask(call, lambda reply: replies.judged(reply, rule))

    # --- posts ------------------------------------------------------------------------------------

    def _post(self, lead: Lead, record: dict[str, Any], offer: dict[str, Any]) -> None:
        due, body = self._thought(lead), self._taken(lead, record, offer)
        rule = replies.a_post(promised=body.get("min_payout", offer["payout"]), fresh=self._fresh)
        if lead.kind == "contradicts":
            name, other = self._elsewhere(lead.vertical, record)
            body["lead"] = record | {name: other}
            rule = replies.a_problem(422, field=f"lead.{name}", title="ping_mismatch")
        elif lead.kind == "no_consent":
            del body["consent"]
            rule = replies.a_rejection("consent_missing")
        reply = self._asked(lead, "post", "/v1/post", due, body, rule)
        if lead.kind == "retry" and reply.status == 200:
            due = self._wire.now()
            self._asked(lead, "post", "/v1/post", due, body, replies.a_retry(reply))
        if lead.kind in ("two_step", "retry"):
            self._told(lead, reply)

    def _direct(self, lead: Lead, due: float) -> None:
        record = self._record(lead.vertical, lead.number)
        floor = self._floor(lead)
        body = self._named(lead) | {"lead": record, "consent": consent(lead), "floor": floor}
        rule = replies.a_post(promised=floor, fresh=self._fresh)
        self._told(lead, self._asked(lead, "direct", "/v1/leads", due, body, rule, first=True))

    def _asked(
        self,
        lead: Lead,
        name: str,
        path: str,
        due: float,
        body: dict[str, Any],
        rule: Rule,
        *,
        first: bool = False,
    ) -> Reply:
        key = {"Idempotency-Key": f"load-{self._seed}-{lead.number}"}
        call = Call(
            name=name,
            kind=lead.kind,
            method="POST",
            path=path,
            due=due,
            headers=self._headers[lead.seller] | key,
            body=msgspec.json.encode(body),
            first=first,
        )
        return self._wire.ask(call, lambda reply: replies.judged(reply, rule))

    def _told(self, lead: Lead, reply: Reply) -> None:
        """Remember who was sold; look some leads up."""
        told = reply.document()
        if reply.status != 200 or "lead_id" not in told:
            return
        if told["status"] == "sold":
            self._sold.append((lead.vertical, lead.number))
        if told["status"] == "pending" or lead.looks_up:
            path = f"/v1/leads/{told['lead_id']}"
            self._look_up(lead, self._thought(lead), path, replies.a_lead(told), first=False)

    def _look_up(self, lead: Lead, due: float, path: str, rule: Rule, *, first: bool) -> None:
        call = Call(
            name="lead",
            kind=lead.kind,
            method="GET",
            path=path,
            due=due,
            headers=self._headers[lead.seller],
            first=first,
        )
        self._wire.ask(call, lambda reply: replies.judged(reply, rule))

    # --- bodies -----------------------------------------------------------------------------------

    def _record(self, vertical: str, number: int) -> dict[str, Any]:
        return people.person(self._market.verticals[vertical], seed=self._seed, number=number)

    def _elsewhere(self, vertical: str, record: dict[str, Any]) -> tuple[str, str]:
        """A ZIP field of the record, and another ZIP than it has."""
        fields = self._market.verticals[vertical].fields
        name = next(name for name, field in fields.items() if field.type == "us_zip" and field.ping)
        return name, "10001" if record[name] != "10001" else "60601"

    def _floor(self, lead: Lead) -> str:
        """The seller's own, on every second lead; the source's holds anyway."""
        agreed = self._market.sellers[lead.seller].terms()[lead.source].floor
        return max(agreed, "3.00", key=Decimal) if lead.number % 2 else agreed

    def _named(self, lead: Lead) -> dict[str, Any]:
        return {"vertical": lead.vertical, "source": lead.source, "sub_id": lead.sub_id}

    def _pinged(self, lead: Lead, record: dict[str, Any]) -> dict[str, Any]:
        fields = people.pinged(self._market.verticals[lead.vertical], record)
        more = {"fields": fields, "floor": self._floor(lead), "tmax_ms": lead.tmax_ms}
        return self._named(lead) | more

    def _taken(self, lead: Lead, record: dict[str, Any], offer: dict[str, Any]) -> dict[str, Any]:
        body = {
            "ping_id": offer["ping_id"],
            "offer_id": offer["offers"][0]["offer_id"],
            "lead": record,
            "consent": consent(lead),
        }
        if lead.yields:
            body["min_payout"] = f"{Decimal(offer['payout']) * YIELDS_TO:.2f}"
        return body

    def _thought(self, lead: Lead) -> float:
        """Let the seller think; the time at which it decides is when its next request is due."""
        due = self._wire.now() + lead.think_s
        self._wire.sleep(lead.think_s)
        return due


def consent(lead: Lead) -> dict[str, Any]:
    """A consent record as a seller's form keeps it."""
    return {
        "kind": "tcpa",
        "captured_at": "2026-01-15T12:00:00Z",
        "text_version": "2026-01",
        "page_url": f"https://forms.example/quote?v={lead.number % 3}",
    }
