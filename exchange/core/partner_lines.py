"""What is compared when books are reconciled: our lines, a partner's lines, and what a partner says
of one sale in one line or two."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from operator import attrgetter
from typing import Literal

from msgspec.structs import replace

from exchange.core.model import Fact

Status = Literal["sold", "returned", "rejected", "in_doubt"]

Person = tuple[str, bytes]
"""What kind of thing identifies a consumer (`phone`, `email`), and its keyed hash."""


class OurLine(Fact, frozen=True, kw_only=True, gc=False):
    """One of our attempts at this buyer; at most one per lead: the one that counts."""

    attempt_id: str
    lead_id: str
    buyer_ref: str | None
    persons: tuple[Person, ...]
    sold_at: datetime
    price_micros: int
    credited_micros: int
    currency: str
    status: Status

    @property
    def owed_micros(self) -> int:
        """What the buyer owes for it in the end."""
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
    """What the partner says of one sale: a line, or a line and its return."""

    number: int
    first: TheirLine
    returned: TheirLine | None = None
    twin_of: int | None = None
    """The line that says the same already."""

    @property
    def lines(self) -> tuple[int, ...]:
        lines = [self.first.line, *([self.returned.line] if self.returned else [])]
        return tuple(sorted(lines))

    @property
    def status(self) -> Status:
        if self.returned or self.first.is_return:
            return "returned"
        return self.first.status or "sold"

    @property
    def stated_micros(self) -> int | None:
        """The amount they say is owed; `None` when no line says one."""
        amount = self.first.amount_micros
        if self.returned is None:
            return amount
        back = self.returned.amount_micros
        if amount is None or back is None:
            return None
        return amount - abs(back)


def claims_of(theirs: Iterable[TheirLine]) -> list[Claim]:
    """Their lines, folded, in the order of the file: a sale and its return are one claim; a line
    that names an id or reference which an earlier one names already is that line's twin. Two lines
    of the same person may well be two sales: a credit there belongs to the nearest one."""
    groups: defaultdict[object, list[TheirLine]] = defaultdict(list)
    for line in theirs:
        groups[line.our_id or line.reference or line.persons].append(line)
    folded = [claim for group in groups.values() for claim in _folded(group)]
    folded.sort(key=lambda claim: claim.first.line)
    return [replace(claim, number=number) for number, claim in enumerate(folded)]


def _folded(group: list[TheirLine]) -> list[Claim]:
    if len(group) == 1:
        return [Claim(number=0, first=group[0])]
    group.sort(key=lambda line: line.line)
    is_named = bool(group[0].our_id or group[0].reference)
    is_back = attrgetter("is_return" if is_named else "is_credit")
    sales = [line for line in group if not is_back(line)]
    credits = [line for line in group if is_back(line)]
    returned: dict[int, TheirLine] = {}
    for credit in credits:
        chosen = sales[:1] if is_named else sales
        free = [sale for sale in chosen if sale.line not in returned]
        if free:
            returned[min(free, key=lambda sale: _days_between(sale, credit)).line] = credit
    taken = {credit.line for credit in returned.values()}
    firsts = [*sales, *(credit for credit in credits if credit.line not in taken)]
    return [
        Claim(
            number=0,
            first=line,
            returned=returned.get(line.line),
            twin_of=firsts[0].line if is_named and line is not firsts[0] else None,
        )
        for line in firsts
    ]


def _days_between(one: TheirLine, other: TheirLine) -> tuple[int, int]:
    apart = abs((one.on - other.on).days) if one.on and other.on else 0
    return apart, one.line
