"""Rules that pause sources: what a market file may say of them, and when they bite."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.auto_pause import ReturnRate, is_broken, lifts_at, rules_of, sentence
from exchange.core.book import book_of
from exchange.core.market import read_market
from exchange.core.market_text import market_text
from exchange.core.plan import doc_of, objects_of
from exchange.core.terms import AutoPauseTerms

AT = datetime(2026, 3, 6, 12, tzinfo=UTC)
GOOD = """
[verticals.auto]
currency = "USD"
[verticals.auto.fields]
zip = { type = "us_zip", ping = true }
[sellers.bright]
sources = ["search"]
clawback = { window_hours = 240 }
[buyers.acme]
ping_url = "https://acme.example/ping"
post_url = "https://acme.example/post"
status_url = "https://acme.example/status"
time_zone = "America/Chicago"
auto_pause = { return_rate = 0.3 }
[contracts.acme-auto]
buyer = "acme"
vertical = "auto"
returns = { window_hours = 120, reasons = ["invalid_phone"] }
auto_pause = { RULE }
"""
FULL = (
    'return_rate = 0.25, days = 7, sales_min = 40, reasons = ["fraud"], each = "sub_id", '
    "count_open = true, lift_after_days = 14"
)


def market(rule: str = FULL) -> str:
    return GOOD.replace("RULE", rule)


def test_a_rule_reads_back_equal_and_the_book_has_those_of_buyers_and_contracts() -> None:
    reading = read_market(market())
    assert (reading.problems, reading.warnings) == ((), ())
    assert reading.doc is not None
    assert read_market(market_text(reading.doc)).doc == reading.doc
    assert doc_of(objects_of(reading.doc)).contracts == reading.doc.contracts
    of_buyer, of_contract = rules_of(book_of(reading.doc))
    assert (of_buyer.contract_id, of_buyer.terms.days) == (None, 14)
    assert (of_contract.contract_id, of_contract.terms.each) == (1, "sub_id")


@pytest.mark.parametrize(
    ("rule", "path", "words"),
    [
        ("return_rate = 0", "return_rate", "above 0"),
        ("return_rate = 30", "return_rate", "below 1"),
        ("return_rate = 0.3, days = 0", "days", "between 1 and 90"),
        ("return_rate = 0.3, sales_min = 0", "sales_min", "at least 1"),
        ("return_rate = 0.3, lift_after_days = 0", "lift_after_days", "between 1 and 366"),
        ('return_rate = 0.3, reasons = ["moods"]', "reasons[0]", "no return reason moods"),
    ],
)
def test_nonsense_is_refused_on_its_line(rule: str, path: str, words: str) -> None:
    [problem] = read_market(market(rule)).problems
    assert problem.path == f"contracts.acme-auto.auto_pause.{path}"
    assert words in problem.message
    assert problem.line == market(rule).splitlines().index(f"auto_pause = {{ {rule} }}") + 1


def test_a_rule_of_few_sales_or_of_a_contract_without_returns_is_warned_about() -> None:
    few = read_market(market("return_rate = 0.3, sales_min = 3"))
    assert [one.path for one in few.warnings] == ["contracts.acme-auto.auto_pause.sales_min"]
    text = "\n".join(one for one in market().splitlines() if not one.startswith("returns"))
    assert any("takes none" in one.message for one in read_market(text).warnings)


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_rule_bites_from_enough_sales_on_and_above_its_rate(sales: int, returns: int) -> None:
    terms = AutoPauseTerms(return_rate=Decimal("0.3"), sales_min=20)
    rate = ReturnRate(source_id=1, sub_id=None, sales=sales, returns=min(returns, sales))
    assert is_broken(terms, rate) is (sales >= 20 and 10 * rate.returns > 3 * sales)


def test_the_sentence_has_the_numbers_and_the_end_is_the_rules() -> None:
    terms = AutoPauseTerms(return_rate=Decimal("0.3"), reasons=("fraud",), lift_after_days=10)
    rate = ReturnRate(source_id=1, sub_id=None, sales=40, returns=14)
    said = sentence(terms, rate)
    assert all(word in said for word in ("14 of 40", "14 days", "35.0 %", "30.0 %", "fraud"))
    assert lifts_at(terms, AT) == AT + timedelta(days=10)
    assert lifts_at(AutoPauseTerms(return_rate=Decimal("0.3")), AT) is None
