"""Cap windows: their names, their ends, and what an edit of the market does to them."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.caps import (
    LIMIT_MAX,
    NoZone,
    SalesThen,
    cap_of,
    forget_at_ms,
    held_windows,
    needs_zone,
    parts_of,
    period_of,
    recounted,
    resets_at,
    segment_of,
    win_of,
    windows,
)
from exchange.core.model import Cap, Contract
from exchange.core.terms import ContractTerms

PERIODS = ("hour", "day", "week", "month", "total")


def cap(per="day", *, limit=5, unit="leads", each=None, index=0) -> Cap:
    return Cap(index=index, unit=unit, limit=limit, per=per, each=each)


def contract(*caps: Cap) -> Contract:
    return Contract(
        id=7,
        key="acme-west",
        buyer_id=3,
        vertical_id=1,
        terms=ContractTerms(buyer="acme", vertical="auto"),
        price_micros=None,
        bid_min_micros=0,
        bid_max_micros=None,
        caps=tuple(caps),
        time_zone=None,
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def windows_at(*caps: Cap, at="2026-11-01T12:00", zone="UTC", fields=None, price=20_000_000):
    return windows(contract(*caps), fields=fields or {}, price_micros=price, at=utc(at), zone=zone)


@pytest.mark.parametrize(
    ("per", "at", "zone", "period", "resets"),
    [
        ("day", "2026-11-01T04:59", "America/Chicago", "d2026-10-31", "2026-11-01T05:00"),
        # A day of 25 hours: from UTC-5 to UTC-6.
        ("day", "2026-11-01T05:00", "America/Chicago", "d2026-11-01", "2026-11-02T06:00"),
        # A day of 23 hours.
        ("day", "2026-03-08T06:00", "America/Chicago", "d2026-03-08", "2026-03-09T05:00"),
        # Zones off by 45 and 30 minutes; half an hour of daylight saving.
        ("day", "2026-06-01T18:14", "Asia/Kathmandu", "d2026-06-01", "2026-06-01T18:15"),
        ("day", "2026-06-01T18:15", "Asia/Kathmandu", "d2026-06-02", "2026-06-02T18:15"),
        ("day", "2026-06-01T18:29", "Asia/Kolkata", "d2026-06-01", "2026-06-01T18:30"),
        ("day", "2026-04-04T13:00", "Australia/Lord_Howe", "d2026-04-05", "2026-04-05T13:30"),
        # Midnight itself is skipped (Beirut) or the clocks go back to the day before (Asuncion).
        ("day", "2022-03-26T21:59", "Asia/Beirut", "d2022-03-26", "2022-03-26T22:00"),
        ("day", "2022-03-26T22:00", "Asia/Beirut", "d2022-03-27", "2022-03-27T21:00"),
        ("day", "2023-03-26T02:59", "America/Asuncion", "d2023-03-25", "2023-03-26T04:00"),
        ("day", "2023-03-26T03:00", "America/Asuncion", "d2023-03-25", "2023-03-26T04:00"),
        # A civil day that never was.
        ("day", "2011-12-30T09:59", "Pacific/Apia", "d2011-12-29", "2011-12-30T10:00"),
        ("day", "2011-12-30T10:00", "Pacific/Apia", "d2011-12-31", "2011-12-31T10:00"),
        # Hours are UTC's, also in the hour that a zone has twice or shifts by half.
        ("hour", "2026-11-01T06:30", "America/Chicago", "h498198", "2026-11-01T07:00"),
        ("hour", "2026-11-01T07:30", "America/Chicago", "h498199", "2026-11-01T08:00"),
        ("hour", "2026-06-01T18:59:59", "Asia/Kolkata", "h494538", "2026-06-01T19:00"),
        # ISO weeks: the last days of a year may lie in week 1 of the next, or in a week 53.
        ("week", "2026-12-31T23:00", "Europe/Berlin", "w2026-53", "2027-01-03T23:00"),
        ("week", "2024-12-30T12:00", "UTC", "w2025-01", "2025-01-06T00:00"),
        ("week", "2027-01-03T23:00", "Europe/Berlin", "w2027-01", "2027-01-10T23:00"),
        ("month", "2026-12-31T23:30", "Europe/Berlin", "m2027-01", "2027-01-31T23:00"),
        ("month", "2026-12-31T22:30", "Europe/Berlin", "m2026-12", "2026-12-31T23:00"),
        ("month", "2028-02-29T12:00", "UTC", "m2028-02", "2028-03-01T00:00"),
        ("total", "2026-12-31T23:30", None, "t", None),
    ],
)
def test_a_moment_lies_in_the_period_and_its_end_is_the_reset(per, at, zone, period, resets):
    assert period_of(cap(per), utc(at), zone) == period
    assert resets_at(cap(per), utc(at), zone) == (utc(resets) if resets else None)


ZONES = sorted(available_timezones())
SECONDS = st.integers(
    int(datetime(2012, 1, 1, tzinfo=UTC).timestamp()),
    int(datetime(2037, 12, 1, tzinfo=UTC).timestamp()),
)


@given(
    per=st.sampled_from(("hour", "day", "week", "month")),
    zone=st.sampled_from(ZONES),
    second=SECONDS,
)
def test_a_window_lasts_until_its_reset_and_no_longer(per, zone, second):
    at = datetime.fromtimestamp(second, UTC)
    resets = resets_at(cap(per), at, zone)
    assert resets > at
    period = period_of(cap(per), at, zone)
    assert period_of(cap(per), resets - timedelta(microseconds=1), zone) == period
    assert period_of(cap(per), resets, zone) != period


@given(
    per=st.sampled_from(PERIODS),
    zone=st.sampled_from(ZONES),
    second=SECONDS,
)
def test_a_window_is_not_forgotten_before_two_days_after_its_end(per, zone, second):
    at = datetime.fromtimestamp(second, UTC)
    name = win_of(7, cap(per), at=at, zone=zone, segment=None)
    resets = resets_at(cap(per), at, zone)
    if resets is None:
        assert forget_at_ms(name) == 0
    else:
        left = datetime.fromtimestamp(forget_at_ms(name) / 1000, UTC) - resets
        assert timedelta(hours=47, minutes=59) <= left <= timedelta(hours=48 + 12 + 14)


def test_a_repeated_midnight_that_is_over_is_not_the_next_reset():
    # St. John's went back at 00:01 to 23:01 of the day before.
    before_second_midnight = datetime(2010, 11, 7, 3, 0, tzinfo=UTC)
    zone = "America/St_Johns"
    resets = resets_at(cap("day"), before_second_midnight, zone)
    assert resets == datetime(2010, 11, 7, 3, 30, tzinfo=UTC)
    assert resets.astimezone(ZoneInfo(zone)).isoformat() == "2010-11-07T00:00:00-03:30"


@pytest.mark.parametrize("per", ["day", "week", "month"])
def test_civil_periods_have_no_default_zone(per):
    assert needs_zone(cap(per))
    with pytest.raises(NoZone):
        windows_at(cap(per), zone=None)
    with pytest.raises(NoZone):
        resets_at(cap(per), utc("2026-11-01T12:00"), None)


@pytest.mark.parametrize("per", ["hour", "total"])
def test_hours_and_totals_need_no_zone(per):
    assert not needs_zone(cap(per))
    assert len(windows_at(cap(per), zone=None)) == 1


def test_a_sale_counts_one_lead_or_its_price_in_every_cap():
    found = windows_at(
        cap("day", limit=50),
        cap("month", unit="money", limit=5_000_000_000, index=1),
        cap("day", limit=10, each="state", index=2),
        fields={"state": "CA"},
    )
    assert [(one.win, one.limit, one.amount, one.cap_index) for one in found] == [
        ("7.0.d2026-11-01", 50, 1, 0),
        ("7.1.m2026-11", 5_000_000_000, 20_000_000, 1),
        ("7.5488748022.d2026-11-01.inaq", 10, 1, 2),
    ]


def test_editing_a_cap_never_changes_the_name_of_its_window():
    before = {one.win for one in windows_at(cap(limit=50), cap("month", index=1))}
    edited = {one.win for one in windows_at(cap("month", limit=1), cap(limit=60, index=1))}
    assert before == edited
    assert {one.win for one in windows_at(cap("month"))} < before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (cap(), cap(unit="money")),
        (cap(), cap("week")),
        (cap(), cap(each="state")),
        (cap(each="state"), cap(each="zip")),
        (cap(each="state"), cap(each="state", unit="money")),
    ],
)
def test_caps_that_count_different_things_never_share_a_window(one, other):
    assert len(windows_at(one, other, fields={"state": "CA", "zip": "CA"})) == 2


def test_two_caps_of_one_kind_share_a_window_and_the_smaller_limit_holds():
    found = windows_at(cap(limit=9), cap(limit=4, index=1), cap(limit=6, index=2))
    assert [(one.limit, one.cap_index, one.amount) for one in found] == [(4, 1, 1)]


def test_windows_come_in_one_order_whatever_the_order_of_the_caps():
    one, other = cap("day"), cap("month", unit="money", index=1)
    names = [window.win for window in windows_at(one, other)]
    assert names == sorted(names) == [window.win for window in windows_at(other, one)]


def test_a_limit_beyond_what_lua_counts_exactly_is_held_to_it():
    (window,) = windows_at(cap(unit="money", limit=2**60))
    assert window.limit == LIMIT_MAX == 2**53 - 1


@pytest.mark.parametrize(
    ("value", "text"),
    [("CA", "CA"), (7, "7"), (True, "true"), (date(2026, 1, 2), "2026-01-02"), (None, "")],
)
def test_a_segment_is_a_fields_value_as_text(value, text):
    (window,) = windows_at(cap(each="field"), fields={"field": value})
    assert segment_of(value) == text == parts_of(window.win).segment


@given(
    per=st.sampled_from(PERIODS),
    each=st.sampled_from([None, "state"]),
    segment=st.text(),
)
def test_a_name_can_be_taken_apart_and_is_safe_in_a_hold(per, each, segment):
    at = utc("2026-11-01T12:00")
    name = win_of(7, cap(per, each=each), at=at, zone="UTC", segment=each and segment)
    parts = parts_of(name)
    assert parts.contract_id == 7
    assert parts.period == period_of(cap(per), at, "UTC")
    assert parts.segment == (each and segment)
    assert not set(name) & set("=;@:{} ")


def test_a_window_leads_back_to_its_cap():
    day, state = cap("day"), cap("day", each="state", index=1)
    terms = contract(day, state)
    by_cap = {
        one.cap_index: cap_of(terms, one.win)
        for one in windows_at(day, state, fields={"state": "CA"})
    }
    assert by_cap == {0: day, 1: state}
    assert cap_of(contract(state), "7.0.d2026-11-01") is None
    assert cap_of(terms, "8.0.d2026-11-01") is None


def test_the_windows_of_an_attempt_are_read_back_from_its_row():
    found = windows_at(cap(), cap("month", unit="money", index=1))
    rows = [[one.win, one.limit, one.amount] for one in found]
    again = held_windows(rows)
    assert [[one.win, one.limit, one.amount] for one in again] == rows


@pytest.mark.parametrize("text", ["", "7", "7.0", "x.0.t", "7.0.d2026-11-01.!"])
def test_a_text_that_is_no_window_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parts_of(text)


# --- recounting -----------------------------------------------------------------------------------


def then(at: str, leads: int = 1, *, fields=None, segments=None) -> SalesThen:
    return SalesThen(
        at=utc(at),
        leads=leads,
        micros=leads * 20_000_000,
        fields=fields or {},
        segments=segments or {},
    )


def test_a_recount_goes_by_the_moments_of_the_sales_in_the_zone_of_today():
    sales = [then("2026-11-01T03:45"), then("2026-11-01T05:00", 2), then("2026-11-02T04:45", 4)]
    caps = contract(cap(), cap("month", unit="money"), cap("total"))
    assert recounted(caps, sales, at=utc("2026-11-01T12:00"), zone="America/Chicago") == {
        "7.0.d2026-11-01": 6,
        "7.1.m2026-11": 120_000_000,
        "7.0.t": 7,
    }
    assert recounted(caps, sales, at=utc("2026-11-01T12:00"), zone="Asia/Kolkata") == {
        "7.0.d2026-11-01": 3,
        "7.1.m2026-11": 140_000_000,
        "7.0.t": 7,
    }


def test_a_recount_says_zero_of_what_counts_no_more():
    sales = [then("2026-10-30T12:00", fields={"state": "CA"})]
    caps = contract(cap(), cap(each="state"))
    counts = recounted(caps, sales, at=utc("2026-11-01T12:00"), zone="UTC")
    of_california = win_of(
        7, cap(each="state"), at=utc("2026-11-01T12:00"), zone="UTC", segment="CA"
    )
    assert counts == {"7.0.d2026-11-01": 0, of_california: 0}


def test_a_recount_believes_the_segment_a_sale_names_before_what_its_ping_said():
    each = cap("total", each="state")
    nevada = parts_of(win_of(7, each, at=utc("2026-11-01T12:00"), zone=None, segment="NV"))
    named = win_of(7, each, at=utc("2026-11-01T12:00"), zone=None, segment="NV")
    sale = then(
        "2026-11-01T12:00", fields={"state": "CA"}, segments={str(nevada.cap): named.split(".")[3]}
    )
    counts = recounted(contract(each), [sale], at=utc("2026-11-01T12:00"), zone=None)
    assert counts == {named: 1}


def test_two_caps_of_one_kind_are_recounted_once():
    caps = contract(cap(limit=5), cap(limit=3, index=1))
    counts = recounted(caps, [then("2026-11-01T12:00")], at=utc("2026-11-01T12:00"), zone="UTC")
    assert counts == {"7.0.d2026-11-01": 1}
