"""What a buyer decides, without state: one request and the buyer's rules make one plan.

The house dialect as a buyer reads it. A ping or post that does not read is told so with a 400; the
buyer in `buyer.py` adds what needs memory (its books) and writes the truth.
"""

from typing import Final

import msgspec

from .answers import (
    ERRORS,
    MALFORMED_PINGS,
    MALFORMED_POSTS,
    Plan,
    json_plan,
    oversized,
)
from .chance import picked
from .profile import Behaviour

NO_BID_CODES: Final = (0, 301, 302)
"""IAB seat-non-bid: no reason given, below the floor, duplicate."""

TMAX_MS: Final = 1_500
"""Assumed of a ping that does not say how long the seller waits."""

Draws = tuple[float, ...]
"""Places: 0 fault, 1 latency, 2 bid, 3 no-bid or reject, 4 variant, 5 code or reason."""


class PingBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the buyer needs of a ping; more is tolerated."""

    ping_id: str
    contract: str
    vertical: str
    tmax_ms: int = TMAX_MS
    test: bool = False


class PostBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the buyer needs of a post; more is tolerated."""

    attempt_id: str
    lead_id: str
    price: str
    lead: dict[str, object]
    ping_id: str = ""
    ref: str | None = None
    contract: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a buyer's books say of an attempt; an inquiry and a re-post are told the same."""

    accepted: bool
    lead_id: str
    body: bytes


def bid_ref(ping: PingBody, draw: float) -> str:
    """The buyer's own reference of a bid; it carries the contract, which a post does not name."""
    return f"{ping.contract}~{int(draw * 2**52):013x}"


def contract_of(post: PostBody) -> str:
    """The contract a post belongs to, by the reference of its bid; `""` if it carries none."""
    return post.contract or (post.ref or "").rpartition("~")[0]


def ping_plan(ping: PingBody, rules: Behaviour, chance: Draws) -> Plan:
    """The answer to a ping."""
    delay_ms = rules.latency.at(chance[1])
    fault = rules.ping.fault(chance[0])
    if fault == "late":
        delay_ms = max(ping.tmax_ms + rules.late_ms, delay_ms)
    good = _bid(ping, rules, chance, delay_ms)
    match fault:
        case "":
            return good
        case "late":
            return msgspec.structs.replace(good, answered="late")
        case "drip":
            return _dripped(good, "drip", rules)
        case "oversized":
            body = oversized(good.body or b'{"no_bid":0}', size=rules.oversized_bytes)
            return Plan(answered=fault, delay_ms=delay_ms, body=body)
        case "malformed":
            return _spoilt(MALFORMED_PINGS, chance, delay_ms)
        case _:
            return lost(fault, chance, delay_ms)


def _bid(ping: PingBody, rules: Behaviour, chance: Draws, delay_ms: float) -> Plan:
    by_vertical = rules.bids.get(ping.vertical) or rules.bids.get("other")
    spread = rules.contracts.get(ping.contract, by_vertical)
    if spread is None or chance[3] < rules.ping.no_bid:
        if chance[4] < 0.5:
            return Plan(answered="no_bid", http=204, delay_ms=delay_ms)
        code = picked(NO_BID_CODES, chance[5])
        return json_plan("no_bid", {"no_bid": code}, delay_ms=delay_ms)
    answer: dict[str, object] = {
        "bid": f"{spread.at(chance[2]):.2f}",
        "ref": bid_ref(ping, chance[2]),
    }
    if rules.expires_in_s is not None:
        answer["expires_in_s"] = rules.expires_in_s
    return json_plan("bid", answer, delay_ms=delay_ms)


def verdict(post: PostBody, rules: Behaviour, chance: Draws, fault: str) -> Verdict:
    """Whether the buyer takes a lead it does not have yet."""
    if not fault.startswith("accept") and chance[3] < rules.post.reject:
        return rejection(post.lead_id, picked(rules.post.reasons, chance[5]))
    return acceptance(post.lead_id, post.attempt_id)


def acceptance(lead_id: str, attempt_id: str) -> Verdict:
    """An explicit yes; its reference follows from the attempt, so asking again gives the same."""
    body = msgspec.json.encode({"status": "accepted", "ref": f"sale-{attempt_id[-12:]}"})
    return Verdict(accepted=True, lead_id=lead_id, body=body)


def rejection(lead_id: str, reason: str) -> Verdict:
    """An explicit no."""
    body = msgspec.json.encode({"status": "rejected", "reason": reason})
    return Verdict(accepted=False, lead_id=lead_id, body=body)


def told(given: Verdict, rules: Behaviour, chance: Draws, fault: str) -> Plan:
    """How a verdict that is in the books reaches the exchange, or fails to."""
    delay_ms = (rules.post_latency or rules.latency).at(chance[1])
    word = "accepted" if given.accepted else "rejected"
    match fault:
        case "":
            return Plan(answered=word, delay_ms=delay_ms, body=given.body)
        case "accept_after_deadline":
            return Plan(answered="accepted_late", delay_ms=rules.post_late_ms, body=given.body)
        case "drip":
            plan = Plan(answered=word, delay_ms=delay_ms, body=given.body)
            return _dripped(plan, f"{word}:drip", rules)
        case "oversized":
            body = oversized(given.body, size=rules.oversized_bytes)
            return Plan(answered=f"{word}:oversized", delay_ms=delay_ms, body=body)
        case "malformed":
            return _spoilt(MALFORMED_POSTS, chance, delay_ms)
        case _:
            plan = lost(fault.removeprefix("accept_then_"), chance, delay_ms)
            return msgspec.structs.replace(plan, answered=f"accepted_then_{plan.answered}")


def lost(fault: str, chance: Draws, delay_ms: float) -> Plan:
    """No answer (`hang`, `reset`), or a 5xx (`error`)."""
    match fault:
        case "hang":
            return Plan(answered="hung", delay_ms=delay_ms, manner="hang")
        case "reset":
            return Plan(answered="reset", delay_ms=delay_ms, manner="reset")
        case "error":
            http = picked(ERRORS, chance[4])
            return json_plan("error", {"error": "try again"}, delay_ms=delay_ms, http=http)
        case _:
            raise ValueError(f"unknown fault `{fault}`")


def _spoilt(variants: tuple[Plan, ...], chance: Draws, delay_ms: float) -> Plan:
    plan = picked(variants, chance[4])
    elsewhere = (("Location", "http://127.0.0.1:9/elsewhere"),) if plan.http == 302 else ()
    return msgspec.structs.replace(plan, delay_ms=delay_ms, headers=elsewhere)


def _dripped(plan: Plan, answered: str, rules: Behaviour) -> Plan:
    return msgspec.structs.replace(plan, answered=answered, manner="drip", pause_ms=rules.drip_ms)
