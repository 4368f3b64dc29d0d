"""What `exchange caps` shows and does: each cap of a buyer as Valkey counts it, beside the
database's own count; and counting it anew."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from exchange.core.book import Book
from exchange.core.caps import cap_number, parts_of, period_of, resets_at, win_of
from exchange.core.model import Buyer, Cap, Contract, Fact
from exchange.effects.caps import Caps, Rebuilt, Unreadable

Counts = dict[str, tuple[int, int]]


class CapRow(Fact, frozen=True, kw_only=True):
    """One window of one cap, now. Counts and limit are leads or micros, by `unit`.

    `used` and `held` are what Valkey counts, `None` when it cannot be believed; `booked` is the
    database's own count, sold and live attempts together; `difference` is Valkey's less the
    database's: above zero in the moment between a reserve and its INTENT, below until an expired
    hold's sale is told; anything that lasts is a fault."""

    buyer: str
    contract: str
    unit: Literal["leads", "money"]
    per: str
    each: str | None
    segment: str | None
    win: str
    used: int | None
    held: int | None
    limit: int
    resets_at: datetime | None
    booked: int
    difference: int | None
    mode: str


class NoSuchBuyer(LookupError):
    """The market has no buyer of this key."""


async def show(
    *, caps: Caps, book: Book, at: datetime, buyer_key: str | None = None
) -> tuple[CapRow, ...]:
    """Every window in force of every cap, by buyer and contract; a cap for each value of a field
    has a row for each value that was counted. Raises `NoSuchBuyer`, and what asyncpg raises."""
    buyers = book.buyers.values() if buyer_key is None else (_buyer(book, buyer_key),)
    rows: list[CapRow] = []
    for buyer in sorted(buyers, key=lambda one: one.key):
        contracts = [one for one in book.contracts.values() if one.buyer_id == buyer.id]
        if not any(contract.caps for contract in contracts):
            continue
        counters = await caps.counters(buyer.id)
        counted = None if isinstance(counters, Unreadable) else counters
        booked = await caps.booked(buyer.id)
        for contract in sorted(contracts, key=lambda one: one.key):
            rows += _rows(buyer, contract, at=at, counted=counted, booked=booked)
    return tuple(rows)


async def rebuild(buyer_key: str, *, caps: Caps, book: Book) -> Rebuilt | Unreadable:
    """Counts a buyer's sales anew from the database and loads them as a new generation; every
    worker takes it over at its next reserve. Raises `NoSuchBuyer`."""
    return await caps.rebuild(_buyer(book, buyer_key).id)


def _buyer(book: Book, key: str) -> Buyer:
    for buyer in book.buyers.values():
        if buyer.key == key:
            return buyer
    raise NoSuchBuyer(f"the market has no buyer {key!r}")


def _rows(
    buyer: Buyer, contract: Contract, *, at: datetime, counted: Counts | None, booked: Counts
) -> Iterable[CapRow]:
    zone = contract.time_zone or buyer.terms.time_zone
    for cap in contract.caps:
        for win in _wins(contract, cap, at=at, zone=zone, known={**booked, **(counted or {})}):
            used, held = (None, None) if counted is None else counted.get(win, (0, 0))
            total = sum(booked.get(win, (0, 0)))
            yield CapRow(
                buyer=buyer.key,
                contract=contract.key,
                unit=cap.unit,
                per=cap.per,
                each=cap.each,
                segment=parts_of(win).segment,
                win=win,
                used=used,
                held=held,
                limit=cap.limit,
                resets_at=resets_at(cap, at, zone),
                booked=total,
                difference=None if used is None or held is None else used + held - total,
                mode=contract.terms.cap_mode,
            )


def _wins(
    contract: Contract, cap: Cap, *, at: datetime, zone: str | None, known: Iterable[str]
) -> list[str]:
    if cap.each is None:
        return [win_of(contract.id, cap, at=at, zone=zone, segment=None)]
    of_cap = f"{contract.id}.{cap_number(cap)}.{period_of(cap, at, zone)}."
    return sorted(win for win in known if win.startswith(of_cap))
