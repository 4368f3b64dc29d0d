"""A market with a thousand contracts a vertical, of which ten fit any one ping; and what its
sellers send.

Every vertical has the same hundred segments (25 states by four spans of age) and ten buyers with
one contract in each. Three verticals, told apart by how their buyers are reached: `plain`, `tls`,
and `hanging`, where a fifth of the buyers never answers. In a fourth, `crowd`, fifty buyers have a
contract in 20 states each, the first from age 16 on, the next from 17 on and so forth: a ping's age
says how many of them it fits.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from loadtest.generator import request_bytes

ZIP_OF = {
    "AZ": "85004", "CA": "94110", "CO": "80202", "FL": "33101", "GA": "30301",
    "IL": "60601", "IN": "46201", "LA": "70112", "MA": "02108", "MD": "21201",
    "MI": "48201", "MN": "55401", "MO": "63101", "NC": "27601", "NJ": "07102",
    "NV": "89101", "NY": "10001", "OH": "43201", "OR": "97205", "PA": "19103",
    "TN": "37201", "TX": "75201", "VA": "23219", "WA": "98101", "WI": "53202",
}  # fmt: skip
"""One ZIP of each state: the exchange derives the state."""
AGES = ((16, 29), (30, 44), (45, 59), (60, 99))
PINGED_AGE = 5
"""So many years into its span is a ping's consumer."""
CROWD_STATES = tuple(ZIP_OF)[:20]
CROWD_AGE = 16
SELLER, SOURCE = "bench", "search"
RATE_PER_S = 1_000_000
"""The seller's agreed rate: out of the way."""
IN_FLIGHT_MAX = 1_000
CAPS = [{"leads": 1_000_000, "per": "day"}, {"money": "900000.00", "per": "month"}]
"""Two caps that never fill: a sale reserves and commits both."""
FIELDS = {
    "zip": {"type": "us_zip", "ping": True, "required": True},
    "age": {"type": "int", "min": 16, "max": 99, "ping": True, "required": True},
    "homeowner": {"type": "bool", "ping": True},
    "insured": {"type": "bool", "ping": True},
    "credit": {"type": "enum", "values": ["excellent", "good", "fair", "poor"], "ping": True},
    "vehicle_year": {"type": "int", "min": 1980, "max": 2027, "ping": True},
    "first_name": {"type": "name", "personal": True, "required": True},
    "last_name": {"type": "name", "personal": True, "required": True},
    "phone": {"type": "us_phone", "personal": True, "ping": "pseudonym", "required": True},
    "email": {"type": "email", "personal": True, "required": True},
}


def market_text(
    origins: Mapping[str, Sequence[str]], ca: str, *, more_contracts: int = 0, more_sellers: int = 0
) -> str:
    """The market as TOML. `origins` names, per vertical, where its buyers listen. `more_contracts`
    stand in the vertical `plain` and fit no ping; `more_sellers` stand beside the one."""
    chance = random.Random(7)
    tables: dict[str, Any] = {f"sellers.{one}": _seller() for one in sellers(more_sellers)}
    for vertical, urls in origins.items():
        tables[f"verticals.{vertical}"] = {"currency": "USD", "consent": "tcpa", "fields": FIELDS}
        tables |= {f"buyers.{vertical}-{n}": _buyer(url, ca) for n, url in enumerate(urls)}
        tables |= (_crowd if vertical == "crowd" else _segments)(chance, vertical, len(urls))
    if more_contracts:
        tables |= _missing(chance, origins["plain"][0], more_contracts)
    return "".join(_table(name, table) for name, table in tables.items())


def sellers(more: int) -> list[str]:
    """The seller that is always there, and so many more."""
    return [SELLER, *(f"{SELLER}-{number}" for number in range(1, more + 1))]


def _seller() -> dict[str, Any]:
    return {
        "margin": {"percent": 15},
        "rate_per_s": RATE_PER_S,
        "sources": [SOURCE, "social"],
    }


def _segments(chance: random.Random, vertical: str, buyers: int) -> dict[str, Any]:
    return {
        f"contracts.{vertical}-{number}-{state.lower()}-{ages[0]}": _contract(
            chance, f"{vertical}-{number}", vertical, state, ages
        )
        for number in range(buyers)
        for state in ZIP_OF
        for ages in AGES
    }


def _crowd(_chance: random.Random, vertical: str, buyers: int) -> dict[str, Any]:
    return {
        f"contracts.{vertical}-{number}-{state.lower()}": {
            "buyer": f"{vertical}-{number}",
            "vertical": vertical,
            "where": {"state": [state], "age": {"min": CROWD_AGE + number}},
            "caps": CAPS,
        }
        for number in range(buyers)
        for state in CROWD_STATES
    }


def _missing(chance: random.Random, url: str, count: int) -> dict[str, Any]:
    """Contracts that look like the others and miss every ping by its age."""
    per_buyer = len(ZIP_OF) * len(AGES)
    tables: dict[str, Any] = {}
    for number in range(count // per_buyer):
        buyer = f"plain-more-{number}"
        tables[f"buyers.{buyer}"] = _buyer(url, "")
        for state in ZIP_OF:
            for low, high in AGES:
                terms = _contract(chance, buyer, "plain", state, (low + PINGED_AGE + 1, high))
                tables[f"contracts.{buyer}-{state.lower()}-{low}"] = terms
    return tables


def _buyer(url: str, ca: str) -> dict[str, Any]:
    buyer: dict[str, Any] = {
        "time_zone": "America/Chicago",
        "ping_url": f"{url}/ping",
        "post_url": f"{url}/post",
        "in_flight_max": IN_FLIGHT_MAX,
    }
    return {**buyer, "tls_ca": ca} if url.startswith("https") else buyer


def _contract(
    chance: random.Random, buyer: str, vertical: str, state: str, ages: tuple[int, int]
) -> dict[str, Any]:
    """Some contracts look at more than state and age; every ping of the segment passes."""
    where: dict[str, Any] = {"state": [state], "age": {"min": ages[0], "max": ages[1]}}
    if chance.random() < 0.4:
        where["homeowner"] = True
    if chance.random() < 0.4:
        where["credit"] = ["excellent", "good"]
    if chance.random() < 0.2:
        where["source"] = {"not": ["social"]}
    if chance.random() < 0.1:
        others = [f"{chance.randint(10_000, 99_999)}" for _ in range(50)]
        where["zip"] = {"list": [ZIP_OF[state], *others]}
    return {"buyer": buyer, "vertical": vertical, "where": where, "caps": CAPS}


def _table(name: str, values: dict[str, Any]) -> str:
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
    return f"[{name}]\n{lines}\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


# --- what sellers send ----------------------------------------------------------------------------


def pinged_fields() -> list[dict[str, Any]]:
    """The fields of one ping per segment."""
    return [_pinged(code, low + PINGED_AGE) for code in ZIP_OF.values() for low, _ in AGES]


def _pinged(code: str, age: int) -> dict[str, Any]:
    return {
        "zip": code,
        "age": age,
        "homeowner": True,
        "insured": False,
        "credit": "good",
        "vehicle_year": 2019,
    }


def pings(vertical: str, key: str, *, tmax_ms: int) -> list[bytes]:
    """One request per segment, in an order without a pattern."""
    requests = [_ping(vertical, key, fields, tmax_ms) for fields in pinged_fields()]
    random.Random(11).shuffle(requests)
    return requests


def crowd_pings(key: str, invited: int, *, tmax_ms: int) -> list[bytes]:
    """Requests that fit so many buyers of the crowd each, one per state."""
    return [
        _ping("crowd", key, _pinged(ZIP_OF[state], CROWD_AGE + invited - 1), tmax_ms)
        for state in CROWD_STATES
    ]


def pings_of(vertical: str, keys: Sequence[str], *, tmax_ms: int) -> list[bytes]:
    """The requests of several sellers, in turn."""
    each = [pings(vertical, key, tmax_ms=tmax_ms) for key in keys]
    return [one for turn in zip(*each, strict=True) for one in turn]


def _ping(vertical: str, key: str, fields: dict[str, Any], tmax_ms: int) -> bytes:
    ping = {
        "vertical": vertical,
        "source": SOURCE,
        "fields": fields,
        "floor": "5.00",
        "tmax_ms": tmax_ms,
        "consent": {"kind": "tcpa", "captured_at": "2026-11-22T10:00:00Z", "text_version": "v3"},
    }
    return request_bytes("/v1/ping", "127.0.0.1", _headers(key), orjson.dumps(ping))


def _headers(key: str) -> tuple[str, ...]:
    return (f"Authorization: Bearer {key}",)


def posting(key: str, people: Iterator[int]) -> Callable[[bytes, bytes], bytes | None]:
    """Takes up every offer, each with a consumer nobody has seen before."""

    def follow_up(request: bytes, reply: bytes) -> bytes | None:
        offer = orjson.loads(reply)
        if offer["status"] != "offer":
            return None
        pinged = orjson.loads(request.split(b"\r\n\r\n", 1)[1])["fields"]
        post = {
            "ping_id": offer["ping_id"],
            "lead": {**pinged, **_person(next(people))},
            "consent": {"text": "I agree to be called.", "captured_at": "2026-11-22T10:00:00Z"},
        }
        return request_bytes("/v1/post", "127.0.0.1", _headers(key), orjson.dumps(post))

    return follow_up


def _person(number: int) -> dict[str, str]:
    return {
        "first_name": "Casey",
        "last_name": f"Tester{number}",
        "phone": f"415{2_000_000 + number:07d}",
        "email": f"casey{number}@mail.example",
    }
