"""Statements of a party: who it is, whose days count, and what the books say."""

from datetime import date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from exchange.core.statements import Entry, Party, Period, Statement, statements
from exchange.effects.statements import Known


class Books(Protocol):
    """What is asked of the books."""

    async def parties(self, key: str) -> tuple[Known, ...]: ...
    async def balances(self, party: Party, before: datetime) -> tuple[tuple[str, int], ...]: ...
    async def entries(self, party: Party, since: datetime, until: datetime) -> list[Entry]: ...


class NoStatement(Exception):
    """There is no such statement; the message says why, in a sentence."""


async def statements_of(
    key: str, first: date, last: date, *, books: Books, zone: str | None = None
) -> tuple[Statement, ...]:
    """The statements of a buyer or seller for whole days, both ends included, one per currency.
    `key` may be `buyer:NAME` or `seller:NAME` where both have that name; `zone` falls back to the
    party's own. Raises `NoStatement`."""
    known = await _known(key, books)
    try:
        period = Period(first=first, last=last, zone=_zone(zone or known.time_zone))
    except ValueError as bad:
        raise NoStatement(str(bad)) from None
    opening = await books.balances(known.party, period.since)
    entries = await books.entries(known.party, period.since, period.until)
    return statements(known.party, period, opening, entries)


async def _known(key: str, books: Books) -> Known:
    kind, is_said, name = key.partition(":")
    found = await books.parties(name if is_said else key)
    chosen = [known for known in found if not is_said or known.party.kind == kind]
    if not chosen:
        raise NoStatement(f"there is no buyer or seller {key}")
    if len(chosen) > 1:
        raise NoStatement(f"{key} is a buyer and a seller: write buyer:{key} or seller:{key}")
    return chosen[0]


def _zone(name: str | None) -> ZoneInfo:
    if name is None:
        raise NoStatement("say whose days the statement has: --zone America/New_York")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise NoStatement(f"there is no time zone {name}") from None
