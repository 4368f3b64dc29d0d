"""Billing and remittance terms in a market file: nonsense is refused on its line, all at once; what
is good reads back as it was written. The house's own file is read alike."""

import pytest

from exchange.core.market import read_house, read_market
from exchange.core.market_text import market_text

GOOD = """
[verticals.auto]
currency = "USD"
[verticals.auto.fields]
zip = { type = "us_zip", ping = true }
[sellers.bright]
sources = ["search"]
remittance.hold_days = 10
remittance.minimum = "50"
remittance.bank = { account = "00123456", routing = "021000021" }
paper = { legal_name = "Bright Leads, Inc.", address = ["1 Main Street"], tax_id = "12-3456789" }
[buyers.acme]
ping_url = "https://acme.example/ping"
post_url = "https://acme.example/post"
billing = { cycle = "week", terms_days = 15, reference = "PO 4711" }
paper = { legal_name = "Acme, Inc." }
"""


def test_terms_of_billing_read_back_as_they_were_written() -> None:
    read = read_market(GOOD)
    assert read.problems == ()
    assert read.doc is not None
    assert read_market(market_text(read.doc)).doc == read.doc
    assert read.doc.buyers["acme"].billing.terms_days == 15


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("terms_days = 15", "terms_days = 400", "lies between 0 and 365"),
        ('"week"', '"year"', 'must be one of "month", "week"'),
        ("hold_days = 10", "hold_days = -1", "lies between 0 and 365"),
        ('minimum = "50"', "minimum = 50", "money is a text in quotes"),
        ('account = "00123456"', 'account = "1"', "is no account number"),
        ('"021000021"', '"021000012"', "check digit is wrong"),
        ('account = "00123456", routing = "021000021"', 'bank = "First"', "names one account"),
        ('account = "00123456"', 'iban = "DE88370400440532013000"', "check digits are wrong"),
        ('routing = "021000021"', 'bic = "FIRST"', "is no BIC"),
        ('routing = "021000021"', 'country = "usa"', "is no country"),
        ('["1 Main Street"]', '["1", "2", "3", "4", "5", "6", "7"]', "has at most 6 lines"),
        ('"PO 4711"', f'"{"x" * 71}"', "one line of at most 70"),
        ("tax_id", "tax_number", "there is no such setting"),
    ],
)
def test_nonsense_is_refused_on_its_line(old: str, new: str, said: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD
    problems = read_market(text).problems
    assert any(said in problem.message for problem in problems), problems
    lines = text.splitlines()
    assert all(problem.line and lines[problem.line - 1] for problem in problems)


def test_the_house_has_a_file_of_its_own() -> None:
    house, problems = read_house('name = "North"\n[bank]\niban = "DE89370400440532013000"\n')
    assert (house and house.name, problems) == ("North", ())
    house, problems = read_house('[bank]\niban = "DE00"\naccount = "12345"\nrouting = "1"\n')
    assert house is None
    assert {problem.path for problem in problems} == {"bank", "bank.iban", "bank.routing"}
    assert read_house("name = ")[1][0].path == "syntax"
