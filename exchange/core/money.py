"""Money: an `int` of micros (millionths of the currency unit), everywhere. No float ever holds
money.

On the API a price is a decimal string; buyers' JSON numbers are read as `Decimal`, exactly. A micro
is small enough for every price seen in the trade (three decimals exist in the wild, e.g. 21.105)
and an int64 of micros still holds nine trillion units.

`price = payout + fee`: the buyer pays the price, the seller gets the payout, the house keeps the
fee.
"""

from decimal import Context, Decimal, Inexact, InvalidOperation

MICROS = 1_000_000
PRICE_MICROS_MAX = 1_000_000 * MICROS
"""The largest price of one lead anyone may bid: one million units. More is a mistake, not a bid."""
AMOUNT_MICROS_MAX = 2**53 - 1
"""The largest amount anything counts up to, such as a money cap: nine billion units, and exact in
every program that reads numbers as doubles."""
PRICE_TEXT_MAX = 32
"""Longest text read as a price: guards `Decimal` against megabyte digits."""


_EXACTLY = Context(prec=64, traps=[Inexact, InvalidOperation])
"""Arithmetic that refuses to round: the default context would round at 28 digits, in silence."""
_times, _whole, _MICROS = _EXACTLY.multiply, _EXACTLY.to_integral_exact, Decimal(MICROS)


class BadMoney(ValueError):
    """The text or number is not a price; the message says why in a sentence."""


def micros_of(value: Decimal | int | str, *, most_micros: int = PRICE_MICROS_MAX) -> int:
    """Exact micros of a decimal value; raises `BadMoney` for text that is no price, more than six
    decimals, negatives, non-finite values, or more than `most_micros`."""
    if isinstance(value, str):
        value = _decimal(value)
    elif isinstance(value, int):
        value = Decimal(value)
    if not value.is_finite() or value.adjusted() > 12:
        raise BadMoney("a price must be a finite number")
    try:
        micros = int(_whole(_times(value, _MICROS)))
    except (Inexact, InvalidOperation):
        raise BadMoney("a price has at most six decimals") from None
    if not 0 <= micros <= most_micros:
        raise BadMoney(f"a price lies between 0 and {text_of(most_micros)}")
    return micros


def _decimal(text: str) -> Decimal:
    if len(text) > PRICE_TEXT_MAX:
        raise BadMoney(f"a price has at most {PRICE_TEXT_MAX} characters")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise BadMoney("a price is a decimal such as 25.00") from None


def text_of(micros: int) -> str:
    """The decimal string of an amount: at least two decimals, no trailing zeros beyond them."""
    sign = "-" if micros < 0 else ""
    units, rest = divmod(abs(micros), MICROS)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{units}.{decimals}"


def split(price_micros: int, percent_millionths: int, fixed_micros: int) -> tuple[int, int]:
    """Split a price into `(payout, fee)`: fee = fixed + percent of the price, rounded down, never
    more than the price. `percent_millionths` is the share in millionths (15 % = 150_000).

    The seller gets what is left, so rounding always falls to the seller and the parts add up.
    """
    fee = min(price_micros, fixed_micros + price_micros * percent_millionths // 1_000_000)
    return price_micros - fee, fee


def credit_parts(
    credit_micros: int, *, price_micros: int, payout_micros: int, credited_micros: int
) -> tuple[int, int]:
    """How a credit divides between the seller's payout and the house's fee (which may be negative),
    in the proportion of the sale, after `credited_micros` were credited before: `(payout part, fee
    part)`. They add up to the credit.

    Counted from the sum of all credits, so that however a price is credited in parts, the payout
    parts end at the payout and the fee parts at the fee; the odd micro falls to the house. Raises
    `ValueError` for a credit that the price does not have left.
    """
    if credit_micros < 0 or credited_micros < 0 or credit_micros + credited_micros > price_micros:
        raise ValueError("no more can be credited than the price")
    if credit_micros == 0:
        return 0, 0
    before = payout_micros * credited_micros // price_micros
    payout = payout_micros * (credited_micros + credit_micros) // price_micros - before
    return payout, credit_micros - payout
