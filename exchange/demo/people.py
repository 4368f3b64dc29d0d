"""Seeded consumers for the demo: people who do not exist, with data shaped like real people's.

Made from the market's own field definitions, so that any market can be played. The same seed makes
the same people in the same order.
"""

import random
import string
from datetime import date, timedelta
from typing import Any

import msgspec

from exchange.core.terms import FieldTerms, VerticalTerms

ZIPS = [
    "90210",
    "94110",
    "92101",
    "95814",
    "85004",
    "85701",
    "89101",
    "97205",
    "98101",
    "80202",
    "84101",
    "78701",
    "77002",
    "75201",
    "73102",
    "60601",
    "61602",
    "48201",
    "44101",
    "43201",
    "46201",
    "53202",
    "55401",
    "63101",
    "37201",
    "30301",
    "33101",
    "32801",
    "28202",
    "27601",
    "23219",
    "20001",
    "21201",
    "19103",
    "15222",
    "10001",
    "11201",
    "14201",
    "02108",
    "06103",
]
"""Large places all over the country, so that criteria by state have something to choose from."""
AREA_CODES = ("213", "312", "305", "415", "512", "602", "702", "713", "818", "917")
FIRST = (
    "Avery",
    "Blake",
    "Casey",
    "Devon",
    "Emery",
    "Finley",
    "Harper",
    "Jordan",
    "Quinn",
    "Reese",
)
LAST = ("Abbott", "Barlow", "Calder", "Dalton", "Ellery", "Farrow", "Garner", "Hollis", "Ingram")
STREETS = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Hawthorn", "Juniper", "Laurel")


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer: what a ping may carry, the whole record, and the values that must reach nobody
    but the buyer that won (`canaries`)."""

    pinged: dict[str, Any]
    lead: dict[str, Any]
    canaries: list[str]


class People:
    """An endless row of consumers."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._count = 0

    def person(self, vertical: VerticalTerms) -> Person:
        """The next consumer, with every field of this vertical."""
        self._count += 1
        lead: dict[str, Any] = {}
        canaries: list[str] = []
        for name, terms in vertical.fields.items():
            value = self._value(name, terms)
            lead[name] = value
            if terms.personal or terms.type in ("us_phone", "email", "name"):
                canaries.append(str(value))
        pinged = {name: lead[name] for name, terms in vertical.fields.items() if terms.ping is True}
        return Person(pinged=pinged, lead=lead, canaries=canaries)

    def _value(self, name: str, terms: FieldTerms) -> Any:
        chance = self._chance
        match terms.type:
            case "enum":
                return chance.choice(terms.values)
            case "int":
                low, high = terms.min or 0, 100 if terms.max is None else terms.max
                return self._int(name, low, high)
            case "bool":
                return chance.random() < 0.6
            case "date":
                return (date(2026, 1, 1) + timedelta(days=chance.randrange(365))).isoformat()
            case "us_zip":
                return chance.choice(ZIPS)
            case "prefix" | "code":
                return self._code(terms)
            case "us_phone":
                return self._phone()
            case "email":
                return f"{self._tag()}@{chance.choice(('mail', 'post'))}.example"
            case "name":
                return self._name(name)
            case "text":
                return self._text(name)

    def _int(self, name: str, low: int, high: int) -> int:
        """Ages cluster in the middle, everything else is spread."""
        if name == "age":
            return min(high, max(low, round(self._chance.gauss(42, 14))))
        return self._chance.randint(low, high)

    def _code(self, terms: FieldTerms) -> str:
        """A value of a simple pattern such as `[A-Z]{2}[0-9]{3}`; digits when there is none."""
        text, pattern = "", terms.pattern or "[0-9]{5}"
        for piece, _, times in (part.partition("{") for part in pattern.split("}") if part):
            signs = string.ascii_uppercase if "A-Z" in piece else string.digits
            text += "".join(self._chance.choices(signs, k=int(times.split(",")[0] or 1)))
        return text

    def _phone(self) -> str:
        """Unique per person: the number of the person is in it."""
        area = self._chance.choice(AREA_CODES)
        number = 2_340_000 + (self._count * 7919) % 6_000_000
        text = f"{number:07d}"
        return f"({area}) {text[:3]}-{text[3:]}"

    def _tag(self) -> str:
        """A word no other person has."""
        letters = "".join(self._chance.choices(string.ascii_lowercase, k=10))
        return f"{letters}{self._count}"

    def _name(self, name: str) -> str:
        pool = FIRST if "first" in name else LAST
        return f"{self._chance.choice(pool)}{self._tag()}".title()

    def _text(self, name: str) -> str:
        if "address" in name or "street" in name:
            return f"{self._chance.randint(1, 9999)} {self._chance.choice(STREETS)} {self._tag()}"
        return f"note {self._tag()}"
