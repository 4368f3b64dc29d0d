"""Windows that close when the agreement says, whatever the clocks do; limits as whole leads; a
record held against the contract it was sold under."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.reasons import ReturnReason
from exchange.core.return_policy import (
    agreed_for,
    allowed,
    clawback_share,
    closes_at,
    cycle_of,
    kept,
    lapses_at,
)
from exchange.core.terms import ClawbackTerms, ReasonTerms, ReturnTerms, WindowTerms

NEW_YORK, HAVANA, BEIRUT = "America/New_York", "America/Havana", "Asia/Beirut"
hours, days, until = "window_hours", "window_business_days", "window_until_day"


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("terms", "zone", "sold", "closes"),
    [
        # hours pass alike in winter, in summer and in between; the clocks change on March 8
        ({}, NEW_YORK, "2026-01-05 12:00", "2026-01-10 17:00"),
        ({hours: 24}, NEW_YORK, "2026-03-07 12:00", "2026-03-08 17:00"),
        ({hours: 24}, NEW_YORK, "2026-10-31 12:00", "2026-11-01 16:00"),
        # business days end at a midnight; the day of delivery is none of them
        ({days: 1}, NEW_YORK, "2026-01-05 00:00", "2026-01-07 05:00"),  # Mon: to the end of Tue
        ({days: 1}, NEW_YORK, "2026-01-05 23:59", "2026-01-07 05:00"),
        ({days: 1}, NEW_YORK, "2026-01-09 12:00", "2026-01-13 05:00"),  # Fri: to the end of Mon
        ({days: 1}, NEW_YORK, "2026-01-10 12:00", "2026-01-13 05:00"),  # Sat
        ({days: 1}, NEW_YORK, "2026-01-11 12:00", "2026-01-13 05:00"),  # Sun
        ({days: 5}, NEW_YORK, "2026-01-07 12:00", "2026-01-15 05:00"),  # Wed: to the end of Wed
        ({days: 1}, NEW_YORK, "2026-03-06 12:00", "2026-03-10 04:00"),  # over the change in spring
        ({days: 1}, NEW_YORK, "2026-10-30 12:00", "2026-11-03 05:00"),  # and in autumn
        ({days: 1}, BEIRUT, "2026-03-26 12:00", "2026-03-27 22:00"),
        # to the end of a day of the next month
        ({until: 5}, NEW_YORK, "2026-01-01 00:00", "2026-02-06 05:00"),
        ({until: 5}, NEW_YORK, "2026-01-31 23:59", "2026-02-06 05:00"),
        ({until: 5}, NEW_YORK, "2026-12-31 12:00", "2027-01-06 05:00"),
        ({until: 31}, NEW_YORK, "2026-01-31 12:00", "2026-03-01 05:00"),  # February has no 31st
        ({until: 31}, NEW_YORK, "2026-02-10 12:00", "2026-04-01 04:00"),
        ({until: 28}, BEIRUT, "2026-02-10 12:00", "2026-03-28 22:00"),  # midnight is skipped there
        ({until: 31}, HAVANA, "2026-09-10 12:00", "2026-11-01 04:00"),  # and comes twice there
        # from the 1st of the next month
        ({hours: 9, "window_from": "next_month"}, NEW_YORK, "2026-01-15 12:00", "2026-02-01 14:00"),
        ({days: 1, "window_from": "next_month"}, NEW_YORK, "2026-01-15 12:00", "2026-02-03 05:00"),
        ({days: 1, "window_from": "next_month"}, NEW_YORK, "2025-12-15 12:00", "2026-01-02 05:00"),
    ],
)  # fmt: skip
def test_a_window_closes_when_the_agreement_says(
    terms: dict[str, Any], zone: str, sold: str, closes: str
) -> None:
    assert closes_at(WindowTerms(**terms), at(sold, zone), zone) == at(closes)


moments = st.datetimes(datetime(2025, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from((NEW_YORK, HAVANA, BEIRUT, "Asia/Kathmandu", "Pacific/Apia", "UTC"))


@given(sold=moments, zone=zones, number=st.integers(1, 260))
def test_business_days_are_counted_one_by_one(sold: datetime, zone: str, number: int) -> None:
    closes = closes_at(WindowTerms(window_business_days=number), sold, zone)
    day, counted = sold.astimezone(ZoneInfo(zone)).date(), 0
    while counted < number:
        day += timedelta(days=1)
        counted += day.weekday() < 5
    just_before = (closes - timedelta(seconds=1)).astimezone(ZoneInfo(zone))
    assert just_before.date() == day
    assert closes.astimezone(ZoneInfo(zone)).date() == day + timedelta(days=1)


@given(sold=moments, later=st.integers(0, 10**7), zone=zones, data=st.data())
def test_a_later_sale_never_closes_sooner(
    sold: datetime, later: int, zone: str, data: st.DataObject
) -> None:
    terms = data.draw(
        st.sampled_from(
            [
                WindowTerms(window_hours=72),
                WindowTerms(window_business_days=3),
                WindowTerms(window_until_day=31),
                WindowTerms(window_business_days=2, window_from="next_month"),
            ]
        )
    )
    closes = closes_at(terms, sold, zone)
    assert sold < closes <= closes_at(terms, sold + timedelta(seconds=later), zone)


# --- cycles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cycle", "when", "name", "starts", "ends"),
    [
        ("month", "2026-03-01 04:59", "m2026-02", "2026-02-01 05:00", "2026-03-01 05:00"),
        ("month", "2026-03-01 05:00", "m2026-03", "2026-03-01 05:00", "2026-04-01 04:00"),
        ("month", "2026-12-31 12:00", "m2026-12", "2026-12-01 05:00", "2027-01-01 05:00"),
        ("week", "2026-03-08 12:00", "w2026-10", "2026-03-02 05:00", "2026-03-09 04:00"),
        ("week", "2026-01-01 12:00", "w2026-01", "2025-12-29 05:00", "2026-01-05 05:00"),
    ],
)
def test_a_cycle_is_civil_time_of_the_contracts_zone(
    cycle: Any, when: str, name: str, starts: str, ends: str
) -> None:
    found = cycle_of(at(when), ReturnTerms(cycle=cycle), NEW_YORK)
    assert (found.name, found.starts_at, found.ends_at) == (name, at(starts), at(ends))


@given(when=moments, zone=zones, cycle=st.sampled_from(("week", "month")))
def test_every_moment_lies_in_one_cycle(when: datetime, zone: str, cycle: Any) -> None:
    terms = ReturnTerms(cycle=cycle)
    found = cycle_of(when, terms, zone)
    assert found.starts_at <= when < found.ends_at
    assert cycle_of(found.starts_at, terms, zone) == found
    following = cycle_of(found.ends_at, terms, zone)
    assert (following.starts_at, following != found) == (found.ends_at, True)


def test_an_undecided_case_lapses_after_its_hours() -> None:
    sold = at("2026-03-01 00:00")
    assert lapses_at(sold, ReturnTerms(lapse_hours=48)) == at("2026-03-03 00:00")
    assert lapses_at(sold, None) == at("2026-03-08 00:00")


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "count", "sales", "down", "half_up", "up"),
    [
        ("0.15", None, 100, 15, 15, 15),
        ("0.15", None, 3, 0, 0, 1),
        ("0.15", None, 10, 1, 2, 2),
        ("0.15", None, 9, 1, 1, 2),
        ("0.333333", None, 3, 0, 1, 1),
        ("0.1", None, 0, 0, 0, 0),
        ("0.15", 10, 100, 10, 10, 10),
        ("0.15", 20, 100, 15, 15, 15),
        (None, 7, 0, 7, 7, 7),
        (None, None, 100, None, None, None),
        ("1", None, 5, 5, 5, 5),
        ("0.000001", None, 1, 0, 0, 1),
        ("0", None, 500, 0, 0, 0),
    ],
)
def test_a_rate_becomes_leads_by_the_rounding_rule(
    rate: str | None,
    count: int | None,
    sales: int,
    down: int | None,
    half_up: int | None,
    up: int | None,
) -> None:
    share = None if rate is None else Decimal(rate)
    assert allowed(share, count, sales=sales, rounding="down") == down
    assert allowed(share, count, sales=sales, rounding="half_up") == half_up
    assert allowed(share, count, sales=sales, rounding="up") == up


@given(rate=st.decimals(0, 1, places=6), sales=st.integers(0, 10**6))
def test_rounded_down_a_rate_is_never_passed(rate: Decimal, sales: int) -> None:
    most = allowed(rate, None, sales=sales, rounding="down")
    assert most is not None
    assert most <= rate * sales < most + 1


def test_a_reason_is_agreed_by_a_list_or_by_a_table() -> None:
    few = ReasonTerms(max_count=1)
    listed, tabled = ReturnTerms(reasons=("fraud",)), ReturnTerms(reasons={"fraud": few})
    assert agreed_for(ReturnReason.FRAUD, listed) == ReasonTerms()
    assert agreed_for(ReturnReason.FRAUD, tabled) == few
    for terms in (listed, tabled, None):
        assert agreed_for(ReturnReason.LANGUAGE, terms) is None


@pytest.mark.parametrize(
    ("clawback", "after", "share"),
    [
        (None, 1, "0"),
        (ClawbackTerms(window_hours=48), 47, "1"),
        (ClawbackTerms(window_hours=48), 48, "0"),
        (ClawbackTerms(window_hours=48, share=Decimal("0.5")), 1, "0.5"),
        (ClawbackTerms(), 119, "1"),
    ],
)
def test_a_seller_gives_back_within_its_window_only(
    clawback: ClawbackTerms | None, after: int, share: str
) -> None:
    sold = at("2026-03-01 12:00")
    asked = sold + timedelta(hours=after)
    found = clawback_share(clawback, sold_at=sold, requested_at=asked, zone="UTC")
    assert found == Decimal(share)


# --- the contract at the sale ---------------------------------------------------------------------

TYPES = {"zip": "us_zip", "state": "enum", "age": "int", "born": "date", "owner": "bool"}


@pytest.mark.parametrize(
    ("where", "known", "area", "criteria"),
    [
        ({}, {"zip": "90210"}, True, True),
        ({"state": ["CA"]}, {"state": "CA"}, True, True),
        ({"state": ["CA"]}, {"state": "NV"}, False, True),
        ({"state": ["CA"]}, {}, None, True),
        ({"state": ["CA"]}, {"state": None}, False, True),
        ({"state": ["CA"], "zip": {"prefix": "90"}}, {"state": "CA"}, None, True),
        ({"state": ["CA"], "zip": {"prefix": "90"}}, {"state": "NV"}, False, True),
        ({"age": {"min": 25}}, {"age": 24}, True, False),
        ({"age": {"min": 25}, "owner": True}, {"age": 25}, True, None),
        ({"born": {"max": "2000-01-01"}}, {"born": date(1990, 1, 1)}, True, True),
        ({"source": {"not": ["social"]}}, {"source": "social"}, True, False),
    ],
)
def test_a_record_is_held_against_the_contract_it_was_sold_under(
    where: Any, known: Any, area: bool | None, criteria: bool | None
) -> None:
    found = kept(where, TYPES, known)
    assert (found.area, found.criteria) == (area, criteria)
