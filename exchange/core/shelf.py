"""What a reconciliation remembers while it runs: the partner's lines, the claims folded of them,
and what is still undecided.

A file of a million lines does not fit in memory, so this is a port. `Shelf` here keeps everything
in memory, for what is small and as the measure of the other; `effects/partner_stage.py` keeps the
same on disk. The matching asks for little at a time and is the same over both.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from exchange.core.partner_lines import Claim, OurLine, Person, TheirLine, group_of, order_in_group

REFERENCE: Final = 1
PERSON: Final = 2


class Pair(NamedTuple):
    """How well a sale and a claim fit, the best first: by what, days apart, whether the amounts
    differ; the rest makes the order one."""

    rank: int
    apart: int
    differs: bool
    sold_at: datetime
    attempt_id: str
    number: int


class Memory(Protocol):
    """What a matching needs remembered. A claim's number is that of its first line."""

    def add(self, line: TheirLine) -> None:
        """Remember a line of theirs."""

    def groups(self) -> Iterable[Iterable[TheirLine]]:
        """The lines by `group_of`, each group's `order_in_group`; each group is read before the
        next."""

    def file(self, claim: Claim) -> None:
        """Remember a claim; unless it is a twin, by all that its lines name."""

    def claim(self, number: int) -> Claim: ...

    def by_id(self, our_id: str) -> int | None:
        """The first claim that names this id."""

    def by_reference(self, reference: str, most: int) -> Sequence[int]:
        """The first claims that name this reference."""

    def by_person(self, person: Person, most: int) -> Sequence[int]: ...

    def is_taken(self, number: int) -> bool: ...

    def take(self, number: int, attempt_id: str) -> None:
        """This claim is of this sale, for good."""

    def fit(self, number: int, attempt_id: str) -> None:
        """This claim might have been of this sale; what was said first stays."""

    def wait(self, our: OurLine, pairs: Sequence[Pair]) -> None:
        """Remember a sale until everything was seen, with what it fits."""

    def best_pairs(self) -> Iterator[tuple[Pair, bool]]:
        """The pairs whose claims are not taken at this moment, the best first, and whether sale or
        claim stands in more than one of them by the same key."""

    def waiting(self, attempt_id: str) -> OurLine | None:
        """A sale that waits, which then waits no more."""

    def left_waiting(self) -> Iterator[OurLine]:
        """The sales that still wait. What of theirs they fitted best is noted (`fit`)."""

    def left_claims(self) -> Iterator[tuple[Claim, int | None]]:
        """The claims that were not taken, in the order of the file, each with the line of the claim
        that has the sale which it fitted."""


class Shelf:
    """A `Memory` in memory."""

    def __init__(self) -> None:
        self._groups: defaultdict[object, list[TheirLine]] = defaultdict(list)
        self._claims: dict[int, Claim] = {}
        self._ids: dict[str, int] = {}
        self._references: defaultdict[str, list[int]] = defaultdict(list)
        self._persons: defaultdict[Person, list[int]] = defaultdict(list)
        self._taken: dict[int, str] = {}
        self._fits: dict[int, str] = {}
        self._waiting: dict[str, OurLine] = {}
        self._pairs: list[Pair] = []

    def add(self, line: TheirLine) -> None:
        self._groups[group_of(line)].append(line)

    def groups(self) -> Iterator[list[TheirLine]]:
        while self._groups:
            _, group = self._groups.popitem()
            yield sorted(group, key=order_in_group)

    def file(self, claim: Claim) -> None:
        self._claims[claim.number] = claim
        if claim.twin_of is not None:
            return
        for line in claim.said:
            if line.our_id:
                self._ids[line.our_id] = min(claim.number, self._ids.get(line.our_id, claim.number))
            if line.reference:
                _add(self._references[line.reference], claim.number)
            for person in line.persons:
                _add(self._persons[person], claim.number)

    def claim(self, number: int) -> Claim:
        return self._claims[number]

    def by_id(self, our_id: str) -> int | None:
        return self._ids.get(our_id)

    def by_reference(self, reference: str, most: int) -> Sequence[int]:
        return self._references.get(reference, ())[:most]

    def by_person(self, person: Person, most: int) -> Sequence[int]:
        return self._persons.get(person, ())[:most]

    def is_taken(self, number: int) -> bool:
        return number in self._taken

    def take(self, number: int, attempt_id: str) -> None:
        self._taken[number] = attempt_id

    def fit(self, number: int, attempt_id: str) -> None:
        self._fits.setdefault(number, attempt_id)

    def wait(self, our: OurLine, pairs: Sequence[Pair]) -> None:
        self._waiting[our.attempt_id] = our
        self._pairs += pairs

    def best_pairs(self) -> Iterator[tuple[Pair, bool]]:
        self._pairs = sorted(pair for pair in self._pairs if pair.number not in self._taken)
        sales = Counter((pair.rank, pair.attempt_id) for pair in self._pairs)
        claims = Counter((pair.rank, pair.number) for pair in self._pairs)
        for pair in self._pairs:
            several = sales[pair.rank, pair.attempt_id] > 1 or claims[pair.rank, pair.number] > 1
            yield pair, several

    def waiting(self, attempt_id: str) -> OurLine | None:
        return self._waiting.pop(attempt_id, None)

    def left_waiting(self) -> Iterator[OurLine]:
        for pair in self._pairs:
            if pair.number not in self._taken:
                self.fit(pair.number, pair.attempt_id)
        yield from self._waiting.values()

    def left_claims(self) -> Iterator[tuple[Claim, int | None]]:
        holders = {self._taken[number]: number for number in sorted(self._taken, reverse=True)}
        for number in sorted(self._claims):
            if number not in self._taken:
                yield self._claims[number], holders.get(self._fits.get(number, ""))


def _add(numbers: list[int], number: int) -> None:
    place = bisect_left(numbers, number)
    if numbers[place : place + 1] != [number]:
        numbers.insert(place, number)
