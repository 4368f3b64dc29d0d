"""Payments and ageing: parts add up to the whole, whatever is recorded, matched and undone."""

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.ageing import Balance, Open, Paper, aged, bucket_of, open_papers
from exchange.core.billing_checks import iban_holds, routing_holds
from exchange.core.documents import (
    Billed,
    DocumentLine,
    InForce,
    Issuing,
    drafts,
    issued,
    number_of,
)
from exchange.core.messages import Refusal
from exchange.core.money import micros_of
from exchange.core.payments import (
    Booking,
    Match,
    Payment,
    Recorded,
    matched,
    problems_of,
    recorded,
    refunded,
    rest,
    unmatched,
)
from exchange.core.payout_run import CENT_MICROS, Hold, Payable, payouts
from exchange.core.statements import Party, Period
from exchange.core.terms import BankTerms, HouseTerms
from tests.core.test_statements import MARCH

NOW = datetime(2026, 4, 2, tzinfo=UTC)
DAY = date(2026, 4, 2)
amounts = st.integers(1, 10**9)


def paid(amount: int, way: Any = "received", number: int = 1) -> Payment:
    return Payment(
        payment_id=f"p{number}", key=f"k{number}", way=way, party_id=3, currency="USD",
        amount_micros=amount, value_day=DAY, reference="", by="Dana", at=NOW,
    )  # fmt: skip


def paper(number: int, total: int, *, paid_micros: int = 0, cites: Any = None) -> Paper:
    kind = "invoice" if total > 0 else "credit_memo"
    return Paper(
        document_id=f"d{number}", number=f"N{number:03}", kind=kind, party_id=3, currency="USD",
        issued_on=DAY, due_on=DAY + timedelta(days=number), total_micros=total,
        paid_micros=paid_micros, cites=cites or {},
    )  # fmt: skip


def moved(bookings: Any) -> Counter[tuple[int, str]]:
    """Debits less credits by account; a transfer counts once."""
    found: Counter[tuple[int, str]] = Counter()
    for one in {one.transfer_id: one for one in bookings}.values():
        found[one.debit] += one.amount_micros
        found[one.credit] -= one.amount_micros
    return found


@given(amounts, st.lists(amounts, max_size=6))
def test_a_payment_is_its_matches_and_what_is_paid_ahead(amount: int, totals: list[int]) -> None:
    papers = open_papers(paper(n, total) for n, total in enumerate(totals))
    done = recorded(paid(amount), papers, ())
    assert isinstance(done, Recorded)
    balances = moved(done.bookings)
    covered = sum(match.amount_micros for match in done.matches)
    assert covered == min(amount, sum(totals))
    assert balances[1, "cash"] == amount
    assert balances[3, "receivable"] == -covered
    assert balances[3, "prepaid"] == covered - amount
    for match, total in zip(done.matches, totals, strict=False):
        assert 0 < match.amount_micros <= total


@given(amounts, st.lists(amounts, min_size=1, max_size=4), st.data())
def test_accounts_say_what_matches_say_however_often_they_are_undone(
    amount: int, totals: list[int], data: st.DataObject
) -> None:
    payment = paid(amount)
    papers = [paper(n, total) for n, total in enumerate(totals)]
    first = recorded(payment, open_papers(papers), ())
    assert isinstance(first, Recorded)
    matches, bookings = list(first.matches), list[Booking](first.bookings)
    for _ in range(data.draw(st.integers(0, 6))):
        live = [one for one in matches if not one.undone]
        if live and data.draw(st.booleans()):
            number = data.draw(st.sampled_from(sorted({one.number for one in live})))
            done = unmatched(payment, matches, number, by="Dana", why="wrong", at=NOW)
            assert isinstance(done, Recorded)
            gone = {one.part for one in done.undone}
            matches = [_undone(one) if one.part in gone else one for one in matches]
        else:
            done = matched(payment, matches, _open(papers, matches), (), by="Dana", at=NOW)
            if isinstance(done, Refusal):
                continue
            matches += done.matches
        bookings += done.bookings
    balances = moved(bookings)
    left = rest(payment, matches)
    assert balances[3, "prepaid"] == -left
    assert balances[3, "receivable"] == left - amount
    assert balances[1, "cash"] == amount
    assert len({one.part for one in matches}) == len(matches)


def _undone(match: Match) -> Match:
    return Match(
        payment_id=match.payment_id, part=match.part, amount_micros=match.amount_micros,
        code=match.code, document_id=match.document_id, number=match.number, by="Dana", at=NOW,
        undone=True,
    )  # fmt: skip


def _open(papers: list[Paper], matches: list[Match]) -> tuple[Open, ...]:
    live: Counter[str] = Counter()
    for one in matches:
        if not one.undone:
            live[one.number] += one.amount_micros
    return open_papers(
        paper(n, one.total_micros, paid_micros=live[one.number]) for n, one in enumerate(papers)
    )


@given(
    st.lists(st.tuples(amounts, st.integers(0, 100)), max_size=6),
    st.lists(st.tuples(amounts, st.integers(0, 7)), max_size=4),
    amounts | st.just(0),
)
def test_what_is_past_due_less_credits_and_with_what_is_unbilled_is_the_ledgers_balance(
    invoices: list[tuple[int, int]], memos: list[tuple[int, int]], written_off: int
) -> None:
    papers = [
        paper(n, total, paid_micros=total * percent // 100)
        for n, (total, percent) in enumerate(invoices)
    ]
    papers += [
        paper(50 + n, -total, cites={f"N{cited:03}": total // 2})
        for n, (total, cited) in enumerate(memos)
    ]
    paid_micros = sum(one.paid_micros for one in papers)
    traded = sum(one.total_micros for one in papers) + 77
    balance = Balance(
        party_id=3, party="b", currency="USD", prepaid_micros=0, traded_micros=traded,
        receivable_micros=traded - paid_micros - written_off, written_off_micros=written_off,
    )  # fmt: skip
    row = aged(balance, papers, DAY + timedelta(days=40))
    assert row.difference_micros == 0
    assert row.unbilled_micros == 77
    assert min(row.buckets.values()) >= 0
    assert row.credit_micros <= 0


def test_a_memo_takes_off_the_invoice_it_cites_before_the_oldest() -> None:
    papers = [paper(1, 100), paper(2, 100), paper(3, -150, cites={"N002": 150})]
    assert [(one.number, one.open_micros) for one in open_papers(papers)] == [("N001", 50)]


@pytest.mark.parametrize(("days", "bucket"), [
    (-5, "not_due"), (0, "not_due"), (1, "days_1_30"), (30, "days_1_30"), (31, "days_31_60"),
    (60, "days_31_60"), (61, "days_61_90"), (90, "days_61_90"), (91, "over_90"),
])  # fmt: skip
def test_a_bucket_begins_the_day_after_the_last_ends(days: int, bucket: str) -> None:
    assert bucket_of(days) == bucket


@given(st.lists(amounts, min_size=1, max_size=4), st.integers(0, 100))
def test_a_refund_takes_from_the_oldest_and_never_beyond(paids: list[int], percent: int) -> None:
    whole = sum(paids)
    asked = max(1, whole * percent // 100)
    sources = [(paid(one, number=n), ()) for n, one in enumerate(paids)]
    done = refunded(paid(asked, "refund", 99), sources)
    assert isinstance(done, Recorded)
    assert sum(one.amount_micros for one in done.matches) == asked
    assert isinstance(refunded(paid(whole + 1, "refund", 99), sources), Refusal)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"amount_micros": 0}, "amount"),
        ({"currency": "usd"}, "currency"),
        ({"reference": "a\nb"}, "reference"),
        ({"reference": "(310) 555-0123"}, "reference"),
        ({"key": "jo@example.com"}, "key"),
        ({"by": ""}, "by"),
    ],
)
def test_a_payment_told_wrongly_is_told_by_field(said: dict[str, Any], field: str) -> None:
    good: dict[str, Any] = {"amount_micros": 5, "currency": "USD", "reference": "WIRE 7",
                            "key": "k", "by": "Dana"}  # fmt: skip
    assert problems_of(**good) == ()
    assert [one.field for one in problems_of(**good | said)] == [field]


# --- documents ------------------------------------------------------------------------------------


@given(st.sampled_from(["buyer", "seller"]),
       st.lists(st.integers(-(10**9), 10**9).filter(bool), max_size=12))  # fmt: skip
def test_documents_and_their_lines_add_up_to_what_was_moved(kind: Any, moves: list[int]) -> None:
    billed = Billed(party=Party(id=3, kind=kind, key="x", name=""), cycle="month", days=30)
    at = MARCH.since + timedelta(hours=1)
    lines = [
        DocumentLine(at=at, kind="sale" if one > 0 else "return", document=f"a{n}", lead_id=f"l{n}",
                     item="i", reference="", amount_micros=one, sold_at=at)
        for n, one in enumerate(moves)
    ]  # fmt: skip
    found = drafts(billed, "USD", lines)
    assert sum(one.total_micros for one in found) == sum(moves)
    before = [InForce(kind="invoice", party_id=3, currency="USD", number="INV-2026-000001",
                      total_micros=1, since=MARCH.since, until=MARCH.until)]  # fmt: skip
    issuing = Issuing(period=MARCH, issued_on=DAY, issued_by="Dana", house=HouseTerms())
    for draft in found:
        made = issued(draft, 7, "id", issuing, before)
        said = _said(made)
        assert sum(_signed(line[-1]) for line in said["lines"]) == draft.total_micros
        assert sum(_signed(row[-1]) for row in said["summary"]) == draft.total_micros
        assert made == issued(draft, 7, "id", issuing, before)
        if draft.kind == "credit_memo":
            assert made.cites == {"INV-2026-000001": -draft.total_micros}


def _said(made: Any) -> Any:
    return json.loads(made.content)


def _signed(text: str) -> int:
    return (-1 if text[0] == "-" else 1) * micros_of(text.lstrip("-"), most_micros=2**62)


def test_numbers_beyond_a_million_stay_whole() -> None:
    assert number_of("invoice", 2026, 1_234_567) == "INV-2026-1234567"
    assert number_of("credit_memo", 2026, 7) == "CM-2026-000007"


def test_a_period_keeps_its_zone() -> None:
    assert Period(first=DAY, last=DAY, zone=MARCH.zone).since.tzinfo is MARCH.zone


# --- payouts --------------------------------------------------------------------------------------

BANK = BankTerms(account="12345678")


@pytest.mark.parametrize(
    ("settled", "since", "paid_so_far", "holds", "minimum", "bank", "state", "amount"),
    [
        (100, 50, 0, [], 0, BANK, "pay", 100),
        (100, -30, 0, [], 0, BANK, "pay", 70),
        (100, 0, -60, [], 0, BANK, "pay", 40),
        (100, 0, -100, [], 0, BANK, "held", 0),  # less than a cent
        (100, 0, -130, [], 0, BANK, "nothing_due", 0),
        (100, 0, 0, [None], 0, BANK, "held", 0),
        (100, 0, 0, [30, 20], 0, BANK, "pay", 50),
        (100, 0, 0, [200], 0, BANK, "held", 0),
        (100, 0, 0, [], 101, BANK, "below_minimum", 100),
        (100, 0, 0, [], 0, None, "no_account", 100),
    ],
)
def test_a_seller_is_paid_what_is_due_less_what_is_kept_back(
    settled: int, since: int, paid_so_far: int, holds: list[int | None], minimum: int,
    bank: BankTerms | None, state: str | None, amount: int,
) -> None:  # fmt: skip
    billed = Billed(party=Party(id=2, kind="seller", key="s", name=""), cycle="month", days=0,
                    bank=bank, minimum_micros=minimum * CENT_MICROS)  # fmt: skip
    payable = Payable(
        party_id=2, currency="USD", settled_micros=settled * CENT_MICROS + 7,
        since_micros=since * CENT_MICROS, paid_micros=paid_so_far * CENT_MICROS,
        statement="PS-2026-000001", payments=3,
    )  # fmt: skip
    kept = [
        Hold(party_id=2, currency=one and "USD", amount_micros=one and one * CENT_MICROS)
        for one in holds
    ]
    found = payouts([payable], {2: billed}, kept)
    if state is None:
        assert found == ()
        return
    (one,) = found
    assert (one.state, one.amount_micros) == (state, amount * CENT_MICROS)
    assert one.key == "PS-2026-000001-4"


@pytest.mark.parametrize(("iban", "holds"), [
    ("DE89370400440532013000", True), ("GB82WEST12345698765432", True),
    ("DE88370400440532013000", False), ("DE89 3704", False), ("", False),
])  # fmt: skip
def test_the_check_digits_of_an_iban_find_a_slip(iban: str, holds: bool) -> None:
    assert iban_holds(iban) is holds


@pytest.mark.parametrize(
    ("routing", "holds"), [("021000021", True), ("021000012", False), ("1", False)]
)
def test_the_check_digit_of_a_routing_number_finds_a_slip(routing: str, holds: bool) -> None:
    assert routing_holds(routing) is holds
