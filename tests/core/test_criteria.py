"""What a criterion means, and a contract's hours."""

from datetime import UTC, date, datetime

import pytest

from exchange.core.criteria import BadCriterion
from exchange.core.criteria import test_of as made
from exchange.core.hours import BadHours, is_open, week_of

MET = [
    (["CA", "NV"], "enum", "CA", True),
    (["CA", "NV"], "enum", "OR", False),
    ("CA", "enum", "CA", True),
    (True, "bool", True, True),
    (True, "bool", False, False),
    ({"min": 25, "max": 65}, "int", 25, True),
    ({"min": 25, "max": 65}, "int", 65, True),
    ({"min": 25, "max": 65}, "int", 66, False),
    ({"min": 25}, "int", 24, False),
    ([30, 40], "int", 40, True),
    ({"min": 25, "not": [30]}, "int", 30, False),
    ({"min": "2026-01-01"}, "date", date(2026, 1, 1), True),
    ({"max": date(2026, 1, 1)}, "date", date(2026, 1, 2), False),
    ({"not": ["social"]}, "code", "social", False),
    ({"not": "social"}, "code", "search", True),
    ({"prefix": ["90", "91"]}, "us_zip", "90210", True),
    ({"prefix": "9"}, "us_zip", "10001", False),
    ({"list": ["90210"]}, "us_zip", "90210", True),
    ({"regex": "[A-M].*"}, "code", "LA", True),
    ({"regex": "[A-M]"}, "code", "LA", False),
    ({"list": ["90210", "90211"], "not": ["90211"]}, "us_zip", "90211", False),
]


@pytest.mark.parametrize(("criterion", "field_type", "value", "met"), MET)
def test_a_criterion_is_met_or_not(criterion, field_type, value, met):
    assert made(criterion, field_type).met(value) is met


@pytest.mark.parametrize(("criterion", "field_type", "value", "met"), MET)
def test_a_missing_field_meets_only_what_excludes(criterion, field_type, value, met):
    only_not = isinstance(criterion, dict) and set(criterion) == {"not"}
    assert made(criterion, field_type).met(None) is only_not


BAD = [
    ([], "enum", "an empty list says nothing"),
    ({}, "enum", "an empty table says nothing"),
    ({"around": 3}, "int", "around is not one of min, max, not, prefix, list, regex"),
    ({"min": 9, "max": 3}, "int", "min is more than max: nothing can meet it"),
    ({"min": 9}, "enum", "min and max are for int and date fields, this one is enum"),
    ({"min": "9"}, "int", "a int field is compared with whole numbers"),
    (["yes"], "bool", "a bool field is compared with true or false"),
    ([3], "enum", "a enum field is compared with texts in quotes"),
    (["soon"], "date", "a date is written 1980-12-31"),
    ([3], "date", "a date is written 1980-12-31"),
    ({"prefix": [3]}, "us_zip", 'prefix is a list of texts such as ["90", "91"]'),
    ({"prefix": []}, "us_zip", 'prefix is a list of texts such as ["90", "91"]'),
    ({"prefix": ["9"]}, "int", "prefix is for texts, this field is int"),
    ({"regex": "("}, "code", "regex is not a pattern Python can read"),
    ({"regex": 3}, "code", "regex is not a pattern Python can read"),
    ({"regex": "."}, "date", "regex is for texts, this field is date"),
]


@pytest.mark.parametrize(("criterion", "field_type", "why"), BAD)
def test_a_criterion_that_means_nothing_says_why(criterion, field_type, why):
    with pytest.raises(BadCriterion) as refused:
        made(criterion, field_type)
    assert str(refused.value) == why


def test_no_hours_are_always_open():
    assert week_of({}) is None


@pytest.mark.parametrize(
    ("at", "is_it"),
    [
        (datetime(2026, 3, 6, 15, 0, tzinfo=UTC), True),  # Friday 09:00 in Chicago
        (datetime(2026, 3, 6, 14, 59, tzinfo=UTC), False),
        (datetime(2026, 3, 6, 23, 0, tzinfo=UTC), False),  # 17:00: the end is exclusive
        (datetime(2026, 3, 7, 5, 59, tzinfo=UTC), True),  # Friday 23:59
        (datetime(2026, 3, 7, 15, 0, tzinfo=UTC), False),  # Saturday is not written
        (datetime(2026, 3, 9, 14, 0, tzinfo=UTC), False),  # Monday closed
        (datetime(2026, 3, 13, 14, 0, tzinfo=UTC), True),  # Friday 09:00, summer time now
    ],
)
def test_hours_are_civil_time_in_the_zone(at, is_it):
    week = week_of({"fri": "09:00-17:00, 22:00-24:00", "mon": "closed"})
    assert is_open(week, "America/Chicago", at) is is_it


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9-17", "hours are written"),
        ("09:00-24:30", "a day ends at 24:00"),
        ("22:00-06:00", "a span ends after it starts"),
        ("", "hours are written"),
    ],
)
def test_bad_hours_say_why(text, why):
    with pytest.raises(BadHours, match=why):
        week_of({"mon": text})
