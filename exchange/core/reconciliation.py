"""Reconciliation: a partner's lines against ours, each difference with its evidence and the entry
that would mend it.

The partner's file is held, in the few fields that matching needs; ours streams past, in any order.
A line is matched by the surest thing it names: our id (attempt or lead), the partner's own
reference, the keyed hash of a phone or e-mail together with the day. What ids match is settled at
once; the rest when everything was seen, best pair first, so the order of neither side matters.

Every sale of ours in the period and every line of theirs ends in exactly one finding:

    agreed        both say the same
    only_ours     we sold it, their file does not have it
    only_theirs   their file has it (or has it twice), we never sold it
    other_price   the same sale, another amount or currency
    other_status  the same lead, but sold, returned, rejected or in doubt to one of us only

Amounts are micros of what the buyer owes in the end: the price less what was credited. A line that
states no amount takes ours once it is matched, and counts nothing before. A line and its return
(their second line with a negative amount or the status `returned`) are one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, tzinfo
from typing import Final, Literal

from exchange.core.model import Fact
from exchange.core.money import text_of
from exchange.core.partner_lines import Claim, OurLine, Person, Status, TheirLine, claims_of

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
"""What a suggested entry is: nothing; a question to the partner; a line of theirs to strike out; a
credit or a further charge to the buyer; a return to be asked for; our return to be told them; a
doubt to be resolved; a sale to be booked."""


class Terms(Fact, frozen=True, kw_only=True):
    """How files are compared. `zone`: whose days the partner writes; `tolerance_days`: how far two
    days may lie apart for a match by phone or e-mail; `first`, `last`: the days compared, both
    included; `currency`: of lines that name none; `candidates_max`: how many lines of theirs are
    weighed for one sale by one reference or person: a column of one value costs no square."""

    zone: tzinfo
    tolerance_days: int
    first: date | None = None
    last: date | None = None
    currency: str = ""
    candidates_max: int = 20

    def is_outside(self, day: date, *, days: int = 0) -> bool:
        """Whether a day lies outside the period by more than so many days."""
        return (self.first is not None and (self.first - day).days > days) or (
            self.last is not None and (day - self.last).days > days
        )


class Suggested(Fact, frozen=True, kw_only=True):
    """The entry that would mend a difference, and the sentence that says why."""

    kind: EntryKind
    sentence: str
    amount_micros: int = 0


class Finding(Fact, frozen=True, kw_only=True):
    """What became of one sale, one line, or a pair of them. `lines`: their line numbers;
    `ambiguous`: more than one pair was possible, or what a line names does not fit together: a
    person looks."""

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
    what the buyer owes by our books, `theirs_micros` by the file."""

    verdict: Verdict
    currency: str
    findings: int
    lines: int
    ambiguous: int
    ours_micros: int
    theirs_micros: int


def findings_of(
    ours: Iterable[OurLine], theirs: Iterable[TheirLine], terms: Terms
) -> tuple[list[Finding], tuple[Total, ...]]:
    """Everything at once, for what fits in memory: the findings, and their totals."""
    matching = Matching(theirs, terms)
    found = [*matching.passed(ours), *matching.rest()]
    return found, matching.totals


Pair = tuple[int, int, bool, datetime, str, int]
"""How well a sale and a claim fit, best first: by what, days apart, whether the amounts differ; the
rest makes the order one: when it was sold, its id, the claim's number."""
_REFERENCE, _PERSON = 1, 2


class Matching:
    """A reconciliation under way. Give it our lines (`passed`, again and again), then ask for the
    `rest`; both yield findings. Holds their file, and of ours only what a reference or a person may
    still match."""

    def __init__(self, theirs: Iterable[TheirLine], terms: Terms) -> None:
        self._terms = terms
        self.outside = 0
        """Lines of theirs that belong to another period."""
        self._claims = claims_of(self._inside(theirs))
        self._by_id: dict[str, int] = {}
        self._by_reference: defaultdict[str, list[int]] = defaultdict(list)
        self._by_person: defaultdict[Person, list[int]] = defaultdict(list)
        self._taken: dict[int, str] = {}
        self._fits: dict[int, str] = {}
        self._waiting: dict[str, OurLine] = {}
        self._pairs: list[Pair] = []
        self._sums: dict[tuple[Verdict, str], Counter[str]] = defaultdict(Counter)
        for claim in self._claims:
            if claim.twin_of is None:
                self._file(claim)

    @property
    def totals(self) -> tuple[Total, ...]:
        """What was found so far, by verdict and currency."""
        order = sorted(self._sums, key=lambda key: (key[1], VERDICTS.index(key[0])))
        names = ("findings", "lines", "ambiguous", "ours_micros", "theirs_micros")
        return tuple(
            Total(
                verdict=key[0], currency=key[1], **{name: self._sums[key][name] for name in names}
            )
            for key in order
        )

    def passed(self, ours: Iterable[OurLine]) -> Iterator[Finding]:
        """Let more of our lines pass; what is certain of them already."""
        for our in ours:
            claim = self._named(our)
            fitting = self._fitting(our)
            if claim is not None:
                self._note_fits(fitting)
                yield from self._settled(our, claim, "id", ambiguous=False)
            elif fitting:
                self._pairs += fitting
                self._waiting[our.attempt_id] = our
            else:
                yield from self._ours_alone(our, ())

    def rest(self) -> Iterator[Finding]:
        """What is left when all our lines have passed."""
        self._pairs = [pair for pair in self._pairs if pair[-1] not in self._taken]
        self._pairs.sort()
        sales = Counter((rank, attempt_id) for rank, _, _, _, attempt_id, _ in self._pairs)
        claims = Counter((rank, number) for rank, _, _, _, _, number in self._pairs)
        for rank, _, _, _, attempt_id, number in self._pairs:
            if number in self._taken or attempt_id not in self._waiting:
                continue
            several = sales[rank, attempt_id] > 1 or claims[rank, number] > 1
            our, claim = self._waiting.pop(attempt_id), self._claims[number]
            yield from self._settled(our, claim, _KEYS[rank], ambiguous=several)
        self._note_fits(self._pairs)
        for our in self._waiting.values():
            yield from self._ours_alone(our, ("another sale fits their line better",))
        yield from self._theirs_alone()

    def _note_fits(self, pairs: Iterable[Pair]) -> None:
        """Remember for a claim that may be left over which sale it would have been."""
        for _, _, _, _, attempt_id, number in pairs:
            if number not in self._taken:
                self._fits.setdefault(number, attempt_id)

    # --- finding pairs ----------------------------------------------------------------------------

    def _inside(self, theirs: Iterable[TheirLine]) -> Iterator[TheirLine]:
        for line in theirs:
            if line.on and self._terms.is_outside(line.on, days=self._terms.tolerance_days):
                self.outside += 1
            else:
                yield line

    def _file(self, claim: Claim) -> None:
        said = (claim.first, claim.returned) if claim.returned else (claim.first,)
        for line in said:
            if line.our_id:
                self._by_id.setdefault(line.our_id, claim.number)
            if line.reference:
                _add(self._by_reference[line.reference], claim.number)
            for person in line.persons:
                _add(self._by_person[person], claim.number)

    def _named(self, our: OurLine) -> Claim | None:
        """The claim that names this very sale. A second one, by its other name, is its twin."""
        names = (self._by_id.get(our.attempt_id), self._by_id.get(our.lead_id))
        found = [number for number in names if number is not None and number not in self._taken]
        for number in found[1:]:
            self._fits[number] = our.attempt_id
        return self._claims[found[0]] if found else None

    def _fitting(self, our: OurLine) -> list[Pair]:
        """Every claim that it may be by reference or person, too. One that names an id of ours may
        still be another's: its id may be mistyped."""
        most = self._terms.candidates_max
        places = [(_REFERENCE, n) for n in self._by_reference.get(our.buyer_ref or "", ())[:most]]
        for person in our.persons:
            places += [(_PERSON, n) for n in self._by_person.get(person, ())[:most]]
        pairs: dict[int, Pair] = {}
        for rank, number in places:
            claim = self._claims[number]
            apart = self._days_apart(our, claim)
            if number in pairs or (rank == _PERSON and apart > self._terms.tolerance_days):
                continue
            differs = claim.stated_micros not in (None, our.owed_micros)
            pairs[number] = (rank, apart, differs, our.sold_at, our.attempt_id, number)
        return list(pairs.values())

    def _days_apart(self, our: OurLine, claim: Claim) -> int:
        """Zero when a line says no day."""
        ours = self._day(our)
        days = [line.on for line in (claim.first, claim.returned) if line and line.on]
        return min((abs((ours - day).days) for day in days), default=0)

    def _day(self, our: OurLine) -> date:
        return our.sold_at.astimezone(self._terms.zone).date()

    # --- findings ---------------------------------------------------------------------------------

    def _settled(
        self, our: OurLine, claim: Claim, by: Key, *, ambiguous: bool
    ) -> Iterator[Finding]:
        self._taken[claim.number] = our.attempt_id
        if self._terms.is_outside(self._day(our)):
            self.outside += len(claim.lines)
            return
        clashes = _clashes(our, claim)
        apart = self._days_apart(our, claim)
        verdict, owed, suggested = judged(our, claim, self._terms.currency)
        evidence = [f"matched by {_BY[by]}", *clashes, *_differences(our, claim, owed)]
        if apart > self._terms.tolerance_days:
            evidence.append(f"the days lie {apart} apart")
        if ambiguous:
            evidence.append("more than one pair was possible; this one lies nearest")
        yield self._counted(
            Finding(
                verdict=verdict,
                matched_by=by,
                lines=claim.lines,
                attempt_id=our.attempt_id,
                lead_id=our.lead_id,
                our_day=self._day(our),
                their_day=claim.first.on,
                our_status=our.status,
                their_status=claim.status,
                ours_micros=our.owed_micros,
                theirs_micros=owed,
                our_currency=our.currency,
                their_currency=claim.first.currency or self._terms.currency or our.currency,
                evidence=tuple(evidence),
                suggested=suggested,
                ambiguous=ambiguous or bool(clashes),
            )
        )

    def _ours_alone(self, our: OurLine, evidence: Sequence[str]) -> Iterator[Finding]:
        """A sale that their file does not have. What they rejected they need not list."""
        if self._terms.is_outside(self._day(our)) or our.status == "rejected":
            return
        kind: EntryKind
        if our.status == "in_doubt":
            kind, sentence = "resolve", "They do not list it: resolve the doubt as rejected."
        elif not our.owed_micros:
            kind, sentence = "none", "Returned in full: nobody owes anything."
        else:
            kind, sentence = "ask", "Send them the receipt of the delivery; the bill stands."
        yield self._counted(
            Finding(
                verdict="only_ours",
                attempt_id=our.attempt_id,
                lead_id=our.lead_id,
                our_day=self._day(our),
                our_status=our.status,
                ours_micros=our.owed_micros,
                our_currency=our.currency,
                evidence=("no line names its ids, its reference, its phone or e-mail", *evidence),
                suggested=Suggested(kind=kind, sentence=sentence, amount_micros=our.owed_micros),
            )
        )

    def _theirs_alone(self) -> Iterator[Finding]:
        wanted = {fit for number, fit in self._fits.items() if number not in self._taken}
        holders = {
            attempt_id: self._claims[number].first.line
            for number, attempt_id in self._taken.items()
            if attempt_id in wanted
        }
        for claim in self._claims:
            if claim.number in self._taken:
                continue
            if claim.first.on and self._terms.is_outside(claim.first.on):
                self.outside += len(claim.lines)
                continue
            twin = claim.twin_of or holders.get(self._fits.get(claim.number, ""))
            kind: EntryKind
            if twin is None:
                evidence = "no attempt of ours has its ids, its reference, its phone or e-mail"
                kind, sentence = "ask", "Ask which sale it is; nothing is owed until they say."
            else:
                evidence = f"line {twin} is the same sale already"
                kind, sentence = "strike", f"Strike it from their list: line {twin} has it."
            owed = claim.stated_micros or 0 if claim.status in ("sold", "returned") else 0
            owed = min(owed, 0) if claim.status == "returned" else owed
            yield self._counted(
                Finding(
                    verdict="only_theirs",
                    lines=claim.lines,
                    their_day=claim.first.on,
                    their_status=claim.status,
                    theirs_micros=owed,
                    their_currency=claim.first.currency or self._terms.currency,
                    evidence=(evidence,),
                    suggested=Suggested(kind=kind, sentence=sentence, amount_micros=owed),
                )
            )

    def _counted(self, found: Finding) -> Finding:
        """Ours and theirs are summed each in its own currency, so that none is mixed."""
        main = found.our_currency or found.their_currency
        self._sums[found.verdict, main].update(
            findings=1, lines=len(found.lines), ambiguous=int(found.ambiguous)
        )
        if found.our_currency:
            self._sums[found.verdict, found.our_currency]["ours_micros"] += found.ours_micros
        self._sums[found.verdict, found.their_currency or main]["theirs_micros"] += (
            found.theirs_micros
        )
        return found


_KEYS: Final[dict[int, Key]] = {_REFERENCE: "reference", _PERSON: "person"}
_BY: Final[dict[Key, str]] = {
    "id": "our id",
    "reference": "their reference",
    "person": "phone or e-mail, and day",
    "": "nothing",
}


def judged(our: OurLine, claim: Claim, currency: str) -> tuple[Verdict, int, Suggested]:
    """The verdict on a pair, what they owe by the file, and the entry that mends it."""
    theirs, owed = claim.status, _owed(our, claim)
    stated = claim.first.currency or currency or our.currency
    if not _is_same_status(our, claim, owed):
        kind, sentence = _MENDED[our.status, theirs]
        amount = our.price_micros if our.status in ("rejected", "in_doubt") else our.owed_micros
        if our.status == "returned":
            amount = our.credited_micros
        return "other_status", owed, Suggested(kind=kind, sentence=sentence, amount_micros=amount)
    if stated != our.currency:
        sentence = "Ask which currency the contract has: the amounts cannot be compared."
        return "other_price", owed, Suggested(kind="ask", sentence=sentence)
    over = our.owed_micros - owed
    if not over:
        return "agreed", owed, Suggested(kind="none", sentence="Nothing to do.")
    mends: EntryKind = "credit" if over > 0 else "charge"
    sentence = (
        f"If the contract has their amount, {mends} the buyer {text_of(abs(over))} {our.currency}; "
        "else ask them to correct their line."
    )
    return "other_price", owed, Suggested(kind=mends, sentence=sentence, amount_micros=abs(over))


_MENDED: Final[dict[tuple[Status, Status], tuple[EntryKind, str]]] = {
    ("sold", "returned"): ("return", "They took it back: ask them to file the return."),
    ("sold", "rejected"): ("return", "We booked a sale, they refused the lead: compare receipts."),
    ("returned", "sold"): ("tell", "They miss our credit: send them the credit memo."),
    ("returned", "rejected"): ("tell", "They miss our credit: send them the credit memo."),
    ("returned", "returned"): ("tell", "They miss part of our credit: send them the credit memo."),
    ("rejected", "sold"): ("book", "They bought what we hold for refused: book the sale."),
    ("rejected", "returned"): ("none", "Sold and taken back by their books, never sold by ours."),
    ("in_doubt", "sold"): ("resolve", "They have it: resolve the doubt as sold."),
    ("in_doubt", "returned"): (
        "resolve",
        "They had it: resolve the doubt as sold, then the return.",
    ),
    ("in_doubt", "rejected"): ("resolve", "They refused it: resolve the doubt as rejected."),
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
    if claim.status == "sold":
        return our.price_micros if stated is None else stated
    if stated is None:
        return our.owed_micros if our.status == "returned" else 0
    if claim.returned is not None:
        return stated
    left = (our.price_micros, our.owed_micros, our.credited_micros, -our.credited_micros)
    if our.status == "returned" and stated in left:
        return our.owed_micros
    return our.price_micros - abs(stated) if stated else 0


def _clashes(our: OurLine, claim: Claim) -> list[str]:
    """What a line names that is not this sale's: by kind, a hash of theirs and none in common."""
    ours, theirs = set(our.persons), set(claim.first.persons)
    kinds = {kind for kind, _ in ours} & {kind for kind, _ in theirs}
    clashing = [kind for kind in sorted(kinds) if not {p for p in ours & theirs if p[0] == kind}]
    found = [f"the {kind} is another" for kind in clashing]
    if claim.first.our_id and claim.first.our_id not in (our.attempt_id, our.lead_id):
        found.append("the id they name is another")
    return found


def _differences(our: OurLine, claim: Claim, owed: int) -> list[str]:
    found = []
    if our.status != claim.status:
        found.append(f"{our.status} by us, {claim.status} by them")
    if our.owed_micros != owed:
        found.append(f"owed {text_of(our.owed_micros)} by us, {text_of(owed)} by them")
    if claim.first.currency and claim.first.currency != our.currency:
        found.append(f"in {our.currency} by us, in {claim.first.currency} by them")
    return found


def _add(numbers: list[int], number: int) -> None:
    if not numbers or numbers[-1] != number:
        numbers.append(number)
