"""Statements: what a party and the house owe one another, from transfers alone.

A statement has an opening balance, lines, and a closing balance, in one currency, over whole days
of a named zone. Every transfer has one moment, and falls in one statement by it: so what one closes
with, the next opens with. Nothing is stored: the same transfers give the same statement.

Amounts are micros, positive on the side on which the party's balance grows: what a buyer owes the
house, what the house owes a seller. A buyer sees the price of a sale, never how the house shares
it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from itertools import groupby
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

from exchange.core.ledger import TransferCode
from exchange.core.model import Fact

PartyKind = Literal["buyer", "seller"]
LineKind = Literal["sale", "return", "guarantee", "terms", "adjustment", "payment"]
LINE_KINDS: Final[tuple[LineKind, ...]] = get_args(LineKind)
ALWAYS_TOLD: Final[frozenset[LineKind]] = frozenset({"sale", "return", "adjustment", "payment"})
"""Kinds whose total is told though there is no line: the others are not everybody's."""

ACCOUNTS: Final[dict[PartyKind, dict[str, int]]] = {
    "buyer": {"receivable": 1, "prepaid": 1},
    "seller": {"payable": -1, "clawback": -1},
}
"""The accounts a party's balance is made of; whether a debit adds to it (1) or takes from it."""
_SALE_CODES: Final = frozenset({int(TransferCode.PAYOUT), int(TransferCode.FEE)})
_KIND_OF_CODE: Final[dict[int, LineKind]] = {
    int(TransferCode.GUARANTEE): "guarantee",
    int(TransferCode.TERMS): "terms",
}


class Party(Fact, frozen=True, kw_only=True):
    """Whose statement it is."""

    id: int
    kind: PartyKind
    key: str
    name: str


class Entry(Fact, frozen=True, kw_only=True, gc=False):
    """One side of a transfer: how it moves the party's balance, and what the transfer is for.
    `contract` and `reference` are for people: the contract's key, the party's own id of the
    lead."""

    transfer_id: str
    at: datetime
    subject: str
    code: int
    lead_id: str
    attempt_id: str | None
    currency: str
    amount_micros: int
    contract: str = ""
    reference: str = ""


class Line(Fact, frozen=True, kw_only=True, gc=False):
    """A line of a statement; `balance_micros` is after it. `document`: the sale's id (the
    attempt's), or the payment's or document's."""

    day: date
    at: datetime
    kind: LineKind
    document: str
    lead_id: str
    contract: str
    reference: str
    amount_micros: int
    balance_micros: int


class Period(Fact, frozen=True, kw_only=True):
    """Whole days of a zone, both ends included. Raises `ValueError` when it ends before it
    begins."""

    first: date
    last: date
    zone: ZoneInfo

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("the period ends before it begins")

    @property
    def since(self) -> datetime:
        """The moment it begins, included."""
        return datetime.combine(self.first, time(), self.zone)

    @property
    def until(self) -> datetime:
        """The moment it has ended: the first that is no more in it."""
        return datetime.combine(self.last + timedelta(days=1), time(), self.zone)


class Statement(Fact, frozen=True, kw_only=True):
    """One party's period in one currency. `totals` and `counts`: by kind of line; the opening and
    the totals add up to the closing."""

    party: Party
    first: date
    last: date
    zone: str
    currency: str
    opening_micros: int
    totals: dict[LineKind, int]
    counts: dict[LineKind, int]
    closing_micros: int
    lines: tuple[Line, ...]

    @property
    def kinds(self) -> tuple[LineKind, ...]:
        """The kinds of line whose totals are told."""
        return tuple(kind for kind in LINE_KINDS if self.counts[kind] or kind in ALWAYS_TOLD)


def statements(
    party: Party,
    period: Period,
    openings: Iterable[tuple[str, int]],
    entries: Iterable[Entry],
) -> tuple[Statement, ...]:
    """A party's statements, one per currency that has a balance or a line. `openings`: currency and
    balance at the period's beginning; `entries`: of the period, in any order. Raises `ValueError`
    for an entry outside the period."""
    opening = dict(openings)
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if not period.since <= entry.at < period.until:
            raise ValueError(f"transfer {entry.transfer_id} is not of this period")
        found.setdefault(entry.currency, []).append(entry)
    currencies = sorted({currency for currency, micros in opening.items() if micros} | set(found))
    return tuple(
        _statement(party, period, currency, opening.get(currency, 0), found.get(currency, ()))
        for currency in currencies
    )


def _statement(
    party: Party, period: Period, currency: str, opening: int, entries: Iterable[Entry]
) -> Statement:
    lines = tuple(_lines(period, opening, entries))
    totals, counts = Counter[LineKind](), Counter[LineKind]()
    for line in lines:
        totals[line.kind] += line.amount_micros
        counts[line.kind] += 1
    return Statement(
        party=party,
        first=period.first,
        last=period.last,
        zone=period.zone.key,
        currency=currency,
        opening_micros=opening,
        totals={kind: totals[kind] for kind in LINE_KINDS},
        counts={kind: counts[kind] for kind in LINE_KINDS},
        closing_micros=opening + totals.total(),
        lines=lines,
    )


def _lines(period: Period, balance: int, entries: Iterable[Entry]) -> Iterator[Line]:
    """The legs of one sale, and those of one return, are one line; one that moves nothing (a return
    that the house bears alone) is none of this party's."""
    for (at, kind, document), legs in groupby(sorted(entries, key=_together), key=_line_of):
        several = list(legs)
        amount = sum(leg.amount_micros for leg in several)
        balance += amount
        if amount:
            first = several[0]
            yield Line(
                day=at.astimezone(period.zone).date(),
                at=at,
                kind=kind,
                document=document,
                lead_id=first.lead_id if first.subject == "lead" else "",
                contract=first.contract,
                reference=first.reference,
                amount_micros=amount,
                balance_micros=balance,
            )


def _line_of(entry: Entry) -> tuple[datetime, LineKind, str]:
    return entry.at, kind_of(entry.subject, entry.code), entry.attempt_id or entry.lead_id


def _together(entry: Entry) -> tuple[tuple[datetime, LineKind, str], str]:
    return _line_of(entry), entry.transfer_id


def kind_of(subject: str, code: int) -> LineKind:
    """What a transfer is to a statement. What concerns a lead and is no leg of its sale takes some
    of it back."""
    if code in _KIND_OF_CODE:
        return _KIND_OF_CODE[code]
    if subject == "payment":
        return "payment"
    if subject == "document":
        return "adjustment"
    return "sale" if code in _SALE_CODES else "return"


def signed(party: PartyKind, kind: str, *, is_debit: bool, amount_micros: int) -> int:
    """How a transfer's side on an account of this kind moves the party's balance; 0 for a kind that
    the balance is not made of."""
    way = ACCOUNTS[party].get(kind, 0)
    return way * (amount_micros if is_debit else -amount_micros)
