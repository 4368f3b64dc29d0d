"""Returns: a buyer gives a lead back, appeals, and is answered; a person or time decides the rest.

What a claim comes to is decided by `core/returns.py`, here only who is asked for what. Every step
is one transaction of the store, made on what is true at that moment, so asking twice, at once or
after a lost answer, is harmless: the same claim of a sale is the same case.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from exchange.core.book import Book
from exchange.core.fields import Problem, looks_personal, names_a_person
from exchange.core.labels import evidence_problems
from exchange.core.messages import Refusal
from exchange.core.model import Fact, is_id
from exchange.core.records import ReturnRecord
from exchange.core.return_ahead import Ahead
from exchange.core.return_cases import (
    BY_LAPSE,
    HOLDS,
    AuditRow,
    ReturnCase,
    ReturnSale,
    ReturnUnit,
    Room,
    Written,
    facts_of,
    judged,
    opened,
    record_of,
    taken_up,
)
from exchange.core.returns import LAPSED, SENTENCES, ReturnClaim, adjudicate, appealed, decided
from exchange.effects.clock import Clock
from exchange.effects.failpoints import At, nowhere
from exchange.effects.leases import Deposed, Lease
from exchange.effects.returns import Contended, LeaseLost, Listed, ReturnStore

Verdict = Literal["granted", "denied"]
WAITING: Final = ("referred", "appealed")
"""States in which a person decides."""


class ReturnLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`cases_max`: how often a return of one sale may be asked for. `had_before_days`: how long ago
    a buyer may have bought a consumer for this lead to be a duplicate; the longest window that
    vertical's rules usually have. `lapses_max`: cases closed in one turn of the job."""

    cases_max: int = 10
    had_before_days: int = 90
    lapses_max: int = 200


class Asking(Fact, frozen=True, kw_only=True):
    """A buyer's claim. `of` names the sale or its lead."""

    buyer_id: int
    of: str
    claim: ReturnClaim
    idem_key: str | None = None


class Answered(Fact, frozen=True, kw_only=True):
    """A case as it stands. `replayed`: it was there before and nothing was done."""

    case: ReturnCase
    replayed: bool = False

    @property
    def says(self) -> str:
        """The rule that decided last, as a sentence both sides read."""
        return SENTENCES.get(self.case.rule or "", "")


class Returns:
    """What buyers, finance and time do with returns. Anything that does not exist, or is another
    buyer's, is answered with `None`. While the database is away everything raises
    `DatabaseDown`."""

    def __init__(
        self,
        *,
        store: ReturnStore,
        clock: Clock,
        book: Callable[[], Book],
        recorded: Callable[[ReturnRecord], None],
        limits: ReturnLimits,
        at: At = nowhere,
    ) -> None:
        self._store, self._clock, self._book = store, clock, book
        self._recorded, self._limits, self._at = recorded, limits, at

    # --- buyers -----------------------------------------------------------------------------------

    async def ask(self, asking: Asking) -> Answered | Refusal | None:
        """Ask for a return: decided at once by rule, or referred to a person."""
        began = self._clock.loop_time()
        sale = await self._askable(asking)
        if sale is None or isinstance(sale, Refusal):
            return sale
        await self._at("return_asked")
        done = await self._settled(
            sale, asking.claim.reason.label, self._choosing(asking, sale), idem_key=asking.idem_key
        )
        await self._at("return_written")
        return self._told(done, "buyer", began)

    async def foresee(self, asking: Asking, ahead: Ahead) -> Answered | Refusal | None:
        """What `ask` would come to now, after the cases that are `ahead` of it, and which joins
        them. Nothing is written, and nobody is told."""
        sale = await self._askable(asking)
        if sale is None or isinstance(sale, Refusal):
            return sale
        choose, key = self._choosing(asking, sale), asking.idem_key
        reason = asking.claim.reason.label

        def choose_after(room: Room) -> ReturnUnit | Answered | Refusal:
            return choose(ahead.seen(room, sale, reason=reason, idem_key=key))

        done: ReturnUnit | Answered | Refusal = await self._store.foreseen(
            sale, reason, choose_after, idem_key=key
        )
        if not isinstance(done, ReturnUnit):
            return done
        ahead.add(done.case)
        return Answered(case=done.case)

    async def _askable(self, asking: Asking) -> ReturnSale | Refusal | None:
        problems = evidence_problems(asking.claim.evidence)
        if asking.idem_key is not None and names_a_person(asking.idem_key):
            problems += (Problem(field="Idempotency-Key", message="carries personal data"),)
        if problems:
            return _not_valid(problems)
        sale = await self._sale(asking.of, asking.buyer_id)
        if sale is not None and sale.test:
            return _not_valid((Problem(field="sale_id", message="was a test and cost nothing"),))
        return sale

    def _choosing(
        self, asking: Asking, sale: ReturnSale
    ) -> Callable[[Room], ReturnUnit | Answered | Refusal]:
        """What a claim comes to, whatever room there is when it is decided."""
        at, return_id = self._clock.now(), self._clock.new_id()
        written = Written(at=at, to_seller=self._seller_notice(sale))

        def choose(room: Room) -> ReturnUnit | Answered | Refusal:
            known = _known(asking, sale, room)
            if known is not None:
                return known
            if len(room.cases) >= self._limits.cases_max:
                return _ASKED_TOO_OFTEN
            facts = facts_of(sale, room, requested_at=at)
            return opened(
                sale,
                room,
                asking.claim,
                adjudicate(asking.claim, facts, sale.terms),
                return_id=return_id,
                idem_key=asking.idem_key,
                written=written,
            )

        return choose

    async def appeal(
        self, return_id: str, buyer_id: int, evidence: dict[str, str]
    ) -> Answered | Refusal | None:
        """Appeal against a denial: a person decides. More evidence may be brought. A case that is
        open again takes its room again, so there is no appeal where there is none."""
        began = self._clock.loop_time()
        problems = evidence_problems(evidence)
        if problems:
            return _not_valid(problems)
        found = await self._found(return_id, buyer_id)
        if found is None:
            return None
        sale, before = found
        at = self._clock.now()

        def choose(room: Room) -> ReturnUnit | Answered | Refusal:
            case = _of(room, before)
            if case.state == "appealed":
                return Answered(case=case, replayed=True)
            if case.state != "denied" or case.decided_at is None:
                return _not_open(case, "is not denied")
            ruled = appealed(case.decided_at, at, sale.terms, appeals=case.appeals)
            if ruled.outcome == "denied":
                return _conflict("No appeal", ruled.sentence)
            more = msgspec.structs.replace(case, evidence=case.evidence | evidence)
            facts = facts_of(sale, room, requested_at=case.requested_at, return_id=case.return_id)
            fenced = decided(more.claim, facts, sale.terms, "granted")
            if fenced.outcome == "denied":
                return _conflict("No appeal", fenced.sentence)
            return taken_up(sale, room, more, ruled, Written(at=at))

        done = await self._settled(sale, before.reason, choose, return_id=return_id)
        return self._told(done, "buyer", began)

    # --- finance ----------------------------------------------------------------------------------

    async def decide(
        self, return_id: str, verdict: Verdict, *, by: str, why: str
    ) -> Answered | Refusal | None:
        """A person decides on a referred or appealed case. Money and limits bind a person too: what
        cannot be granted any more is denied by that rule. Deciding again the same is harmless."""
        began = self._clock.loop_time()
        if looks_personal(why) or names_a_person(why):
            return _not_valid((Problem(field="why", message="carries personal data"),))
        found = await self._found(return_id, None)
        if found is None:
            return None
        sale, before = found
        at = self._clock.now()
        to_seller, to_buyer = self._seller_notice(sale), self._buyer_notice(sale)

        def choose(room: Room) -> ReturnUnit | Answered | Refusal:
            case = _of(room, before)
            if case.state not in WAITING:
                if case.rule == f"person_{verdict}" and case.decided_by == by:
                    return Answered(case=case, replayed=True)
                return _not_open(case, "waits for nobody")
            facts = facts_of(sale, room, requested_at=case.requested_at, return_id=case.return_id)
            decision = decided(case.claim, facts, sale.terms, verdict)
            audit = AuditRow(
                by=by,
                action="return.decide",
                subject=return_id,
                detail={
                    "asked": verdict,
                    "outcome": decision.outcome,
                    "rule": decision.rule,
                    "why": why,
                    "credit_micros": decision.credit_micros,
                    "clawback_micros": decision.clawback_micros,
                },
            )
            written = Written(at=at, by=by, to_seller=to_seller, to_buyer=to_buyer, audit=audit)
            return judged(sale, room, case, decision, written)

        done = await self._settled(sale, before.reason, choose, return_id=return_id)
        return self._told(done, "person", began)

    async def lapse(self, lease: Lease) -> int:
        """Closes the referred cases that nobody decided in time; how many. Raises `Deposed`."""
        due = await self._store.due(self._clock.now(), limit=self._limits.lapses_max)
        try:
            closed = [await self._lapse(case, lease) for case in due]
        except LeaseLost as lost:
            raise Deposed(f"the lease of {lease.job} was taken over") from lost
        return sum(closed)

    async def _lapse(self, before: ReturnCase, lease: Lease) -> bool:
        began, at = self._clock.loop_time(), self._clock.now()
        sale = await self._sale(before.attempt_id, before.buyer_id)
        if sale is None:
            return False
        written = Written(at=at, by=BY_LAPSE, to_buyer=self._buyer_notice(sale))

        def choose(room: Room) -> ReturnUnit | None:
            case = _of(room, before)
            if case.state != "referred" or case.due_at is None or case.due_at > at:
                return None
            return judged(sale, room, case, LAPSED, written)

        try:
            done = await self._store.settle(
                sale,
                before.reason,
                choose,
                return_id=before.return_id,
                lease=(lease.job, lease.epoch),
            )
        except Contended:
            return False  # the next turn finds it again
        return done is not None and isinstance(self._told(done, "lapse", began), Answered)

    # --- looking ----------------------------------------------------------------------------------

    async def case(self, return_id: str, buyer_id: int | None) -> Answered | None:
        """One case."""
        found = await self._store.case(return_id, buyer_id) if is_id(return_id) else None
        return None if found is None else Answered(case=found)

    async def listed(self, return_id: str) -> Listed | None:
        """One case with the sale it is of, whoever's it is."""
        return await self._store.listed(return_id) if is_id(return_id) else None

    async def listing(
        self,
        *,
        buyer_id: int | None,
        states: Sequence[str] | None,
        before: str | None = None,
        limit: int = 100,
    ) -> tuple[Listed, ...]:
        """Cases, the newest first, a page at a time."""
        return await self._store.listing(
            buyer_id=buyer_id, states=states, before=before, limit=limit
        )

    # --- parts ------------------------------------------------------------------------------------

    async def _settled(
        self,
        sale: ReturnSale,
        reason: str,
        choose: Callable[[Room], ReturnUnit | Answered | Refusal],
        *,
        return_id: str | None = None,
        idem_key: str | None = None,
    ) -> ReturnUnit | Answered | Refusal:
        try:
            return await self._store.settle(
                sale, reason, choose, return_id=return_id, idem_key=idem_key
            )
        except Contended:
            return _CONTENDED

    async def _sale(self, of: str, buyer_id: int) -> ReturnSale | None:
        return await self._store.sale(of, buyer_id) if is_id(of) else None

    async def _found(
        self, return_id: str, buyer_id: int | None
    ) -> tuple[ReturnSale, ReturnCase] | None:
        case = await self._store.case(return_id, buyer_id) if is_id(return_id) else None
        if case is None:
            return None
        sale = await self._sale(case.attempt_id, case.buyer_id)
        return None if sale is None else (sale, case)

    def _seller_notice(self, sale: ReturnSale) -> str | None:
        """A notice only for whoever has somewhere to send it."""
        seller = self._book().sellers.get(sale.seller_id)
        return self._clock.new_id() if seller and seller.terms.webhook_url else None

    def _buyer_notice(self, sale: ReturnSale) -> str | None:
        buyer = self._book().buyers.get(sale.buyer_id)
        return self._clock.new_id() if buyer and buyer.terms.webhook_url else None

    def _told(
        self,
        done: ReturnUnit | Answered | Refusal,
        by: Literal["buyer", "person", "lapse"],
        began: float,
    ) -> Answered | Refusal:
        if isinstance(done, Refusal):
            return done
        answered = Answered(case=done.case) if isinstance(done, ReturnUnit) else done
        case = answered.case
        self._recorded(
            record_of(
                case,
                by=by,
                replayed=answered.replayed,
                took_ms=(self._clock.loop_time() - began) * 1000,
            )
        )
        return answered


def _known(asking: Asking, sale: ReturnSale, room: Room) -> Answered | Refusal | None:
    """The case this claim is already, by its key or as the open or granted case of the sale."""
    if room.keyed is not None:
        is_same = room.keyed.attempt_id == sale.attempt_id and _says_the_same(room.keyed, asking)
        return Answered(case=room.keyed, replayed=True) if is_same else _KEY_USED
    for case in room.cases:
        if case.state in HOLDS and _says_the_same(case, asking):
            return Answered(case=case, replayed=True)
    return None


def _says_the_same(case: ReturnCase, asking: Asking) -> bool:
    """An appeal may have brought more evidence since."""
    is_within = asking.claim.evidence.items() <= case.evidence.items()
    return case.reason == asking.claim.reason.label and is_within


def _of(room: Room, before: ReturnCase) -> ReturnCase:
    """The case as it stands now."""
    return next(case for case in room.cases if case.return_id == before.return_id)


# --- refusals -------------------------------------------------------------------------------------

_KEY_USED: Final = Refusal(
    status=422,
    title="Key used before",
    detail="This Idempotency-Key was used with another request; use a new key.",
)
_ASKED_TOO_OFTEN: Final = Refusal(
    status=409,
    title="Asked too often",
    detail="A return of this sale was asked for as often as it may be; appeal, or write to us.",
)


_CONTENDED: Final = Refusal(
    status=503,
    title="Overloaded",
    detail="Too much is decided about this contract at once; nothing was written, try again.",
)


def _not_valid(problems: Sequence[Problem]) -> Refusal:
    return Refusal(
        status=422,
        title="Request not valid",
        detail="The claim cannot be taken as it is.",
        problems=tuple(problems),
    )


def _conflict(title: str, detail: str) -> Refusal:
    return Refusal(status=409, title=title, detail=detail)


def _not_open(case: ReturnCase, why: str) -> Refusal:
    return _conflict("Ended otherwise", f"This return is {case.state} and {why}.")
