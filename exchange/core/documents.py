"""Documents: what a period's transfers come to on paper, numbered, and never changed.

```
buyer    invoice            what the period added to what it owes: sales, corrections upwards
         credit memo        what the period took off it: returns, corrections downwards
seller   payout statement   what the house owes it for the period: payouts less clawbacks
anyone   cancellation       takes one document back, whole; its period may then be issued anew
```
A document covers the transfers of its party and currency between two moments. So a kind's documents
add up to what the ledger says, and nothing is on two of them. Payments are on none: they are
matched to documents. A line that takes back part of an earlier sale cites the document the sale is
on, whatever period that was.

`content` is the document: canonical JSON, exactly as issued, with its hash. JSON, CSV, XLSX and PDF
are made from it and from nothing else. Amounts move the party's balance: credit memos are negative.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal

from msgspec import convert

from exchange.core.custody import canonical
from exchange.core.model import Fact
from exchange.core.money import micros_of, text_of
from exchange.core.statements import LineKind, Party, Period
from exchange.core.terms import BankTerms, BillingTerms, HouseTerms, PaperTerms, RemittanceTerms

DocumentKind = Literal["invoice", "credit_memo", "payout_statement", "cancellation"]
KINDS: Final[tuple[DocumentKind, ...]] = (
    "invoice",
    "credit_memo",
    "payout_statement",
    "cancellation",
)
"""In this order a party's documents are numbered, so that a memo can cite the invoice before it."""
PREFIX: Final[dict[DocumentKind, str]] = {
    "invoice": "INV",
    "credit_memo": "CM",
    "payout_statement": "PS",
    "cancellation": "CX",
}
_NUMBER: Final = re.compile(r"(INV|CM|PS|CX)-[0-9]{4}-[0-9]{6,10}", re.ASCII)
LINE: Final = ("day", "kind", "id", "item", "reference", "cites", "amount")
"""The members of a line of a document's content, which is an array. `id` is the sale's for a buyer
(the attempt's id it was posted with), the lead's for a seller; `item` a buyer's contract, a
seller's source."""
FORM: Final = 1
"""The form of the content, counted up when it changes: old documents keep theirs."""


class Billed(Fact, frozen=True, kw_only=True):
    """Whose papers they are, as its terms say today. `cycle`, `days` and `reference` are of the
    buyer's billing or the seller's remittance."""

    party: Party
    cycle: Literal["month", "week"]
    days: int
    reference: str = ""
    paper: PaperTerms = PaperTerms()
    bank: BankTerms | None = None
    minimum_micros: int = 0


class DocumentLine(Fact, frozen=True, kw_only=True, gc=False):
    """What one sale, return or correction moved. `sold_at`: of a return, when its sale was
    booked."""

    at: datetime
    kind: LineKind
    document: str
    lead_id: str
    item: str
    reference: str
    amount_micros: int
    sold_at: datetime | None = None


class Draft(Fact, frozen=True, kw_only=True):
    """A document before it has a number."""

    kind: DocumentKind
    billed: Billed
    currency: str
    lines: tuple[DocumentLine, ...]

    @property
    def total_micros(self) -> int:
        return sum(line.amount_micros for line in self.lines)


class InForce(Fact, frozen=True, kw_only=True):
    """A document that was issued and not cancelled: what it covers."""

    kind: DocumentKind
    party_id: int
    currency: str
    number: str
    total_micros: int
    since: datetime
    until: datetime


class Document(Fact, frozen=True, kw_only=True):
    """A document as it is issued. `cites` maps numbers to how much of each is taken back."""

    document_id: str
    kind: DocumentKind
    year: int
    serial: int
    party_id: int
    currency: str
    first_day: date
    last_day: date
    zone: str
    since: datetime
    until: datetime
    total_micros: int
    line_count: int
    issued_on: date
    due_on: date
    cites: dict[str, int]
    cancels: str | None
    content: bytes
    issued_by: str

    @property
    def number(self) -> str:
        return number_of(self.kind, self.year, self.serial)


class Issuing(Fact, frozen=True, kw_only=True):
    """What all documents of one run have in common."""

    period: Period
    issued_on: date
    issued_by: str
    house: HouseTerms


def number_of(kind: DocumentKind, year: int, serial: int) -> str:
    """`INV-2026-000001`; the database makes the same."""
    return f"{PREFIX[kind]}-{year}-{serial:06d}"


def is_number(text: str) -> bool:
    """Whether a text has the form of a document's number; anything else names nothing."""
    return _NUMBER.fullmatch(text) is not None


def billed_of(party: Party, doc: Mapping[str, Any]) -> Billed:
    """A party with what the newest version of its terms says of papers; other terms are not
    read."""
    paper = convert(doc.get("paper") or {}, PaperTerms)
    if party.kind == "buyer":
        billing = convert(doc.get("billing") or {}, BillingTerms)
        return Billed(
            party=party,
            cycle=billing.cycle,
            days=billing.terms_days,
            reference=billing.reference,
            paper=paper,
        )
    remittance = convert(doc.get("remittance") or {}, RemittanceTerms)
    return Billed(
        party=party,
        cycle=remittance.cycle,
        days=remittance.hold_days,
        reference=remittance.reference,
        paper=paper,
        bank=remittance.bank,
        minimum_micros=micros_of(remittance.minimum),
    )


def drafts(billed: Billed, currency: str, lines: Iterable[DocumentLine]) -> tuple[Draft, ...]:
    """The documents that a party's lines of one currency come to, in the order they are numbered.
    A buyer's go by their sign, so that what is added and what is taken off stand apart."""
    ordered = sorted(lines, key=lambda line: (line.at, line.document))
    if billed.party.kind == "seller":
        split: dict[DocumentKind, list[DocumentLine]] = {"payout_statement": ordered}
    else:
        split = {
            "invoice": [line for line in ordered if line.amount_micros > 0],
            "credit_memo": [line for line in ordered if line.amount_micros < 0],
        }
    return tuple(
        Draft(kind=kind, billed=billed, currency=currency, lines=tuple(found))
        for kind, found in split.items()
        if found
    )


def issued(
    draft: Draft, serial: int, document_id: str, issuing: Issuing, in_force: Sequence[InForce]
) -> Document:
    """The document that a draft becomes with its number. `in_force`: what its lines may cite."""
    cited = [_cited(draft, line, in_force) for line in draft.lines]
    cites: Counter[str] = Counter()
    for number, line in zip(cited, draft.lines, strict=True):
        if number:
            cites[number] -= line.amount_micros
    year, period = issuing.issued_on.year, issuing.period
    due_on = _due_on(draft, issuing)
    content = _content(
        draft,
        number_of(draft.kind, year, serial),
        issuing,
        due_on,
        cited,
        dict(sorted(cites.items())),
    )
    return Document(
        document_id=document_id,
        kind=draft.kind,
        year=year,
        serial=serial,
        party_id=draft.billed.party.id,
        currency=draft.currency,
        first_day=period.first,
        last_day=period.last,
        zone=str(period.zone),
        since=period.since,
        until=period.until,
        total_micros=draft.total_micros,
        line_count=len(draft.lines),
        issued_on=issuing.issued_on,
        due_on=due_on,
        cites=cites,
        cancels=None,
        content=content,
        issued_by=issuing.issued_by,
    )


def _cited(draft: Draft, line: DocumentLine, in_force: Sequence[InForce]) -> str:
    """The number of the document that the sale behind a line is on; empty where there is none."""
    if line.sold_at is None or line.kind == "sale":
        return ""
    wanted = "invoice" if draft.billed.party.kind == "buyer" else "payout_statement"
    for one in in_force:
        if (one.kind, one.currency) == (wanted, draft.currency) and (
            one.since <= line.sold_at < one.until
        ):
            return one.number
    return ""


def _due_on(draft: Draft, issuing: Issuing) -> date:
    """An invoice from its own day; a payout from the last day of its period, and never before its
    statement; what is taken off, at once."""
    if draft.kind == "invoice":
        return issuing.issued_on + timedelta(days=draft.billed.days)
    if draft.kind == "payout_statement":
        due_on = issuing.period.last + timedelta(days=draft.billed.days)
        return max(issuing.issued_on, due_on)
    return issuing.issued_on


def _content(
    draft: Draft,
    number: str,
    issuing: Issuing,
    due_on: date,
    cited: Sequence[str],
    cites: Mapping[str, int],
) -> bytes:
    zone, of_seller = issuing.period.zone, draft.billed.party.kind == "seller"
    lines = [
        [
            line.at.astimezone(zone).date().isoformat(),
            line.kind,
            (line.lead_id or line.document) if of_seller else line.document,
            line.item,
            line.reference,
            cite,
            text_of(line.amount_micros),
        ]
        for line, cite in zip(draft.lines, cited, strict=True)
    ]
    return canonical(
        _head(draft.kind, number, draft.currency, issuing, due_on)
        | {
            "party": party_paper(draft.billed),
            "reference": draft.billed.reference,
            "terms_days": draft.billed.days,
            "summary": _summary(draft.lines),
            "cites": [[key, text_of(micros)] for key, micros in cites.items()],
            "lines": lines,
            "total": text_of(draft.total_micros),
        }
    )


def _head(
    kind: DocumentKind, number: str, currency: str, issuing: Issuing, due_on: date
) -> dict[str, Any]:
    period, house = issuing.period, issuing.house
    return {
        "form": FORM,
        "kind": kind,
        "number": number,
        "issued_on": issuing.issued_on.isoformat(),
        "due_on": due_on.isoformat(),
        "first_day": period.first.isoformat(),
        "last_day": period.last.isoformat(),
        "zone": str(period.zone),
        "currency": currency,
        "house": {
            "name": house.paper.legal_name or house.name,
            "address": list(house.paper.address),
            "tax_id": house.paper.tax_id,
            "bank": bank_paper(house.bank),
        },
    }


def party_paper(billed: Billed) -> dict[str, Any]:
    """A party as its papers show it."""
    party, paper = billed.party, billed.paper
    return {
        "key": party.key,
        "kind": party.kind,
        "name": paper.legal_name or party.name or party.key,
        "address": list(paper.address),
        "tax_id": paper.tax_id,
        "bank": bank_paper(billed.bank),
    }


def bank_paper(bank: BankTerms | None) -> list[list[str]]:
    """An account as papers show it: words and what stands behind them."""
    if bank is None:
        return []
    said = (
        ("Account holder", bank.holder),
        ("Bank", bank.bank),
        ("IBAN", bank.iban),
        ("Account", bank.account),
        ("Routing number", bank.routing),
        ("BIC", bank.bic),
    )
    return [[words, text] for words, text in said if text]


def _summary(lines: Iterable[DocumentLine]) -> list[list[Any]]:
    """By kind and item: how many, and how much. They add up to the total."""
    counts: Counter[tuple[str, str]] = Counter()
    totals: Counter[tuple[str, str]] = Counter()
    for line in lines:
        counts[line.kind, line.item] += 1
        totals[line.kind, line.item] += line.amount_micros
    return [[*one, counts[one], text_of(totals[one])] for one in sorted(counts)]


def cancellation(
    cancelled: Document, was: Mapping[str, Any], serial: int, document_id: str, issuing: Issuing
) -> Document:
    """The document that takes another back, whole. `was` is the other's content. Raises
    `ValueError` for one that is a cancellation itself."""
    if cancelled.kind == "cancellation":
        raise ValueError(f"{cancelled.number} is a cancellation: issue the period anew")
    year = issuing.issued_on.year
    number = number_of("cancellation", year, serial)
    total = -cancelled.total_micros
    content = canonical(
        _head("cancellation", number, cancelled.currency, issuing, issuing.issued_on)
        | {
            "party": was["party"],
            "reference": was["reference"],
            "terms_days": 0,
            "summary": [["cancelled", cancelled.number, 1, text_of(total)]],
            "cites": [[cancelled.number, text_of(cancelled.total_micros)]],
            "lines": [],
            "total": text_of(total),
        }
    )
    return Document(
        document_id=document_id,
        kind="cancellation",
        year=year,
        serial=serial,
        party_id=cancelled.party_id,
        currency=cancelled.currency,
        first_day=cancelled.first_day,
        last_day=cancelled.last_day,
        zone=cancelled.zone,
        since=cancelled.since,
        until=cancelled.until,
        total_micros=total,
        line_count=0,
        issued_on=issuing.issued_on,
        due_on=issuing.issued_on,
        cites={cancelled.number: cancelled.total_micros},
        cancels=cancelled.document_id,
        content=content,
        issued_by=issuing.issued_by,
    )
