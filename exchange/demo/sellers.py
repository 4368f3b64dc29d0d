"""The demo's sellers: seeded leads at an even rate, some in two steps, some direct, a few with the
mistakes real sellers make; and a file of everything they sent and heard, for the judge.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import aiohttp
import msgspec
import orjson

from exchange.core.money import micros_of, text_of
from exchange.core.terms import MarketDoc
from exchange.demo.people import People, Person

DIRECT_SHARE = 0.3
DECLINE_SHARE = 0.05
"""Sellers walk away from some offers: they saw a better one elsewhere."""
AGAIN_SHARE = 0.03
"""Posts sent twice under the same key, as a seller does whose connection broke."""
YIELDS_SHARE = 0.5
"""Posts that take less than promised rather than nothing."""
YIELDS_TO_PERCENT = 60


class Heard(msgspec.Struct):
    """What the sellers heard, counted while the demo runs."""

    pings: int = 0
    offers: int = 0
    posts: int = 0
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    late: int = 0
    problems: Counter[str] = msgspec.field(default_factory=Counter)
    pending: dict[str, str] = msgspec.field(default_factory=dict)


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """What a seller does with this lead: post twice, walk away, take less than promised."""

    again: bool
    declines: bool
    yields: bool


class Sellers:
    """All sellers of the market, played from one seed."""

    def __init__(
        self,
        *,
        url: str,
        market: MarketDoc,
        keys: Mapping[str, str],
        seed: int,
        notes: Path,
        session: aiohttp.ClientSession,
    ) -> None:
        self._url, self._market, self._keys = url, market, keys
        self._people = People(seed)
        self._chance = random.Random(seed * 7919 + 1)
        self._notes: IO[bytes] = notes.open("wb")
        self._session = session
        self._number = 0
        self._leads: set[str] = set()
        self.heard = Heard()

    async def trade(self, *, seconds: float, per_second: float) -> None:
        """Open arrivals: a lead every `1 / per_second`, whatever became of the one before."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * per_second)):
                await asyncio.sleep(max(0.0, began + number / per_second - loop.time()))
                group.create_task(self._lead())

    async def finals(self) -> None:
        """Ask what became of every lead that was pending."""
        for lead_id, seller in list(self.heard.pending.items()):
            reply = await self._get(seller, f"/v1/leads/{lead_id}")
            if reply is None:
                continue
            self._note("final", seller, {}, 200, reply, ())
            if reply["status"] != "pending":
                del self.heard.pending[lead_id]
                self.heard.statuses["pending"] -= 1
                self.heard.statuses[reply["status"]] += 1

    def close(self) -> None:
        """Close the file of notes."""
        self._notes.close()

    # --- one lead ---------------------------------------------------------------------------------

    async def _lead(self) -> None:
        self._number += 1
        chance, number = self._chance, self._number
        seller = chance.choice(sorted(self._market.sellers))
        source = chance.choice(sorted(self._market.sellers[seller].sources))
        vertical = chance.choice(sorted(self._market.verticals))
        person = self._people.person(self._market.verticals[vertical])
        names = {"vertical": vertical, "source": source, "sub_id": f"aff-{number % 7}"}
        dice = chance.random()
        again = chance.random() < AGAIN_SHARE
        declines = chance.random() < DECLINE_SHARE
        yields = chance.random() < YIELDS_SHARE
        if dice < DIRECT_SHARE:
            await self._direct(seller, names, person, number, again=again)
        else:
            habit = Habit(again=again, declines=declines, yields=yields)
            await self._two_steps(seller, names, person, habit)

    async def _direct(
        self, seller: str, names: dict[str, Any], person: Person, number: int, *, again: bool
    ) -> None:
        body = names | {"lead": person.lead, "consent": consent(number)}
        for _ in range(2 if again else 1):
            await self._sold("direct", "/v1/leads", seller, body, person, key=f"lead-{number}")

    async def _two_steps(
        self, seller: str, names: dict[str, Any], person: Person, habit: Habit
    ) -> None:
        body = names | {"fields": person.pinged, "floor": "3.00", "tmax_ms": 1_000}
        self.heard.pings += 1
        began = asyncio.get_running_loop().time()
        status, reply = await self._post(seller, "/v1/ping", body, None)
        if asyncio.get_running_loop().time() - began > 1.05:
            self.heard.late += 1
        self._note("ping", seller, body, status, reply, person.canaries)
        if status != 200:
            self.heard.problems[str(reply.get("title", status))] += 1
            return
        if reply["status"] != "offer":
            self.heard.reasons[reply["reason"]["name"]] += 1
            return
        self.heard.offers += 1
        if habit.declines:
            self.heard.reasons["seller_declined"] += 1
            return
        post = {
            "ping_id": reply["ping_id"],
            "offer_id": reply["offers"][0]["offer_id"],
            "lead": person.lead,
            "consent": consent(self._number),
        }
        if habit.yields:
            least = micros_of(reply["payout"]) * YIELDS_TO_PERCENT // 100
            post["min_payout"] = text_of(least)
        for _ in range(2 if habit.again else 1):
            await self._sold("post", "/v1/post", seller, post, person, key=None)

    async def _sold(
        self,
        kind: str,
        path: str,
        seller: str,
        body: dict[str, Any],
        person: Person,
        *,
        key: str | None,
    ) -> None:
        status, reply = await self._post(seller, path, body, key)
        self._note(kind, seller, body, status, reply, person.canaries)
        if status != 200:
            self.heard.problems[str(reply.get("title", status))] += 1
            return
        if self._seen(reply["lead_id"]):
            return
        self.heard.posts += 1
        self.heard.statuses[reply["status"]] += 1
        if "reason" in reply:
            self.heard.reasons[reply["reason"]["name"]] += 1
        if reply["status"] == "pending":
            self.heard.pending[reply["lead_id"]] = seller

    def _seen(self, lead_id: str) -> bool:
        known = lead_id in self._leads
        self._leads.add(lead_id)
        return known

    # --- the wire ---------------------------------------------------------------------------------

    async def _post(
        self, seller: str, path: str, body: Mapping[str, Any], key: str | None
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._keys[seller]}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        async with self._session.post(
            self._url + path, data=orjson.dumps(body), headers=headers
        ) as response:
            return response.status, orjson.loads(await response.read())

    async def _get(self, seller: str, path: str) -> dict[str, Any] | None:
        headers = {"Authorization": f"Bearer {self._keys[seller]}"}
        async with self._session.get(self._url + path, headers=headers) as response:
            if response.status != 200:
                return None
            reply: dict[str, Any] = orjson.loads(await response.read())
            return reply

    def _note(
        self,
        kind: str,
        seller: str,
        sent: Mapping[str, Any],
        status: int,
        reply: Mapping[str, Any],
        canaries: Any,
    ) -> None:
        line = {
            "kind": kind,
            "seller": seller,
            "sent": sent,
            "http": status,
            "reply": reply,
            "canaries": list(canaries),
        }
        self._notes.write(orjson.dumps(line) + b"\n")
        self._notes.flush()


def consent(number: int) -> dict[str, Any]:
    """A consent record as a seller's form keeps it."""
    return {
        "kind": "tcpa",
        "captured_at": "2026-01-15T12:00:00Z",
        "text_version": "2026-01",
        "page_url": f"https://forms.example/quote?v={number % 3}",
    }
