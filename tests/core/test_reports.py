"""Reports of sums: rates of nothing are nothing, currencies stay apart, and no party's report is
made of the other side's money."""

from datetime import date
from typing import Any, get_args

import pytest

from exchange.core.reports import (
    BY,
    COLUMNS,
    NOBODY,
    By,
    KeySums,
    Name,
    Report,
    report,
    wrong_question,
)

FIRST, LAST = date(2026, 3, 1), date(2026, 3, 31)
TRADE = (
    *("pings", "offers", "offered_micros", "late", "leads", "invited", "bids", "bid_micros"),
    *("below_floor", "no_bids", "timeouts", "errors", "wins", "waited_ms", "posts", "accepted"),
    *("rejected", "not_sent", "doubted", "written_off", "price_micros", "payout_micros"),
    *("fee_micros", "asked", "granted", "refused", "waiting", "credit_micros", "clawback_micros"),
)
BOOKED = (
    *("sales", "revenue_micros", "payout_micros", "fee_micros", "credits", "credit_micros"),
    *("clawback_micros", "bad_debt_micros", "reserved_micros", "other_micros", "net_micros"),
)


def sums(key: str | None, currency: str = "USD", *, of: Any = TRADE, **given: int) -> KeySums:
    return KeySums(key=key, currency=currency, sums=dict.fromkeys(of, 0) | given)


def told(made: Report, line: int = 0) -> dict[str, Any]:
    names = [column.name for column in made.columns]
    return dict(zip(names, made.lines[line].values, strict=True))


def test_profit_and_loss_says_what_a_sale_costs_and_earns() -> None:
    booked = sums(
        "search", of=BOOKED, sales=3, revenue_micros=30_000_000, payout_micros=25_500_000,
        fee_micros=4_500_000, credits=1, credit_micros=10_000_000, clawback_micros=8_500_000,
        net_micros=3_000_000,
    )  # fmt: skip
    line = told(report("pnl", "source", FIRST, LAST, [booked]))
    assert line["net_margin"] == 3_000_000
    assert line["revenue_per_sale"] == 10_000_000
    assert line["cost_per_sale"] == 5_666_666  # rounded down
    assert line["net_share"] == pytest.approx(0.1)


def test_a_funnel_tells_rates_of_what_came_before() -> None:
    found = sums(
        "web", pings=200, offers=100, leads=50, invited=400, bids=120, bid_micros=2_400_000_000,
        wins=100, posts=60, accepted=40, rejected=10, not_sent=5, written_off=5,
        price_micros=1_000_000_000, payout_micros=850_000_000, fee_micros=150_000_000,
    )  # fmt: skip
    line = told(report("funnel", "source", FIRST, LAST, [found]))
    rates = ("offer_rate", "take_rate", "ping_to_sale", "look_to_book", "accept_rate")
    assert [line[name] for name in rates] == [0.5, 0.5, 0.2, 5.0, 40 / 60]
    assert line["average_bid"] == 20_000_000
    assert (line["earnings_per_ping"], line["margin_per_ping"]) == (4_250_000, 750_000)


@pytest.mark.parametrize("name", get_args(Name))
def test_nothing_over_nothing_is_nothing(name: Name) -> None:
    of = BOOKED if name == "pnl" else TRADE
    made = report(name, BY[name][0], FIRST, LAST, [sums("a", of=of, **{of[0]: 1})])
    for column, value in zip(made.columns, made.lines[0].values, strict=True):
        assert value is None or isinstance(value, int | float), column.name
    assert report(name, BY[name][0], FIRST, LAST, [sums("a", of=of)]).lines == ()


def test_currencies_never_mix() -> None:
    found = [sums("a", "CAD", accepted=1), sums("a", "USD", accepted=2), sums("b", accepted=4)]
    made = report("returns", "source", FIRST, LAST, found)
    assert [(one.key, one.currency) for one in made.lines] == [
        ("a", "CAD"), ("a", "USD"), ("b", "USD"),
    ]  # fmt: skip
    assert {one.currency: one.values[0] for one in made.totals} == {"CAD": 1, "USD": 6}


def test_by_reason_every_reason_is_of_all_sales() -> None:
    found = [
        sums(None, accepted=40),
        sums("fraud", asked=3, granted=2),
        sums("language", asked=1, granted=1),
    ]
    made = report("returns", "reason", FIRST, LAST, found)
    assert [(one.key, one.values[0], one.values[5]) for one in made.lines] == [
        ("fraud", 40, 0.05),
        ("language", 40, 0.025),
    ]
    assert made.totals[0].values[5] == pytest.approx(3 / 40)


def test_pings_have_no_buyer_and_payments_no_source() -> None:
    asked = [sums(None, pings=10), sums("acme", invited=8)]
    made = report("funnel", "buyer", FIRST, LAST, asked)
    assert [one.key for one in made.lines] == ["acme"]
    assert made.totals[0].values[0] == 10
    booked = [sums(None, of=BOOKED, other_micros=5, net_micros=5)]
    assert report("pnl", "source", FIRST, LAST, booked).lines[0].key == NOBODY


def test_reasons_stand_beside_their_line() -> None:
    made = report(
        "returns", "source", FIRST, LAST, [sums("a", granted=3)],
        [("a", "USD", "fraud", 2), ("a", "USD", "language", 1), ("a", "CAD", "fraud", 9)],
    )  # fmt: skip
    assert made.lines[0].reasons == (("fraud", 2), ("language", 1))


@pytest.mark.parametrize(
    ("name", "unseen"),
    [
        ("selling", ("price_micros", "fee_micros", "credit_micros", "bid_micros")),
        ("buying", ("payout_micros", "fee_micros", "clawback_micros", "offered_micros")),
    ],
)
def test_no_partys_report_is_made_of_the_other_sides_money(
    name: Name, unseen: tuple[str, ...]
) -> None:
    class Watched(dict[str, int]):
        def __getitem__(self, key: str) -> int:
            assert key not in unseen, key
            return super().__getitem__(key)

    for column in COLUMNS[name]:
        column.of(Watched(dict.fromkeys(TRADE, 7)))


def test_a_column_that_shows_the_margin_would_be_caught() -> None:
    hidden = {name: 7 for name in TRADE if name != "fee_micros"}
    with pytest.raises(KeyError):
        tuple(column.of(hidden) for column in COLUMNS["buyers"])


@pytest.mark.parametrize(
    ("name", "by", "last", "says"),
    [
        ("pnl", "reason", LAST, "pnl is told by"),
        ("selling", "buyer", LAST, "selling is told by"),
        ("buying", "source", LAST, "buying is told by"),
        ("funnel", "sub_id", LAST, "funnel is told by"),
        ("funnel", "source", date(2026, 2, 1), "before the first"),
        ("funnel", "source", date(2036, 2, 1), "at most 1830 days"),
        ("funnel", "source", LAST, None),
    ],
)
def test_a_wrong_question_is_told_in_a_sentence(
    name: Name, by: str, last: date, says: str | None
) -> None:
    wrong = wrong_question(name, by, FIRST, last)
    assert (says in wrong) if says and wrong else wrong is says


def test_every_column_says_what_it_means() -> None:
    for name, columns in COLUMNS.items():
        names = [column.name for column in columns]
        assert len(set(names)) == len(names), name
        assert all(column.meaning.endswith(".") for column in columns)
        assert set(BY[name]) <= set(get_args(By))
