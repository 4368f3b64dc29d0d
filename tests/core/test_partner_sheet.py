"""A partner's sheet: columns found by their words, cells read exactly or not at all."""

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.money import text_of
from exchange.core.partner_lines import TheirLine
from exchange.core.partner_sheet import WORDS, BadHeader, Reader, Unread, layout_of

ID = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001"
HEADER = ("Sale ID", "Your ref.", "Phone", "E-Mail", "Sold date", "Price", "Currency", "Status")
LINE = (ID.upper(), " r-1 ", "(310) 555-0123", "A@B.example", "2026-03-31", "25.00", "usd", "Sold")


def hashed(kind: str, plain: str) -> tuple[bytes, ...]:
    return (f"hash of {kind} {plain}".encode(),)


def reader(header: tuple[str, ...] = HEADER, **given: Any) -> Reader:
    named: Any = {"reference": "Your ref."} if header is HEADER else {}
    terms: dict[str, Any] = {"hashed": hashed, "zone": ZoneInfo("America/New_York")}
    return Reader(layout_of(header, named, WORDS), **(terms | {"day_order": None} | given))


def cell(column: str, value: Any, **given: Any) -> TheirLine | Unread:
    """A line whose column says this."""
    return reader(("Ref", column), **given).line(2, ("r", value))


def test_a_line_is_read_whole() -> None:
    assert reader().line(7, LINE) == TheirLine(
        line=7,
        our_id=ID,
        reference="r-1",
        persons=(
            ("phone", b"hash of phone +13105550123"),
            ("email", b"hash of email a@b.example"),
        ),
        on=date(2026, 3, 31),
        amount_micros=25_000_000,
        currency="USD",
        status="sold",
    )


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        ("lead_id,cost,created_at", {"our_id": 0, "amount": 1, "date": 2}),
        ("ID;Mobile;Amount;Disposition", {"reference": 0, "phone": 1, "amount": 2, "status": 3}),
        ("LeadID;ID", {"our_id": 0, "reference": 1}),
    ],
)
def test_columns_are_found_by_the_words_of_the_trade(header: str, fields: dict[str, int]) -> None:
    cells = header.replace(";", ",").split(",")
    assert layout_of(cells, {}, WORDS).places == fields


def test_a_named_column_wins_over_a_found_one() -> None:
    assert layout_of(("Phone", "Tel. 2"), {"phone": "tel 2"}, WORDS).places == {"phone": 1}


@pytest.mark.parametrize(("header", "named"), [(("Phone",), {"email": "Mail"}), (("Price",), {})])
def test_a_header_that_does_not_do_is_told(header: tuple[str, ...], named: Any) -> None:
    with pytest.raises(BadHeader):
        layout_of(header, named, WORDS)


def test_a_sheet_without_a_header_shows_nobody() -> None:
    with pytest.raises(BadHeader) as bad:
        layout_of(("a@b.example", "(310) 555-0123", "x"), {"phone": "Phone"}, WORDS)
    assert "5550123" not in str(bad.value)
    assert "555-0123" not in str(bad.value)
    assert "a@b" not in str(bad.value)


AMOUNTS = [
    ("25", 25_000_000),
    ("$25.00", 25_000_000),
    ("25.00 USD", 25_000_000),
    ("21.105", 21_105_000),
    ("1,234.50", 1_234_500_000),
    ("1.234,50", 1_234_500_000),
    ("25,5", 25_500_000),
    ("(25.00)", -25_000_000),
    ("-25.00", -25_000_000),
    (25, 25_000_000),
    (21.105, 21_105_000),
    (21.1 * 3, 63_300_000),
    (-2.5, -2_500_000),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("said", "micros"), AMOUNTS)
def test_an_amount_is_read_exactly(said: Any, micros: int | None) -> None:
    line = cell("Amount", said)
    assert isinstance(line, TheirLine)
    assert line.amount_micros == micros


@given(st.integers(-(10**12), 10**12))
def test_an_amount_that_we_write_is_read_back(micros: int) -> None:
    line = cell("Amount", text_of(micros))
    assert isinstance(line, TheirLine)
    assert line.amount_micros == micros


DAYS = [
    ("2026-03-31", None, date(2026, 3, 31)),
    ("2026/3/31", None, date(2026, 3, 31)),
    ("2026-03-31 23:30:00", None, date(2026, 3, 31)),
    ("2026-04-01T02:00:00Z", None, date(2026, 3, 31)),
    ("3/4/2026", "mdy", date(2026, 3, 4)),
    ("3.4.26", "dmy", date(2026, 4, 3)),
    ("03/04/2026 10:00 PM", "mdy", date(2026, 3, 4)),
    (datetime(2026, 3, 31, 23), None, date(2026, 3, 31)),  # noqa: DTZ001 as a spreadsheet has it
    (datetime(2026, 4, 1, 2, tzinfo=UTC), None, date(2026, 3, 31)),
    (date(2026, 3, 31), None, date(2026, 3, 31)),
]


@pytest.mark.parametrize(("said", "order", "day"), DAYS)
def test_a_day_is_read_in_their_zone_and_order(said: Any, order: Any, day: date) -> None:
    line = cell("Date", said, day_order=order)
    assert isinstance(line, TheirLine)
    assert line.on == day


@pytest.mark.parametrize(
    ("column", "said", "why"),
    [
        ("Date", "03/04/2026", "two ways"),
        ("Date", "31.02.2026", "two ways"),
        ("Date", "2026-02-31", "no such day"),
        ("Date", "soon", "no date"),
        ("Date", "0001-01-01", "no year"),
        ("Date", "1.1.1900", "two ways"),
        ("Amount", "1,234", "two amounts"),
        ("Amount", "a lot", "no amount"),
        ("Amount", "1e3", "no amount"),
        ("Amount", "9999999999", "lies between"),
        ("Currency", "dollars", "no currency"),
        ("Status", "thinking", "no status"),
    ],
)
def test_what_may_mean_two_things_is_not_read_and_not_quoted(
    column: str, said: str, why: str
) -> None:
    unread = cell(column, said)
    assert isinstance(unread, Unread)
    assert (unread.line, unread.column) == (2, column)
    assert why in unread.why
    assert said not in unread.why


@pytest.mark.parametrize("cells", [("", "", "", "", "2026-03-31", "99.00"), ("Total",)])
def test_a_row_that_names_no_lead_is_not_read(cells: tuple[str, ...]) -> None:
    assert isinstance(reader().line(9, cells), Unread)


def test_nothing_personal_is_kept_of_a_line() -> None:
    secret: Any = lambda kind, plain: (bytes(16),)  # noqa: E731
    kept = repr(reader(hashed=secret).line(7, LINE)).lower()
    assert "5550123" not in kept
    assert "a@b" not in kept
