"""Sales, returns, corrected prices, payments, adjustments, write-offs and closed periods in any
order Hypothesis can think of, in two currencies: what always holds of the books."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from exchange.core.accruals import (
    Exposure,
    accrual_transfers,
    accruals,
    release_transfers,
    totals,
)
from exchange.core.entries import (
    CorrectedSale,
    Correction,
    Entry,
    NotBooked,
    corrected,
    correction_transfers,
    entry_transfers,
    write_off_room,
)
from exchange.core.ledger import (
    AccountName,
    TransferCode,
    balances,
    derived_id,
    return_transfers,
    sale_transfers,
)
from exchange.core.money import credit_parts
from exchange.core.periods import MARGIN, MOMENT
from exchange.core.records import TransferRow

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
CURRENCIES = st.sampled_from(["USD", "CAD"])
BUYER, SELLER = 3, 2
Balances = dict[AccountName, int]


class BooksMachine(RuleBasedStateMachine):
    """Time only goes forward; whatever is booked is dated now."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number = START, 0
        self.rows: dict[str, TransferRow] = {}
        self.sales: dict[str, CorrectedSale] = {}
        self.legs: dict[str, tuple[TransferRow, ...]] = {}
        self.returns: Counter[str] = Counter()
        self.closed: list[tuple[datetime, Balances]] = []
        self.reserved: tuple[TransferRow, ...] = ()

    def an_id(self) -> str:
        self.number += 1
        return f"019a0000-0000-7000-8000-{self.number:012d}"

    def book(self, rows: Any) -> None:
        for row in rows:
            assert row.transfer_id not in self.rows
            self.rows[row.transfer_id] = row

    def before(self, moment: datetime) -> Balances:
        found = balances(row for row in self.rows.values() if row.at < moment)
        return {name: micros for name, micros in found.items() if micros}

    @rule(price=st.integers(0, 10**7), part=st.integers(0, 1_100), currency=CURRENCIES)
    def sell(self, price: int, part: int, currency: str) -> None:
        payout, sale_id, lead_id = price * part // 1_000, self.an_id(), self.an_id()
        self.legs[sale_id] = sale_transfers(
            attempt_id=sale_id, lead_id=lead_id, buyer_id=BUYER, seller_id=SELLER,
            price_micros=price, payout_micros=payout, fee_micros=price - payout,
            currency=currency, at=self.now,
        )  # fmt: skip
        self.book(self.legs[sale_id])
        self.sales[sale_id] = CorrectedSale(
            attempt_id=sale_id, lead_id=lead_id, buyer_id=BUYER, seller_id=SELLER,
            currency=currency, price_micros=price, payout_micros=payout, credited_micros=0,
            raised_micros=0, parts=0,
        )  # fmt: skip

    @precondition(lambda self: self.sales)
    @rule(data=st.data(), share=st.integers(1, 1_000), borne=st.integers(0, 1_000))
    def give_back(self, data: st.DataObject, share: int, borne: int) -> None:
        """A granted return, in part or whole, of what is left of the price."""
        sale = data.draw(st.sampled_from(list(self.sales.values())))
        credit = (sale.price_micros - sale.credited_micros) * share // 1_000
        if credit == 0:
            return
        at_stake = credit_parts(
            credit, price_micros=sale.price_micros, payout_micros=sale.payout_micros,
            credited_micros=sale.credited_micros,
        )[0]  # fmt: skip
        self.returns[sale.attempt_id] += 1
        self.book(
            return_transfers(
                self.legs[sale.attempt_id], credit_micros=credit,
                clawback_micros=at_stake * borne // 1_000, credited_micros=sale.credited_micros,
                part=self.returns[sale.attempt_id], at=self.now,
            )
        )  # fmt: skip
        self.sales[sale.attempt_id] = replace(sale, credited_micros=sale.credited_micros + credit)

    @precondition(lambda self: self.sales)
    @rule(data=st.data(), price=st.integers(0, 2 * 10**7))
    def correct(self, data: st.DataObject, price: int) -> None:
        sale = data.draw(st.sampled_from(list(self.sales.values())))
        if price == sale.stands_at:
            return
        raised, credited = corrected(sale, price)
        made = Correction(
            correction_id=self.an_id(), key="k", lead_id=sale.lead_id, by="me", why="why",
            attempt_id=sale.attempt_id, raised_micros=raised, credited_micros=credited, at=self.now,
        )  # fmt: skip
        self.book(correction_transfers(sale, made))
        self.sales[sale.attempt_id] = replace(
            sale,
            credited_micros=sale.credited_micros + credited,
            raised_micros=sale.raised_micros + raised,
            parts=sale.parts + 1,
        )
        assert self.sales[sale.attempt_id].stands_at == price

    @rule(micros=st.integers(1, 10**8), currency=CURRENCIES)
    def pay(self, micros: int, currency: str) -> None:
        payment = self.an_id()
        self.book(
            [
                TransferRow(
                    transfer_id=derived_id(payment, int(TransferCode.PAYMENT), 1),
                    lead_id=payment, attempt_id=None, code=int(TransferCode.PAYMENT),
                    debit_party=1, debit_kind="cash", credit_party=BUYER,
                    credit_kind="receivable", amount_micros=micros, currency=currency,
                    reverses=None, at=self.now,
                )
            ]
        )  # fmt: skip

    @rule(
        kind=st.sampled_from(["buyer", "seller"]),
        micros=st.integers(-(10**7), 10**7).filter(bool),
        currency=CURRENCIES,
    )
    def adjust(self, kind: Any, micros: int, currency: str) -> None:
        self.book(entry_transfers(self.entry("adjustment", kind, currency, micros)))

    @rule(kind=st.sampled_from(["buyer", "seller"]), currency=CURRENCIES)
    def write_off(self, kind: Any, currency: str) -> None:
        name = (BUYER, "receivable") if kind == "buyer" else (SELLER, "payable")
        owed = balances(self.rows.values()).get((*name, currency), 0)
        try:
            micros = write_off_room(owed, None)
        except NotBooked:
            assert owed <= 0
            return
        signed = -micros if kind == "buyer" else micros
        self.book(entry_transfers(self.entry("write_off", kind, currency, signed)))
        assert balances(self.rows.values())[*name, currency] == 0

    def entry(self, kind: Any, party_kind: Any, currency: str, micros: int) -> Entry:
        return Entry(
            entry_id=self.an_id(), key="k", kind=kind, party_kind=party_kind, currency=currency,
            party_id=BUYER if party_kind == "buyer" else SELLER, amount_micros=micros, cites="",
            by="me", why="why", at=self.now,
        )  # fmt: skip

    @rule(lost=st.integers(0, 10**9), returned=st.integers(0, 100), currency=CURRENCIES)
    def close(self, lost: int, returned: int, currency: str) -> None:
        """Everything up to the margin is closed; the accrual is the last that is dated there."""
        until = self.now - MARGIN
        if self.closed and self.closed[-1][0] >= until:
            return
        accrued = accruals(
            [
                Exposure(
                    contract_id=1, vertical_id=1, currency=currency, open_sales=1,
                    open_micros=lost, loss_micros=lost, ended_sales=100, ended_micros=100,
                    credited_micros=returned,
                )
            ]
        )  # fmt: skip
        set_aside = accrual_transfers(len(self.closed), until - MOMENT, totals(accrued))
        self.book(release_transfers(self.reserved, until - MOMENT))
        self.book(set_aside)
        self.reserved = set_aside
        self.closed.append((until, self.before(until)))

    @rule(hours=st.integers(1, 60))
    def later(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def every_currency_sums_to_zero(self) -> None:
        sums = Counter[str]()
        for (_, _, currency), micros in balances(self.rows.values()).items():
            sums[currency] += micros
        assert not any(sums.values())

    @invariant()
    def no_leg_is_taken_back_beyond_its_amount(self) -> None:
        back = Counter[str]()
        for row in self.rows.values():
            if row.reverses is not None:
                back[row.reverses] += row.amount_micros
        for leg, micros in back.items():
            assert micros <= self.rows[leg].amount_micros

    @invariant()
    def a_sale_is_owed_what_it_stands_at(self) -> None:
        owed = Counter[str | None]()
        for row in self.rows.values():
            owed[row.attempt_id] += row.amount_micros * (row.debit_kind == "receivable")
            owed[row.attempt_id] -= row.amount_micros * (row.credit_kind == "receivable")
        for sale in self.sales.values():
            assert 0 <= sale.credited_micros <= sale.price_micros
            assert sale.raised_micros >= 0
            assert owed[sale.attempt_id] == sale.stands_at

    @invariant()
    def a_closed_period_never_changes(self) -> None:
        for until, found in self.closed:
            assert self.before(until) == found

    @invariant()
    def the_reserve_is_what_was_last_set_aside(self) -> None:
        held = Counter[str]()
        for (_, kind, currency), micros in balances(self.rows.values()).items():
            held[currency] -= micros * (kind == "reserve")
        assert +held == Counter({row.currency: row.amount_micros for row in self.reserved})


def test_the_books_hold_whatever_is_booked_and_closed() -> None:
    run_state_machine_as_test(
        BooksMachine,
        settings=settings(
            max_examples=150,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_transfer_dated_back_into_a_closed_period_is_caught() -> None:
    """The breach: what the database's lock refuses."""
    machine = BooksMachine()
    machine.sell(1_000_000, 850, "USD")
    machine.later(30)
    machine.close(0, 0, "USD")
    machine.now = START
    machine.sell(1_000_000, 850, "USD")
    try:
        machine.a_closed_period_never_changes()
    except AssertionError:
        return
    raise AssertionError("not caught")
