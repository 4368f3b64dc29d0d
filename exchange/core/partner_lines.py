"""What is compared when books are reconciled: our lines, a partner's lines, and what a partner says
of one sale in one line or two."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from itertools import chain
from typing import Final, Literal

from exchange.core.model import Fact

Side = Literal["buyer", "seller"]
"""What the partner is: it bought leads of ours, or sold us some."""
Status = Literal["sold", "returned", "rejected", "in_doubt"]

Person = tuple[str, bytes]
"""What kind of thing identifies a consumer (`phone`, `email`), and its keyed hash."""


class OurLine(Fact, frozen=True, kw_only=True, gc=False):
    """What we hold of one lead with this partner. With a buyer: the one attempt that counts, its
    price and what was credited. With a seller: the lead, its payouts together and what was clawed
    back; `parts` are its other sales. `reference` is the partner's own; `note` what a person should
    know of the status."""

    attempt_id: str
    lead_id: str
    reference: str | None
    persons: tuple[Person, ...]
    sold_at: datetime
    price_micros: int
    credited_micros: int
    currency: str
    status: Status
    parts: tuple[str, ...] = ()
    note: str = ""

    @property
    def owed_micros(self) -> int:
        """What is owed for it in the end: by the buyer, or to the seller."""
        return self.price_micros - self.credited_micros if self.is_owed else 0

    @property
    def is_owed(self) -> bool:
        return self.status in ("sold", "returned")


class TheirLine(Fact, frozen=True, kw_only=True, gc=False):
    """A line of a partner's file. `our_id`: an attempt's or lead's; `on`: the day, in the partner's
    zone; `amount_micros` may be negative (a credit). Empty or `None`: not said."""

    line: int
    our_id: str = ""
    reference: str = ""
    persons: tuple[Person, ...] = ()
    on: date | None = None
    amount_micros: int | None = None
    currency: str = ""
    status: Status | None = None

    @property
    def is_return(self) -> bool:
        return self.status == "returned" or self.is_credit

    @property
    def is_credit(self) -> bool:
        return (self.amount_micros or 0) < 0


class Claim(Fact, frozen=True, kw_only=True, gc=False):
    """What the partner says of one sale: a line, or a line and its return; of a lead that was sold
    in parts, a line for each (`parts`)."""

    first: TheirLine
    returned: TheirLine | None = None
    twin_of: int | None = None
    """The line that says the same already."""
    parts: tuple["Claim", ...] = ()

    @property
    def number(self) -> int:
        """Its own, in the order of the file."""
        return self.first.line

    @property
    def said(self) -> tuple[TheirLine, ...]:
        """Its lines."""
        own = (self.first,) if self.returned is None else (self.first, self.returned)
        return own if not self.parts else (*own, *(one for part in self.parts for one in part.said))

    @property
    def lines(self) -> tuple[int, ...]:
        return tuple(sorted(line.line for line in self.said))

    @property
    def status(self) -> Status:
        if self.returned or self.first.is_return:
            return "returned"
        if any(part.status == "returned" for part in self.parts):
            return "returned"
        return self.first.status or "sold"

    @property
    def stated_micros(self) -> int | None:
        """The amount they say is owed; `None` when no line says one."""
        amounts = [self.first.amount_micros, *(part.stated_micros for part in self.parts)]
        if self.returned is not None:
            back = self.returned.amount_micros
            amounts.append(None if back is None else -abs(back))
        known = [amount for amount in amounts if amount is not None]
        return sum(known) if len(known) == len(amounts) else None


SALES_HELD_MAX: Final = 1_000
"""How many sales of one consumer a credit may belong to: a file with one e-mail address in every
line costs no more than another."""


def group_of(line: TheirLine) -> object:
    """What its lines have in common: an id, else a reference, else the consumer."""
    return line.our_id or line.reference or line.persons


def order_in_group(line: TheirLine) -> tuple[bool, int]:
    """Sales before what takes them back, in the order of the file."""
    is_named = bool(line.our_id or line.reference)
    return (line.is_return if is_named else line.is_credit), line.line


def folded(group: Iterable[TheirLine]) -> Iterator[Claim]:
    """The lines of a group, in their order, as claims, in any: a sale and its return are one; a
    line that names an id or reference which an earlier one names already is that line's twin. Two
    lines of the same consumer may well be two sales: a credit there belongs to the nearest one."""
    lines = iter(group)
    head = next(lines, None)
    if head is None:
        return
    if head.our_id or head.reference:
        yield from _folded_by_name(head, lines)
    else:
        yield from _folded_by_person(head, lines)


def _folded_by_name(head: TheirLine, lines: Iterator[TheirLine]) -> Iterator[Claim]:
    returned = None
    for line in lines:
        if returned is None and line.is_return and not head.is_return:
            returned = line
        else:
            yield Claim(first=line, twin_of=head.line)
    yield Claim(first=head, returned=returned)


def _folded_by_person(head: TheirLine, lines: Iterator[TheirLine]) -> Iterator[Claim]:
    free: dict[int, TheirLine] = {}
    for line in chain((head,), lines):
        if not line.is_credit and len(free) < SALES_HELD_MAX:
            free[line.line] = line
        elif line.is_credit and free:
            sale = min(free.values(), key=lambda sale: _days_between(sale, line))
            yield Claim(first=free.pop(sale.line), returned=line)
        else:
            yield Claim(first=line)
    yield from (Claim(first=line) for line in free.values())


def _days_between(one: TheirLine, other: TheirLine) -> tuple[int, int]:
    apart = abs((one.on - other.on).days) if one.on and other.on else 0
    return apart, one.line
