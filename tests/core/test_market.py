"""The market file: every mistake at once, on its line; plans; and text that reads back equal."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange.core.book import book_of
from exchange.core.market import doc_of_json, read_market
from exchange.core.market_text import base_version, market_text
from exchange.core.plan import (
    Conflict,
    compared,
    doc_of,
    moved_contracts,
    objects_of,
    rebased,
)
from exchange.core.toml_lines import lines_of
from tests.core import markets

EXAMPLE = Path(__file__).parents[2] / "examples" / "market.toml"

GOOD = """
[verticals.auto]
currency = "USD"
[verticals.auto.fields]
zip = { type = "us_zip", ping = true }
age = { type = "int", min = 16, max = 99, ping = true }
credit = { type = "enum", values = ["good", "poor"], ping = true }
veteran = { type = "bool" }
email = { type = "email", personal = true }
[sellers.bright]
sources = ["search", "social"]
[buyers.acme]
ping_url = "https://acme.example/ping"
post_url = "https://acme.example/post"
status_url = "https://acme.example/status"
time_zone = "America/Chicago"
[contracts.acme-auto]
buyer = "acme"
vertical = "auto"
where = { state = ["CA"], age = { min = 25 } }
caps = [{ leads = 5, per = "day" }]
"""


def mended(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_file_has_no_problems():
    reading = read_market(GOOD, dialects=frozenset({"json"}))
    assert (reading.problems, reading.warnings) == ((), ())
    assert set(reading.doc.contracts) == {"acme-auto"}


CONTRACT = 'where = { state = ["CA"], age = { min = 25 } }'
CAPS = 'caps = [{ leads = 5, per = "day" }]'
ZONE = 'time_zone = "America/Chicago"\n'
BROKEN = [
    # the shape
    ('currency = "USD"', "currency = 7", 3, "must be a text in quotes", ""),
    ('currency = "USD"', "curency = 'USD'", 3, "no such setting", "did you mean currency?"),
    ('currency = "USD"', "", 2, "is missing", ""),
    ("[sellers.bright]", "[vendors.x]\n[sellers.bright]", 10, "no such section", "known here"),
    ('vertical = "auto"', 'vertical = "auto"\nprice = 18.5', 20, "in quotes", 'write "18.50"'),
    ('vertical = "auto"', 'vertical = "auto"\nprice = 18.123', 20, "in quotes", '"18.123"'),
    ('vertical = "auto"', 'vertical = "auto"\nprice = "1,5"', 20, "a price is a decimal", "18.00"),
    ('vertical = "auto"', 'vertical = "auto"\nprice = true', 20, "a price is a decimal", "18.00"),
    (
        'vertical = "auto"',
        'vertical = "auto"\nmax_sales = 3',
        20,
        "such setting",
        "not offered yet",
    ),
    (
        CAPS,
        'caps = [{ leads = 5, per = "day", each = "veteran" }]\nhold = "offer"',
        21,
        "not in the ping",
        'hold = "post"',
    ),
    ('vertical = "auto"', 'vertical = "auto"\nhold = "ping"', 20, '"post", "offer"', ""),
    ('vertical = "auto"', 'vertical = "auto"\ncap_mode = "loose"', 20, '"fast", "strict"', ""),
    ('vertical = "auto"', 'vertical = "auto"\nin_doubt = 5', 20, "must be a table", ""),
    (CAPS, "caps = 5", 21, "must be a list, each a table", ""),
    (
        CAPS,
        'caps = [\n  { leads = 5, per = "day" },\n  { leads = 5, per = "dy" },\n]',
        23,
        '"day"',
        "",
    ),
    ("[sellers.bright]", "[sellers.bright]\nmargin = 15", 11, "must be a table", ""),
    ("[buyers.acme]", "[buyers]\nzed = 3\n[buyers.acme]", 13, "must be a table", "such as"),
    ("veteran = {", "veteran = { min = [1], ", 8, "must be a whole number", ""),
    (
        'sources = ["search", "social"]',
        "sources = { a = { x = 1 } }",
        11,
        "no such setting",
        "known here",
    ),
    # verticals
    (
        GOOD[: GOOD.index("[sellers")],
        '[verticals.auto]\ncurrency = "USD"\nfields = {}\n',
        3,
        "one field",
        "",
    ),
    ('currency = "USD"', 'currency = "usd"', 3, "is no currency", '"USD"'),
    (
        'currency = "USD"',
        'currency = "USD"\nduplicate = { fields = ["emial"] }',
        4,
        "no field",
        "email",
    ),
    (
        'currency = "USD"',
        'currency = "USD"\nduplicate = { fields = ["email"], window_days = 0 }',
        4,
        "at least 1",
        "",
    ),
    ("veteran = {", "Veteran = {", 8, "is no field name", ""),
    ("veteran = {", "source = {", 8, "a word of criteria", ""),
    ('values = ["good", "poor"], ', "", 7, "values and type enum", ""),
    ("email = {", "email2 = { type = 'email' }\nemail = {", 9, "a email is personal", ""),
    ("min = 16", "min = 160", 6, "min is more than max", ""),
    ('"us_zip", ', '"us_zip", min = 3, ', 5, "min and max are for int", ""),
    ("veteran = {", "x = { type = 'text', length_max = 0 }\nveteran = {", 8, "at least 1", ""),
    ("veteran = {", "x = { type = 'text', pattern = '(' }\nveteran = {", 8, "not a pattern", ""),
    ("veteran = {", "x = { type = 'text', ping = true }\nveteran = {", 8, "never pinged", "leave"),
    ("personal = true", "personal = true, ping = true", 9, "never pinged", "pseudonym"),
    (
        "veteran = {",
        "x = { type = 'int', ping = true, personal = true }\nveteran = {",
        8,
        "never",
        "",
    ),
    ("veteran = {", "x = { type = 'code', ping = true }\nveteran = {", 8, "needs a pattern", ""),
    (
        "veteran = {",
        "x = { type = 'code', ping = true, pattern = '.', length_max = 40 }\nveteran = {",
        8,
        "at most 32",
        "",
    ),
    (
        "veteran = {",
        "x = { type = 'int', ping = 'pseudonym' }\nveteran = {",
        8,
        "us_phone or email",
        "",
    ),
    # parties
    ("[sellers.bright]", "[sellers.Bright]", 10, "is no key", "small letters"),
    ("[sellers.bright]", "[sellers.bright]\nmargin = { percent = 101 }", 11, "from 0 to 100", ""),
    (
        "[sellers.bright]",
        "[sellers.bright]\nmargin = { percent = 1.00001 }",
        11,
        "four decimals",
        "",
    ),
    ("[sellers.bright]", "[sellers.bright]\nrate_per_s = 0", 11, "at least 1", ""),
    ("[sellers.bright]", "[sellers.bright]\nwebhook_url = 'x'", 11, "no http(s) URL", ""),
    ('sources = ["search", "social"]', "sources = []", 11, "at least one source", ""),
    ('sources = ["search", "social"]', "", 10, "at least one source", ""),
    ('"search", "social"', '"search", "search"', 11, "stands there twice", ""),
    ('"search", "social"', '"search", "So cial"', 11, "is no key", ""),
    ('["search", "social"]', "{ s = { tmax_ms = 20 } }", 11, "between 50 and 10000", ""),
    ("https://acme.example/ping", "acme.example", 13, "is no http(s) URL", ""),
    ("America/Chicago", "America/Chicag", 16, "there is no time zone", "America/Chicago"),
    (ZONE, ZONE + "dialect = 'jsn'\n", 17, "nobody here speaks jsn", "json"),
    (ZONE, ZONE + "in_flight_max = 0\n", 17, "at least 1", ""),
    (ZONE, ZONE + "post_timeout_ms = 5\n", 17, "100 and 30000", ""),
    (ZONE, ZONE + 'headers = { X-A = "b\\n" }\n', 17, "is no header", ""),
    # contracts
    ('buyer = "acme"', 'buyer = "acmee"', 18, "there is no buyer acmee", "did you mean acme?"),
    ('vertical = "auto"', 'vertical = "x"', 19, "there is no vertical x", "known: auto"),
    (CAPS, 'bid_min = "5"\nbid_max = "4"', 22, "no bid can be valid", ""),
    (CAPS, 'price = "5"\nbid_max = "4"', 21, "a fixed price has no", ""),
    (CAPS, 'hours = { mon = "9-17" }', 21, "hours are written", ""),
    (ZONE, "", 20, "needs a time zone", "America/Chicago"),
    (CAPS, 'time_zone = "Mars"', 21, "there is no time zone Mars", ""),
    (CAPS, "in_doubt = { policy = [] }", 21, "at least one way", ""),
    (CAPS, "in_doubt = { write_off_hours = 0 }", 21, "at least 1", ""),
    ("leads = 5", 'leads = 5, money = "5"', 21, "either leads or money", ""),
    ("leads = 5, ", "", 21, "either leads or money", ""),
    ("leads = 5", "leads = 0", 21, "at least 1", "paused"),
    ("leads = 5", 'money = "0"', 21, "more than 0", "paused"),
    ("leads = 5", "leads = 5, each = 'stat'", 21, "there is no field stat", "state"),
    ("leads = 5", "leads = 5, each = 'email'", 21, "a personal field", ""),
    ('state = ["CA"]', 'stat = ["CA"]', 20, "there is no field stat", "state"),
    ('state = ["CA"]', 'state = ["Cal"]', 20, "state is never Cal", ""),
    ('state = ["CA"]', 'credit = ["god"]', 20, "credit is never god", "did you mean good?"),
    ('state = ["CA"]', 'source = { not = ["serch"] }', 20, "never serch", "did you mean search?"),
    ('state = ["CA"]', 'seller = ["brigt"]', 20, "never brigt", "did you mean bright?"),
    ('state = ["CA"]', 'email = ["x"]', 20, "personal field is no criterion", ""),
    ('state = ["CA"]', 'age2 = 1, zip = "9"', 20, "there is no field age2", "age"),
    ("{ min = 25 }", "{ min = 25.5 }", 20, "compared with whole numbers", ""),
    ("{ min = 25 }", "{ atleast = 25 }", 20, "atleast is not one of", ""),
]


@pytest.mark.parametrize(("old", "new", "line", "message", "hint"), BROKEN)
def test_a_mistake_is_told_with_its_line_and_a_hint(old, new, line, message, hint):
    reading = read_market(mended(old, new), dialects=frozenset({"json"}))
    assert reading.doc is None
    found = [each for each in reading.problems if message in each.message]
    assert found, [str(each) for each in reading.problems]
    assert found[0].line == line, str(found[0])
    assert hint in found[0].hint


def test_hours_need_a_zone():
    text = mended(ZONE, "").replace(CAPS, 'hours = { mon = "09:00-17:00" }')
    (problem,) = read_market(text).problems
    assert (problem.path, problem.line) == ("contracts.acme-auto.hours", 20)


def test_a_date_may_stand_bare_and_is_kept_as_text():
    text = mended("veteran = {", "moves = { type = 'date', ping = true }\nveteran = {")
    text = text.replace('state = ["CA"]', "moves = { min = 2026-01-02 }")
    doc = read_market(text.replace(CAPS, 'price = "bid"')).doc
    assert doc.contracts["acme-auto"].where["moves"] == {"min": "2026-01-02"}


def test_every_mistake_is_told_at_once_in_the_order_of_the_file():
    text = mended('currency = "USD"', "currency = 7")
    text = text.replace('buyer = "acme"', 'buyer = "nobody"').replace("leads = 5", "leads = 0")
    text = text.replace("https://acme.example/post", "post")
    reading = read_market(text)
    assert [problem.line for problem in reading.problems] == [3, 14, 18, 21]
    assert str(reading.problems[1]) == (
        "line 14: buyers.acme.post_url: is no http(s) URL (https://host/path, no user, no fragment)"
    )


def test_nothing_is_said_about_what_leans_on_a_broken_object():
    text = mended("time_zone =", "time_zon =").replace('"social"]', '"social"]\nrate_per_s = "x"')
    text = text.replace('state = ["CA"]', 'source = ["elsewhere"]')
    assert len(read_market(text).problems) == 2


@pytest.mark.parametrize(
    ("text", "line"), [("a = = 3", 1), ("[buyers.a]\nx = 1\nx = 2", 3), ('a = "', 1)]
)
def test_text_that_is_no_toml_says_where(text, line):
    reading = read_market(text)
    (problem,) = reading.problems
    assert (problem.path, problem.line) == ("syntax", line)


def test_a_section_that_is_no_table_is_a_problem():
    (problem,) = read_market("buyers = 3").problems
    assert (problem.message, problem.hint) == ("must be a table", "[buyers.some-key]")


def test_what_is_tested_at_the_post_only_is_a_warning():
    reading = read_market(mended('state = ["CA"]', "veteran = true"))
    (warning,) = reading.warnings
    assert (warning.line, warning.path) == (20, "contracts.acme-auto.where.veteran")
    assert warning.message == "is not pinged, so it is tested at the post only"


def test_a_policy_that_cannot_inquire_is_a_warning_unless_written():
    bare = mended('status_url = "https://acme.example/status"\n', "")
    assert len(read_market(bare).warnings) == 1
    written = bare.replace(CAPS, 'in_doubt = { policy = ["inquire"] }')
    (problem,) = read_market(written).problems
    assert problem.message == "inquire needs the buyer's status_url"


# --- lines ----------------------------------------------------------------------------------------


def test_every_setting_has_its_line():
    text = '''# a comment
[a."b c"] # here
x = 1
y.z = """
[not.a.header]
"""
w = [
  { k = 'v]' }, # with a comment
  2,
]
[[list]]
n = 1979-05-27 07:32:00
[[list]]
[list.sub]
m = { p = [ "q" ] }
'''
    lines = lines_of(text)
    assert lines["a", "b c"] == 2
    assert lines["a", "b c", "x"] == 3
    assert lines["a", "b c", "y", "z"] == 4
    assert lines["a", "b c", "w", 0, "k"] == 8
    assert lines["a", "b c", "w", 1] == 9
    assert lines["list", 0, "n"] == 12
    assert lines["list", 1] == 13
    assert lines["list", 1, "sub", "m", "p", 0] == 15


@given(st.text(alphabet="[]{}=,.\"'#\n ab1\\", max_size=40))
@example("[")
@example("a={b")
@example("x=[ }")
def test_looking_for_lines_ends_on_any_text(text):
    assert all(line >= 1 for line in lines_of(text).values())


# --- text and plans -------------------------------------------------------------------------------


def test_the_example_is_a_market_of_the_promised_size():
    reading = read_market(EXAMPLE.read_text(encoding="utf-8"))
    assert [str(problem) for problem in reading.problems] == []
    doc = reading.doc
    sizes = [len(x) for x in (doc.verticals, doc.sellers, doc.buyers, doc.contracts)]
    assert sizes == [3, 3, 12, 20]
    assert book_of(doc).refused == ()
    assert read_market(market_text(doc)).doc == doc


@given(markets.markets)
@settings(max_examples=100, deadline=None)
def test_an_exported_market_reads_back_equal(doc):
    reading = read_market(market_text(doc, version=7))
    assert [str(problem) for problem in reading.problems] == []
    assert reading.doc == doc
    assert doc_of_json(msgspec.to_builtins(doc)) == doc


def test_keys_and_texts_are_written_so_that_they_read_back():
    odd = 'a "quoted" \\ \n\x7f\u00e9'
    text = mended(
        '"https://acme.example/ping"', '"https://acme.example/p"\nheaders = { "X-A" = "é" }'
    )
    doc = read_market(
        text.replace("[sellers.bright]", '[sellers.bright]\nname = """a\n"b" """')
    ).doc
    assert read_market(market_text(doc)).doc == doc
    from exchange.core.market_text import _text

    assert __import__("tomllib").loads(f"x = {_text(odd)}") == {"x": odd}


@pytest.mark.parametrize(("version", "told"), [(None, None), (12, 12)])
def test_an_exported_file_says_its_version(version, told):
    assert base_version(market_text(read_market(GOOD).doc, version=version)) == told


def objects(text):
    return objects_of(read_market(text).doc)


def test_a_plan_tells_every_setting_old_and_new():
    new = objects(
        mended("{ min = 25 }", "{ min = 30, max = 60 }")
        .replace('"search", "social"', '"search", "email"')
        .replace("leads = 5", "leads = 7")
    )
    changes = compared(objects(GOOD), new)
    assert [(each.kind, each.key, each.what) for each in changes] == [
        ("source", "bright/email", "added"),
        ("source", "bright/social", "closed"),
        ("contract", "acme-auto", "changed"),
    ]
    assert [(each.path, each.old, each.new) for each in changes[2].settings] == [
        ("caps", [{"per": "day", "leads": 5}], [{"per": "day", "leads": 7}]),
        ("where.age.max", None, 60),
        ("where.age.min", 25, 30),
    ]
    assert compared(new, new) == ()


@given(markets.markets, markets.markets)
@settings(max_examples=50, deadline=None)
def test_objects_are_the_document_and_a_plan_has_every_difference(one, two):
    old, new = objects_of(one), objects_of(two)
    assert objects_of(doc_of(old)) == old
    told = {(change.kind, change.key) for change in compared(old, new)}
    assert told == {item for item in {*old, *new} if old.get(item) != new.get(item)}
    assert rebased(old, old, new) == new
    assert rebased(old, new, old) == new
    assert rebased(old, new, new) == new


def test_a_rebase_puts_the_files_changes_on_the_live_ones():
    base = objects(GOOD)
    live = objects(mended("leads = 5", "leads = 9"))
    file = objects(mended('"search", "social"', '"search"'))
    merged = rebased(base, live, file)
    assert ("source", "bright/social") not in merged
    assert merged["contract", "acme-auto"]["caps"] == [{"per": "day", "leads": 9}]


def test_a_rebase_refuses_what_both_sides_changed():
    with pytest.raises(Conflict) as torn:
        rebased(
            objects(GOOD),
            objects(mended("leads = 5", "leads = 9")),
            objects(mended("leads = 5", "leads = 7")),
        )
    assert torn.value.keys == ("contract acme-auto",)


def test_a_contract_keeps_its_buyer_and_vertical():
    wanted = objects(GOOD)
    assert moved_contracts(wanted, {"acme-auto": ("acme", "auto")}) == ()
    assert moved_contracts(wanted, {"acme-auto": ("zeta", "home")}) == (
        ("acme-auto", "buyer"),
        ("acme-auto", "vertical"),
    )
    assert moved_contracts(wanted, {}) == ()


def test_a_typo_in_a_criterion_is_told_also_where_the_vertical_has_its_own_mistake():
    text = mended('values = ["good", "poor"]', "values = []").replace(
        "age = { min = 25 }", "agee = 1"
    )
    assert [str(problem) for problem in read_market(text).problems] == [
        "line 7: verticals.auto.fields.credit: values and type enum go together "
        '(values = ["a", "b"])',
        "line 20: contracts.acme-auto.where.agee: there is no field agee (did you mean age?)",
    ]
