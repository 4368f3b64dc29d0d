"""The sense of a market document: what its settings say about one another, checked all together.

Each check is a straight run of questions about one object; `Found` gathers the answers with the
path of the setting they are about.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any, Final

from exchange.core import (
    billing_checks,
    criteria,
    hours,
    pause_checks,
    payout_checks,
    resale_checks,
    return_checks,
)
from exchange.core.fields import CODE_CHARS_MAX, Schema
from exchange.core.findings import Found, known_zone, near, zone_missing
from exchange.core.money import AMOUNT_MICROS_MAX, micros_of
from exchange.core.terms import (
    PINGABLE,
    BuyerTerms,
    CapTerms,
    ContractTerms,
    FieldTerms,
    InDoubtTerms,
    MarketDoc,
    SellerTerms,
    SourceTerms,
    VerticalTerms,
)
from exchange.core.toml_lines import Path

TMAX_MS: Final = (50, 10_000)
KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PERSONAL_TYPES: Final = frozenset({"us_phone", "email", "name"})
_UNKNOWN: Final = "unknown"
"""The zone of a contract whose buyer is not known: nothing is said about it."""
_CLOCKED: Final = frozenset({"day", "week", "month"})
"""Periods that begin at a local midnight; an hour is numbered in UTC and a total never resets."""


def checked(
    doc: MarketDoc,
    *,
    broken: frozenset[tuple[str, str]] = frozenset(),
    dialects: frozenset[str] | None = None,
) -> Found:
    """Every problem and warning of a document whose settings have the right types."""
    found = Found(broken)
    schemas: dict[str, Schema] = {}
    for key, vertical in doc.verticals.items():
        before = len(found.problems)
        _vertical(("verticals", key), vertical, found)
        if len(found.problems) == before:
            schemas[key] = Schema(vertical)
    for key, seller in doc.sellers.items():
        _seller(("sellers", key), seller, found)
    for key, buyer in doc.buyers.items():
        _buyer(("buyers", key), buyer, dialects, found)
    for key, contract in doc.contracts.items():
        _contract(("contracts", key), contract, doc, schemas, found)
    payout_checks.guarantees(doc, found)
    return_checks.windows_compared(doc, found)
    for section in ("verticals", "sellers", "buyers", "contracts"):
        for key in getattr(doc, section):
            _key((section, key), key, found)
    return found


def _key(path: Path, key: str, found: Found) -> None:
    if not KEY.fullmatch(key):
        found.problem(path, "is no key", "small letters, digits, - and _, at most 63")


# --- verticals ------------------------------------------------------------------------------------


def _vertical(path: Path, terms: VerticalTerms, found: Found) -> None:
    if not re.fullmatch("[A-Z]{3}", terms.currency):
        found.problem((*path, "currency"), "is no currency", 'three letters such as "USD"')
    if not terms.fields:
        found.problem((*path, "fields"), "a vertical has at least one field")
    for name, field in terms.fields.items():
        _field((*path, "fields", name), name, field, found)
    if terms.duplicate is not None:
        for number, name in enumerate(terms.duplicate.fields):
            if name not in terms.fields:
                where = (*path, "duplicate", "fields", number)
                found.problem(where, f"there is no field {name}", near(name, terms.fields))
        if terms.duplicate.window_days < 1:
            found.problem((*path, "duplicate", "window_days"), "must be at least 1")
    if terms.resell is not None:
        resale_checks.resell((*path, "resell"), terms.resell, found)


def _field(path: Path, name: str, terms: FieldTerms, found: Found) -> None:
    if not FIELD.fullmatch(name):
        found.problem(path, "is no field name", "small letters, digits and _, a letter first")
    if name in criteria.PARTY_FIELDS:
        found.problem(path, f"{name} is a word of criteria, not a field", "use another name")
    if (terms.type == "enum") != bool(terms.values):
        found.problem(path, "values and type enum go together", 'values = ["a", "b"]')
    if terms.type in _PERSONAL_TYPES and not terms.personal:
        found.problem(path, f"a {terms.type} is personal", "write personal = true")
    _field_bounds(path, terms, found)
    if terms.ping == "pseudonym" and terms.type not in ("us_phone", "email"):
        where = (*path, "ping")
        found.problem(where, "a pseudonym is made of a us_phone or email only", "ping = true")
    if terms.ping is True:
        _pinged_field(path, terms, found)


def _field_bounds(path: Path, terms: FieldTerms, found: Found) -> None:
    if terms.type != "int" and (terms.min is not None or terms.max is not None):
        found.problem(path, "min and max are for int fields")
    if terms.min is not None and terms.max is not None and terms.min > terms.max:
        found.problem((*path, "min"), "min is more than max")
    if terms.length_max is not None and terms.length_max < 1:
        found.problem((*path, "length_max"), "must be at least 1")
    if terms.pattern is not None:
        try:
            re.compile(terms.pattern)
        except re.error:
            found.problem((*path, "pattern"), "is not a pattern Python can read")


def _pinged_field(path: Path, terms: FieldTerms, found: Found) -> None:
    where = (*path, "ping")
    if terms.type not in PINGABLE:
        hint = 'ping = "pseudonym"' if terms.type in ("us_phone", "email") else "leave ping out"
        found.problem(where, f"a {terms.type} is never pinged: only winners see it", hint)
    elif terms.personal:
        found.problem(where, "a personal field is never pinged: only winners see it")
    if terms.type == "code" and terms.pattern is None:
        hint = 'pattern = "[A-Z0-9]{1,12}"'
        found.problem(
            where, "a code that is pinged needs a pattern: free text can hide a person", hint
        )
    if terms.type in ("code", "prefix") and (terms.length_max or 0) > CODE_CHARS_MAX:
        found.problem((*path, "length_max"), f"at most {CODE_CHARS_MAX} in a ping")


# --- sellers and buyers ---------------------------------------------------------------------------


def _seller(path: Path, terms: SellerTerms, found: Found) -> None:
    payout_checks.of_seller(path, terms, found)
    if terms.resell is not None:
        resale_checks.resell((*path, "resell"), terms.resell, found)
    if terms.rate_per_s < 1:
        found.problem((*path, "rate_per_s"), "must be at least 1")
    if terms.webhook_url is not None:
        _url((*path, "webhook_url"), terms.webhook_url, found)
    if terms.time_zone is not None:
        known_zone((*path, "time_zone"), terms.time_zone, found)
    if terms.clawback is not None:
        return_checks.clawback((*path, "clawback"), terms.clawback, terms.time_zone, found)
    billing_checks.remittance((*path, "remittance"), terms.remittance, found)
    billing_checks.paper((*path, "paper"), terms.paper, found)
    if not terms.sources:
        found.problem((*path, "sources"), "a seller has at least one source", '["main"]')
    if not isinstance(terms.sources, dict):
        for number, key in enumerate(terms.sources):
            _key((*path, "sources", number), key, found)
            if key in terms.sources[:number]:
                found.problem((*path, "sources", number), f"{key} stands there twice")
        return
    for key, source in terms.sources.items():
        _key((*path, "sources", key), key, found)
        _source((*path, "sources", key), source, found)


def _source(path: Path, terms: SourceTerms, found: Found) -> None:
    low, high = TMAX_MS
    if terms.tmax_ms is not None and not low <= terms.tmax_ms <= high:
        found.problem((*path, "tmax_ms"), f"lies between {low} and {high} ms")


def _buyer(path: Path, terms: BuyerTerms, dialects: frozenset[str] | None, found: Found) -> None:
    for name in ("ping_url", "post_url", "status_url", "webhook_url"):
        if (url := getattr(terms, name)) is not None:
            _url((*path, name), url, found)
    if terms.time_zone is not None:
        known_zone((*path, "time_zone"), terms.time_zone, found)
    if dialects is not None and terms.dialect not in dialects:
        where = (*path, "dialect")
        found.problem(where, f"nobody here speaks {terms.dialect}", near(terms.dialect, dialects))
    billing_checks.billing((*path, "billing"), terms.billing, found)
    billing_checks.paper((*path, "paper"), terms.paper, found)
    pause_checks.auto_pause((*path, "auto_pause"), terms.auto_pause, found)
    if terms.in_flight_max < 1:
        found.problem((*path, "in_flight_max"), "must be at least 1")
    if not 100 <= terms.post_timeout_ms <= 30_000:
        found.problem((*path, "post_timeout_ms"), "lies between 100 and 30000 ms")
    for name, value in terms.headers.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name) or re.search(r"[\x00-\x1f\x7f]", value):
            found.problem((*path, "headers", name), "is no header")


def _url(path: Path, url: str, found: Found) -> None:
    if not re.fullmatch(r"https?://[^\s/?#@]+(?:/[^\s#]*)?", url):
        found.problem(path, "is no http(s) URL", "https://host/path, no user, no fragment")


# --- contracts ------------------------------------------------------------------------------------


def _contract(
    path: Path,
    terms: ContractTerms,
    doc: MarketDoc,
    schemas: dict[str, Schema],
    found: Found,
) -> None:
    _known((*path, "buyer"), "buyers", terms.buyer, doc.buyers, found)
    _known((*path, "vertical"), "verticals", terms.vertical, doc.verticals, found)
    buyer = doc.buyers.get(terms.buyer)
    zone = terms.time_zone or (buyer.time_zone if buyer else _UNKNOWN)
    if terms.time_zone is not None:
        known_zone((*path, "time_zone"), terms.time_zone, found)
    _price(path, terms, found)
    _hours(path, terms, zone, found)
    _in_doubt(path, terms, buyer, found)
    if buyer is not None and buyer.prepaid and terms.cap_mode != "strict":
        message = (
            f"{terms.buyer} pays ahead, and only the database's fence never oversteps what it has"
        )
        found.problem((*path, "cap_mode"), message, 'cap_mode = "strict"')
    if terms.returns is not None:
        return_checks.policy((*path, "returns"), terms.returns, zone, found)
    pause_checks.of_contract((*path, "auto_pause"), terms, found)
    schema = schemas.get(terms.vertical)
    for number, cap in enumerate(terms.caps):
        _cap((*path, "caps", number), cap, zone, schema, found)
        if terms.hold == "offer" and cap.each and schema and cap.each not in schema.pingable:
            message = f"{cap.each} is not in the ping, and room is held with the offer"
            hint = f'ping {cap.each}, or hold = "post"'
            found.problem((*path, "caps", number, "each"), message, hint)
    for field in terms.where:
        where = (*path, "where", field)
        if schema is not None:
            _criterion(where, field, terms, doc, schema, found)
        elif vertical := doc.verticals.get(terms.vertical):
            _known_field(where, field, (*vertical.fields, "state"), found)


def _known(
    path: Path,
    section: str,
    key: str,
    known: dict[str, Any],
    found: Found,
) -> None:
    if key not in known and (section, key) not in found.broken:
        message = f"there is no {section.removesuffix('s')} {key}"
        found.problem(path, message, near(key, known))


def _price(path: Path, terms: ContractTerms, found: Found) -> None:
    if terms.price != "bid":
        if terms.bid_max is not None or terms.bid_min != "0":
            found.problem((*path, "price"), "a fixed price has no bid_min or bid_max", '"bid"')
        return
    if terms.bid_max is not None and micros_of(terms.bid_max) < micros_of(terms.bid_min):
        found.problem((*path, "bid_max"), "bid_max is less than bid_min: no bid can be valid")


def _hours(path: Path, terms: ContractTerms, zone: str | None, found: Found) -> None:
    for day, text in terms.hours.items():
        try:
            hours.week_of({day: text})
        except hours.BadHours as error:
            found.problem((*path, "hours", day), str(error))
    if terms.hours and zone is None:
        zone_missing((*path, "hours"), found)


def _in_doubt(path: Path, terms: ContractTerms, buyer: BuyerTerms | None, found: Found) -> None:
    where = (*path, "in_doubt", "policy")
    if not terms.in_doubt.policy:
        found.problem(where, "must name at least one way", '["inquire", "write_off"]')
    explicit = terms.in_doubt != InDoubtTerms()
    if "inquire" in terms.in_doubt.policy and buyer is not None and buyer.status_url is None:
        note = found.problem if explicit else found.warning
        note(where, "inquire needs the buyer's status_url", "or another in_doubt policy")
    for name in ("write_off_hours", "inquire_every_s"):
        if getattr(terms.in_doubt, name) < 1:
            found.problem((*path, "in_doubt", name), "must be at least 1")


def _cap(path: Path, cap: CapTerms, zone: str | None, schema: Schema | None, found: Found) -> None:
    if (cap.leads is None) == (cap.money is None):
        found.problem(path, "a cap counts either leads or money", "{ leads = 50, per = ... }")
    if cap.leads is not None and cap.leads < 1:
        found.problem((*path, "leads"), "must be at least 1", "or paused = true")
    if cap.money is not None and micros_of(cap.money, most_micros=AMOUNT_MICROS_MAX) == 0:
        found.problem((*path, "money"), "must be more than 0", "or paused = true")
    if cap.per in _CLOCKED and zone is None:
        zone_missing((*path, "per"), found)
    if cap.each is None or schema is None:
        return
    if cap.each not in schema.types:
        hint = near(cap.each, schema.types)
        found.problem((*path, "each"), f"there is no field {cap.each}", hint)
    elif cap.each in schema.personal:
        found.problem((*path, "each"), "a personal field does not count caps")


# --- criteria -------------------------------------------------------------------------------------


def _criterion(
    path: Path, field: str, terms: ContractTerms, doc: MarketDoc, schema: Schema, found: Found
) -> None:
    if not _known_field(path, field, schema.types, found):
        return
    if field in schema.personal:
        found.problem(path, "a personal field is no criterion")
        return
    try:
        test = criteria.test_of(terms.where[field], schema.types.get(field, "code"))
    except criteria.BadCriterion as error:
        found.problem(path, str(error))
        return
    sellers_broken = any(section == "sellers" for section, _ in found.broken)
    party = field in criteria.PARTY_FIELDS
    domain = None if party and sellers_broken else _domain(field, doc, schema)
    if domain is not None:
        for value in sorted(str(value) for value in (test.among or frozenset()) | test.none_of):
            if value not in domain:
                found.problem(path, f"{field} is never {value}", near(value, domain))
    if field not in schema.pingable and not party:
        found.warning(path, "is not pinged, so it is tested at the post only")


def _known_field(path: Path, field: str, fields: Iterable[str], found: Found) -> bool:
    known = (*fields, *criteria.PARTY_FIELDS)
    if field not in known:
        found.problem(path, f"there is no field {field}", near(field, known))
    return field in known


def _domain(field: str, doc: MarketDoc, schema: Schema) -> Collection[str] | None:
    """The values a field can have, where that is known."""
    if field == "seller":
        return doc.sellers
    if field == "source":
        return {key for seller in doc.sellers.values() for key in seller.sources}
    if field in schema.terms:
        return schema.terms[field].values or None
    return set(schema.states.values()) if field == "state" else None
