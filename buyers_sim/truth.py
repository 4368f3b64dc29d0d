"""Readers of truth files: what buyers have in their books, and whether anyone received what was not
his.

The search for leaks looks at every byte that every buyer received, for every form of every canary.
It compares machine words: every eight bytes that a buyer received, at every alignment, are looked
up among the first eight bytes of all forms, and only a hit is compared as a whole. So the cost is
one pass over the bytes per batch of canaries, however many forms there are.
"""

import time
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from .events import Event, read
from .forms import forms, same_person

CANARIES_AT_ONCE: Final = 8_000
"""Canaries searched in one pass; each has 30 to 90 forms of 0.3 KiB in memory: 150 MiB."""


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """A canary where it may not be. Names the place, never the value: `canary` is its
    index among the canaries of `lead_id`."""

    buyer: str
    lead_id: str
    canary: int
    form: str
    event: Event

    def __str__(self) -> str:
        place = self.event.ping_id or self.event.attempt_id or self.event.kind
        return (
            f"{self.buyer} received canary {self.canary} of lead {self.lead_id} ({self.form}) "
            f"in the {self.event.kind} {place} at {self.event.at.isoformat()}"
        )


class LeakSearch(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found and how much it looked at. `seconds` is its own time."""

    leaks: tuple[Leak, ...]
    canaries: int
    needles: int
    searched_bytes: int
    seconds: float


class Truth:
    """All events of all buyers of a run, in the order of each buyer's file."""

    def __init__(self, by_buyer: Mapping[str, Sequence[Event]]) -> None:
        self.by_buyer = by_buyer

    @classmethod
    def read(cls, folder: Path) -> "Truth":
        """The truth files of a folder; raises as `events.read` does."""
        return cls({path.stem: read(path)[0] for path in sorted(folder.glob("*.jsonl"))})

    def events(self, kind: str | None = None) -> Iterator[Event]:
        """All events, or those of one kind, buyer by buyer."""
        for events in self.by_buyer.values():
            for event in events:
                if kind is None or event.kind == kind:
                    yield event

    def accepted_leads(self) -> dict[str, list[Event]]:
        """By lead, the posts by which buyers took it into their books: one event per buyer and
        attempt, re-posts left out."""
        taken: dict[str, dict[tuple[str, str], Event]] = {}
        for event in self.events("post"):
            if event.accepted:
                by_attempt = taken.setdefault(event.lead_id, {})
                by_attempt.setdefault((event.buyer, event.attempt_id), event)
        return {lead_id: list(by_attempt.values()) for lead_id, by_attempt in taken.items()}

    def released(self) -> dict[str, set[str]]:
        """By lead, the buyers that received a post of it."""
        reached: dict[str, set[str]] = {}
        for event in self.events("post"):
            reached.setdefault(event.lead_id, set()).add(event.buyer)
        return reached

    def leaks(
        self, canaries: Mapping[str, Sequence[str]], winners: Mapping[str, set[str]]
    ) -> LeakSearch:
        """Every canary at a buyer that is not among the `winners` of a lead that carries it, and
        every canary in anything but a post.

        `canaries`: by lead, strings that only the consumer of this lead has (at least eight bytes,
        else `ValueError`). `winners`: by lead, the buyers it was released to. One consumer may
        stand behind several leads; a winner of any of them may have what they share.
        """
        start = time.perf_counter()
        secrets = _secrets(canaries, winners)
        haystacks = [_Haystack(buyer, events) for buyer, events in self.by_buyer.items()]
        found: list[Leak] = []
        needles = 0
        for first in range(0, len(secrets), CANARIES_AT_ONCE):
            batch = _Batch(secrets[first : first + CANARIES_AT_ONCE])
            needles += batch.size
            for haystack in haystacks:
                found.extend(haystack.leaks(batch))
        return LeakSearch(
            leaks=tuple(found),
            canaries=len(secrets),
            needles=needles,
            searched_bytes=sum(len(haystack.raw) for haystack in haystacks),
            seconds=time.perf_counter() - start,
        )


class _Secret(NamedTuple):
    """One canary, the first lead it belongs to, and who may have it."""

    text: str
    lead_id: str
    place: int
    allowed: frozenset[str]


def _secrets(
    canaries: Mapping[str, Sequence[str]], winners: Mapping[str, set[str]]
) -> list[_Secret]:
    allowed: dict[str, set[str]] = {}
    texts: dict[str, tuple[str, int]] = {}
    for lead_id, lead_canaries in canaries.items():
        for index, text in enumerate(lead_canaries):
            allowed.setdefault(same_person(text), set()).update(winners.get(lead_id, ()))
            texts.setdefault(text, (lead_id, index))
    return [
        _Secret(text, lead_id, index, frozenset(allowed[same_person(text)]))
        for text, (lead_id, index) in texts.items()
    ]


class _Batch:
    """The forms of some secrets. `lengths`: by the first word of a form, the lengths that forms
    with this word have, as bits. `folded` and `exact`: whose form a byte string is."""

    def __init__(self, secrets: Iterable[_Secret]) -> None:
        self.lengths: dict[int, int] = {}
        self.folded: dict[bytes, list[tuple[_Secret, str]]] = {}
        self.exact: dict[bytes, list[tuple[_Secret, str]]] = {}
        self.size = 0
        for secret in secrets:
            for name, needle, exact in forms(secret.text):
                (word,) = array("Q", needle[:8].lower())
                self.lengths[word] = self.lengths.get(word, 0) | 1 << len(needle)
                owners = self.exact if exact else self.folded
                owners.setdefault(needle, []).append((secret, name))
                self.size += 1


class _Haystack:
    """Every byte one buyer received."""

    def __init__(self, buyer: str, events: Sequence[Event]) -> None:
        self.buyer = buyer
        self.events = events
        received = [event.received() for event in events]
        self.raw = b"\n".join(received)
        self.lower = self.raw.lower()
        self.starts = list(accumulate((len(part) + 1 for part in received), initial=0))

    def leaks(self, batch: _Batch) -> Iterator[Leak]:
        """The secrets of a batch that this buyer may not have where they are, once per event."""
        seen: set[tuple[int, str]] = set()
        for at, word in self._words_of(batch):
            place = bisect_right(self.starts, at) - 1
            for secret, form in self._forms_at(at, batch.lengths[word], batch):
                won = self.buyer in secret.allowed and self.events[place].kind == "post"
                if not won and (place, secret.text) not in seen:
                    seen.add((place, secret.text))
                    yield Leak(
                        buyer=self.buyer,
                        lead_id=secret.lead_id,
                        canary=secret.place,
                        form=form,
                        event=self.events[place],
                    )

    def _words_of(self, batch: _Batch) -> Iterator[tuple[int, int]]:
        """Where a first word of the batch stands, at any of the eight alignments."""
        lengths = batch.lengths
        for shift in range(8):
            end = len(self.lower) - (len(self.lower) - shift) % 8
            if shift < end:
                words = array("Q", self.lower[shift:end])
                for place in [n for n, word in enumerate(words) if word in lengths]:
                    yield shift + place * 8, words[place]

    def _forms_at(self, at: int, lengths: int, batch: _Batch) -> Iterator[tuple[_Secret, str]]:
        while lengths:
            length = lengths.bit_length() - 1
            lengths ^= 1 << length
            yield from batch.folded.get(self.lower[at : at + length], ())
            yield from batch.exact.get(self.raw[at : at + length], ())
