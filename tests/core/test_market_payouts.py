"""Terms of payout in a market file: nonsense refused on its line, odd bargains warned of."""

import pytest

from exchange.core.market import read_market
from exchange.core.market_text import market_text
from exchange.core.plan import doc_of, objects_of

GOOD = """\
[verticals.auto]
currency = "USD"
duplicate = { fields = ["phone"], window_days = 30 }
[verticals.auto.fields]
zip = { type = "us_zip", ping = true }
phone = { type = "us_phone", personal = true }
[sellers.bright]
time_zone = "America/New_York"
SELLER
[sellers.bright.sources]
web = {}
tv = { SOURCE }
[buyers.acme]
ping_url = "https://acme.example/ping"
post_url = "https://acme.example/post"
status_url = "https://acme.example/status"
time_zone = "America/Chicago"
[contracts.acme-auto]
buyer = "acme"
vertical = "auto"
"""


def market(seller: str, source: str = "") -> str:
    return GOOD.replace("SELLER", seller).replace("SOURCE", source)


@pytest.mark.parametrize(
    ("seller", "source"),
    [
        ("margin = { percent = 15 }", 'payout = { fixed = "12.00" }'),
        ('payout = { fixed = "12.00", loss_max = "2.00", guaranteed = true }', "payout = {}"),
        ("payout = { net_of_returns = true }", "margin = { percent = 5 }"),
        (
            "margin = { percent = 20 }\npayout = { tiers = [{ leads = 100, percent = 15 }, "
            "{ leads = 1000, percent = 12.5 }] }",
            'margin = { percent = 30 }, payout = { tiers = [{ money = "500.00", percent = 0 }] }',
        ),
    ],
)
def test_good_terms_have_no_problems_and_read_back_equal(seller: str, source: str) -> None:
    reading = read_market(market(seller, source))
    assert (reading.problems, reading.warnings) == ((), ())
    assert reading.doc is not None
    assert read_market(market_text(reading.doc)).doc == reading.doc
    assert objects_of(doc_of(objects_of(reading.doc))) == objects_of(reading.doc)


BROKEN = [
    ("payout = { fixed = 12.5 }", "", "money is a text in quotes", 9),
    ('payout = { fixed = "0" }', "", "must be more than 0", 9),
    ("payout = { guaranteed = true }", "", "needs the amount", 9),
    ('payout = { loss_max = "1.00" }', "", "is for a fixed payout", 9),
    ('payout = { fixed = "1.00", loss_max = "2.00" }', "", "is more than the payout", 9),
    ('margin = { percent = 5 }\npayout = { fixed = "1.00" }', "", "nothing beside a fixed", 9),
    ('payout = { fixed = "1.00" }', "margin = { percent = 5 }", "nothing beside a fixed", 12),
    ("margin = { percent = 101 }", "", "is a share from 0 to 100", 9),
    ("", "margin = { percent = 0.00001 }", "at most four decimals", 12),
    ('payout = { fixed = "9", tiers = [{ leads = 1, percent = 1 }] }', "", "payout is fixed", 9),
    ("payout = { tiers = [{ percent = 1 }] }", "", "begins at either leads or money", 9),
    ('payout = { tiers = [{ leads = 1, money = "1", percent = 1 }] }', "", "either leads", 9),
    ("payout = { tiers = [{ leads = 5, percent = 5 }] }", "", "only adds to a payout", 9),
    (
        "margin = { percent = 9 }\npayout = { tiers = [{ leads = 5, percent = 5 }, "
        "{ leads = 5, percent = 4 }] }",
        "", "is not above the step before", 10,
    ),
    (
        "margin = { percent = 9 }\npayout = { tiers = [{ leads = 5, percent = 5 }, "
        '{ money = "9", percent = 4 }] }',
        "", "count one thing: leads", 10,
    ),
    ("payout = { tier = [] }", "", "there is no such setting", 9),
]  # fmt: skip


@pytest.mark.parametrize(("seller", "source", "message", "line"), BROKEN)
def test_nonsense_is_refused_on_its_line(seller: str, source: str, message: str, line: int) -> None:
    (problem,) = read_market(market(seller, source)).problems
    assert message in problem.message
    assert problem.line == line


def test_tiers_need_the_sellers_zone() -> None:
    text = market("margin = { percent = 9 }\npayout = { tiers = [{ leads = 5, percent = 5 }] }")
    (problem,) = read_market(text.replace('time_zone = "America/New_York"', "")).problems
    assert "time zone" in problem.message
    assert "America/Chicago" in problem.hint


def test_a_guarantee_that_takes_no_lower_bid_or_pays_twice_is_warned_of() -> None:
    text = market('payout = { fixed = "12.00", guaranteed = true }')
    (warning,) = read_market(text).warnings
    assert warning.path == "sellers.bright.payout.guaranteed"
    assert "loss_max" in warning.hint
    loose = text.replace('duplicate = { fields = ["phone"], window_days = 30 }', "")
    messages = [one.message for one in read_market(loose).warnings]
    assert any("same consumer again and again" in message for message in messages)


RETURNS = 'returns = { window_hours = 240, reasons = ["duplicate"] }\n'


@pytest.mark.parametrize(
    ("seller", "source", "where", "is_warned"),
    [
        ("clawback = { window_hours = 100 }", "", "", True),
        ("clawback = { window_hours = 240 }", "", "", False),
        ("payout = { net_of_returns = true }", "", "", False),
        ("clawback = { window_hours = 100 }", "payout = { net_of_returns = true }", "", True),
        (
            "clawback = { window_hours = 100 }",
            "payout = { net_of_returns = true }",
            'where = { source = ["tv"] }',
            False,
        ),
        (
            "payout = { net_of_returns = true }\nclawback = { window_hours = 100 }",
            "payout = {}",
            'where = { source = { not = ["tv"] } }',
            False,
        ),
        (
            "clawback = { window_hours = 100 }",
            "",
            'where = { seller = { not = ["bright"] } }',
            False,
        ),
        ("", "", "", True),  # no clawback at all
    ],
)
def test_a_window_that_closes_before_the_buyers_is_warned_of_for_each_contract_and_source(
    seller: str, source: str, where: str, is_warned: bool
) -> None:
    reading = read_market(market(seller, source) + RETURNS + where)
    assert reading.problems == ()
    assert bool(reading.warnings) is is_warned
