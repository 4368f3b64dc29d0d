"""A vertical's fields compiled to a `Schema`: typed values out of a seller's JSON, and the privacy
gate that decides what of it a ping may carry.

A ping and a post are normalised by the same checkers, so that a post can be held against its ping
(`mismatches`) whatever the seller's spelling was: `"90210-1234"` and `90210` are one ZIP.

A problem names the field and says what was expected; it never repeats the value, because the value
may be a consumer's.

The gate runs on every ping, so a field costs one dict lookup and one call.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from difflib import get_close_matches
from hashlib import md5, sha1, sha256
from typing import Any, Final, Literal

import phonenumbers

from exchange.core import zip3
from exchange.core.model import Fact, Value
from exchange.core.terms import FieldTerms, VerticalTerms

Check = Callable[[Any], Value | None]
"""Raw JSON value -> the typed, normalised value, or `None` when it is not of the type. Total."""
Pseudonym = Callable[[str, str], str]
"""`(kind, normalised) -> text`: the vault's keyed hash."""

CODE_CHARS_MAX: Final = 32
"""Longest code that may be pinged: long enough for any partner's id, too short to hide a record."""
PREFIX_CHARS_MAX: Final = 6
"""Default length of a `prefix` field: an area code and exchange (NPA-NXX) is six."""
TEXT_CHARS_MAX: Final = 500
INT_ABS_MAX: Final = 99_999_999
"""Default bound of an int: eight digits, so that neither a phone nor an SSN fits. A field may
declare wider ones."""

PHONE: Final = re.compile(
    r"\s*(?:\+?1[\s.-]?)?\(?([2-9]\d\d)\)?[\s.-]?([2-9]\d\d)[\s.-]?(\d{4})\s*"
)
EMAIL: Final = re.compile(r"[^@\s,;<>\"]{1,64}@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,63}")
_PERSONAL: Final = re.compile(
    r"@[\w-]+\.\w"  # an e-mail address
    r"|(?<!\d)(?:\+?1[\s.-]?)?\(?[2-9]\d\d\)?[\s.-]?[2-9]\d\d[\s.-]?\d{4}(?!\d)"  # a phone
    r"|(?<!\d)\d{3}[ -]\d\d[ -]\d{4}(?!\d)|^\d{9}$"  # an SSN
)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LABELLED: Final = re.compile(r"(?:@|%40)[\w-]+\.\w|(?:\+|%2B)1[\s.-]?\(?[2-9]\d\d", re.IGNORECASE)
_HASHES: Final = {32: "md5", 40: "sha1", 64: "sha256"}
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Problem(Fact, frozen=True, kw_only=True):
    """What is wrong with one field, without its value. `personal`: it carried personal data where
    it may not (only then is the gate, not the type, what refused it)."""

    field: str
    message: str
    hint: str = ""
    personal: bool = False


class Gated(Fact, frozen=True, kw_only=True):
    """What passed the gate. `gated` names the fields that did not, in the order they were sent."""

    fields: dict[str, Value]
    gated: tuple[str, ...] = ()


GateMode = Literal["watch", "strip", "refuse"]


def looks_personal(text: str) -> bool:
    """Whether a text is shaped like a phone number, an e-mail address or an SSN (or holds one)."""
    return _PERSONAL.search(text) is not None


def shown(name: str) -> str:
    """The name of a field as it may be said and kept: one that is no plain word is a seller's
    mistake, and may be a consumer's data in the wrong place."""
    return name if _NAME.fullmatch(name) and not looks_personal(name) else "(unnamed)"


def names_a_person(label: str) -> bool:
    """Whether a label of the seller's own (a sub id, a link) plainly holds an e-mail address or a
    phone number. Long numbers are let through: they are what sellers number their leads with."""
    return _LABELLED.search(label) is not None


def json_form(fields: Mapping[str, Value]) -> dict[str, Any]:
    """The fields as JSON can carry them: dates in ISO 8601."""
    if date not in map(type, fields.values()):
        return dict(fields)
    return {
        name: value.isoformat() if type(value) is date else value for name, value in fields.items()
    }


class Schema:
    """The fields of one vertical, compiled. Immutable after construction.

    `types` has every field a criterion may name, the derived `state` included. `pingable` are those
    a ping may carry (derived ones too), `pseudonyms` those replaced by a keyed hash at the gate,
    `personal` those only a winner sees, `kinds` the word under which a personal field is hashed.
    """

    def __init__(self, terms: VerticalTerms) -> None:
        states = zip3.states()
        self.terms = dict(terms.fields)
        self.zip_field = _zip_field(terms.fields)
        self.states = states if self.zip_field else {}
        self.types: dict[str, str] = {name: field.type for name, field in terms.fields.items()}
        self.pseudonyms = frozenset(n for n, f in self.terms.items() if f.ping == "pseudonym")
        self.personal = frozenset(n for n, f in self.terms.items() if f.personal)
        self.kinds = {n: _kind(n, f) for n, f in self.terms.items() if f.personal or f.ping}
        self._checks = {name: _check(field) for name, field in self.terms.items()}
        self._pinged = {n: _ping_check(f) for n, f in self.terms.items() if f.ping is True}
        self._ping_required = tuple(n for n in self._pinged if self.terms[n].required)
        self._lead_required = tuple(n for n, f in self.terms.items() if f.required)
        pingable = set(self._pinged)
        if self.zip_field:
            self.types["state"] = "enum"
            if self.zip_field in pingable:
                pingable.add("state")
        self.pingable = frozenset(pingable)

    def gate(
        self, raw: Mapping[str, Any], *, mode: GateMode, pseudonym: Pseudonym
    ) -> Gated | tuple[Problem, ...]:
        """The typed fields a ping may carry, or all its problems.

        A field that is not pingable or looks personal is left out and named in `gated`; with
        `refuse` it is a problem. A field the vertical does not know is a problem (a typo would
        cost bids in silence), except with `watch`. With `watch` a required field that the gate took
        is not missed.
        """
        fields: dict[str, Value] = {}
        pinged = self._pinged
        odd: list[str] = []
        for name, value in raw.items():
            check = pinged.get(name)
            if check is None or (typed := check(value)) is None:
                odd.append(name)
            else:
                fields[name] = typed
        gated: list[str] = []
        problems: list[Problem] = []
        if odd:
            for name in odd:
                self._odd(name, raw[name], mode, pseudonym, fields, gated, problems)
        for name in self._ping_required:
            if name not in fields and not (mode == "watch" and name in gated):
                self._missing(name, problems)
        if problems:
            return tuple(problems)
        self._derive(fields)
        return Gated(fields=fields, gated=tuple(gated))

    def shown(self, fields: dict[str, Value]) -> dict[str, Value]:
        """A ping's fields as every buyer may see them: without pseudonyms, by which buyers could
        tell one another that they were shown the same consumer."""
        if self.pseudonyms.isdisjoint(fields):
            return fields
        return {name: item for name, item in fields.items() if name not in self.pseudonyms}

    def lead(self, raw: Mapping[str, Any]) -> dict[str, Value] | tuple[Problem, ...]:
        """The full record typed and normalised, derived fields included, or all its problems."""
        fields: dict[str, Value] = {}
        problems: list[Problem] = []
        for name, value in raw.items():
            check = self._checks.get(name)
            if check is None:
                problems.append(self._unknown(name))
            elif value is not None:
                typed = check(value)
                if typed is None:
                    problems.append(self._wrong(name))
                else:
                    fields[name] = typed
        for name in self._lead_required:
            if name not in fields:
                self._missing(name, problems)
        if problems:
            return tuple(problems)
        self._derive(fields)
        return fields

    def mismatches(
        self, ping_fields: Mapping[str, Any], lead: Mapping[str, Value], *, pseudonym: Pseudonym
    ) -> tuple[str, ...]:
        """Names of the fields in which a lead contradicts its ping (`ping_fields` in JSON form). A
        field that was pinged and is not in the lead contradicts too."""
        return tuple(
            name
            for name, pinged in ping_fields.items()
            if not self._agrees(name, pinged, lead.get(name), pseudonym)
        )

    def _agrees(self, name: str, pinged: Any, value: Value | None, pseudonym: Pseudonym) -> bool:
        if name in self.pseudonyms and isinstance(value, str):
            return pinged in _pseudonyms_of(self.kinds[name], value, pseudonym)
        if isinstance(value, date):
            return bool(pinged == value.isoformat())
        return bool(pinged == value)

    def _odd(
        self,
        name: str,
        value: Any,
        mode: GateMode,
        pseudonym: Pseudonym,
        fields: dict[str, Value],
        gated: list[str],
        problems: list[Problem],
    ) -> None:
        """Settle a field that is not plainly a typed, pingable one."""
        terms = self.terms.get(name)
        if terms is None and mode != "watch":
            problems.append(self._unknown(name))
        elif value is None:
            return
        elif terms is not None and terms.ping == "pseudonym":
            hashed = self._pseudonym(name, value, pseudonym)
            if hashed is None:
                problems.append(self._wrong(name))
            else:
                fields[name] = hashed
        elif terms is None or not terms.ping or self._hides_a_person(name, value):
            gated.append(shown(name))
            if mode == "refuse":
                problems.append(_not_in_a_ping(name, terms))
        else:
            problems.append(self._wrong(name))

    def _hides_a_person(self, name: str, value: Any) -> bool:
        typed = self._checks[name](value)
        return isinstance(typed, str) and looks_personal(typed)

    def _pseudonym(self, name: str, value: Any, pseudonym: Pseudonym) -> str | None:
        kind = self.kinds[name]
        if isinstance(value, str) and _HEX.fullmatch(value) and len(value) in _HASHES:
            return pseudonym(f"{kind}:{_HASHES[len(value)]}", value.lower())
        normalised = self._checks[name](value)
        return pseudonym(kind, normalised) if isinstance(normalised, str) else None

    def _derive(self, fields: dict[str, Value]) -> None:
        if self.zip_field and (code := fields.get(self.zip_field)) is not None:
            state = self.states.get(str(code)[:3])
            if state is not None:
                fields["state"] = state

    def _unknown(self, name: str) -> Problem:
        near = get_close_matches(name, self.terms, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known fields: {', '.join(self.terms)}"
        return Problem(field=shown(name), message="the vertical has no such field", hint=hint)

    def _wrong(self, name: str) -> Problem:
        terms = self.terms[name]
        return Problem(field=name, message=f"is not a valid {terms.type}", hint=_hint(terms))

    def _missing(self, name: str, problems: list[Problem]) -> None:
        if all(problem.field != name for problem in problems):
            hint = _hint(self.terms[name])
            problems.append(Problem(field=name, message="is required", hint=hint))


def _zip_field(fields: Mapping[str, FieldTerms]) -> str | None:
    """The field that `state` is derived from: `zip`, else the first us_zip; none when the vertical
    declares a `state` of its own."""
    zips = [name for name, field in fields.items() if field.type == "us_zip"]
    if "state" in fields or not zips:
        return None
    return "zip" if "zip" in zips else zips[0]


def identity(kind: Literal["phone", "email"], raw: str) -> str | None:
    """The one spelling under which a consumer's phone or e-mail is hashed; `None` when it is
    none."""
    value = _us_phone(raw) if kind == "phone" else _email(raw)
    return str(value) if value is not None else None


def _kind(name: str, terms: FieldTerms) -> str:
    """The word a personal value is hashed under: one consumer hashes alike everywhere."""
    return {"us_phone": "phone", "email": "email", "name": "name"}.get(terms.type, name)


def _pseudonyms_of(kind: str, value: str, pseudonym: Pseudonym) -> frozenset[str]:
    """All pseudonyms a seller may have pinged for this value: ours, or one made from a hash it
    computed over a published spelling (a phone: `+13105551234`, `13105551234` or `3105551234`)."""
    spellings = (value, value[1:], value[2:]) if kind == "phone" else (value,)
    hashed = (
        pseudonym(f"{kind}:{name}", make(text.encode(), usedforsecurity=False).hexdigest())
        for text in spellings
        for name, make in (("sha256", sha256), ("sha1", sha1), ("md5", md5))
    )
    return frozenset((pseudonym(kind, value), *hashed))


def _not_in_a_ping(name: str, terms: FieldTerms | None) -> Problem:
    message = "carries personal data" if terms and terms.ping else "may not be in a ping"
    return Problem(
        field=shown(name),
        message=message,
        hint="send it in the post; only the winner sees it",
        personal=True,
    )


def _hint(terms: FieldTerms) -> str:
    match terms.type:
        case "enum":
            return "one of: " + ", ".join(terms.values)
        case "int":
            low, high = _bounds(terms)
            return f"a whole number from {low} to {high}"
        case "bool":
            return "true or false"
        case "date":
            return "a date such as 1980-12-31"
        case "us_zip":
            return "five digits such as 90210"
        case "us_phone":
            return "a US phone number such as +13105550123"
        case "email":
            return "an e-mail address"
        case "code" | "prefix":
            length = terms.length_max or _chars_max(terms)
            return f"at most {length} characters" + (
                f" of the form {terms.pattern}" if terms.pattern else ""
            )
        case "text" | "name":
            return f"text of at most {terms.length_max or _chars_max(terms)} characters"


# --- one checker per type -------------------------------------------------------------------------


def _check(terms: FieldTerms) -> Check:
    match terms.type:
        case "enum":
            return _enum_check(terms)
        case "int":
            return _int_check(*_bounds(terms))
        case "bool":
            return _bool
        case "date":
            return _date
        case "us_zip":
            return _us_zip
        case "us_phone":
            return _us_phone
        case "email":
            return _email
        case "prefix":
            return _text_check(terms, pattern=terms.pattern or "[A-Za-z0-9]+")
        case "code" | "text" | "name":
            return _text_check(terms, pattern=terms.pattern)


def _ping_check(terms: FieldTerms) -> Check:
    """As `_check`; a code that looks like a person is none."""
    check = _check(terms)
    if terms.type != "code":
        return check
    search = _PERSONAL.search

    def code(raw: Any) -> Value | None:
        value = check(raw)
        return None if value is None or search(value) else value  # type: ignore[arg-type]

    return code


def _bounds(terms: FieldTerms) -> tuple[int, int]:
    low = -INT_ABS_MAX if terms.min is None else terms.min
    return low, INT_ABS_MAX if terms.max is None else terms.max


def _chars_max(terms: FieldTerms) -> int:
    if terms.type == "prefix":
        return PREFIX_CHARS_MAX
    return CODE_CHARS_MAX if terms.type == "code" else TEXT_CHARS_MAX


def _enum_check(terms: FieldTerms) -> Check:
    exact = {value: value for value in terms.values}
    folded = {value.casefold(): value for value in terms.values}

    def enum(raw: Any) -> Value | None:
        if type(raw) is not str:
            return None
        return exact.get(raw) or folded.get(raw.strip().casefold())

    return enum


def _int_check(low: int, high: int) -> Check:
    def integer(raw: Any) -> Value | None:
        if type(raw) is str and len(raw) < 16 and raw.strip().lstrip("-").isdigit():
            try:
                raw = int(raw)
            except ValueError:
                return None
        if type(raw) is int and low <= raw <= high:
            return raw
        return None

    return integer


_BOOLS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _bool(raw: Any) -> Value | None:
    if type(raw) is bool:
        return raw
    if type(raw) is str or type(raw) is int:
        return _BOOLS.get(str(raw).strip().lower())
    return None


def _date(raw: Any) -> Value | None:
    if type(raw) is str and len(raw) == 10:
        try:
            return date.fromisoformat(raw)
        except ValueError:
            return None
    return raw if type(raw) is date else None


def _us_zip(raw: Any) -> Value | None:
    if type(raw) is int:
        raw = f"{raw:05d}"
    if type(raw) is not str:
        return None
    if len(raw) != 5:
        raw, plus, four = raw.strip().partition("-")
        if plus and not (len(four) == 4 and four.isdigit()):
            return None
    return raw if len(raw) == 5 and raw.isdigit() and raw.isascii() else None


def _us_phone(raw: Any) -> Value | None:
    """E.164. The plain spellings are read by pattern; phonenumbers reads the odd ones (it costs
    a hundred times as much)."""
    if type(raw) is int:
        raw = str(raw)
    if type(raw) is not str or len(raw) > 40:
        return None
    if plain := PHONE.fullmatch(raw):
        return "+1" + "".join(plain.groups())
    try:
        number = phonenumbers.parse(raw, "US")
    except phonenumbers.NumberParseException:
        return None
    if number.country_code != 1 or number.extension or not phonenumbers.is_possible_number(number):
        return None
    plain = PHONE.fullmatch(str(number.national_number))
    return "+1" + "".join(plain.groups()) if plain else None


def _email(raw: Any) -> Value | None:
    if type(raw) is not str or len(raw) > 254:
        return None
    text = raw.strip().lower()
    return text if EMAIL.fullmatch(text) else None


def _text_check(terms: FieldTerms, *, pattern: str | None) -> Check:
    length_max = terms.length_max or _chars_max(terms)
    fullmatch = re.compile(pattern).fullmatch if pattern else None
    spaces = terms.type == "name"

    def text(raw: Any) -> Value | None:
        if type(raw) is not str:
            return None
        value = " ".join(raw.split()) if spaces else raw.strip()
        if not value or len(value) > length_max or _CONTROL.search(value):
            return None
        return value if fullmatch is None or fullmatch(value) else None

    return text
