"""The market file: TOML text to `MarketDoc`, with every mistake at once, each with its line and a
hint. A document that reads without problems works: nothing in it can fail a ping later.

Two passes. The shape: every setting is read by its type on its own, so one wrong value does not
hide the next (msgspec stops at the first). The sense (`market_checks`): what the settings say
about one another. What is odd but legal is a warning.
"""

import tomllib
import types
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec

from exchange.core import billing_checks
from exchange.core.findings import Found
from exchange.core.market_checks import checked
from exchange.core.model import Fact
from exchange.core.money import AMOUNT_MICROS_MAX, PRICE_MICROS_MAX, BadMoney, micros_of
from exchange.core.terms import HouseTerms, MarketDoc
from exchange.core.toml_lines import Path, lines_of

MONEY: Final = frozenset(
    {"price", "bid_min", "bid_max", "floor", "fixed", "loss_max", "minimum", "money", "refer_over"}
    | {"negative_limit"}
)
"""Settings that hold money: decimal strings, because a TOML float is not exact."""
_NOT_YET: Final = {
    "max_sales": "every lead is sold once; shared sales are not offered yet",
    "shared": "every lead is sold once; shared sales are not offered yet",
    "exclusive": "every contract is exclusive; leave it out",
}
_BAD: Final = object()


class MarketProblem(Fact, frozen=True, kw_only=True):
    """One mistake (or warning): where it stands, what it is, what to write instead."""

    path: str
    message: str
    hint: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class Reading(Fact, frozen=True, kw_only=True):
    """What became of a market text: `doc` is there when there are no `problems`."""

    doc: MarketDoc | None
    problems: tuple[MarketProblem, ...] = ()
    warnings: tuple[MarketProblem, ...] = ()


def read_market(text: str, *, dialects: frozenset[str] | None = None) -> Reading:
    """Read and check a market file. `dialects` are those the house speaks, when known."""
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        return Reading(doc=None, problems=(_syntax(str(error), text),))
    shape = Found()
    doc, broken = _document(raw, shape)
    sense = checked(doc, broken=broken, dialects=dialects)
    lines = lines_of(text)
    problems = [*_placed(shape.problems, lines), *_placed(sense.problems, lines)]
    problems.sort(key=lambda problem: problem.line or 0)
    return Reading(
        doc=None if problems else doc,
        problems=tuple(problems),
        warnings=tuple(_placed(sense.warnings, lines)),
    )


def read_house(text: str) -> tuple[HouseTerms | None, tuple[MarketProblem, ...]]:
    """Read and check the house's own file; the terms are there when there are no problems."""
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        return None, (_syntax(str(error), text),)
    found = Found()
    terms = _struct(HouseTerms, raw, (), found)
    if isinstance(terms, HouseTerms):
        billing_checks.house(terms, found)
    problems = tuple(_placed(found.problems, lines_of(text)))
    return (None if problems else terms), problems


def doc_of_json(doc: Any) -> MarketDoc:
    """A document from the JSON form it is kept in. Raises `msgspec.ValidationError`."""
    return msgspec.convert(doc, MarketDoc)


def _syntax(said: str, text: str) -> MarketProblem:
    """tomllib's own words: `What is wrong (at line 3, column 7)` or `(at end of document)`."""
    message, _, where = said.rpartition(" (at ")
    line = where.removeprefix("line ").partition(",")[0]
    number = int(line) if line.isdigit() else text.count("\n") + 1
    return MarketProblem(path="syntax", message=(message or said).lower(), line=number)


def _placed(found: list[tuple[Path, str, str]], lines: Mapping[Path, int]) -> list[MarketProblem]:
    return [
        MarketProblem(path=dotted(path), message=message, hint=hint, line=_line(path, lines))
        for path, message, hint in found
    ]


def _line(path: Path, lines: Mapping[Path, int]) -> int | None:
    """The line of the setting, or of the nearest thing around it that stands in the file."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)


def dotted(path: Path) -> str:
    """`contracts.acme-west.caps[0].leads`"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


# --- the shape ------------------------------------------------------------------------------------


def _document(raw: dict[str, Any], found: Found) -> tuple[MarketDoc, frozenset[tuple[str, str]]]:
    """The document of all objects that could be read, and `(section, key)` of those that could
    not: the good ones are checked further, so that one wrong value hides no other mistake."""
    known = {field.name: field for field in msgspec.structs.fields(MarketDoc)}
    sections: dict[str, Any] = {}
    broken: set[tuple[str, str]] = set()
    for name, items in raw.items():
        if name not in known:
            found.problem((name,), "there is no such section", _nearest(name, known))
        elif not isinstance(items, dict):
            found.problem((name,), "must be a table", f"[{name}.some-key]")
        else:
            kind = get_args(known[name].type)[1]
            read = {key: _value(kind, item, (name, key), found) for key, item in items.items()}
            broken |= {(name, key) for key, item in read.items() if item is _BAD}
            sections[name] = {key: item for key, item in read.items() if item is not _BAD}
    return MarketDoc(**sections), frozenset(broken)


def _value(kind: Any, raw: Any, path: Path, found: Found) -> Any:
    """A value of a type, or `_BAD` with at least one problem found."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(kind, raw, path, found)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _value_of_union(args, raw, kind, path, found)
    if origin is dict and _is_struct(args[1]) and isinstance(raw, dict):
        pairs = {key: _value(args[1], item, (*path, key), found) for key, item in raw.items()}
        return _BAD if _BAD in pairs.values() else pairs
    if origin is tuple and _is_struct(args[0]) and isinstance(raw, list):
        items = tuple(_value(args[0], item, (*path, n), found) for n, item in enumerate(raw))
        return _BAD if any(item is _BAD for item in items) else items
    return _leaf(kind, raw, path, found)


def _value_of_union(args: Any, raw: Any, kind: Any, path: Path, found: Found) -> Any:
    for arg in args:
        if _is_struct(arg) or (get_origin(arg) is dict and isinstance(raw, dict)):
            return _value(arg, raw, path, found)
    return _leaf(kind, raw, path, found)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _struct(kind: type[msgspec.Struct], raw: Any, path: Path, found: Found) -> Any:
    if not isinstance(raw, dict):
        found.problem(path, "must be a table", "such as { ... } or a [section]")
        return _BAD
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    good = True
    for name in raw:
        if name not in known:
            found.problem((*path, name), "there is no such setting", _nearest(name, known))
            good = False
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in raw:
            values[name] = _value(field.type, raw[name], (*path, name), found)
            good = good and values[name] is not _BAD
        elif field.required:
            found.problem((*path, name), "is missing", "")
            good = False
    return kind(**values) if good else _BAD


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    if name in _NOT_YET:
        return _NOT_YET[name]
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def _leaf(kind: Any, raw: Any, path: Path, found: Found) -> Any:
    name = path[-1] if path else ""
    if name in MONEY:
        return _money(raw, path, found)
    try:
        return msgspec.convert(_plain(raw), kind)
    except msgspec.ValidationError:
        found.problem(path, f"must be {_wanted(kind)}", "")
        return _BAD


def _money(raw: Any, path: Path, found: Found) -> Any:
    if isinstance(raw, int | Decimal) and not isinstance(raw, bool):
        hint = f'write "{raw:.2f}"' if raw == round(raw, 2) else f'write "{raw}"'
        found.problem(path, "money is a text in quotes, so that it stays exact", hint)
        return _BAD
    if raw == "bid" and path[-1] == "price":
        return raw
    try:
        most = AMOUNT_MICROS_MAX if path[-1:] == ("money",) else PRICE_MICROS_MAX
        micros_of(raw if isinstance(raw, str) else "", most_micros=most)
    except BadMoney as error:
        found.problem(path, str(error), 'such as "18.00"')
        return _BAD
    return raw


def _plain(raw: Any) -> Any:
    """The value as JSON will hold it: dates in ISO 8601."""
    if isinstance(raw, date):
        return raw.isoformat()
    if isinstance(raw, dict):
        return {key: _plain(item) for key, item in raw.items()}
    return [_plain(item) for item in raw] if isinstance(raw, list) else raw


_WORDS: Final[dict[Any, str]] = {
    str: "a text in quotes",
    int: "a whole number",
    bool: "true or false",
    Decimal: "a number",
    types.NoneType: "",
    dict: "a table",
    tuple: "a list",
    list: "a list",
}


def _wanted(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(f'"{arg}"' for arg in args)
    if origin is tuple:
        return f"a list, each {_wanted(args[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(filter(None, map(_wanted, args)))
    return _WORDS.get(kind, _WORDS.get(origin, "a table"))
