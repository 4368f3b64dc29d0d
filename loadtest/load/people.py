"""Seeded consumers who do not exist, shaped like those who do: where people live, how old they are.

A consumer is a function of seed and number, so it can be made again when it comes back.
"""

import random
import string
from datetime import date, timedelta
from functools import cache
from typing import Any, Final

from loadtest.load.market import Field, Vertical

METROS: Final = """
    100 16 104 14 112 26 113 23 117 15 070 14 021 12 061 5 191 16 152 7 200 7 212 8 232 5 276 8
    282 10 303 12 331 22 328 10 336 9 372 8 381 7 432 10 441 8 462 9 481 9 532 7 554 9 606 27
    601 14 631 8 641 6 701 5 731 7 750 16 752 13 761 10 770 23 774 12 782 15 787 10 802 8 841 6
    850 16 852 13 857 6 891 16 900 23 902 9 913 10 921 14 926 10 941 9 945 12 951 10 958 8 972 8
    981 9 980 11
"""
"""The first three digits of ZIP codes of large places, each with its people in 100,000."""
AREAS: Final = (
    *("201", "206", "212", "213", "214", "303", "305", "310", "312", "404", "415", "503", "512"),
    *("602", "617", "619", "702", "713", "718", "816", "818", "858", "916", "917", "972"),
)
FIRST: Final = (
    "James",
    "Maria",
    "Robert",
    "Linda",
    "David",
    "Ana",
    "Wei",
    "Aisha",
    "Sofia",
    "Omar",
)
LAST: Final = ("Smith", "Garcia", "Johnson", "Nguyen", "Brown", "Patel", "Lopez", "Kim", "Khan")
STREETS: Final = ("Oak St", "Maple Ave", "2nd St", "Washington Blvd", "Lakeview Dr", "Church Rd")
AGE_MEAN, AGE_SPREAD = 44, 15
TRUE_SHARE: Final = 0.6
_LINES_MAX: Final = 6_000_000
"""Numbers per area code: 234-0000 up to 833-9999."""


def person(vertical: Vertical, *, seed: int, number: int) -> dict[str, Any]:
    """The consumer's whole record. Phone numbers and e-mail addresses of one seed are never used
    twice for different numbers."""
    chance = random.Random(f"person {seed} {number}")
    tag = _tag(seed, number)
    return {
        name: _value(name, field, chance, tag, seed, number)
        for name, field in vertical.fields.items()
    }


def pinged(vertical: Vertical, lead: dict[str, Any]) -> dict[str, Any]:
    """The part of a record that a ping carries."""
    return {name: lead[name] for name, field in vertical.fields.items() if field.ping is True}


def _value(name: str, field: Field, chance: random.Random, tag: str, seed: int, number: int) -> Any:
    match field.type:
        case "enum":
            return chance.choice(field.values)
        case "int":
            return _int(name, field, chance)
        case "bool":
            return chance.random() < TRUE_SHARE
        case "date":
            return (date(2026, 1, 1) + timedelta(days=chance.randrange(365))).isoformat()
        case "us_zip":
            return _zip(chance)
        case "us_phone":
            return _phone(seed, number)
        case "email":
            return f"{chance.choice(FIRST).lower()}.{tag}@{chance.choice(('mail', 'post'))}.example"
        case "name":
            return chance.choice(FIRST if "first" in name else LAST)
        case "code" | "prefix":
            return _code(field, chance)
        case _:
            return _text(name, chance)


@cache
def _metros() -> tuple[tuple[str, ...], tuple[int, ...]]:
    words = METROS.split()
    return tuple(words[::2]), tuple(map(int, words[1::2]))


def _zip(chance: random.Random) -> str:
    places, weights = _metros()
    [metro] = chance.choices(places, weights=weights)
    return f"{metro}{chance.randint(1, 99):02d}"


def _int(name: str, field: Field, chance: random.Random) -> int:
    """Ages cluster in the middle; money and years are spread, small things more often."""
    low, high = field.min or 0, 100 if field.max is None else field.max
    if name == "age":
        return min(high, max(low, round(chance.gauss(AGE_MEAN, AGE_SPREAD))))
    return low + int((high - low) * chance.betavariate(1.4, 2.6))


def _phone(seed: int, number: int) -> str:
    """One to one: the prime steps through all numbers before any comes again."""
    place = (seed * 104_729 + number * 15_485_863) % (len(AREAS) * _LINES_MAX)
    line = f"{2_340_000 + place // len(AREAS):07d}"
    return f"({AREAS[place % len(AREAS)]}) {line[:3]}-{line[3:]}"


def _tag(seed: int, number: int) -> str:
    letters = string.ascii_lowercase
    text, left = "", number
    while left or len(text) < 4:
        left, digit = divmod(left, 26)
        text += letters[digit]
    return f"{text}{seed}"


def _code(field: Field, chance: random.Random) -> str:
    """A value of a simple pattern such as `[A-Z]{2}[0-9]{3}`; digits when there is none."""
    text, pattern = "", field.pattern or "[0-9]{5}"
    for piece, _, times in (part.partition("{") for part in pattern.split("}") if part):
        signs = string.ascii_uppercase if "A-Z" in piece else string.digits
        text += "".join(chance.choices(signs, k=int(times.split(",")[0] or 1)))
    return text


def _text(name: str, chance: random.Random) -> str:
    if "street" in name or "address" in name:
        return f"{chance.randint(1, 9999)} {chance.choice(STREETS)}"
    return chance.choice(("Toyota", "Ford", "Honda", "Chevrolet", "Nissan"))
