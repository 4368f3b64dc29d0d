"""Sales, returns, appeals, decisions and lapses in any order Hypothesis can think of: what every
unit writes is laid on books in memory, and the books must hold after each."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from exchange.core.custody import Chain, verify
from exchange.core.ledger import balances, sale_transfers
from exchange.core.reasons import ReturnReason
from exchange.core.records import CustodyRow, TransferRow
from exchange.core.return_cases import (
    HOLDS,
    OPEN,
    REASONS,
    ReturnCase,
    ReturnSale,
    ReturnUnit,
    Room,
    Written,
    facts_of,
    judged,
    opened,
    taken_up,
)
from exchange.core.return_policy import allowed
from exchange.core.returns import (
    LAPSED,
    CycleCount,
    ReturnClaim,
    adjudicate,
    appealed,
    decided,
)
from exchange.core.terms import ClawbackTerms, ReasonTerms, ReturnTerms, TrustedTerms

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
CLAIMED = st.sampled_from([ReturnReason.WRONG_PERSON, ReturnReason.DUPLICATE, ReturnReason.FRAUD])
SHARES = st.sampled_from(["1", "0.5", "0.3", "0"]).map(Decimal)
COUNTS = st.none() | st.integers(0, 4)
REASON_TERMS = st.builds(
    ReasonTerms,
    max_rate=st.none() | SHARES,
    max_count=COUNTS,
    evidence=st.sampled_from([(), None]),
    credit_percent=st.sampled_from(["33.3333", "50", "100"]).map(Decimal),
    to_person=st.sampled_from([False, None, True]),
)
TERMS = st.builds(
    ReturnTerms,
    reasons=st.fixed_dictionaries(
        {"wrong_person": REASON_TERMS, "duplicate": REASON_TERMS}, optional={"fraud": REASON_TERMS}
    ),
    max_rate=SHARES,
    max_count=COUNTS,
    rounding=st.sampled_from(["down", "half_up", "up"]),
    refer_over=st.none() | st.just("7.00"),
    appeal_hours=st.sampled_from([0, 48]),
    lapse_hours=st.just(24),
    window_hours=st.sampled_from([400, 24]),
    replace=st.booleans(),
    trusted=st.none() | st.builds(TrustedTerms, max_count=st.integers(0, 2)),
)


class Books:
    """What a database would hold of one contract and cycle."""

    def __init__(self) -> None:
        self.sales: list[ReturnSale] = []
        self.cases: dict[str, ReturnCase] = {}
        self.credited: Counter[str] = Counter()
        self.legs: dict[str, tuple[TransferRow, ...]] = {}
        self.transfers: dict[str, TransferRow] = {}
        self.chains: dict[str, tuple[CustodyRow, ...]] = {}

    def room(self, sale: ReturnSale, reason: str, return_id: str | None = None) -> Room:
        held = [
            case
            for case in self.cases.values()
            if case.state in HOLDS and case.return_id != return_id
        ]
        chain = self.chains[sale.lead_id]
        return Room(
            credited_micros=self.credited[sale.attempt_id],
            custody_seq=chain[-1].seq,
            custody_head=chain[-1].hash.removeprefix("\\x"),
            count=CycleCount(
                sales=len(self.sales),
                returns=len(held),
                of_reason=sum(case.reason == reason for case in held),
                on_trust=sum(case.rule == "trusted" for case in held),
            ),
            cases=tuple(c for c in self.cases.values() if c.attempt_id == sale.attempt_id),
        )

    def write(self, unit: ReturnUnit) -> None:
        """As the database does: by compare-and-set, transfers once by their id."""
        before = self.cases.get(unit.case.return_id)
        assert (before.state if before else None) == unit.was
        assert self.credited[unit.case.attempt_id] == unit.credited_micros
        self.cases[unit.case.return_id] = unit.case
        self.credited[unit.case.attempt_id] += unit.case.credit_micros
        for row in unit.transfers:
            assert row.transfer_id not in self.transfers
            self.transfers[row.transfer_id] = row
        self.chains[unit.case.lead_id] += (unit.custody,)


class ReturnMachine(RuleBasedStateMachine):
    """Time only goes forward; everything else may come in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.books, self.now, self.number = Books(), START, 0

    @initialize(
        terms=TERMS, share=st.sampled_from(["0", "0.3333", "1"]), window=st.sampled_from([1, 240])
    )
    def agreed(self, terms: ReturnTerms, share: str, window: int) -> None:
        self.terms = terms
        self.clawback = ClawbackTerms(window_hours=window, share=Decimal(share))
        for price, part in ((5_000_000, 850), (7_000_003, 1_000), (1, 0), (9_999_999, 1_100)):
            self.sell(price, part, had=price == 1)

    def an_id(self) -> str:
        self.number += 1
        return f"019a0000-0000-7000-8000-{self.number:012d}"

    def pick(self, data: st.DataObject, states: Any) -> tuple[ReturnSale, ReturnCase]:
        found = [case for case in self.books.cases.values() if case.state in states]
        case = data.draw(st.sampled_from(found))
        sale = next(one for one in self.books.sales if one.attempt_id == case.attempt_id)
        return sale, case

    def some(self, *states: str) -> bool:
        return any(case.state in states for case in self.books.cases.values())

    @rule(
        price=st.integers(0, 9_999_999),
        part=st.integers(0, 1_100),
        had=st.booleans(),
    )
    def sell(self, price: int, part: int, had: bool) -> None:
        """The fee may be negative: the house may pay more than it gets."""
        payout = price * part // 1_000
        sale = ReturnSale(
            attempt_id=self.an_id(), lead_id=self.an_id(), seller_id=2, buyer_id=3, contract_id=1,
            price_micros=price, payout_micros=payout, fee_micros=price - payout, currency="USD",
            test=False, sold_at=self.now, zone="America/Chicago", terms=self.terms,
            clawback=self.clawback, bought_before=had,
        )  # fmt: skip
        legs = sale_transfers(
            attempt_id=sale.attempt_id, lead_id=sale.lead_id, buyer_id=3, seller_id=2,
            price_micros=price, payout_micros=payout, fee_micros=price - payout, currency="USD",
            at=self.now,
        )  # fmt: skip
        self.books.sales.append(sale)
        self.books.legs[sale.attempt_id] = legs
        self.books.transfers |= {leg.transfer_id: leg for leg in legs}
        self.books.chains[sale.lead_id] = (
            Chain.begin(sale.lead_id).append("received", self.now, {}).rows
        )

    @precondition(lambda self: self.books.sales)
    @rule(data=st.data(), reason=CLAIMED, shown=st.booleans())
    def ask(self, data: st.DataObject, reason: ReturnReason, shown: bool) -> None:
        sale = data.draw(st.sampled_from(self.books.sales))
        evidence = dict.fromkeys(reason.evidence, "R-1") if shown else {}
        claim = ReturnClaim(reason=reason, evidence=evidence)
        room = self.books.room(sale, reason.label)
        decision = adjudicate(claim, facts_of(sale, room, requested_at=self.now), self.terms)
        self.books.write(
            opened(
                sale,
                room,
                claim,
                decision,
                return_id=self.an_id(),
                idem_key=None,
                written=Written(at=self.now),
            )
        )

    @precondition(lambda self: self.some("denied"))
    @rule(data=st.data())
    def appeal(self, data: st.DataObject) -> None:
        sale, case = self.pick(data, ("denied",))
        assert case.decided_at is not None
        ruled = appealed(case.decided_at, self.now, self.terms, appeals=case.appeals)
        room = self.books.room(sale, case.reason, case.return_id)
        facts = facts_of(sale, room, requested_at=case.requested_at, return_id=case.return_id)
        fenced = decided(case.claim, facts, self.terms, "granted")
        if ruled.outcome == "referred" and fenced.outcome == "granted":
            self.books.write(taken_up(sale, room, case, ruled, Written(at=self.now)))

    @precondition(lambda self: self.some("referred", "appealed"))
    @rule(data=st.data(), verdict=st.sampled_from(["granted", "denied"]))
    def decide(self, data: st.DataObject, verdict: Any) -> None:
        sale, case = self.pick(data, ("referred", "appealed"))
        room = self.books.room(sale, case.reason, case.return_id)
        facts = facts_of(sale, room, requested_at=case.requested_at, return_id=case.return_id)
        decision = decided(case.claim, facts, self.terms, verdict)
        assert decision.outcome == verdict  # whoever waits holds room: it is never taken from it
        self.books.write(judged(sale, room, case, decision, Written(at=self.now, by="Dana")))

    @precondition(lambda self: self.some("referred"))
    @rule(data=st.data())
    def lapse(self, data: st.DataObject) -> None:
        sale, case = self.pick(data, ("referred",))
        if case.due_at is not None and case.due_at <= self.now:
            room = self.books.room(sale, case.reason, case.return_id)
            self.books.write(judged(sale, room, case, LAPSED, Written(at=self.now, by="lapse")))

    @rule(hours=st.integers(1, 30))
    def later(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def the_ledger_sums_to_zero(self) -> None:
        assert sum(balances(self.books.transfers.values()).values()) == 0

    @invariant()
    def no_leg_is_taken_back_beyond_its_amount(self) -> None:
        back: Counter[str] = Counter()
        for row in self.books.transfers.values():
            if row.reverses is not None:
                back[row.reverses] += row.amount_micros
        for leg, micros in back.items():
            assert micros <= self.books.transfers[leg].amount_micros

    @invariant()
    def a_credit_is_within_the_price_and_is_what_the_buyer_no_longer_owes(self) -> None:
        owed: Counter[str] = Counter()
        for row in self.books.transfers.values():
            owed[row.attempt_id] += row.amount_micros * (row.debit_kind == "receivable")
            owed[row.attempt_id] -= row.amount_micros * (row.credit_kind == "receivable")
        for sale in self.books.sales:
            credited = self.books.credited[sale.attempt_id]
            assert 0 <= credited <= sale.price_micros
            assert owed[sale.attempt_id] == sale.price_micros - credited

    @invariant()
    def a_seller_gives_back_no_more_than_its_payout(self) -> None:
        given = Counter[str]()
        for case in self.books.cases.values():
            given[case.attempt_id] += case.clawback_micros
        for sale in self.books.sales:
            assert given[sale.attempt_id] <= sale.payout_micros

    @invariant()
    def no_limit_is_passed(self) -> None:
        if not self.books.sales:
            return
        held = Counter(c.reason for c in self.books.cases.values() if c.state in HOLDS)
        asked = {"sales": len(self.books.sales), "rounding": self.terms.rounding}
        most = allowed(self.terms.max_rate, self.terms.max_count, **asked)
        assert most is None or held.total() <= most
        assert isinstance(self.terms.reasons, dict)
        for reason, agreed in self.terms.reasons.items():
            most = allowed(agreed.max_rate, agreed.max_count, **asked)
            assert most is None or held[reason] <= most

    @invariant()
    def a_sale_has_one_return_that_is_open_or_granted(self) -> None:
        held = Counter(c.attempt_id for c in self.books.cases.values() if c.state in HOLDS)
        assert max(held.values(), default=0) <= 1

    @invariant()
    def whoever_waits_has_a_day_and_no_money(self) -> None:
        for case in self.books.cases.values():
            assert case.reason in REASONS
            if case.state in OPEN:
                assert case.due_at is not None
                assert case.decided_at is None
            if case.state != "granted":
                assert case.credit_micros == case.clawback_micros == 0

    @invariant()
    def every_chain_holds(self) -> None:
        for rows in self.books.chains.values():
            assert verify(rows) is None


def test_the_books_hold_whatever_is_returned() -> None:
    run_state_machine_as_test(
        ReturnMachine,
        settings=settings(
            max_examples=200,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_sale_that_was_credited_behind_the_books_is_caught() -> None:
    """The breach: a credit that no transfer made."""
    machine = ReturnMachine()
    machine.agreed(ReturnTerms(), "1", 240)
    machine.books.credited[machine.books.sales[0].attempt_id] += 1
    try:
        machine.a_credit_is_within_the_price_and_is_what_the_buyer_no_longer_owes()
    except AssertionError:
        return
    raise AssertionError("not caught")
