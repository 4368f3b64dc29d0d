"""One criterion of a contract's `where`, as a value that can say whether a field meets it.

`["CA", "NV"]` one of · `"CA"` equals · `{ min = 25, max = 65 }` within, both ends included ·
`{ not = ["social"] }` none of · `{ prefix = ["90", "91"] }` starts with one of ·
`{ list = [...] }` a long list · `{ regex = "..." }` matches as a whole. Several in one table must
all hold.

A field that is not there meets only a criterion made of nothing but `not`: a missing value is none
of those named, and is not within, among or like anything.
"""

import re
from collections.abc import Iterable
from datetime import date
from functools import cache
from typing import Any, Final

import msgspec

from exchange.core.model import Value
from exchange.core.terms import Criterion

WORDS: Final = ("min", "max", "not", "prefix", "list", "regex")
PARTY_FIELDS: Final = ("seller", "source", "sub_id")
"""Criteria on who sent the ping, not on what it says: their reason is `SOURCE_BLOCKED`."""


_KINDS: Final[dict[str, tuple[Any, str]]] = {
    "int": (int, "whole numbers"),
    "bool": (bool, "true or false"),
}


class BadCriterion(ValueError):
    """The criterion means nothing for its field; the message says why in a sentence."""


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled criterion. Equal tests are one object after `interned`, so ten thousand contracts
    with one ZIP list keep one set. `low` and `high` are ints or dates."""

    among: frozenset[Value] | None = None
    none_of: frozenset[Value] = frozenset()
    low: Any = None
    high: Any = None
    prefixes: tuple[str, ...] = ()
    regex: str | None = None

    def met(self, given: Value | None) -> bool:
        """Whether a value (or its absence) meets the criterion. Never raises for a value of the
        field's type."""
        value: Any = given
        if value is None:
            return self.only_excludes
        if value in self.none_of or (self.among is not None and value not in self.among):
            return False
        if self.low is not None and not self.low <= value:
            return False
        if self.high is not None and not value <= self.high:
            return False
        if self.prefixes and not str(value).startswith(self.prefixes):
            return False
        return self.regex is None or _pattern(self.regex).fullmatch(str(value)) is not None

    @property
    def only_excludes(self) -> bool:
        """Nothing but `not`."""
        bounds = (self.among, self.low, self.high, self.regex)
        return not self.prefixes and all(bound is None for bound in bounds)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def test_of(criterion: Criterion, field_type: str) -> Test:
    """The test a criterion makes of a field of this type. Raises `BadCriterion`."""
    if not isinstance(criterion, dict):
        values = criterion if isinstance(criterion, list | tuple) else [criterion]
        return Test(among=_values(values, field_type))
    for word in criterion:
        if word not in WORDS:
            raise BadCriterion(f"{word} is not one of {', '.join(WORDS)}")
    if not criterion:
        raise BadCriterion("an empty table says nothing")
    low: Any = _bound(criterion.get("min"), field_type)
    high: Any = _bound(criterion.get("max"), field_type)
    if low is not None and high is not None and low > high:
        raise BadCriterion("min is more than max: nothing can meet it")
    listed = criterion.get("list")
    return Test(
        among=None if listed is None else _values(_many(listed), field_type),
        none_of=_values(_many(criterion["not"]), field_type) if "not" in criterion else frozenset(),
        low=low,
        high=high,
        prefixes=_prefixes(criterion["prefix"], field_type) if "prefix" in criterion else (),
        regex=_regex(criterion["regex"], field_type) if "regex" in criterion else None,
    )


def _many(raw: Any) -> list[Any]:
    return list(raw) if isinstance(raw, list | tuple) else [raw]


def _values(raw: Iterable[Any], field_type: str) -> frozenset[Value]:
    values = frozenset(_value(item, field_type) for item in raw)
    if not values:
        raise BadCriterion("an empty list says nothing")
    return values


def _value(raw: Any, field_type: str) -> Value:
    if field_type == "date":
        return _date(raw)
    wanted, name = _KINDS.get(field_type, (str, "texts in quotes"))
    if type(raw) is not wanted:
        raise BadCriterion(f"a {field_type} field is compared with {name}")
    value: Value = raw
    return value


def _date(raw: Any) -> date:
    if type(raw) is date:
        return raw
    try:
        return date.fromisoformat(raw)
    except (TypeError, ValueError):
        raise BadCriterion("a date is written 1980-12-31") from None


def _bound(raw: Any, field_type: str) -> Value | None:
    if raw is None:
        return None
    if field_type not in ("int", "date"):
        raise BadCriterion(f"min and max are for int and date fields, this one is {field_type}")
    return _value(raw, field_type)


def _prefixes(raw: Any, field_type: str) -> tuple[str, ...]:
    _only_texts("prefix", field_type)
    prefixes = _many(raw)
    if not prefixes or not all(type(item) is str and item for item in prefixes):
        raise BadCriterion('prefix is a list of texts such as ["90", "91"]')
    return tuple(sorted(prefixes))


def _regex(raw: Any, field_type: str) -> str:
    _only_texts("regex", field_type)
    try:
        _pattern(raw)
    except (re.error, TypeError):
        raise BadCriterion("regex is not a pattern Python can read") from None
    text: str = raw
    return text


def _only_texts(word: str, field_type: str) -> None:
    if field_type in ("int", "bool", "date"):
        raise BadCriterion(f"{word} is for texts, this field is {field_type}")
