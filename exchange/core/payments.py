"""Payments: what moved at the bank, what it covers, and the transfers both make.

```
a buyer pays      Dr house.cash         Cr buyer.receivable   PAYMENT       what covers invoices
                  Dr house.cash         Cr buyer.prepaid      PREPAID       the rest: paid ahead
it is used later  Dr buyer.prepaid      Cr buyer.receivable   PREPAID_USED
a match undone    the same, sides swapped; what was PAYMENT is PREPAID from then on
a buyer is repaid Dr buyer.prepaid      Cr house.cash         REFUND
a seller is paid  Dr seller.payable     Cr house.cash         PAID_OUT
a payout returns  the same, sides swapped
```
So a buyer's prepaid account is its payments that cover nothing so far, and its receivable is its
open documents and what no document names yet. Ids are derived from the payment and the number of
the match: recording twice is harmless. A wrong match is undone by a fact of its own.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Final, Literal

from exchange.core.ageing import Open
from exchange.core.fields import Problem, looks_personal, names_a_person
from exchange.core.ledger import HOUSE, REVERSAL, TransferCode, derived_id
from exchange.core.messages import Refusal
from exchange.core.model import Fact
from exchange.core.money import AMOUNT_MICROS_MAX, text_of

Way = Literal["received", "paid_out", "refund", "returned"]
WAY_OF: Final[dict[str, Way]] = {"buyer": "received", "seller": "paid_out"}
"""What a payment of a party is when nothing else is said."""


class Payment(Fact, frozen=True, kw_only=True):
    """Money that moved at the bank on `value_day`. `returns`: the payout that came back."""

    payment_id: str
    key: str
    way: Way
    party_id: int
    currency: str
    amount_micros: int
    value_day: date
    reference: str
    by: str
    at: datetime
    returns: str | None = None


class Match(Fact, frozen=True, kw_only=True):
    """What part of a payment covers: a document, or a refund. `number` is the document's, for
    people; `undone`: it was wrong."""

    payment_id: str
    part: int
    amount_micros: int
    code: int
    by: str
    at: datetime
    document_id: str | None = None
    refund_id: str | None = None
    number: str = ""
    undone: bool = False


class Booking(Fact, frozen=True, kw_only=True):
    """A transfer of a payment; accounts are `(party, kind)`."""

    transfer_id: str
    payment_id: str
    code: int
    debit: tuple[int, str]
    credit: tuple[int, str]
    amount_micros: int
    currency: str
    part: int
    at: datetime
    reverses: str | None = None


class Recorded(Fact, frozen=True, kw_only=True):
    """Everything that one act writes, together or not at all."""

    payment: Payment | None = None
    matches: tuple[Match, ...] = ()
    undone: tuple[Match, ...] = ()
    why: str = ""
    bookings: tuple[Booking, ...] = ()


# --- deciding -------------------------------------------------------------------------------------


def recorded(
    payment: Payment, papers: Sequence[Open], numbers: Sequence[str]
) -> Recorded | Refusal:
    """A payment received or paid out, matched with the papers named, else with the oldest that are
    open."""
    matches = _matched(
        payment, payment.amount_micros, papers, numbers, first_part=1, code=_code(payment)
    )
    if isinstance(matches, Refusal):
        return matches
    return Recorded(payment=payment, matches=matches, bookings=_bookings(payment, matches))


def matched(
    payment: Payment,
    before: Sequence[Match],
    papers: Sequence[Open],
    numbers: Sequence[str],
    *,
    by: str,
    at: datetime,
) -> Recorded | Refusal:
    """What is left of a payment, matched now."""
    left = rest(payment, before)
    if not left:
        return refused("payment_id", "the whole of this payment covers something already")
    first_part = 1 + max((match.part for match in before), default=0)
    is_received = payment.way == "received"
    code = TransferCode.PREPAID_USED if is_received else _code(payment)
    found = _matched(payment, left, papers, numbers, first_part=first_part, code=code, by=by, at=at)
    if isinstance(found, Refusal):
        return found
    if not found:
        return refused("number", "no document of this party is open in this currency")
    bookings = tuple(
        _booking(payment, code, _prepaid(payment), _receivable(payment), match, at=at)
        for match in found
        if is_received
    )
    return Recorded(matches=found, bookings=bookings)


def unmatched(
    payment: Payment, before: Sequence[Match], number: str, *, by: str, why: str, at: datetime
) -> Recorded | Refusal:
    """The matches of a payment with a document, undone."""
    wrong = tuple(one for one in before if one.number == number and not one.undone)
    if not wrong:
        return refused("number", "this payment is not matched with it")
    bookings: list[Booking] = []
    for match in wrong:
        if payment.way != "received":
            continue
        if match.code == TransferCode.PAYMENT:
            leg = _booking(payment, match.code, _cash(), _receivable(payment), match, at=at)
            bookings.append(_reversed(leg, at))
            bookings.append(
                _booking(payment, TransferCode.PREPAID, _cash(), _prepaid(payment), match, at=at)
            )
        else:
            leg = _booking(
                payment, match.code, _prepaid(payment), _receivable(payment), match, at=at
            )
            bookings.append(_reversed(leg, at))
    undone = tuple(_undone(match, by, at) for match in wrong)
    return Recorded(undone=undone, why=why, bookings=tuple(bookings))


def refunded(
    refund: Payment, sources: Iterable[tuple[Payment, Sequence[Match]]]
) -> Recorded | Refusal:
    """What a buyer paid ahead, given back: the oldest first. `sources`: its payments with their
    matches."""
    left, matches = refund.amount_micros, list[Match]()
    for payment, before in sources:
        part = min(left, rest(payment, before))
        if part > 0:
            matches.append(
                Match(
                    payment_id=payment.payment_id,
                    part=1 + max((match.part for match in before), default=0),
                    amount_micros=part,
                    code=int(TransferCode.REFUND),
                    refund_id=refund.payment_id,
                    by=refund.by,
                    at=refund.at,
                )
            )
            left -= part
    if left:
        had = text_of(refund.amount_micros - left)
        return refused("amount", f"only {had} {refund.currency} are paid ahead and cover nothing")
    booking = Booking(
        transfer_id=derived_id(refund.payment_id, int(TransferCode.REFUND), 0),
        payment_id=refund.payment_id,
        code=int(TransferCode.REFUND),
        debit=_prepaid(refund),
        credit=_cash(),
        amount_micros=refund.amount_micros,
        currency=refund.currency,
        part=0,
        at=refund.at,
    )
    return Recorded(payment=refund, matches=tuple(matches), bookings=(booking,))


def came_back(back: Payment, payout: Payment, before: Sequence[Match]) -> Recorded | Refusal:
    """A payout that the bank sent back: it covers nothing any more, and the seller is owed it
    again."""
    if payout.way != "paid_out":
        return refused("payment_id", "only a payout comes back; a buyer's money is refunded")
    live = tuple(_undone(match, back.by, back.at) for match in before if not match.undone)
    (leg,) = _bookings(payout, ())
    return Recorded(
        payment=back,
        undone=live,
        why="the payout came back",
        bookings=(_reversed(leg, back.at),),
    )


def rest(payment: Payment, matches: Iterable[Match]) -> int:
    """What of a payment covers nothing so far."""
    used = sum(match.amount_micros for match in matches if not match.undone)
    return payment.amount_micros - used


def problems_of(
    *, amount_micros: int, currency: str, reference: str, key: str, by: str
) -> tuple[Problem, ...]:
    """What is wrong with a payment as it was told; nothing of what was told is repeated."""
    found = []
    if not 0 < amount_micros <= AMOUNT_MICROS_MAX:
        found.append(Problem(field="amount", message="is more than 0", hint='such as "1250.00"'))
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        found.append(Problem(field="currency", message="is no currency", hint='such as "USD"'))
    for field, text, most in (("reference", reference, 140), ("key", key, 255), ("by", by, 100)):
        if len(text) > most or not text.isprintable() or (field != "reference" and not text):
            message = f"is one line of at most {most} characters"
            found.append(Problem(field=field, message=message))
        elif names_a_person(text) or (field == "reference" and looks_personal(text)):
            hint = "phone numbers, e-mail addresses and what looks like them are not kept"
            found.append(Problem(field=field, message="carries personal data", hint=hint))
    return tuple(found)


def refused(field: str, message: str, hint: str = "") -> Refusal:
    """A refusal about one field."""
    problem = Problem(field=field, message=message, hint=hint)
    return Refusal(status=422, title="Request not valid", detail=message, problems=(problem,))


# --- matches --------------------------------------------------------------------------------------


def _matched(
    payment: Payment,
    amount_micros: int,
    papers: Sequence[Open],
    numbers: Sequence[str],
    *,
    first_part: int,
    code: int,
    by: str | None = None,
    at: datetime | None = None,
) -> tuple[Match, ...] | Refusal:
    open_papers = {paper.number: paper for paper in papers}
    for number in numbers:
        if number not in open_papers or open_papers[number].uncovered_micros <= 0:
            hint = ", ".join(list(open_papers)[:5]) or "none is open"
            return refused("number", f"{number} is no open document of this party", hint)
    named = [(open_papers[number], open_papers[number].uncovered_micros) for number in numbers]
    oldest = sorted(papers, key=lambda paper: (paper.due_on, paper.number))
    wanted = named or [(paper, paper.open_micros) for paper in oldest]
    matches, left = list[Match](), amount_micros
    for paper, most in wanted:
        part = min(left, most)
        if part > 0:
            matches.append(
                Match(
                    payment_id=payment.payment_id,
                    part=first_part + len(matches),
                    amount_micros=part,
                    code=int(code),
                    document_id=paper.document_id,
                    number=paper.number,
                    by=by or payment.by,
                    at=at or payment.at,
                )
            )
            left -= part
    return tuple(matches)


def _undone(match: Match, by: str, at: datetime) -> Match:
    return Match(
        payment_id=match.payment_id,
        part=match.part,
        amount_micros=match.amount_micros,
        code=match.code,
        document_id=match.document_id,
        number=match.number,
        by=by,
        at=at,
        undone=True,
    )


# --- transfers ------------------------------------------------------------------------------------


def _bookings(payment: Payment, matches: Sequence[Match]) -> tuple[Booking, ...]:
    if payment.way == "paid_out":
        payable = payment.party_id, "payable"
        return (_whole(payment, TransferCode.PAID_OUT, payable, _cash(), payment.amount_micros),)
    found = [
        _booking(payment, TransferCode.PAYMENT, _cash(), _receivable(payment), match, at=payment.at)
        for match in matches
    ]
    if ahead := rest(payment, matches):
        found.append(_whole(payment, TransferCode.PREPAID, _cash(), _prepaid(payment), ahead))
    return tuple(found)


def _booking(
    payment: Payment,
    code: int,
    debit: tuple[int, str],
    credit: tuple[int, str],
    match: Match,
    *,
    at: datetime,
) -> Booking:
    """The transfer of a match; made again it is the same, so that it can be reversed."""
    return Booking(
        transfer_id=derived_id(payment.payment_id, int(code), match.part),
        payment_id=payment.payment_id,
        code=int(code),
        debit=debit,
        credit=credit,
        amount_micros=match.amount_micros,
        currency=payment.currency,
        part=match.part,
        at=at,
    )


def _whole(
    payment: Payment, code: int, debit: tuple[int, str], credit: tuple[int, str], micros: int
) -> Booking:
    return Booking(
        transfer_id=derived_id(payment.payment_id, int(code), 0),
        payment_id=payment.payment_id,
        code=int(code),
        debit=debit,
        credit=credit,
        amount_micros=micros,
        currency=payment.currency,
        part=0,
        at=payment.at,
    )


def _reversed(leg: Booking, at: datetime) -> Booking:
    return Booking(
        transfer_id=derived_id(leg.transfer_id, leg.code + REVERSAL, 1),
        payment_id=leg.payment_id,
        code=leg.code + REVERSAL,
        debit=leg.credit,
        credit=leg.debit,
        amount_micros=leg.amount_micros,
        currency=leg.currency,
        part=1,
        at=at,
        reverses=leg.transfer_id,
    )


def _code(payment: Payment) -> int:
    is_received = payment.way == "received"
    return int(TransferCode.PAYMENT if is_received else TransferCode.PAID_OUT)


def _cash() -> tuple[int, str]:
    return HOUSE, "cash"


def _receivable(payment: Payment) -> tuple[int, str]:
    return payment.party_id, "receivable"


def _prepaid(payment: Payment) -> tuple[int, str]:
    return payment.party_id, "prepaid"
