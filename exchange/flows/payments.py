"""Payments as finance tells them: recorded, matched, unmatched, refunded, sent back.

Every act names who did it and is told once by its key: the same again answers what was done,
another under the same key is refused.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final, Protocol

from exchange.core.ageing import Aged, Paper, aged
from exchange.core.fields import Problem, looks_personal, names_a_person
from exchange.core.messages import Refusal
from exchange.core.model import Fact, is_id
from exchange.core.payments import (
    WAY_OF,
    Match,
    Payment,
    Recorded,
    Way,
    came_back,
    matched,
    problems_of,
    recorded,
    refunded,
    refused,
    unmatched,
)
from exchange.core.statements import Party
from exchange.effects.documents import DocumentStore
from exchange.effects.payments import Known, PaymentStore

CAME_BACK: Final = "this payout came back"
KEY_USED: Final = "another payment was recorded under this key"


class Clock(Protocol):
    def now(self) -> datetime: ...
    def new_id(self) -> str: ...


class Telling(Fact, frozen=True, kw_only=True):
    """A payment as finance tells it. Without a key, party, day, amount and reference are it."""

    party: str
    amount_micros: int
    currency: str
    value_day: date
    reference: str = ""
    by: str
    key: str | None = None
    numbers: tuple[str, ...] = ()

    def named(self, way: Way, party: Party) -> str:
        """What makes telling it twice harmless."""
        if self.key is not None:
            return self.key
        said = (way, party.id, self.value_day, self.currency, self.amount_micros, self.reference)
        return ":".join(map(str, said))


class Done(Fact, frozen=True, kw_only=True):
    """What became of it; `replayed`: it was told before."""

    payment: Payment
    party: str
    matches: tuple[Match, ...]
    replayed: bool = False

    @property
    def rest_micros(self) -> int:
        """What covers nothing so far; of a refund nothing ever does."""
        if self.payment.way in ("refund", "returned"):
            return 0
        live = sum(match.amount_micros for match in self.matches if not match.undone)
        return self.payment.amount_micros - live


class Payments:
    """What finance does with payments."""

    def __init__(self, *, store: PaymentStore, documents: DocumentStore, clock: Clock) -> None:
        self._store, self._documents, self._clock = store, documents, clock

    async def record(self, told: Telling) -> Done | Refusal:
        """A buyer paid us, or we paid a seller: matched with the documents named, else with the
        oldest open ones; what a buyer paid beyond is paid ahead."""
        party = await self._party(told.party)
        if isinstance(party, Refusal):
            return party

        def decide(known: Known, payment: Payment) -> Recorded | Refusal:
            return recorded(payment, known.papers, told.numbers)

        return await self._told(told, party, WAY_OF[party.kind], decide, action="recorded")

    async def refund(self, told: Telling) -> Done | Refusal:
        """A buyer got back what it had paid ahead."""
        party = await self._party(told.party)
        if isinstance(party, Refusal):
            return party
        if party.kind != "buyer":
            return refused("party", "only a buyer is refunded; a seller is paid")

        def decide(known: Known, payment: Payment) -> Recorded | Refusal:
            return refunded(payment, known.payments)

        return await self._told(told, party, "refund", decide, action="refunded")

    async def match(
        self, payment_id: str, numbers: Sequence[str], *, by: str
    ) -> Done | Refusal | None:
        """Match what is left of a payment, with the documents named or with the oldest open ones;
        `None` when there is no such payment."""
        payment = await self._payment(payment_id)
        if payment is None or payment.way not in ("received", "paid_out"):
            return None
        now = self._clock.now()

        def decide(known: Known) -> Recorded | Refusal:
            if known.came_back:
                return refused("payment_id", CAME_BACK)
            before = known.payments[0][1]
            return matched(payment, before, known.papers, numbers, by=by, at=now)

        return await self._acted(payment, decide, by=by, action="matched")

    async def unmatch(
        self, payment_id: str, number: str, *, by: str, why: str
    ) -> Done | Refusal | None:
        """Undo what a payment covers of a document; `None` when there is no such payment."""
        if looks_personal(why) or names_a_person(why) or not 3 <= len(why) <= 500:
            return refused("why", "says why in 3 to 500 characters, and nothing personal")
        payment = await self._payment(payment_id)
        if payment is None:
            return None
        now = self._clock.now()

        def decide(known: Known) -> Recorded | Refusal:
            return unmatched(payment, known.payments[0][1], number, by=by, why=why, at=now)

        return await self._acted(payment, decide, by=by, action="unmatched")

    async def came_back(self, payment_id: str, told: Telling) -> Done | Refusal | None:
        """The bank sent a payout back: the seller is owed it again. Party, amount and currency are
        the payout's."""
        payout = await self._payment(payment_id)
        if payout is None:
            return None
        party = Party(id=payout.party_id, kind="seller", key=told.party, name="")

        def decide(known: Known, payment: Payment) -> Recorded | Refusal:
            if known.came_back:
                return refused("payment_id", CAME_BACK)
            return came_back(payment, payout, known.payments[0][1])

        back = Telling(
            party=told.party,
            amount_micros=payout.amount_micros,
            currency=payout.currency,
            value_day=told.value_day,
            reference=told.reference,
            by=told.by,
            key=told.key or f"returned:{payout.payment_id}",
        )
        return await self._told(back, party, "returned", decide, action="returned", of=payout)

    async def ageing(self, at: date, before: datetime) -> tuple[Aged, ...]:
        """What buyers owe, by how long it is past due on a day that ends `before` a moment."""
        papers: dict[tuple[int, str], list[Paper]] = {}
        for paper in await self._store.papers(before=before):
            papers.setdefault((paper.party_id, paper.currency), []).append(paper)
        balances = await self._store.balances(before)
        rows = (aged(one, papers.get((one.party_id, one.currency), ()), at) for one in balances)
        return tuple(row for row in rows if _says_something(row))

    # --- how --------------------------------------------------------------------------------------

    async def _told(
        self,
        told: Telling,
        party: Party,
        way: Way,
        decide: "Deciding",
        *,
        action: str,
        of: Payment | None = None,
    ) -> Done | Refusal:
        key = told.named(way, party)
        problems = problems_of(
            amount_micros=told.amount_micros,
            currency=told.currency,
            reference=told.reference,
            key=told.key or "-",
            by=told.by,
        )
        if problems:
            detail = "; ".join(f"{one.field} {one.message}" for one in problems)
            return Refusal(status=422, title="Request not valid", detail=detail, problems=problems)
        payment = Payment(
            payment_id=self._clock.new_id(),
            key=key,
            way=way,
            party_id=party.id,
            currency=told.currency,
            amount_micros=told.amount_micros,
            value_day=told.value_day,
            reference=told.reference,
            by=told.by,
            at=self._clock.now(),
            returns=None if of is None else of.payment_id,
        )
        replayed: list[Payment] = []

        def deciding(known: Known) -> Recorded | Refusal:
            replayed.clear()
            if known.keyed is None:
                return decide(known, payment)
            if _same(known.keyed, payment):
                replayed.append(known.keyed)
            return _KEY_REFUSED

        done = await self._store.act(
            party.id,
            told.currency,
            way,
            deciding,
            by=told.by,
            action=action,
            key=key,
            payment_id=None if of is None else of.payment_id,
        )
        if replayed:
            matches = await self._store.matches(replayed[0].payment_id)
            return Done(payment=replayed[0], party=party.key, matches=matches, replayed=True)
        if isinstance(done, Refusal):
            return done
        return Done(payment=payment, party=party.key, matches=done.matches)

    async def _acted(
        self, payment: Payment, decide: "DecidingKnown", *, by: str, action: str
    ) -> Done | Refusal:
        if problems := problems_of(
            amount_micros=1, currency=payment.currency, reference="", key="-", by=by
        ):
            return refused(problems[0].field, problems[0].message, problems[0].hint)
        done = await self._store.act(
            payment.party_id,
            payment.currency,
            payment.way,
            decide,
            by=by,
            action=action,
            payment_id=payment.payment_id,
        )
        if isinstance(done, Refusal):
            return done
        matches = await self._store.matches(payment.payment_id)
        return Done(payment=payment, party="", matches=matches)

    async def _party(self, key: str) -> Party | Refusal:
        found = await self._documents.party(key)
        if not found:
            return refused("party", "there is no buyer or seller of this key")
        if len(found) > 1:
            hint = f"buyer:{key} or seller:{key}"
            return refused("party", "is a buyer and a seller: say which", hint)
        return found[0]

    async def _payment(self, payment_id: str) -> Payment | None:
        return await self._store.one(payment_id) if is_id(payment_id) else None


class Deciding(Protocol):
    """What decides on a payment that is new."""

    def __call__(self, known: Known, payment: Payment, /) -> Recorded | Refusal: ...


class DecidingKnown(Protocol):
    """What decides on a payment that was recorded before."""

    def __call__(self, known: Known, /) -> Recorded | Refusal: ...


_KEY_REFUSED = Refusal(
    status=409,
    title="Key used",
    detail=KEY_USED,
    problems=(Problem(field="key", message=KEY_USED),),
)


def _same(one: Payment, other: Payment) -> bool:
    """Whether both say the same, but for who told it when."""
    return _said(one) == _said(other)


def _said(one: Payment) -> tuple[object, ...]:
    return (
        *(one.way, one.party_id, one.currency, one.amount_micros, one.value_day),
        *(one.reference, one.returns),
    )


def _says_something(row: Aged) -> bool:
    parts = (*row.buckets.values(), row.credit_micros, row.unbilled_micros)
    return bool(any(parts) or row.receivable_micros or row.prepaid_micros)
