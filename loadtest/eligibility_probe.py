"""Prints as one JSON line, round by round, what eligibility costs: microseconds per invite, bytes
per contract, an edit's whole cost and its longest slice. Run by `loadtest/eligibility.py` in a
process of its own; it finds the exchange by name, because the load test and the exchange never meet
in code.

    python loadtest/eligibility_probe.py [--rounds=N] [contracts ...]
"""

import argparse
import gc
import importlib
import json
import random
import statistics
import sys
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STATES = (
    "AZ",
    "CA",
    "CO",
    "FL",
    "GA",
    "IL",
    "MA",
    "MI",
    "NC",
    "NJ",
    "NV",
    "NY",
    "OH",
    "PA",
    "TX",
    "WA",
)
SIZES = (1_000, 10_000, 100_000)
BUYERS = 200
INVITED_MAX = 50
SURVIVORS = 300
AT = datetime(2025, 3, 4, 15, 0, tzinfo=UTC)


def market_of(size: int, *, survivors: int, seed: int) -> dict[str, Any]:
    """A market whose contracts speak of state, age, two flags, ZIPs and sources. `survivors` of
    them fit the probe's ping."""
    chance = random.Random(seed)
    contracts = {f"c{n}": _contract(chance, n) for n in range(size - survivors)}
    for n in range(survivors):
        contracts[f"fit{n}"] = {**_contract(chance, n), "where": _fitting(chance)}
    fields = {
        "zip": {"type": "us_zip", "ping": True, "required": True},
        "age": {"type": "int", "min": 16, "max": 99, "ping": True},
        "homeowner": {"type": "bool", "ping": True},
        "insured": {"type": "enum", "values": ["yes", "no", "lapsed"], "ping": True},
    }
    return {
        "verticals": {"auto": {"currency": "USD", "fields": fields}},
        "sellers": {"s": {"sources": ["search", "social", "email"]}},
        "buyers": {f"b{n}": {"ping_url": "u", "post_url": "p"} for n in range(BUYERS)},
        "contracts": contracts,
    }


def _contract(chance: random.Random, number: int) -> dict[str, Any]:
    low = chance.randint(16, 60)
    where: dict[str, Any] = {
        "state": chance.sample(STATES, chance.randint(1, 6)),
        "age": {"min": low, "max": min(99, low + chance.randint(5, 40))},
    }
    if chance.random() < 0.4:
        where["homeowner"] = chance.random() < 0.5
    if chance.random() < 0.4:
        where["insured"] = chance.sample(["yes", "no", "lapsed"], 2)
    if chance.random() < 0.2:
        where["source"] = {"not": [chance.choice(["social", "email"])]}
    if chance.random() < 0.1:
        where["zip"] = {"list": [f"{chance.randint(10_000, 99_999)}" for _ in range(50)]}
    return {
        "buyer": f"b{number % BUYERS}",
        "vertical": "auto",
        "tier": chance.randint(0, 2),
        "priority": chance.randint(1, 200),
        "price": "bid" if chance.random() < 0.7 else f"{chance.randint(2, 60)}.00",
        "where": where,
    }


def _fitting(chance: random.Random) -> dict[str, Any]:
    return {"state": ["CA", chance.choice(STATES)], "zip": {"list": ["90210", "94110"]}}


def measured(size: int, rounds: int) -> list[dict[str, Any]]:
    """The figures of one size, round by round."""
    book, one_contract = _book(size, survivors=0)
    crowded, _ = _book(size, survivors=min(SURVIVORS, size // 2))
    index_bytes = _index_bytes(size)
    return [_round(book, crowded, one_contract, index_bytes) for _ in range(rounds)]


def _round(book: Any, crowded: Any, one_contract: Any, index_bytes: int) -> dict[str, Any]:
    longest, whole = _edit(book, one_contract, insert=False)
    longest_insert, whole_insert = _edit(book, one_contract, insert=True)
    return {
        "invite_us": _invite_us(book),
        "invite_300_us": _invite_us(crowded),
        "edit_us": round(whole * 1e6),
        "edit_longest_slice_us": round(longest * 1e6),
        "insert_us": round(whole_insert * 1e6),
        "insert_longest_slice_us": round(longest_insert * 1e6),
        "index_bytes_per_contract": index_bytes,
    }


def _book(size: int, *, survivors: int) -> tuple[Any, Any]:
    msgspec = importlib.import_module("msgspec")
    terms = importlib.import_module("exchange.core.terms")
    books = importlib.import_module("exchange.core.book")
    doc = msgspec.convert(market_of(size, survivors=survivors, seed=7), terms.MarketDoc)
    book = books.book_of(doc)
    return book, book.indexes[1].contracts[size // 2]


def _invite_us(book: Any) -> float:
    """Median over several pings of the least time of five rounds."""
    filters = importlib.import_module("exchange.core.filters")
    index = book.indexes[1]
    gates = ((filters.NonBid.CAP_FULL, index.every // 255),)
    times = []
    for ping in _pings(book):
        rounds = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(20):
                filters.invite(ping, index, gates=gates, at=AT, invited_max=INVITED_MAX)
            rounds.append((time.perf_counter() - start) / 20)
        times.append(min(rounds))
    return round(statistics.median(times) * 1e6, 1)


def _pings(book: Any) -> list[Any]:
    model = importlib.import_module("exchange.core.model")
    chance = random.Random(11)
    schema = book.schemas[1]
    pings = []
    for number in range(20):
        raw = {
            "zip": "90210",
            "age": 30 + number,
            "homeowner": number % 2 == 0,
            "insured": chance.choice(["yes", "no"]),
        }
        fields = schema.gate(raw, mode="strip", pseudonym=str).fields
        pings.append(
            model.Ping(
                ping_id="p",
                seller_id=2,
                source_id=1,
                vertical_id=1,
                fields=fields,
                received_at=AT,
                tmax_ms=1000,
                floor_micros=3_000_000,
            )
        )
    return pings


def _edit(book: Any, contract: Any, *, insert: bool) -> tuple[float, float]:
    """Longest slice and whole time of changing one contract: its criteria, or its priority (then
    it moves to another slot: taken out and put in)."""
    msgspec = importlib.import_module("msgspec")
    books = importlib.import_module("exchange.core.book")
    where = {**contract.terms.where, "state": ["WY", "CA"]}
    terms = msgspec.structs.replace(
        contract.terms, where=where, priority=500 if insert else contract.terms.priority
    )
    rows = books.Rows(version=2, contracts=(msgspec.structs.replace(contract, terms=terms),))
    gc.collect()
    gc.freeze()
    longest = whole = 0.0
    steps = books.edited(book, rows)
    while True:
        start = time.perf_counter()
        try:
            next(steps)
        except StopIteration:
            return longest, whole
        finally:
            took = time.perf_counter() - start
            longest, whole = max(longest, took), whole + took


def _index_bytes(size: int) -> int:
    """What the index adds to the contracts themselves, per contract."""
    books = importlib.import_module("exchange.core.book")
    indexing = importlib.import_module("exchange.core.indexing")
    book, _ = _book(min(size, 20_000), survivors=0)
    index = book.indexes[1]
    tracemalloc.start()
    fresh = books.finished(
        indexing.compile_index(index.vertical, index.schema, index.parties, index.contracts, [])
    )
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(held / len(fresh.contracts))


def main() -> None:
    """One JSON line: a list of rounds, each figures by size."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("sizes", type=int, nargs="*")
    spec = parser.parse_args()
    by_size = {str(size): measured(size, spec.rounds) for size in spec.sizes or SIZES}
    print(
        json.dumps(
            [dict(zip(by_size, one, strict=True)) for one in zip(*by_size.values(), strict=True)]
        )
    )


if __name__ == "__main__":
    main()
