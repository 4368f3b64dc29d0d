"""Pausing sources: a person pauses and resumes a source or a sub_id, everywhere or at one buyer.

A pause is one row; every worker takes it in with its book, within two seconds.
"""

import re
from collections.abc import Callable
from typing import Final

from exchange.core.book import Book
from exchange.core.fields import Problem, looks_personal, names_a_person
from exchange.core.messages import Refusal
from exchange.core.model import Fact, Source
from exchange.core.return_cases import AuditRow
from exchange.effects.clock import Clock
from exchange.effects.pauses import ListedPause, PauseRow, PauseStore

_SUB_ID: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
"""What a ping's sub_id may be."""


class Paused(Fact, frozen=True, kw_only=True):
    """What is paused or resumed, as a person names it: `source` is SELLER/SOURCE."""

    source: str
    sub_id: str | None = None
    buyer: str | None = None
    by: str
    why: str


class Place(Fact, frozen=True, kw_only=True):
    """The same by ids."""

    source: Source
    sub_id: str | None
    buyer_id: int | None


class Pausing:
    """What operators do with sources."""

    def __init__(self, *, store: PauseStore, clock: Clock, book: Callable[[], Book]) -> None:
        self._store, self._clock, self._book = store, clock, book

    async def pause(self, asked: Paused) -> bool | Refusal:
        """Pause; false when that stood already, and nothing was done."""
        place = self._place(asked)
        if isinstance(place, Refusal):
            return place
        pause = PauseRow(
            pause_id=self._clock.new_id(),
            source_id=place.source.id,
            sub_id=place.sub_id,
            buyer_id=place.buyer_id,
            since=self._clock.now(),
            by=asked.by,
            why=asked.why,
        )
        return await self._store.pause(pause, _audit("source.pause", asked))

    async def resume(self, asked: Paused) -> int | Refusal:
        """End what a person or a rule paused exactly here; how many pauses. One that an incident
        holds ends with it."""
        place = self._place(asked)
        if isinstance(place, Refusal):
            return place
        return await self._store.lift(
            place.source.id,
            place.sub_id,
            place.buyer_id,
            at=self._clock.now(),
            why=asked.why,
            audit=_audit("source.resume", asked),
        )

    async def listing(
        self, source: str | None = None, *, lifted: bool = False
    ) -> tuple[ListedPause, ...] | Refusal:
        """The pauses in force (with `lifted`, ended ones too), of one source or of all."""
        if source is None:
            return await self._store.listing(lifted=lifted)
        found = source_named(source, self._book())
        if isinstance(found, Problem):
            return not_valid(found)
        return await self._store.listing(found.id, lifted=lifted)

    def _place(self, asked: Paused) -> Place | Refusal:
        book = self._book()
        source = source_named(asked.source, book)
        buyers = {buyer.key: buyer.id for buyer in book.buyers.values()}
        problems = [*told_problems(asked.by, asked.why), *sub_id_problems(asked.sub_id)]
        if isinstance(source, Problem):
            problems.append(source)
        if asked.buyer is not None and asked.buyer not in buyers:
            problems.append(Problem(field="buyer", message="there is no such buyer"))
        if problems or isinstance(source, Problem):
            return not_valid(*problems)
        buyer_id = None if asked.buyer is None else buyers[asked.buyer]
        return Place(source=source, sub_id=asked.sub_id, buyer_id=buyer_id)


def source_named(name: str, book: Book) -> Source | Problem:
    """The source of a name SELLER/SOURCE."""
    seller_key, _, key = name.partition("/")
    ids = [seller.id for seller in book.sellers.values() if seller.key == seller_key]
    source = book.sources.get((ids[0], key)) if ids else None
    if source is not None:
        return source
    return Problem(
        field="source", message="there is no such source", hint="SELLER/SOURCE, by their keys"
    )


def sub_id_problems(sub_id: str | None) -> tuple[Problem, ...]:
    """What is wrong with a sub_id that a person names."""
    if sub_id is None:
        return ()
    if not _SUB_ID.fullmatch(sub_id):
        return (Problem(field="sub_id", message="is none that a ping could carry"),)
    if names_a_person(sub_id):
        return (Problem(field="sub_id", message="carries personal data"),)
    return ()


def told_problems(by: str, why: str) -> tuple[Problem, ...]:
    """What is wrong with who says it and why: both stand in the audit for good."""
    problems = []
    if not by.strip() or looks_personal(by):
        problems.append(Problem(field="by", message="names nobody", hint="a name, no address"))
    if len(why.strip()) < 3:
        problems.append(Problem(field="why", message="says nothing", hint="a sentence"))
    elif looks_personal(why) or names_a_person(why):
        problems.append(Problem(field="why", message="carries personal data"))
    return tuple(problems)


def not_valid(*problems: Problem) -> Refusal:
    """A 422 with its problems."""
    return Refusal(
        status=422,
        title="Request not valid",
        detail="Nothing was done.",
        problems=problems,
    )


def _audit(action: str, asked: Paused) -> AuditRow:
    return AuditRow(
        by=asked.by,
        action=action,
        subject=asked.source,
        detail={"sub_id": asked.sub_id, "buyer": asked.buyer, "why": asked.why},
    )
