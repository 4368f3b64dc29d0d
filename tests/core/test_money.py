"""Money is exact: what is parsed is printed, and a split always adds up."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.money import PRICE_MICROS_MAX, BadMoney, micros_of, split, text_of

MICROS = st.integers(min_value=0, max_value=PRICE_MICROS_MAX)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("25.00", 25_000_000),
        ("0", 0),
        ("21.105", 21_105_000),
        ("0.000001", 1),
        ("1000000", PRICE_MICROS_MAX),
        ("1e2", 100_000_000),
    ],
)
def test_a_decimal_string_is_read_exactly(text: str, micros: int) -> None:
    assert micros_of(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "-1",
        "0.0000001",
        "1000000.01",
        "NaN",
        "Infinity",
        "1e99",
        "9" * 40,
        "1." + "0" * 29 + "1",
    ],
)
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(BadMoney):
        micros_of(text)


@given(MICROS)
def test_what_is_printed_reads_back_the_same(micros: int) -> None:
    assert micros_of(text_of(micros)) == micros
    assert micros_of(Decimal(text_of(micros))) == micros


def test_an_amount_is_printed_with_at_least_two_decimals_and_its_sign() -> None:
    assert [text_of(n) for n in (0, 1, 21_105_000, -500_000)] == [
        "0.00",
        "0.000001",
        "21.105",
        "-0.50",
    ]


@given(MICROS, st.integers(0, 1_000_000), st.integers(0, 50_000_000))
def test_payout_and_fee_always_add_up_to_the_price(price: int, percent: int, fixed: int) -> None:
    payout, fee = split(price, percent, fixed)
    assert payout + fee == price
    assert payout >= 0
    assert fee >= 0


def test_rounding_falls_to_the_seller() -> None:
    assert split(10, 150_000, 0) == (9, 1)
    assert split(9, 150_000, 0) == (8, 1)
