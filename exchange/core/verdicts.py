"""What a reconciliation finds: the verdict on a pair of lines, what both say is owed, and the entry
that would mend the difference.

With a buyer `owed` is what it owes us in the end, the price less what was credited; with a seller
what we owe it, the payouts less what was clawed back. A line that states no amount takes ours once
it is matched, and counts nothing before.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final, Literal

from exchange.core.model import Fact
from exchange.core.money import text_of
from exchange.core.partner_lines import Claim, OurLine, Side, Status

Verdict = Literal["agreed", "only_ours", "only_theirs", "other_price", "other_status"]
VERDICTS: Final[tuple[Verdict, ...]] = (
    "agreed",
    "only_ours",
    "only_theirs",
    "other_price",
    "other_status",
)
Key = Literal["id", "reference", "person", ""]
EntryKind = Literal[
    "none", "ask", "strike", "credit", "charge", "return", "tell", "resolve", "book"
]
"""What a suggested entry is: nothing; a question to the partner; a line of theirs to strike out; an
amount to book in the partner's favour or in ours; a return to be asked for; our return, or our
answer, to be told them; a doubt to be resolved; a sale to be booked."""


class Suggested(Fact, frozen=True, kw_only=True):
    """The entry that would mend a difference, and the sentence that says why."""

    kind: EntryKind
    sentence: str
    amount_micros: int = 0


class Finding(Fact, frozen=True, kw_only=True):
    """What became of one sale, one line, or a pair of them. `lines`: their line numbers;
    `ambiguous`: more than one pair was possible, or what a line names does not fit together: a
    person looks. Nothing in it is a consumer's."""

    verdict: Verdict
    matched_by: Key = ""
    lines: tuple[int, ...] = ()
    attempt_id: str = ""
    lead_id: str = ""
    our_day: date | None = None
    their_day: date | None = None
    our_status: Status | None = None
    their_status: Status | None = None
    ours_micros: int = 0
    theirs_micros: int = 0
    our_currency: str = ""
    their_currency: str = ""
    evidence: tuple[str, ...] = ()
    suggested: Suggested
    ambiguous: bool = False


class Total(Fact, frozen=True, kw_only=True):
    """One verdict's findings in one currency. The parts add up: over all verdicts `ours_micros` is
    what is owed by our books, `theirs_micros` by the file."""

    verdict: Verdict
    currency: str
    findings: int
    lines: int
    ambiguous: int
    ours_micros: int
    theirs_micros: int


def judged(our: OurLine, claim: Claim, currency: str, side: Side) -> tuple[Verdict, int, Suggested]:
    """The verdict on a pair, what is owed by the file, and the entry that mends it. `currency` is
    that of lines that name none."""
    theirs, owed = claim.status, _owed(our, claim)
    stated = claim.first.currency or currency or our.currency
    if not _is_same_status(our, claim, owed):
        kind, sentence = MENDED[side][our.status, theirs]
        amount = our.price_micros if our.status in ("rejected", "in_doubt") else our.owed_micros
        if our.status == "returned":
            amount = our.credited_micros
        return "other_status", owed, Suggested(kind=kind, sentence=sentence, amount_micros=amount)
    if stated != our.currency:
        sentence = "Ask which currency the contract has: the amounts cannot be compared."
        return "other_price", owed, Suggested(kind="ask", sentence=sentence)
    if our.owed_micros == owed:
        return "agreed", owed, Suggested(kind="none", sentence="Nothing to do.")
    return "other_price", owed, _of_amount(our, owed, side)


def _of_amount(our: OurLine, owed: int, side: Side) -> Suggested:
    """A buyer that owes less by its file, or a seller that is owed more, is to be credited."""
    apart = abs(our.owed_micros - owed)
    is_credit = (owed < our.owed_micros) == (side == "buyer")
    kind: EntryKind = "credit" if is_credit else "charge"
    sentence = (
        f"If the contract has their amount, {kind} the {side} {text_of(apart)} {our.currency}; "
        "else ask them to correct their line."
    )
    return Suggested(kind=kind, sentence=sentence, amount_micros=apart)


def unlisted(our: OurLine, side: Side) -> Suggested:
    """What to do about a sale that their file does not have."""
    kind: EntryKind = "ask"
    if our.status == "in_doubt" and side == "buyer":
        kind, sentence = "resolve", "They do not list it: resolve the doubt as rejected."
    elif our.status == "in_doubt":
        kind, sentence = "none", "Nothing is owed before its buyer says that it has it."
    elif not our.owed_micros:
        kind, sentence = "none", "Returned in full: nobody owes anything."
    elif side == "buyer":
        sentence = "Send them the receipt of the delivery; the bill stands."
    else:
        kind, sentence = "tell", "We owe them for it: their list lacks it, the payout stands."
    return Suggested(kind=kind, sentence=sentence, amount_micros=our.owed_micros)


Mended = tuple[EntryKind, str]
MENDED: Final[Mapping[Side, Mapping[tuple[Status, Status], Mended]]] = {
    "buyer": {
        ("sold", "returned"): ("return", "They took it back: ask them to file the return."),
        ("sold", "rejected"): (
            "return",
            "We booked a sale, they refused the lead: compare receipts.",
        ),
        ("returned", "sold"): ("tell", "They miss our credit: send them the credit memo."),
        ("returned", "rejected"): ("tell", "They miss our credit: send them the credit memo."),
        ("returned", "returned"): (
            "tell",
            "They miss part of our credit: send them the credit memo.",
        ),
        ("rejected", "sold"): ("book", "They bought what we hold for refused: book the sale."),
        ("rejected", "returned"): (
            "none",
            "Sold and taken back by their books, never sold by ours.",
        ),
        ("in_doubt", "sold"): ("resolve", "They have it: resolve the doubt as sold."),
        ("in_doubt", "returned"): (
            "resolve",
            "They had it: resolve the doubt as sold, then the return.",
        ),
        ("in_doubt", "rejected"): ("resolve", "They refused it: resolve the doubt as rejected."),
    },
    "seller": {
        ("sold", "returned"): ("tell", "We took nothing back: tell them that the payout stands."),
        ("sold", "rejected"): ("tell", "We sold it and owe them: send them the statement."),
        ("returned", "sold"): ("tell", "They miss our clawback: send them the return's notice."),
        ("returned", "rejected"): ("tell", "They miss the sale and its clawback: send them both."),
        ("returned", "returned"): (
            "tell",
            "They miss part of our clawback: send them the return's notice.",
        ),
        ("rejected", "sold"): ("tell", "Nobody bought it: send them our answer to their post."),
        ("rejected", "returned"): (
            "none",
            "Sold and taken back by their books, never sold by ours.",
        ),
        ("in_doubt", "sold"): ("ask", "Its buyer alone can say: ask the buyer, then tell them."),
        ("in_doubt", "returned"): (
            "ask",
            "Its buyer alone can say: ask the buyer, then tell them.",
        ),
        ("in_doubt", "rejected"): (
            "ask",
            "Its buyer alone can say: ask the buyer, then tell them.",
        ),
    },
}
"""What mends a difference of status: `(ours, theirs)`."""


def _is_same_status(our: OurLine, claim: Claim, owed: int) -> bool:
    """A partly credited sale may stand in their file as a sale at what is left."""
    if our.status == "returned" and claim.status == "sold":
        return owed == our.owed_micros and claim.stated_micros is not None
    return our.status == claim.status


def _owed(our: OurLine, claim: Claim) -> int:
    """What they owe for it by their file. A single line marked as returned may state the price, the
    credit (of either sign) or what is left: any of them says what we say."""
    stated = claim.stated_micros
    if claim.status == "rejected":
        return 0
    if claim.status == "sold" or claim.parts:
        return our.price_micros if stated is None else stated
    if stated is None:
        return our.owed_micros if our.status == "returned" else 0
    if claim.returned is not None:
        return stated
    left = (our.price_micros, our.owed_micros, our.credited_micros, -our.credited_micros)
    if our.status == "returned" and stated in left:
        return our.owed_micros
    return our.price_micros - abs(stated) if stated else 0


def clashes(our: OurLine, claim: Claim) -> list[str]:
    """What a line names that is not this sale's: by kind, a hash of theirs and none in common."""
    ours, theirs = set(our.persons), set(claim.first.persons)
    kinds = {kind for kind, _ in ours} & {kind for kind, _ in theirs}
    clashing = [kind for kind in sorted(kinds) if not {p for p in ours & theirs if p[0] == kind}]
    found = [f"the {kind} is another" for kind in clashing]
    if claim.first.our_id and claim.first.our_id not in (our.attempt_id, our.lead_id, *our.parts):
        found.append("the id they name is another")
    return found


def differences(our: OurLine, claim: Claim, owed: int) -> list[str]:
    found = [our.note] if our.note else []
    if our.status != claim.status:
        found.append(f"{our.status} by us, {claim.status} by them")
    if our.owed_micros != owed:
        found.append(f"owed {text_of(our.owed_micros)} by us, {text_of(owed)} by them")
    if claim.first.currency and claim.first.currency != our.currency:
        found.append(f"in {our.currency} by us, in {claim.first.currency} by them")
    return found
