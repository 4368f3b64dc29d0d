"""The month before, as the market in force would have traded it: sales and returns with their own
days, so that the demo has a month to close.

Nothing here is a shortcut into the books. Leads are opened, released and sold by the very builders
and the writer that a post uses, and returned through the flow that buyers call; only the clock says
another day, the auction is drawn instead of asked, and caps, which no past day has, are left out.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from exchange.app.ground import Ground
from exchange.app.worker import returns_of
from exchange.core import attempts
from exchange.core.attempts import Ended, Selling
from exchange.core.auction import rank
from exchange.core.book import Book
from exchange.core.fields import json_form
from exchange.core.filters import invite
from exchange.core.model import Bid, Candidate, Contract, Offer, Ping, Seller, Source, Vertical
from exchange.core.money import MICROS
from exchange.core.reasons import Delivery, ReturnReason
from exchange.core.records import AttemptRow
from exchange.core.return_policy import agreed_for
from exchange.core.returns import ReturnClaim
from exchange.demo.people import People, Person
from exchange.demo.sellers import consent
from exchange.effects.clock import Clock
from exchange.flows.opening import Body, Openings
from exchange.flows.returns import Answered, Asking, Returns, Verdict

SALES = 600
"""A month played in a few seconds, in which all kinds of lines occur."""
RETURN_SHARE = 0.16
"""Claims, a quarter of which come to nothing: about an eighth of the sales are given back."""
AGAIN_SHARE = 0.02
"""Consumers that a seller sends once more, so that a claimed duplicate is sometimes one."""
AT_ONCE = 50
"""Leads committed together: the writer's own batches."""
TRIES = 10
"""How often a day's partitions are tried again."""
BID_MOST_MICROS = 60 * MICROS
"""What a contract without a stated most bids at most here."""


class Past(Clock):
    """A clock that stands where it is put. Ids are of its moment, and their chance is seeded."""

    def __init__(self, at: datetime, chance: random.Random) -> None:
        self.at, self._chance = at, chance

    def now(self) -> datetime:
        return self.at

    def now_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    def new_id(self) -> str:
        random_bits = self._chance.getrandbits(74)
        bits = self.now_ms() << 80 | 7 << 76 | (random_bits >> 62) << 64 | 2 << 62
        return str(UUID(int=bits | random_bits & (1 << 62) - 1))


class Sold(msgspec.Struct, frozen=True, kw_only=True):
    """A sale of that month, with what its buyer knows of it."""

    attempt: AttemptRow
    contract: Contract
    buyer: str
    seller: str
    at: datetime
    buyer_ref: str
    phone: str


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """What the month came to. `until` is no more in it; `decisions` by state of the case;
    `credited`: the sales (attempts) that were given back, whole or in part."""

    since: datetime
    until: datetime
    sold: tuple[Sold, ...]
    decisions: dict[str, int]
    credited: frozenset[str]


class _Lead(msgspec.Struct, frozen=True, kw_only=True):
    """A lead as it comes in, and whom it goes to."""

    seller: Seller
    source: Source
    vertical: Vertical
    contract: Contract
    person: Person
    body: Body
    ping: Ping
    candidate: Candidate


async def traded(base: Ground, seed: int, *, today: datetime, sales: int = SALES) -> Month:
    """Plays the last calendar month that ended over a day before `today`, in UTC."""
    until = (today - timedelta(days=1)).astimezone(UTC)
    until = until.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    since = (until - timedelta(days=1)).replace(day=1)
    await _partitioned(base, since.date(), (until - since).days + 1)
    market = _LastMonth(base, seed, since, until)
    sold: list[Sold] = []
    moments = market.moments(sales)
    for n in range(0, len(moments), AT_ONCE):
        batch = [lead for at in moments[n : n + AT_ONCE] if (lead := market.lead(at)) is not None]
        sold += await asyncio.gather(*(market.sell(lead) for lead in batch))
    states = await market.returned(sold)
    return Month(
        since=since,
        until=until,
        sold=tuple(sold),
        decisions=dict(Counter(states.values())),
        credited=frozenset(sale for sale, state in states.items() if state == "granted"),
    )


async def _partitioned(base: Ground, first: date, days: int) -> None:
    """Partitions for days gone by: one day at a time, for each waits for whoever reads or writes
    beside, and may meet them crosswise."""
    for number in range(-1, days):
        for is_last in (False,) * TRIES + (True,):
            try:
                await base.database.fetchval(
                    "SELECT ensure_partitions($1, 1)", first + timedelta(days=number)
                )
                break
            except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
                if is_last:
                    raise


class _LastMonth:
    """Draws the month from one seed."""

    def __init__(self, base: Ground, seed: int, since: datetime, until: datetime) -> None:
        self._base, self._since, self._until = base, since, until
        self._chance = random.Random(f"last month {seed}")
        self._people = People(seed + 1_000_003)
        self._known: dict[str, list[Person]] = {}

    @property
    def _book(self) -> Book:
        return self._base.standing.book

    def moments(self, count: int) -> list[datetime]:
        """When leads come in: over the whole month, in order."""
        length = (self._until - self._since) / timedelta(milliseconds=1)
        found = sorted(self._chance.randrange(int(length) - 60_000) for _ in range(count))
        return [self._since + timedelta(milliseconds=one) for one in found]

    def lead(self, at: datetime) -> _Lead | None:
        """A lead and its best bid; `None` when no contract wants it."""
        chance, book = self._chance, self._book
        seller = chance.choice(list(book.sellers.values()))
        source = chance.choice([one for one in book.sources.values() if one.seller_id == seller.id])
        vertical = chance.choice(list(book.verticals.values()))
        person = self._person(vertical)
        fields = book.schemas[vertical.id].lead(person.lead)
        assert isinstance(fields, dict), "seeded people are valid"
        clock = Past(at, chance)
        ping = Ping(
            ping_id=clock.new_id(),
            seller_id=seller.id,
            source_id=source.id,
            vertical_id=vertical.id,
            fields={
                name: fields[name] for name in book.schemas[vertical.id].pingable & set(fields)
            },
            received_at=at,
            tmax_ms=1_000,
            sub_id=f"aff-{chance.randrange(7)}",
        )
        invited = invite(ping, book.indexes[vertical.id], gates=(), at=at, invited_max=10)
        bids = [(one, self._bid(one)) for one in invited.contracts]
        terms = book.parties.payout(seller.id, source.id)
        ranking = rank(ping.ping_id, bids, terms=terms, floor_micros=0, kept=1)
        if not ranking.candidates:
            return None
        best = ranking.candidates[0]
        return _Lead(
            seller=seller,
            source=source,
            vertical=vertical,
            contract=book.contracts[best.contract_id],
            person=person,
            body=Body(fields=fields, consent=consent(1), chain=()),
            ping=ping,
            candidate=best,
        )

    def _person(self, vertical: Vertical) -> Person:
        known = self._known.setdefault(vertical.key, [])
        if known and self._chance.random() < AGAIN_SHARE:
            return self._chance.choice(known)
        known.append(self._people.person(vertical.terms))
        return known[-1]

    def _bid(self, contract: Contract) -> Bid:
        """What a contract bids: its fixed price, else something in its range, in whole cents."""
        most = contract.bid_max_micros or BID_MOST_MICROS
        least = max(contract.bid_min_micros, 5 * MICROS)
        cents = self._chance.randrange(least // 10_000, most // 10_000 + 1)
        price = cents * 10_000 if contract.price_micros is None else contract.price_micros
        return Bid(contract_id=contract.id, buyer_id=contract.buyer_id, price_micros=price)

    async def sell(self, lead: _Lead) -> Sold:
        """INTENT and RESULT of a lead that its buyer takes."""
        base, at = self._base, lead.ping.received_at
        clock = Past(at, self._chance)
        opening, chain = Openings(clock=clock, vault=base.vault, boot_id=base.boot_id).opening(
            self._offer(lead),
            lead.body,
            lead.vertical,
            lead.ping.ping_id,
            self._chance.randbytes(32).hex(),
            state="selling",
            promised_micros=lead.candidate.payout_micros,
            direct=False,
        )
        selling = Selling(
            lead_id=lead.ping.ping_id,
            seller_id=lead.seller.id,
            idem_key=lead.ping.ping_id,
            chain=chain,
            boot_id=base.boot_id,
        )
        attempt = self._attempt(lead, clock)
        intent, selling = attempts.intent(selling, attempt, at=at, opening=opening)
        reference = f"L{self._chance.randrange(10**8):08d}"
        done = at + timedelta(milliseconds=self._chance.randrange(80, 900))
        result, _ = attempts.ended(
            selling,
            "sold",
            at=done,
            reply={"lead_id": lead.ping.ping_id, "status": "sold"},
            last=Ended(attempt=attempt, delivery=Delivery.ACCEPTED, at=done, buyer_ref=reference),
        )
        await base.commits.commit(intent)
        await base.commits.commit(result)
        return Sold(
            attempt=attempt,
            contract=lead.contract,
            buyer=self._book.buyers[lead.contract.buyer_id].key,
            seller=lead.seller.key,
            at=done,
            buyer_ref=reference,
            phone=str(lead.body.fields["phone"]),
        )

    def _offer(self, lead: _Lead) -> Offer:
        at_ms = int(lead.ping.received_at.timestamp() * 1000)
        return Offer(
            ping_id=lead.ping.ping_id,
            seller_id=lead.seller.id,
            source_id=lead.source.id,
            vertical_id=lead.vertical.id,
            payout_micros=lead.candidate.payout_micros,
            currency=lead.vertical.terms.currency,
            expires_at_ms=at_ms + 120_000,
            received_at_ms=at_ms,
            fields=json_form(lead.ping.fields),
            candidates=(lead.candidate,),
            book_version=self._book.version,
            mask_id=0,
            sub_id=lead.ping.sub_id,
            invited=(lead.contract.id,),
        )

    def _attempt(self, lead: _Lead, clock: Past) -> AttemptRow:
        later = clock.now() + timedelta(seconds=10)
        return AttemptRow(
            attempt_id=clock.new_id(),
            lead_id=lead.ping.ping_id,
            seller_id=lead.seller.id,
            buyer_id=lead.contract.buyer_id,
            contract_id=lead.contract.id,
            contract_version=lead.contract.version,
            rank=1,
            leg=1,
            price_micros=lead.candidate.price_micros,
            payout_micros=lead.candidate.payout_micros,
            fee_micros=lead.candidate.fee_micros,
            currency=lead.vertical.terms.currency,
            buyer_bid_ref=None,
            bid_expires_at=None,
            deadline_at=later,
            next_check_at=later,
            boot_id=self._base.boot_id,
            cap_mode="fast",
            cap_sq=0,
            windows=[],
            slots=[1],
            test=False,
            created_at=clock.now(),
        )

    # --- returns ----------------------------------------------------------------------------------

    async def returned(self, sold: Iterable[Sold]) -> dict[str, str]:
        """Buyers give leads back, in the order of their asking; finance decides what is referred
        the next day. Answers the state of each claim of this month, by sale."""
        clock = Past(self._since, self._chance)
        returns = returns_of(_at(self._base, clock), self._base.database)
        claims = sorted(filter(None, map(self._claim, sold)), key=lambda claim: claim[0])
        states: dict[str, str] = {}
        for at, sale, claim in claims:
            if at >= self._until:
                continue
            clock.at = at
            answered = await returns.ask(
                Asking(buyer_id=sale.contract.buyer_id, of=sale.attempt.attempt_id, claim=claim)
            )
            assert isinstance(answered, Answered), "a seeded claim is well formed"
            state = answered.case.state
            if state == "referred":
                clock.at = min(at + timedelta(days=1), self._until - timedelta(seconds=1))
                state = await self._decided(returns, answered.case.return_id)
            states[sale.attempt.attempt_id] = state
        return states

    def _claim(self, sale: Sold) -> tuple[datetime, Sold, ReturnClaim] | None:
        """When, and for what reason, a buyer gives this lead back, if it does."""
        chance, terms = self._chance, sale.contract.terms.returns
        if terms is None or chance.random() >= RETURN_SHARE:
            return None
        reason = chance.choice([one for one in ReturnReason if agreed_for(one, terms)])
        agreed = agreed_for(reason, terms)
        wanted = reason.evidence if agreed is None or agreed.evidence is None else agreed.evidence
        shown = wanted if chance.random() < 0.85 else ()
        evidence = {name: f"{name[:2].upper()}-{chance.randrange(10_000):04d}" for name in shown}
        at = sale.at + timedelta(hours=chance.randrange(2, 90))
        return at, sale, ReturnClaim(reason=reason, evidence=evidence)

    async def _decided(self, returns: Returns, return_id: str) -> str:
        verdict: Verdict = "granted" if self._chance.random() < 0.6 else "denied"
        why = "The call log bears it out." if verdict == "granted" else "The call log shows a talk."
        answered = await returns.decide(return_id, verdict, by="Dana in finance", why=why)
        assert isinstance(answered, Answered), "a referred case waits for a person"
        return answered.case.state


def _at(base: Ground, clock: Clock) -> Ground:
    return msgspec.structs.replace(base, clock=clock)
