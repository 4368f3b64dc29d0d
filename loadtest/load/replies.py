"""What an answer must look like for what was sent. Every answer is one of four:

expected   it fits the input
refused    an honest no to a good request, or "not yet": overloaded, rate, database or offers away,
           a post that took longer than sellers wait
lost       no answer: the connection failed, or nobody answered in time
wrong      it does not fit the input; a fault of the exchange (or of this list)
"""

import random
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any, Literal

import msgspec

Word = Literal["expected", "refused", "lost", "wrong"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it came. `status` 0: none came, and `failure` says why."""

    status: int
    body: bytes = b""
    failure: str = ""

    def document(self) -> dict[str, Any]:
        """The body as JSON; empty when it is none."""
        try:
            found = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class Judged(msgspec.Struct, frozen=True):
    """A judgement and the word the report counts it under."""

    word: Word
    what: str


Rule = Callable[[Reply, dict[str, Any]], Judged]
"""`(reply, its document) -> judgement`, for a reply that is neither lost nor a refusal to all."""
SOLD_OR_NOT = ("sold", "unsold", "pending")
HONEST = (429, 503)
NOT_NOW = ("offers_unavailable", "offer_unknown", "caps_unreadable", "post_running")
"""What sellers hear while Valkey is away or has lost its memory, and from a post whose time is up
while it is still at work."""


def judged(reply: Reply, rule: Rule) -> Judged:
    """The reply by this rule, after what holds for all of them."""
    document = reply.document()
    if reply.status == 0:
        return Judged("lost", reply.failure or "no answer")
    if reply.status in HONEST or reason_of(document) in NOT_NOW:
        return Judged("refused", reason_of(document) or str(reply.status))
    return rule(reply, document)


def reason_of(document: dict[str, Any]) -> str:
    """The reason's name, or a problem's title; empty when there is none."""
    reason = document.get("reason")
    if isinstance(reason, dict):
        return str(reason.get("name", ""))
    return str(document.get("title", ""))


def fits(condition: bool, what: str, reply: Reply, document: dict[str, Any]) -> Judged:
    """Expected under this word, or wrong with what came instead."""
    if condition:
        return Judged("expected", what)
    said = document.get("status", "?")
    told = f"{reply.status} {said} {reason_of(document)}".strip()
    return Judged("wrong", f"wanted {what}, got {told}")


# --- pings ----------------------------------------------------------------------------------------


def a_ping(*, floor: str = "0", dropped: Collection[str] = ()) -> Rule:
    """An offer of at least the floor, or none with a reason; the gate dropped these fields."""

    def rule(reply: Reply, document: dict[str, Any]) -> Judged:
        status = document.get("status")
        as_dropped = document.get("dropped", []) == list(dropped)
        if status == "offer":
            pays = Decimal(document.get("payout", "0")) >= Decimal(floor)
            whole = pays and bool(document.get("offers")) and as_dropped
            return fits(reply.status == 200 and whole, "offer", reply, document)
        good = reply.status == 200 and status == "no_offer" and as_dropped
        return fits(good and bool(reason_of(document)), "no_offer", reply, document)

    return rule


def a_test(reply: Reply, document: dict[str, Any]) -> Judged:
    """A test ping reaches test buyers alone: an offer of theirs, or none."""
    good = reply.status == 200 and document.get("status") in ("offer", "no_offer")
    return fits(good, "test", reply, document)


def a_problem(status: int, *, field: str = "", title: str = "") -> Rule:
    """A refusal in the one error shape, with this status, that names this field."""

    def rule(reply: Reply, document: dict[str, Any]) -> Judged:
        named = {error.get("field") for error in document.get("errors", ())}
        good = (
            reply.status == status
            and document.get("status") == status
            and (not field or field in named)
            and (not title or document.get("title") == title)
        )
        what = f"{status} {title or field}".strip()
        return fits(good, what, reply, document)

    return rule


# --- posts ----------------------------------------------------------------------------------------


def a_post(*, promised: str = "0", fresh: bool = True) -> Rule:
    """A lead sold for at least what was promised, or unsold or pending with a reason. Where the
    consumer may have been sold before (not `fresh`), a duplicate as well."""

    def rule(reply: Reply, document: dict[str, Any]) -> Judged:
        status = document.get("status")
        if status == "sold":
            paid = Decimal(document.get("payout", "0")) >= Decimal(promised)
            return fits(reply.status == 200 and paid, "sold", reply, document)
        words = SOLD_OR_NOT if fresh else (*SOLD_OR_NOT, "duplicate")
        good = reply.status == 200 and status in words and bool(reason_of(document))
        return fits(good, str(status), reply, document)

    return rule


def a_duplicate(reply: Reply, document: dict[str, Any]) -> Judged:
    """This consumer was sold before."""
    good = reply.status == 200 and document.get("status") == "duplicate"
    return fits(good, "duplicate", reply, document)


def a_rejection(reason: str) -> Rule:
    """The house's own no, as an outcome."""

    def rule(reply: Reply, document: dict[str, Any]) -> Judged:
        good = document.get("status") == "rejected" and reason_of(document) == reason
        return fits(reply.status == 200 and good, reason, reply, document)

    return rule


def a_retry(first: Reply) -> Rule:
    """The same lead, told the same to the letter (a second sale would have another id); what was
    pending may have ended meanwhile."""
    told = first.document()

    def rule(reply: Reply, document: dict[str, Any]) -> Judged:
        same = document.get("lead_id") == told.get("lead_id")
        if told.get("status") != "pending":
            same = document == told
        return fits(reply.status == 200 and same, "retry", reply, document)

    return rule


def a_lead(told: dict[str, Any]) -> Rule:
    """A lead as it was told, or further on if it was pending then. One that was still at work may
    have come to nothing."""

    def rule(reply: Reply, document: dict[str, Any]) -> Judged:
        if reply.status == 404 and reason_of(told) == "post_running":
            return Judged("refused", "never came to be")
        same = document.get("lead_id") == told.get("lead_id")
        ended = told.get("status") == "pending" or document.get("status") == told.get("status")
        return fits(reply.status == 200 and same and ended, "lead", reply, document)

    return rule


def a_stranger_id(seed: str) -> str:
    """An id of the right form that nobody has."""
    text = f"{random.Random(seed).getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
