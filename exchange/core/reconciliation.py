"""Reconciliation: a partner's lines against ours, each difference with its evidence and the entry
that would mend it.

What they say waits on a shelf (`shelf.py`); ours streams past, in any order. A line is matched by
the surest thing it names: our id (attempt or lead), the partner's own reference, the keyed hash of
a phone or e-mail together with the day. What ids match is settled at once; the rest when everything
was seen, best pair first, so the order of neither side matters.

Every sale of ours in the period and every line of theirs ends in exactly one finding:

    agreed        both say the same
    only_ours     we sold it, their file does not have it
    only_theirs   their file has it (or has it twice), we never sold it
    other_price   the same sale, another amount or currency
    other_status  the same lead, but sold, returned, rejected or in doubt to one of us only

A line and its return (their second line with a negative amount or the status `returned`) are one.
A seller knows leads, a buyer sales: with a seller the sales of one lead are one line of ours, and
lines of theirs that name them one by one are taken together.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, tzinfo
from typing import Final

from msgspec.structs import replace

from exchange.core.model import Fact
from exchange.core.partner_lines import Claim, OurLine, Side, TheirLine, folded
from exchange.core.shelf import PERSON, REFERENCE, Memory, Pair, Shelf
from exchange.core.verdicts import (
    VERDICTS,
    EntryKind,
    Finding,
    Key,
    Suggested,
    Total,
    Verdict,
    clashes,
    differences,
    judged,
    unlisted,
)


class Terms(Fact, frozen=True, kw_only=True):
    """How files are compared. `zone`: whose days the partner writes; `tolerance_days`: how far two
    days may lie apart for a match by phone or e-mail; `first`, `last`: the days compared, both
    included; `currency`: of lines that name none; `candidates_max`: how many lines of theirs are
    weighed for one sale by one reference or person: a column of one value costs no square."""

    zone: tzinfo
    tolerance_days: int
    side: Side = "buyer"
    first: date | None = None
    last: date | None = None
    currency: str = ""
    candidates_max: int = 20

    def is_outside(self, day: date, *, days: int = 0) -> bool:
        """Whether a day lies outside the period by more than so many days."""
        return (self.first is not None and (self.first - day).days > days) or (
            self.last is not None and (day - self.last).days > days
        )


def findings_of(
    ours: Iterable[OurLine], theirs: Iterable[TheirLine], terms: Terms
) -> tuple[list[Finding], tuple[Total, ...]]:
    """Everything at once, for what fits in memory: the findings, and their totals."""
    matching = Matching(theirs, terms)
    found = [*matching.passed(ours), *matching.rest()]
    return found, matching.totals


class Matching:
    """A reconciliation under way. Give it our lines (`passed`, again and again), then ask for the
    `rest`; both yield findings. What it must remember is on its shelf."""

    def __init__(
        self, theirs: Iterable[TheirLine], terms: Terms, shelf: Memory | None = None
    ) -> None:
        """`theirs` are their lines, or what of them is not on the shelf yet."""
        self._terms = terms
        self._shelf: Memory = Shelf() if shelf is None else shelf
        self.outside = 0
        """Lines of theirs that belong to another period."""
        self._sums: dict[tuple[Verdict, str], Counter[str]] = defaultdict(Counter)
        for line in theirs:
            self._shelf.add(line)
        for group in self._shelf.groups():
            for claim in folded(self._inside(group)):
                self._shelf.file(claim)

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
                for pair in fitting:
                    if not self._shelf.is_taken(pair.number):
                        self._shelf.fit(pair.number, pair.attempt_id)
                yield from self._settled(our, claim, "id", ambiguous=False)
            elif fitting:
                self._shelf.wait(our, fitting)
            else:
                yield from self._ours_alone(our, ())

    def rest(self) -> Iterator[Finding]:
        """What is left when all our lines have passed."""
        for pair, several in self._shelf.best_pairs():
            if self._shelf.is_taken(pair.number):
                continue
            our = self._shelf.waiting(pair.attempt_id)
            if our is not None:
                claim = self._shelf.claim(pair.number)
                yield from self._settled(our, claim, _KEYS[pair.rank], ambiguous=several)
        for our in self._shelf.left_waiting():
            yield from self._ours_alone(our, ("another sale fits their line better",))
        for claim, holder in self._shelf.left_claims():
            yield from self._theirs_alone(claim, holder)

    # --- finding pairs ----------------------------------------------------------------------------

    def _inside(self, group: Iterable[TheirLine]) -> Iterator[TheirLine]:
        for line in group:
            if line.on and self._terms.is_outside(line.on, days=self._terms.tolerance_days):
                self.outside += 1
            else:
                yield line

    def _named(self, our: OurLine) -> Claim | None:
        """The claim that names this very sale. A second one, by its other name, is its twin; those
        that name a lead's sales one by one are its parts."""
        names = (our.attempt_id, our.lead_id, *our.parts)
        numbers = [self._shelf.by_id(name) for name in names]
        found = [n for n in numbers if n is not None and not self._shelf.is_taken(n)]
        if not found:
            return None
        whole, parts = self._shelf.claim(found[0]), list[Claim]()
        for number in found[1:]:
            part = self._shelf.claim(number)
            if our.parts and our.lead_id not in (whole.first.our_id, part.first.our_id):
                parts.append(part)
            else:
                self._shelf.fit(number, our.attempt_id)
        return replace(whole, parts=tuple(parts)) if parts else whole

    def _fitting(self, our: OurLine) -> list[Pair]:
        """Every claim that it may be by reference or person, too. One that names an id of ours may
        still be another's: its id may be mistyped."""
        most = self._terms.candidates_max
        numbers = self._shelf.by_reference(our.reference, most) if our.reference else ()
        places = [(REFERENCE, number) for number in numbers]
        for person in our.persons:
            places += [(PERSON, number) for number in self._shelf.by_person(person, most)]
        pairs: dict[int, Pair] = {}
        for rank, number in places:
            if number in pairs:
                continue
            claim = self._shelf.claim(number)
            apart = self._days_apart(our, claim)
            if rank == PERSON and apart > self._terms.tolerance_days:
                continue
            differs = claim.stated_micros not in (None, our.owed_micros)
            pairs[number] = Pair(rank, apart, differs, our.sold_at, our.attempt_id, number)
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
        for one in (claim, *claim.parts):
            self._shelf.take(one.number, our.attempt_id)
        if self._terms.is_outside(self._day(our)):
            self.outside += len(claim.lines)
            return
        clashing = clashes(our, claim)
        apart = self._days_apart(our, claim)
        verdict, owed, suggested = judged(our, claim, self._terms.currency, self._terms.side)
        evidence = [f"matched by {_BY[by]}", *clashing, *differences(our, claim, owed)]
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
                ambiguous=ambiguous or bool(clashing),
            )
        )

    def _ours_alone(self, our: OurLine, evidence: Sequence[str]) -> Iterator[Finding]:
        """A sale that their file does not have. What was refused they need not list."""
        if self._terms.is_outside(self._day(our)) or our.status == "rejected":
            return
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
                suggested=unlisted(our, self._terms.side),
            )
        )

    def _theirs_alone(self, claim: Claim, holder: int | None) -> Iterator[Finding]:
        """A claim that is of no sale; `holder` is the line of the one that has the sale it fits."""
        if claim.first.on and self._terms.is_outside(claim.first.on):
            self.outside += len(claim.lines)
            return
        twin = claim.twin_of or holder
        kind: EntryKind
        if twin is None:
            evidence = (
                f"no {_OURS[self._terms.side]} has its ids, its reference, its phone or e-mail"
            )
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


_KEYS: Final[dict[int, Key]] = {REFERENCE: "reference", PERSON: "person"}
_BY: Final[dict[Key, str]] = {
    "id": "our id",
    "reference": "their reference",
    "person": "phone or e-mail, and day",
    "": "nothing",
}
_OURS: Final[dict[Side, str]] = {"buyer": "attempt of ours", "seller": "lead of theirs"}
