"""One buyer: its rules in force, its books, and its truth file.

The truth is written before the answer is even scheduled, by one `write` to the operating system, so
a `kill -9` loses nothing that was answered. A buyer that starts on an existing truth file has its
books again.
"""

import os
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from . import events, plans, signing
from .answers import Plan, json_plan
from .chance import draws
from .plans import PingBody, PostBody, Verdict
from .profile import Behaviour, behaviour, laid_over

REPLY_KEPT = 1_000
"""Characters of an answer kept in the truth file; a good answer has about 100."""

_ping = msgspec.json.Decoder(PingBody).decode
_post = msgspec.json.Decoder(PostBody).decode


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request as received; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    head: str
    body: bytes


class Buyer:
    """Plays one buyer. `answered` counts what it did, by (kind, word)."""

    def __init__(self, name: str, *, table: Mapping[str, Any], seed: int, truth_dir: Path) -> None:
        self.name = name
        self.seed = seed
        self.rules = behaviour(table, where=name)
        self.answered: Counter[tuple[str, str]] = Counter()
        self._profile = dict(table)
        self._table = dict(table)
        self._books: dict[str, Verdict] = {}  # by attempt_id
        self._owned: dict[str, str] = {}  # lead_id -> the attempt_id that brought it
        self._struck: set[str] = set()  # attempts that met their fault before the books
        self._inquiries: Counter[str] = Counter()
        path = truth_dir / f"{name}.jsonl"
        self._remember(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def close(self) -> None:
        """Close the truth file."""
        os.close(self._file)

    def change(self, change: Mapping[str, Any] | None) -> Behaviour:
        """Lay `change` over the rules in force (`None`: back to the profile); `ProfileError` if it
        makes no sense, and then nothing changes."""
        table = self._profile if change is None else laid_over(self._table, change)
        self.rules = behaviour(table, where=self.name)
        self._table = dict(table)
        return self.rules

    # --- requests ---------------------------------------------------------------------------------

    def ping(self, request: Request) -> Plan:
        """The answer to a ping, decided by the ping's id and contract alone."""
        try:
            ping = _ping(request.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return self._refused("ping", request, error)
        chance = draws(self.seed, self.name, "ping", f"{ping.ping_id}|{ping.contract}")
        plan = plans.ping_plan(ping, self.rules, chance)
        named = {"ping_id": ping.ping_id, "contract": ping.contract}
        return self._written("ping", request, plan, accepted=False, **named)

    def post(self, request: Request) -> Plan:
        """The answer to a post: from the books if they know the attempt or the lead, else a
        verdict, decided by the attempt's id alone."""
        try:
            post = _post(request.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return self._refused("post", request, error)
        signature = self._signature(request)
        repeat = post.attempt_id in self._books
        if signature in ("bad", "missing"):
            plan = json_plan("unsigned", {"error": f"signature {signature}"}, http=401)
        else:
            plan = self._decided(post)
        given = self._books.get(post.attempt_id)
        return self._written(
            "post",
            request,
            plan,
            accepted=given is not None and given.accepted,
            ping_id=post.ping_id,
            lead_id=post.lead_id,
            attempt_id=post.attempt_id,
            contract=plans.contract_of(post),
            price=post.price,
            repeat=repeat,
            signature=signature,
        )

    def status(self, request: Request) -> Plan:
        """What the books say of `attempt_id`: the recorded answer, or 404 if it was never seen."""
        attempt_id = request.query.get("attempt_id", "")
        self._inquiries[attempt_id] += 1
        key = f"{attempt_id}|{self._inquiries[attempt_id]}"
        chance = draws(self.seed, self.name, "status", key)
        given = self._books.get(attempt_id)
        delay_ms = (self.rules.post_latency or self.rules.latency).at(chance[1])
        if not self.rules.status:
            plan = json_plan("no_status", {"error": "no such service"}, http=501)
        elif chance[0] < self.rules.status_error:
            plan = json_plan("error", {"error": "try again"}, delay_ms=delay_ms, http=503)
        elif given is None:
            plan = json_plan("never_seen", {"error": "never seen"}, delay_ms=delay_ms, http=404)
        else:
            word = "accepted" if given.accepted else "rejected"
            plan = Plan(answered=word, delay_ms=delay_ms, body=given.body)
        accepted = given is not None and given.accepted
        lead_id = given.lead_id if given is not None else ""
        named = {"attempt_id": attempt_id, "lead_id": lead_id}
        return self._written("status", request, plan, accepted=accepted, **named)

    def fragment(self, *, head: str, body: bytes) -> None:
        """Record a request whose connection ended before it was whole."""
        self._write("fragment", Plan(answered="broken_off"), head, body, accepted=False)

    # --- verdicts ---------------------------------------------------------------------------------

    def _decided(self, post: PostBody) -> Plan:
        chance = draws(self.seed, self.name, "post", post.attempt_id)
        fault = self.rules.post.fault(chance[0])
        given = self._books.get(post.attempt_id)
        if given is not None:
            if self.rules.repost == "duplicate" and given.accepted:
                given = plans.rejection(post.lead_id, "duplicate")
            fault = fault if self.rules.faults_repeat and fault in _TELLING else ""
            return plans.told(given, self.rules, chance, fault)
        if post.lead_id in self._owned:
            self._book(post.attempt_id, plans.rejection(post.lead_id, "duplicate"))
            return plans.told(self._books[post.attempt_id], self.rules, chance, "")
        if fault in ("hang", "reset", "error"):
            if self.rules.faults_repeat or post.attempt_id not in self._struck:
                self._struck.add(post.attempt_id)
                delay_ms = (self.rules.post_latency or self.rules.latency).at(chance[1])
                return plans.lost(fault, chance, delay_ms)
            fault = ""
        self._book(post.attempt_id, plans.verdict(post, self.rules, chance, fault))
        return plans.told(self._books[post.attempt_id], self.rules, chance, fault)

    def _book(self, attempt_id: str, given: Verdict) -> None:
        self._books[attempt_id] = given
        if given.accepted:
            self._owned[given.lead_id] = attempt_id

    def _signature(self, request: Request) -> Literal["unchecked", "ok", "bad", "missing"]:
        if self.rules.secret is None:
            return "unchecked"
        return signing.verdict(
            request.headers, request.body, secret=self.rules.secret, now=time.time()
        )

    # --- truth ------------------------------------------------------------------------------------

    def _refused(self, kind: Literal["ping", "post"], request: Request, error: Exception) -> Plan:
        plan = json_plan("unreadable", {"error": str(error)}, http=400)
        return self._written(kind, request, plan, accepted=False)

    def _written(
        self,
        kind: Literal["ping", "post", "status"],
        request: Request,
        plan: Plan,
        *,
        accepted: bool,
        **named: Any,
    ) -> Plan:
        key = request.headers.get("idempotency-key", "")
        self._write(
            kind,
            plan,
            request.head,
            request.body,
            accepted=accepted,
            idempotency_key=key,
            **named,
        )
        return plan

    def _write(
        self,
        kind: Literal["ping", "post", "status", "fragment"],
        plan: Plan,
        head: str,
        body: bytes,
        *,
        accepted: bool,
        **named: Any,
    ) -> None:
        self.answered[kind, plan.answered] += 1
        text, encoded = events.body_texts(body)
        event = events.Event(
            at=datetime.now(UTC),
            buyer=self.name,
            kind=kind,
            accepted=accepted,
            answered=plan.answered,
            http=plan.http if plan.manner not in ("hang", "reset", "raw") else 0,
            reply=plan.body[:REPLY_KEPT].decode("utf-8", "replace"),
            delay_ms=round(plan.delay_ms, 3),
            head=head,
            body=text,
            body_base64=encoded,
            **named,
        )
        os.write(self._file, events.encode(event) + b"\n")

    def _remember(self, path: Path) -> None:
        if not path.exists():
            return
        past, size = events.read(path)
        os.truncate(path, size)
        for event in past:
            if event.kind != "post" or not event.attempt_id or event.repeat:
                continue
            if event.accepted:
                self._book(event.attempt_id, plans.acceptance(event.lead_id, event.attempt_id))
            elif event.answered.startswith("rejected"):
                given = Verdict(accepted=False, lead_id=event.lead_id, body=event.reply.encode())
                self._book(event.attempt_id, given)
            elif event.answered in ("hung", "reset", "error"):
                self._struck.add(event.attempt_id)


_TELLING = frozenset(
    (
        "malformed",
        "oversized",
        "drip",
        "accept_then_reset",
        "accept_then_hang",
        "accept_then_error",
        "accept_after_deadline",
    )
)
"""Faults that spoil the telling of a verdict that is in the books already."""
