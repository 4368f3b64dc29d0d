"""Small random markets and pings for the properties of filters and books, and the slow, obviously
right twin of `invite`: it asks every contract every question, in plain words."""

import re
from datetime import UTC, date, datetime

import msgspec
from hypothesis import strategies as st

from exchange.core.filters import invite
from exchange.core.model import Ping, PingConsent
from exchange.core.money import micros_of, split
from exchange.core.reasons import NonBid
from exchange.core.terms import MarketDoc

AT = datetime(2026, 3, 6, 15, 0, tzinfo=UTC)
ZIPS = ("90210", "90310", "94110", "10001", "10002", "02134", "60601", "00000")
STATES = ("CA", "NY", "MA", "IL")
CREDIT = ("good", "fair", "poor")
SOURCES = ("search", "social", "email")
FIELDS = {
    "zip": {"type": "us_zip", "ping": True},
    "age": {"type": "int", "min": 16, "max": 99, "ping": True},
    "owner": {"type": "bool", "ping": True},
    "credit": {"type": "enum", "values": list(CREDIT), "ping": True},
    "moves": {"type": "date", "ping": True},
    "veteran": {"type": "bool"},
}
HOURS = ({}, {}, {"fri": "09:00-17:00"}, {"sat": "09:00-17:00"})


def some(values, most=3):
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


ages = st.integers(16, 99)
days = st.dates(date(2026, 1, 1), date(2026, 1, 9)).map(date.isoformat)
heads = ("9", "90", "902", "9021", "10", "100", "60601", "7")


def lists_or_not(values):
    return some(values) | st.sampled_from(values) | st.fixed_dictionaries({"not": some(values)})


def spans(points):
    return st.tuples(points, points).map(lambda pair: {"min": min(pair), "max": max(pair)})


criteria = {
    "zip": some(ZIPS)
    | st.fixed_dictionaries({"prefix": some(heads)})
    | st.fixed_dictionaries({"list": some(ZIPS, 5), "not": some(ZIPS, 2)})
    | st.fixed_dictionaries({"regex": st.sampled_from(["9.*", ".*0[12]", "1000[0-9]"])})
    | st.fixed_dictionaries({"not": some(ZIPS)}),
    "age": spans(ages)
    | st.fixed_dictionaries({"min": ages})
    | st.fixed_dictionaries({"max": ages, "not": st.lists(ages, min_size=1, max_size=2)})
    | st.lists(ages, min_size=1, max_size=3)
    | st.fixed_dictionaries({"not": st.lists(ages, min_size=1, max_size=3)}),
    "owner": st.booleans() | st.fixed_dictionaries({"not": st.just([True])}),
    "credit": lists_or_not(CREDIT),
    "moves": spans(days) | st.lists(days, min_size=1, max_size=2),
    "state": lists_or_not(STATES),
    "seller": lists_or_not(("one", "two")),
    "source": lists_or_not(SOURCES) | st.fixed_dictionaries({"regex": st.just("s.*")}),
    "sub_id": lists_or_not(("aff-1", "aff-2")) | st.fixed_dictionaries({"prefix": st.just("aff")}),
    "veteran": st.booleans(),
}
prices = st.sampled_from(("bid", "bid", "5.00", "12.50"))


@st.composite
def contracts(draw):
    terms = {
        "buyer": draw(st.sampled_from(("a", "b", "tester", "off"))),
        "vertical": "auto",
        "price": draw(prices),
        "tier": draw(st.integers(0, 1)),
        "priority": draw(st.integers(1, 3)),
        "where": draw(st.fixed_dictionaries({}, optional=criteria)),
        "hours": draw(st.sampled_from(HOURS)),
        "paused": draw(st.sampled_from((False, False, False, True))),
    }
    if terms["price"] == "bid":
        terms["bid_max"] = draw(st.sampled_from((None, "4.00", "20.00")))
    return terms


def doc_of(terms):
    """A market whose contracts are `c0`, `c1`, ... ."""
    buyer = {"ping_url": "http://b/p", "post_url": "http://b/q", "time_zone": "America/Chicago"}
    doc = {
        "verticals": {"auto": {"currency": "USD", "fields": FIELDS}},
        "sellers": {
            "one": {"sources": list(SOURCES), "margin": {"percent": 15, "fixed": "0.30"}},
            "two": {
                "payout": {"fixed": "6.00", "loss_max": "0.50"},
                "sources": {
                    "search": {},
                    "social": {"payout": {}, "margin": {"percent": 40}},
                    "email": {"payout": {"fixed": "4.50"}},
                },
            },
        },
        "buyers": {
            "a": {**buyer, "name": "Alpha Co"},
            "b": buyer,
            "tester": {**buyer, "test": True},
            "off": {**buyer, "paused": True},
        },
        "contracts": {f"c{number}": each for number, each in enumerate(terms)},
    }
    return msgspec.convert(doc, MarketDoc)


markets = st.lists(contracts(), max_size=12).map(doc_of)

raw_pings = st.fixed_dictionaries(
    {},
    optional={
        "zip": st.sampled_from(ZIPS),
        "age": ages,
        "owner": st.booleans(),
        "credit": st.sampled_from(CREDIT),
        "moves": days,
    },
)


@st.composite
def pings(draw, book):
    fields = book.schemas[1].gate(
        draw(raw_pings), mode="strip", pseudonym=lambda kind, value: value
    )
    source = draw(st.sampled_from(sorted(book.parties.sources.values(), key=lambda each: each.id)))
    names = draw(st.sampled_from(((), ("ALPHA co",), ("b", "tester"))))
    return Ping(
        ping_id="p",
        seller_id=source.seller_id,
        source_id=source.id,
        vertical_id=1,
        fields=fields.fields,
        received_at=AT,
        tmax_ms=1000,
        sub_id=draw(st.sampled_from((None, "aff-1", "aff-3"))),
        floor_micros=draw(st.sampled_from((0, 1, 3_950_000, 10_325_000, 10_325_001))),
        consent=PingConsent(kind="named", buyers=names) if names else None,
        test=draw(st.sampled_from((False, False, True))),
    )


# --- the twin -------------------------------------------------------------------------------------


def reasons(contract, ping, book, gates):
    """Every reason not to ask this contract, the first first."""
    index, buyer = book.indexes[1], book.buyers[contract.buyer_id]
    seller = book.sellers[ping.seller_id]
    source = next(each for each in book.sources.values() if each.id == ping.source_id)
    party = {"seller": seller.key, "source": source.key, "sub_id": ping.sub_id}
    bit = 1 << index.contracts.index(contract)
    found = {reason for reason, mask in gates if mask & bit}
    if contract.terms.paused or buyer.terms.paused:
        found.add(NonBid.PAUSED)
    for field, criterion in contract.terms.where.items():
        if field in party:
            if not meets(criterion, party[field]):
                found.add(NonBid.SOURCE_BLOCKED)
        elif field != "veteran" and not meets(criterion, ping.fields.get(field)):
            found.add(NonBid.OUT_OF_CRITERIA)
    names = {buyer.key, buyer.terms.name.lower()}
    if ping.consent and not names & {name.lower() for name in ping.consent.buyers}:
        found.add(NonBid.CONSENT_EXCLUDES)
    most = contract.price_micros if contract.terms.price != "bid" else contract.bid_max_micros
    if most is not None and payout(most, seller, source) < ping.floor_micros:
        found.add(NonBid.PRICE_BELOW_FLOOR)
    if ping.test != buyer.terms.test:
        found.add(NonBid.TEST_ONLY)
    return sorted(found)


def payout(price, seller, source):
    margin = source.terms.margin or seller.terms.margin
    fixed = (source.terms.payout or seller.terms.payout).fixed
    if fixed is not None:
        loss = micros_of((source.terms.payout or seller.terms.payout).loss_max)
        return micros_of(fixed) if price >= micros_of(fixed) - loss else -1
    parts = split(
        price,
        percent_millionths=int(margin.percent * 10_000),
        fixed_micros=micros_of(margin.fixed),
    )
    return parts[0]


def meets(criterion, value):
    if not isinstance(criterion, dict):
        criterion = {"list": criterion if isinstance(criterion, list | tuple) else [criterion]}
    if isinstance(value, date):
        value = value.isoformat()
    if value is None:
        return set(criterion) == {"not"}
    for word, said in criterion.items():
        if word == "min" and value < said:
            return False
        if word == "max" and value > said:
            return False
        if word == "list" and value not in said:
            return False
        if word == "not" and value in said:
            return False
        if word == "prefix":
            many = [said] if isinstance(said, str) else said
            if not any(value.startswith(prefix) for prefix in many):
                return False
        if word == "regex" and not re.fullmatch(said, value):
            return False
    return True


def invited(book, data):
    """A ping and whom it would ask now, to be asked `again` later."""
    ping = data.draw(pings(book))
    return ping, invite(ping, book.indexes[1], gates=(), at=AT, invited_max=9)


def again(book, before):
    """Whether the book still asks the same contracts."""
    ping, answer = before
    return invite(ping, book.indexes[1], gates=(), at=AT, invited_max=9) == answer
