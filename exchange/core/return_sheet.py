"""Reading a buyer's sheet of returns: which column is what, and what a row says.

Nothing of a person leaves here but keyed hashes. What money hangs on is never guessed: a reason in
words that nobody knows, a day that may be two days, evidence that names a person, each flags its
line for a person to look at.
"""

from collections.abc import Mapping, Sequence
from datetime import date, tzinfo
from enum import StrEnum
from typing import Any, Final, Literal

from msgspec.structs import replace

from exchange.core import partner_sheet
from exchange.core.labels import evidence_problems
from exchange.core.model import Fact, is_id
from exchange.core.partner_lines import Person
from exchange.core.partner_sheet import (
    TEXT_MAX,
    Cannot,
    DayOrder,
    Hashed,
    Layout,
    cell_text,
    day_of,
    persons_of,
)
from exchange.core.reasons import EVIDENCE, ReturnReason
from exchange.core.return_words import reason_of

SheetField = Literal[
    "our_id",
    "reference",
    "phone",
    "email",
    "date",
    "reason",
    "call_log",
    "call_recording",
    "carrier_lookup",
    "prior_lead",
    "customer_since",
    "list_entry",
    "document",
]
"""What a column may be; the last seven are the evidence of `reasons.EVIDENCE`."""

WORDS: Final[dict[SheetField, tuple[str, ...]]] = {
    "our_id": partner_sheet.WORDS["our_id"],
    "reference": partner_sheet.WORDS["reference"],
    "phone": partner_sheet.WORDS["phone"],
    "email": partner_sheet.WORDS["email"],
    "date": partner_sheet.WORDS["date"],
    "reason": (
        *("return reason", "reason for return", "reason", "return code", "reason code"),
        *("disposition", "why", "return type", "lead status", "status", "comment", "comments"),
        *("note", "notes"),
    ),
    "call_log": ("call log", "call log id", "call id", "calls"),
    "call_recording": ("call recording", "recording", "recording id"),
    "carrier_lookup": ("carrier lookup", "lookup", "phone lookup", "hlr"),
    "prior_lead": ("prior lead", "prior lead id", "original lead", "duplicate of"),
    "customer_since": ("customer since", "client since"),
    "list_entry": ("list entry", "dnc list", "suppression list"),
    "document": ("document", "proof", "evidence", "attachment"),
}
"""Header words by field, surest first."""


class Flag(StrEnum):
    """Why a line needs a person. Nothing is asked for it."""

    NO_REASON = "no_reason"
    UNKNOWN_REASON = "unknown_reason"
    BAD_EVIDENCE = "bad_evidence"
    NAMES_NOTHING = "names_nothing"
    NO_SALE = "no_sale"
    NOT_SOLD = "not_sold"
    SEVERAL_SALES = "several_sales"
    NO_DAY = "no_day"
    UNREAD_DAY = "unread_day"
    CONTRADICTORY = "contradictory"
    REFUSED = "refused"
    NOT_DONE = "not_done"


FLAGS: Final[dict[Flag, str]] = {
    Flag.NO_REASON: "The line gives no reason.",
    Flag.UNKNOWN_REASON: "The reason is in no words that are known; teach them with --reason.",
    Flag.BAD_EVIDENCE: "The evidence names a person, or is too long: give a reference or a code.",
    Flag.NAMES_NOTHING: "The line names no id, reference, phone or e-mail.",
    Flag.NO_SALE: "No sale to this buyer fits the line.",
    Flag.NOT_SOLD: "The lead was posted to this buyer, but is not sold.",
    Flag.SEVERAL_SALES: "More than one sale fits the line.",
    Flag.NO_DAY: "By phone or e-mail a line is matched only together with the day of the sale.",
    Flag.UNREAD_DAY: "The day cannot be read, or may be two days: say which with --days.",
    Flag.CONTRADICTORY: "The phone or e-mail of the line is not that of the sale it names.",
    Flag.REFUSED: "The return cannot be asked for.",
    Flag.NOT_DONE: "The database went away before this line; import the file again.",
}
"""The sentence of each."""


class ReturnLine(Fact, frozen=True, kw_only=True, gc=False):
    """What a row says. `our_id`: an attempt's or lead's; `on`: the day of the sale, in the buyer's
    zone, `has_day` whether the row says one at all. `flag`: what is wrong with the row itself."""

    line: int
    our_id: str = ""
    reference: str = ""
    persons: tuple[Person, ...] = ()
    on: date | None = None
    has_day: bool = False
    reason: ReturnReason | None = None
    evidence: Mapping[str, str] = {}
    flag: Flag | None = None


class ReturnReader:
    """Reads rows of one sheet. `learnt`: what phrases of this buyer mean."""

    def __init__(
        self,
        layout: Layout[SheetField],
        *,
        hashed: Hashed,
        zone: tzinfo,
        day_order: DayOrder | None,
        learnt: Mapping[str, ReturnReason],
    ) -> None:
        self._layout, self._hashed, self._zone = layout, hashed, zone
        self._order, self._learnt = day_order, learnt

    def line(self, number: int, cells: Sequence[Any]) -> ReturnLine:
        """What the row at this line says."""
        said = {
            field: cells[place] if place < len(cells) else None
            for field, place in self._layout.places.items()
        }
        our_id = cell_text(said.get("our_id"))
        reason = cell_text(said.get("reason"))
        read = ReturnLine(
            line=number,
            our_id=our_id.lower() if is_id(our_id) else "",
            reference=cell_text(said.get("reference"))[:TEXT_MAX],
            persons=persons_of(
                cell_text(said.get("phone")), cell_text(said.get("email")), self._hashed
            ),
            on=self._day(said.get("date")),
            has_day=bool(cell_text(said.get("date"))),
            reason=reason_of(reason, self._learnt) if reason else None,
            evidence=_evidence(said),
        )
        return _flagged(read, says_reason=bool(reason))

    def _day(self, cell: Any) -> date | None:
        try:
            return day_of(cell, self._zone, self._order)
        except Cannot:
            return None


def _evidence(said: Mapping[SheetField, Any]) -> dict[str, str]:
    """Anything a row brings; a spreadsheet's day is written as one."""
    texts = {name: cell_text(cell) for name, cell in said.items() if name in EVIDENCE}
    return {str(name): text for name, text in texts.items() if text}


def _flagged(read: ReturnLine, *, says_reason: bool) -> ReturnLine:
    """The line with the first thing that is wrong with it. Evidence that names a person goes no
    further."""
    flag = None
    if not (read.our_id or read.reference or read.persons):
        flag = Flag.NAMES_NOTHING
    elif not says_reason:
        flag = Flag.NO_REASON
    elif read.reason is None:
        flag = Flag.UNKNOWN_REASON
    if evidence_problems(read.evidence):
        return replace(read, flag=flag or Flag.BAD_EVIDENCE, evidence={})
    return replace(read, flag=flag)
