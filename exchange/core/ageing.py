"""What is open, and since when: documents less what covers them.

Payments are matched to documents by facts. What a credit memo takes off is reckoned here, anew each
time: first from the documents it cites, then from the oldest, and what is left of it stands as a
credit. So is what was written off, from the oldest on. The parts add up: what is open, less
credits, and with what no document names yet, is the balance of the ledger.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Final, Literal

from exchange.core.model import Fact

Bucket = Literal["not_due", "days_1_30", "days_31_60", "days_61_90", "over_90"]
BUCKETS: Final[dict[Bucket, int | None]] = {
    "not_due": 0,
    "days_1_30": 30,
    "days_31_60": 60,
    "days_61_90": 90,
    "over_90": None,
}
"""How many days past due at most; the last has no end."""


class Paper(Fact, frozen=True, kw_only=True):
    """A document in force, as far as it is settled. `paid_micros`: what payments cover of it;
    `cites`: what it takes back of others."""

    document_id: str
    number: str
    kind: str
    party_id: int
    currency: str
    issued_on: date
    due_on: date
    total_micros: int
    paid_micros: int
    cites: Mapping[str, int]


class Open(Fact, frozen=True, kw_only=True):
    """A document that is not settled. `uncovered_micros` is what no payment covers; `open_micros`
    what is left of that after credits (below zero: a credit that found nothing to take off)."""

    document_id: str
    number: str
    due_on: date
    uncovered_micros: int
    open_micros: int


def open_papers(papers: Iterable[Paper], *, written_off_micros: int = 0) -> tuple[Open, ...]:
    """The documents of one party and currency that are not settled, in the order in which they are
    due."""
    ordered = sorted(papers, key=lambda paper: (paper.due_on, paper.number))
    left = {
        paper.number: paper.total_micros - paper.paid_micros
        for paper in ordered
        if paper.total_micros > 0
    }
    credits: dict[str, int] = {}
    for paper in sorted(ordered, key=lambda paper: (paper.issued_on, paper.number)):
        if paper.total_micros <= 0:
            given = -paper.total_micros
            for number, most in paper.cites.items():
                given -= _taken(left, number, min(given, most))
            credits[paper.number] = given - _taken_in_turn(left, given)
    _taken_in_turn(left, written_off_micros)
    return tuple(
        Open(
            document_id=paper.document_id,
            number=paper.number,
            due_on=paper.due_on,
            uncovered_micros=max(0, paper.total_micros - paper.paid_micros),
            open_micros=left.get(paper.number, 0) - credits.get(paper.number, 0),
        )
        for paper in ordered
        if left.get(paper.number) or credits.get(paper.number)
    )


def _taken(left: dict[str, int], number: str, most: int) -> int:
    part = max(0, min(most, left.get(number, 0)))
    if part:
        left[number] -= part
    return part


def _taken_in_turn(left: dict[str, int], amount: int) -> int:
    """Take an amount from the oldest on; answers what could be taken."""
    taken = 0
    for number in left:
        taken += _taken(left, number, amount - taken)
    return taken


class Aged(Fact, frozen=True, kw_only=True):
    """One buyer's row in one currency. `buckets`, `credit_micros` (below zero) and
    `unbilled_micros` add up to `receivable_micros`, which is the ledger's; what they do not add up
    to is `difference_micros`. `prepaid_micros` was paid ahead and stands apart."""

    party: str
    currency: str
    buckets: dict[Bucket, int]
    credit_micros: int
    unbilled_micros: int
    receivable_micros: int
    prepaid_micros: int

    @property
    def difference_micros(self) -> int:
        parts = sum(self.buckets.values()) + self.credit_micros + self.unbilled_micros
        return self.receivable_micros - parts


class Balance(Fact, frozen=True, kw_only=True):
    """What the ledger says of a buyer in one currency: its balances, what sales, returns and
    corrections moved in all, and what was written off."""

    party_id: int
    party: str
    currency: str
    receivable_micros: int
    prepaid_micros: int
    traded_micros: int
    written_off_micros: int


def aged(balance: Balance, papers: Sequence[Paper], at: date) -> Aged:
    """A buyer's open documents by how long they are past due on a day."""
    buckets = dict.fromkeys(BUCKETS, 0)
    settled = open_papers(papers, written_off_micros=balance.written_off_micros)
    left = sum(paper.total_micros - paper.paid_micros for paper in papers)
    credit = left - balance.written_off_micros - sum(one.open_micros for one in settled)
    for one in settled:
        if one.open_micros < 0:
            credit += one.open_micros
        else:
            buckets[bucket_of((at - one.due_on).days)] += one.open_micros
    return Aged(
        party=balance.party,
        currency=balance.currency,
        buckets=buckets,
        credit_micros=credit,
        unbilled_micros=balance.traded_micros - sum(paper.total_micros for paper in papers),
        receivable_micros=balance.receivable_micros,
        prepaid_micros=balance.prepaid_micros,
    )


def bucket_of(days_past_due: int) -> Bucket:
    """The bucket of a document so many days past due."""
    for bucket, most in BUCKETS.items():
        if most is None or days_past_due <= most:
            return bucket
    raise AssertionError("the last bucket has no end")
