"""A reconciliation that is kept: its findings as facts with a name that lasts, what became of them,
and the command that books what is suggested.

A finding's key is what it says: the sale and what both hold of it, or the line of the file. So the
same difference has the same key whenever it is found, a settled one is known again, and two runs of
one file can be told apart by their keys.
"""

import hashlib
from datetime import date, datetime
from typing import Any, Final, Literal

from exchange.core.model import Fact
from exchange.core.money import text_of
from exchange.core.partner_lines import Side
from exchange.core.verdicts import EntryKind, Finding, Total

KEY_BYTES: Final = 16
Verdict = Literal["sold", "rejected"]


class Run(Fact, frozen=True, kw_only=True):
    """A reconciliation as it was made. `columns`: the fields that were read; `unread`: lines that
    cannot be, `{line, field, why}`; `previous`: the last one of the same file before it; `settled`:
    how many of its differences are by now."""

    reconciliation_id: str
    at: datetime
    by: str
    side: Side
    partner: str
    party_id: int
    file_sha256: str
    first_day: date
    last_day: date
    zone: str
    tolerance_days: int
    currency: str
    columns: tuple[str, ...]
    our_lines: int
    their_lines: int
    outside: int
    unread: tuple[dict[str, Any], ...]
    differences: int
    ambiguous: int
    totals: tuple[Total, ...]
    previous: str | None
    settled: int = 0


class Settled(Fact, frozen=True, kw_only=True):
    """What a person made of a finding, in whichever run."""

    at: datetime
    by: str
    why: str


class KeptFinding(Fact, frozen=True, kw_only=True):
    """A difference of a run, by its number in it."""

    number: int
    key: str
    finding: Finding
    settled: Settled | None = None


class Changed(Fact, frozen=True, kw_only=True):
    """What changed since the last run of the same file: how many differences are new, how many are
    gone; the numbers of the first in their own runs."""

    previous: str
    at: datetime
    appeared: int
    gone: int
    first_appeared: tuple[int, ...]
    first_gone: tuple[int, ...]


def key_of(finding: Finding, file_sha256: bytes) -> bytes:
    """The name of a difference that lasts."""
    if finding.attempt_id:
        said: tuple[object, ...] = (
            *(finding.verdict, finding.attempt_id, finding.our_status, finding.their_status),
            *(finding.ours_micros, finding.theirs_micros),
            *(finding.our_currency, finding.their_currency),
        )
    else:
        said = (finding.verdict, file_sha256.hex(), *finding.lines)
    text = "\0".join(map(str, said))
    return hashlib.sha256(f"ex/v1\0finding\0{text}".encode()).digest()[:KEY_BYTES]


def is_doubt(finding: Finding) -> bool:
    """Whether it is about a post in doubt that its buyer's file may end."""
    return finding.suggested.kind == "resolve"


def resolution(finding: Finding, *, unlisted: bool) -> Verdict | None:
    """How a buyer's file ends a post in doubt: as it says. One that is not in it was not bought, if
    whoever asks holds the file for complete (`unlisted`). An ambiguous finding ends nothing."""
    if not is_doubt(finding) or finding.ambiguous:
        return None
    if finding.verdict == "only_ours":
        return "rejected" if unlisted else None
    return "rejected" if finding.their_status == "rejected" else "sold"


def command_of(finding: Finding, *, run: str, number: int, partner: str, side: Side) -> str:
    """The command that books what is suggested, or shows what must be looked at first."""
    attempt = finding.attempt_id
    commands: dict[EntryKind, str] = {
        "none": "",
        "ask": f"exchange explain {finding.lead_id}" if finding.lead_id else "",
        "strike": f"exchange reconcile settle {run} {number} --why 'told {partner} to strike it'",
        "tell": f"exchange statement {partner} --from {finding.our_day} --to {finding.our_day}",
        "resolve": f"exchange reconcile resolve {run} --attempt {attempt} --yes"
        + (" --unlisted" if finding.verdict == "only_ours" else ""),
        "return": f"exchange returns import FILE --buyer {partner}",
        "book": f"exchange explain {finding.lead_id}",
        "credit": _booking(finding, "--credit", run, number, partner, side),
        "charge": _booking(finding, "--charge", run, number, partner, side),
    }
    return commands[finding.suggested.kind]


def _booking(finding: Finding, way: str, run: str, number: int, partner: str, side: Side) -> str:
    """A buyer's sale is brought to the price of its file; a seller's balance is adjusted."""
    why = f"--why 'reconciliation {run}, {number}'"
    if side == "buyer" and finding.theirs_micros >= 0:
        price = text_of(finding.theirs_micros)
        return f"exchange ledger correct {finding.attempt_id} --price {price} {why}"
    amount = text_of(abs(finding.suggested.amount_micros))
    return (
        f"exchange ledger adjust {partner} --currency {finding.our_currency} {way} {amount} {why}"
    )
