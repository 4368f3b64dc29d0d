"""Who is paid now, and how much: what statements that are due come to, less what was paid, and less
what was taken back since.

What was sold since the last statement that is due waits for its own statement. What was taken back
since then does not: as far as it outweighs what was sold since, it is kept back at once, so that a
seller is never paid what it already owes. A hold (of an incident) keeps back an amount, or all.
"""

from collections.abc import Iterable
from typing import Final, Literal

from exchange.core.documents import Billed
from exchange.core.model import Fact

State = Literal["pay", "nothing_due", "held", "below_minimum", "no_account"]
SENTENCES: Final[dict[State, str]] = {
    "pay": "is paid",
    "nothing_due": "nothing is due",
    "held": "held back by an incident",
    "below_minimum": "waits for the minimum",
    "no_account": "has no account to send it to",
}


CENT_MICROS: Final = 10_000
"""What banks send at the least; what is finer stays owed until it has grown to a cent."""


class Payable(Fact, frozen=True, kw_only=True):
    """What the ledger says of a seller in one currency. `settled_micros`: what statements that are
    due come to; `since_micros`: what was moved after them; `paid_micros`: what was paid, below
    zero. `statement`: the last one that is due; `payments`: how often it was paid so far."""

    party_id: int
    currency: str
    settled_micros: int
    since_micros: int
    paid_micros: int
    statement: str | None
    payments: int


class Hold(Fact, frozen=True, kw_only=True):
    """What is kept back of a seller's payouts; everything where there is no amount."""

    party_id: int
    currency: str | None
    amount_micros: int | None


class Payout(Fact, frozen=True, kw_only=True):
    """One seller's line of a run. `key` names the payment, in the bank's file and when it is
    recorded: the same run gives the same keys."""

    billed: Billed
    currency: str
    due_micros: int
    held_micros: int
    amount_micros: int
    state: State
    key: str
    statement: str


def payouts(
    payables: Iterable[Payable], billed: dict[int, Billed], holds: Iterable[Hold]
) -> tuple[Payout, ...]:
    """A line for each seller that statements owe something to or that owes something itself."""
    held = list(holds)
    found = (_payout(one, billed[one.party_id], held) for one in payables)
    return tuple(one for one in found if one.due_micros)


def _payout(one: Payable, billed: Billed, holds: list[Hold]) -> Payout:
    due = one.settled_micros + one.paid_micros + min(0, one.since_micros)
    held = _held(one, max(0, due), holds)
    amount = (max(0, due) - held) // CENT_MICROS * CENT_MICROS
    state: State = "pay"
    if due <= 0:
        state = "nothing_due"
    elif amount <= 0:
        state = "held"
    elif amount < billed.minimum_micros:
        state = "below_minimum"
    elif billed.bank is None:
        state = "no_account"
    return Payout(
        billed=billed,
        currency=one.currency,
        due_micros=due,
        held_micros=held,
        amount_micros=amount,
        state=state,
        key=f"{one.statement}-{one.payments + 1}" if one.statement else "",
        statement=one.statement or "",
    )


def _held(one: Payable, due_micros: int, holds: list[Hold]) -> int:
    held = 0
    for hold in holds:
        if hold.party_id != one.party_id:
            continue
        if hold.amount_micros is None:
            return due_micros
        if hold.currency == one.currency:
            held += hold.amount_micros
    return min(held, due_micros)
