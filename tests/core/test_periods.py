"""The checklist, the order of periods, and the accrual of expected returns."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.accruals import (
    PULL,
    Exposure,
    accrual_transfers,
    accruals,
    dated_id,
    open_since,
    rate_of,
    release_transfers,
    shrunk,
)
from exchange.core.ledger import balances
from exchange.core.periods import (
    LINES,
    MARGIN,
    NEVER_WAIVED,
    Found,
    PeriodRow,
    checklist,
    locked,
    next_days,
    standing_against,
)
from exchange.core.return_policy import MILLION, closes_at
from exchange.core.terms import ReturnTerms, WindowTerms

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)


def period(number: int = 1, *, closed: bool = False) -> PeriodRow:
    first = date(2026, 9 + number, 1)
    since = datetime(first.year, first.month, 1, tzinfo=UTC)
    until = (since + timedelta(days=31)).replace(day=1)
    return PeriodRow(
        id=number, first=first, last=until.date() - timedelta(days=1), zone="UTC", since=since,
        until=until, opened_at=since, opened_by="me", closed_at=until if closed else None,
    )  # fmt: skip


def test_a_period_that_nothing_stands_against_may_close() -> None:
    lines = checklist(period(), {})
    assert all(line.holds for line in lines)
    assert standing_against(lines, ()) == ()


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_does_not_hold_stands_against_closing_unless_it_may_be_waived(
    name: Any,
) -> None:
    lines = checklist(period(), {name: Found(wrong=3, first=("a",))})
    (line,) = standing_against(lines, ())
    assert (line.name, line.says[:2], bool(line.mend)) == (name, "3 ", True)
    assert bool(standing_against(lines, (name,))) == (name in NEVER_WAIVED)


@pytest.mark.parametrize(
    ("late", "first_closed", "wrong"),
    [(MARGIN, True, 0), (MARGIN - timedelta(seconds=1), True, 1), (timedelta(0), False, 2)],
)
def test_a_period_is_locked_until_the_margin_and_its_turn(
    late: timedelta, first_closed: bool, wrong: int
) -> None:
    one, two = period(1, closed=first_closed), period(2)
    assert locked(two, [one, two], two.until + late).wrong == wrong


@pytest.mark.parametrize(
    ("known", "first", "last", "days"),
    [
        ([], date(2026, 10, 1), date(2026, 10, 31), (date(2026, 10, 1), date(2026, 10, 31))),
        ([1], None, date(2026, 11, 30), (date(2026, 11, 1), date(2026, 11, 30))),
        ([1], date(2026, 11, 2), date(2026, 11, 30), None),
        ([1], None, date(2026, 10, 31), None),
        ([], None, date(2026, 10, 31), None),
    ],
)
def test_periods_follow_one_another(
    known: list[int], first: date | None, last: date, days: Any
) -> None:
    rows = [period(number) for number in known]
    if days is not None:
        assert next_days(rows, first, last) == days
    else:
        with pytest.raises(ValueError, match="period"):
            next_days(rows, first, last)


# --- accruals -------------------------------------------------------------------------------------


@given(rate=st.integers(0, MILLION), sales=st.integers(0, 10**6), towards=st.integers(0, MILLION))
def test_a_rate_is_drawn_between_its_own_and_its_verticals(
    rate: int, sales: int, towards: int
) -> None:
    found = shrunk(rate, sales, towards)
    assert min(rate, towards) <= found <= max(rate, towards)
    assert shrunk(rate, 0, towards) == towards
    assert shrunk(rate, PULL, towards) in ((rate + towards) // 2, (rate + towards + 1) // 2)


def test_an_accrual_is_the_loss_times_the_rate_rounded_up() -> None:
    assert (rate_of(1, 3), rate_of(2, 3), rate_of(5, 0)) == (333_333, 666_667, 0)
    (one,) = accruals(
        [
            Exposure(
                contract_id=1, vertical_id=1, currency="USD", open_sales=2, open_micros=20,
                loss_micros=11, ended_sales=50, ended_micros=100, credited_micros=10,
            ),
            Exposure(
                contract_id=2, vertical_id=1, currency="USD", ended_sales=50, ended_micros=100,
                credited_micros=30,
            ),
        ]
    )  # fmt: skip
    assert (one.vertical_rate, one.rate, one.amount_micros) == (200_000, 150_000, 2)


@given(st.dictionaries(st.sampled_from(["USD", "CAD"]), st.integers(0, 10**12)))
def test_what_is_set_aside_is_taken_back_whole(amounts: dict[str, int]) -> None:
    rows = accrual_transfers(7, UNTIL, amounts)
    assert {row.currency: row.amount_micros for row in rows} == {
        currency: micros for currency, micros in amounts.items() if micros
    }
    later = UNTIL + timedelta(days=30)
    assert not any(balances([*rows, *release_transfers(rows, later)]).values())
    assert all(row.lead_id == dated_id(UNTIL, "period 7") for row in rows)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize(
    "window",
    [
        ReturnTerms(),
        WindowTerms(window_hours=24, window_from="next_month"),
        WindowTerms(window_business_days=5),
        WindowTerms(window_until_day=10),
    ],
)
def test_the_first_open_sale_is_found_to_the_second(window: WindowTerms, zone: str) -> None:
    for days in range(0, 40, 3):
        until = UNTIL + timedelta(days=days, hours=5)
        first = open_since(window, zone, until)
        if first < until:
            assert closes_at(window, first, zone) > until
        assert closes_at(window, first - timedelta(seconds=1), zone) <= until
