"""Return policies and clawback terms in a market file: nonsense refused on its line, all at once;
two sides that do not fit together are said."""

from datetime import timedelta
from typing import Any

import pytest

from exchange.core.market import doc_of_json, read_market
from exchange.core.market_text import market_text
from exchange.core.plan import doc_of, objects_of
from exchange.core.return_checks import longest_gap
from exchange.core.terms import ReasonTerms, WindowTerms

GOOD = """
[verticals.auto]
currency = "USD"
[verticals.auto.fields]
zip = { type = "us_zip", ping = true }
[sellers.bright]
sources = ["search"]
time_zone = "America/New_York"
clawback = { window_hours = 168, share = 0.5 }
[buyers.acme]
ping_url = "https://acme.example/ping"
post_url = "https://acme.example/post"
status_url = "https://acme.example/status"
time_zone = "America/Chicago"
[contracts.acme-auto]
buyer = "acme"
vertical = "auto"
returns = { window_hours = 120, max_rate = 0.15, reasons = ["invalid_phone", "duplicate"] }
"""
RETURNS = (
    'returns = { window_hours = 120, max_rate = 0.15, reasons = ["invalid_phone", "duplicate"] }'
)
CLAWBACK = "clawback = { window_hours = 168, share = 0.5 }"


def of_returns(text: str) -> str:
    return GOOD.replace(RETURNS, "returns = { " + text + " }")


FULL = """
    window_business_days = 5, cycle = "week", rounding = "half_up", max_rate = 0.2, max_count = 40,
    refer_over = "75.00", appeal_hours = 48, lapse_hours = 96, trusted = { max_rate = 0.05 },
    reasons = { duplicate = {}, fraud = { evidence = ["document"], to_person = true, max_count = 2,
    max_rate = 0.01, credit_percent = 50 } }
""".replace("\n", "")


def test_a_good_policy_has_no_problems_and_reads_back_equal() -> None:
    for text in (GOOD, of_returns(FULL).replace("window_hours = 168", "window_business_days = 9")):
        reading = read_market(text)
        assert (reading.problems, reading.warnings) == ((), ())
        assert reading.doc is not None
        assert read_market(market_text(reading.doc)).doc == reading.doc
        assert doc_of(objects_of(reading.doc)).contracts == reading.doc.contracts


def test_a_policy_says_all_it_can_say() -> None:
    doc = read_market(of_returns(FULL).replace("168", "336")).doc
    assert doc is not None
    terms = doc.contracts["acme-auto"].returns
    assert terms is not None
    assert isinstance(terms.reasons, dict)
    assert terms.reasons["duplicate"] == ReasonTerms()
    assert (terms.window_business_days, terms.refer_over, terms.cycle) == (5, "75.00", "week")


REASONS = ', reasons = ["duplicate"]'
BROKEN = [
    ('reasons = ["duplicat"]', "no return reason duplicat", "did you mean duplicate?"),
    ('reasons = ["duplicate", "duplicate"]', "stands there twice", ""),
    ("max_rate = 0.1", "names no reason", "known: invalid_phone"),
    ("reasons = { lazy = {} }", "no return reason lazy", ""),
    ('reasons = { fraud = { evidence = ["hunch"] } }', "no evidence hunch", "known: call_log"),
    ("reasons = { fraud = { credit_percent = 0 } }", "is more than 0, at most 100", ""),
    ("reasons = { fraud = { credit_percent = 33.33333 } }", "at most four decimals", ""),
    ("reasons = { fraud = { max_rate = 15 } }", "is a share from 0 to 1", "0.15 is 15 %"),
    ("reasons = { fraud = { max_count = -1 } }", "is never below 0", ""),
    ("replace = true, reasons = { fraud = { credit_percent = 50 } }", "is not credited", ""),
    ("window_hours = 0" + REASONS, "lies between 1 and", ""),
    ("window_until_day = 32" + REASONS, "lies between 1 and 31", ""),
    ("window_hours = 5, window_business_days = 5" + REASONS, "a window is said once", ""),
    ('window_until_day = 5, window_from = "next_month"' + REASONS, "counted from its 1st", ""),
    ('window_from = "sale"' + REASONS, "must be one of", ""),
    ("max_rate = 1.5" + REASONS, "is a share from 0 to 1", ""),
    ("max_rate = 0.1234567" + REASONS, "at most six decimals", ""),
    ("max_count = -1" + REASONS, "is never below 0", ""),
    ("appeal_hours = -1" + REASONS, "lies between 0 and", ""),
    ("lapse_hours = 0" + REASONS, "lies between 1 and", ""),
    ('rounding = "nearest"' + REASONS, "must be one of", ""),
    ("refer_over = 75.0" + REASONS, "money is a text in quotes", 'write "75.00"'),
    ("trusted = {}" + REASONS, "trust has a ceiling", ""),
    ("trusted = { max_rate = 2 }" + REASONS, "is a share from 0 to 1", ""),
    ("windows = 5" + REASONS, "no such setting", ""),
]


@pytest.mark.parametrize(("text", "message", "hint"), BROKEN, ids=lambda case: case[:40])
def test_nonsense_in_a_policy_is_refused_on_its_line(text: str, message: str, hint: str) -> None:
    (problem,) = read_market(of_returns(text)).problems
    assert problem.line == 18
    assert problem.path.startswith("contracts.acme-auto.returns")
    assert message in problem.message
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ share = 1.5 }", "is a share from 0 to 1"),
        ("{ window_hours = 1, window_until_day = 2 }", "a window is said once"),
        ("{ window_business_days = 300 }", "lies between 1 and 260"),
    ],
)
def test_nonsense_in_a_clawback_is_refused_on_its_line(text: str, message: str) -> None:
    (problem,) = read_market(GOOD.replace(CLAWBACK, f"clawback = {text}")).problems
    assert (problem.line, message in problem.message) == (9, True)


def test_days_need_a_zone_on_either_side() -> None:
    text = GOOD.replace('time_zone = "America/Chicago"\n', "")
    (problem,) = read_market(text).problems
    assert (problem.path, problem.line) == ("contracts.acme-auto.returns", 17)
    text = GOOD.replace('time_zone = "America/New_York"\n', "")
    assert read_market(text).doc is not None
    (problem,) = read_market(text.replace("window_hours = 168", "window_until_day = 9")).problems
    assert "needs the seller's time zone" in problem.message
    (problem,) = read_market(GOOD.replace("America/New_York", "America/New_Yurk")).problems
    assert "did you mean America/New_York?" in problem.hint


def test_all_mistakes_of_a_policy_are_told_at_once() -> None:
    text = 'window_hours = 0, max_rate = 7, trusted = {}, reasons = ["lazy", "fraud", "fraud"]'
    assert len(read_market(of_returns(text)).problems) == 5


# --- the two sides --------------------------------------------------------------------------------


def warned(text: str) -> list[str]:
    reading = read_market(text)
    assert reading.problems == ()
    return [str(warning) for warning in reading.warnings]


def test_a_seller_that_closes_before_its_buyers_is_warned_about_on_its_line() -> None:
    (warning,) = warned(GOOD.replace("window_hours = 168", "window_hours = 48"))
    assert warning.startswith("line 9: sellers.bright.clawback: closes up to 72 hours before")
    assert "acme-auto" in warning
    assert warned(GOOD.replace("window_hours = 168", "window_hours = 120")) == []


def test_a_seller_without_a_clawback_is_warned_about_where_buyers_may_return() -> None:
    (warning,) = warned(GOOD.replace(CLAWBACK + "\n", ""))
    assert warning.startswith("line 6: sellers.bright: has no clawback")
    assert warned(GOOD.replace(CLAWBACK + "\n", "").replace(RETURNS + "\n", "")) == []


def test_a_contract_that_does_not_buy_from_the_seller_is_no_gap() -> None:
    text = GOOD.replace("window_hours = 168", "window_hours = 48")
    assert warned(text + 'where = { seller = { not = ["bright"] } }\n') == []


def test_the_widest_gap_is_named_and_the_others_are_counted() -> None:
    other = (
        '[contracts.acme-late]\nbuyer = "acme"\nvertical = "auto"\n'
        + of_returns('window_until_day = 10, reasons = ["fraud"]').splitlines()[-1]
    )
    (warning,) = warned(GOOD.replace("168", "48") + other + "\n")
    assert "closes up to 937 hours before the return window of acme-late (and 1 more)" in warning


@pytest.mark.parametrize(
    ("buyers", "sellers", "hours"),
    [
        ({"window_hours": 120}, {"window_hours": 168}, -48),
        ({}, {"window_hours": 48}, 72),
        # Friday's first moment to the end of the next Friday: eight days; an hour more in autumn
        ({"window_business_days": 5}, {"window_hours": 168}, 25),
        # Sunday's last moment to the end of Friday: five days
        ({"window_hours": 168}, {"window_business_days": 5}, 48),
        ({"window_business_days": 5}, {"window_business_days": 5}, 0),
        ({"window_until_day": 5}, {"window_until_day": 7}, -48),
    ],
)
def test_the_longest_gap_is_found_over_all_moments_of_a_sale(
    buyers: dict[str, Any], sellers: dict[str, Any], hours: int
) -> None:
    zone = "America/Chicago"
    gap = longest_gap(WindowTerms(**buyers), zone, WindowTerms(**sellers), zone)
    assert gap - timedelta(hours=hours) <= timedelta(seconds=0)
    assert gap > timedelta(hours=hours - 1)


def test_a_policy_that_was_kept_before_reads_back() -> None:
    """Documents are kept as JSON."""
    kept = {"window_hours": 120, "max_rate": 0.15, "reasons": ["duplicate"]}
    contract = {"buyer": "acme", "vertical": "auto", "returns": kept}
    terms = doc_of_json({"contracts": {"a": contract}}).contracts["a"].returns
    assert terms is not None
    assert (terms.window_hours, terms.reasons) == (120, ("duplicate",))
