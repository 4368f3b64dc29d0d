"""Issuing documents: a period read as one stream, issued party by party.

The stream is one snapshot. Parties are issued in batches, each one transaction: what was issued
before a failure stays, and a run begun anew goes on from there, for what a document in force covers
is left out. So running it twice issues nothing twice.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from exchange.core.documents import (
    Billed,
    Document,
    DocumentKind,
    DocumentLine,
    Draft,
    InForce,
    Issuing,
    cancellation,
    drafts,
    issued,
)
from exchange.core.model import Fact
from exchange.core.statements import Period
from exchange.core.terms import HouseTerms
from exchange.effects.documents import Fenced, Kept, Make

SETTLED: Final = timedelta(minutes=10)
"""How long after a period's end its documents may be issued: a sale that was made before midnight
is written within the retries of its commit."""
LINES_AT_ONCE: Final = 50_000
"""Lines of one transaction: some megabytes of content."""


class Books(Protocol):
    """What is asked of the books."""

    async def parties(self, keys: Sequence[str] | None = None) -> tuple[Billed, ...]: ...
    def lines(
        self, period: Period, parties: Sequence[int]
    ) -> AsyncIterator[tuple[int, str, DocumentLine]]: ...
    async def in_force(self, parties: Sequence[int]) -> tuple[InForce, ...]: ...


class Store(Protocol):
    """What issues."""

    async def issue(
        self, year: int, parties: Sequence[int], make: Make, *, by: str, action: str = "issue"
    ) -> list[Document]: ...
    async def one(self, number: str, party_id: int | None = None) -> Kept | None: ...


class Clock(Protocol):
    def now(self) -> datetime: ...
    def new_id(self) -> str: ...


class NotIssued(Exception):
    """Nothing was issued; the message says why, in a sentence."""


class Asked(Fact, frozen=True, kw_only=True):
    """What is to be issued. `parties`: keys, all where there are none; `cycle`: only parties that
    are billed so; `dry_run`: nothing is written."""

    period: Period
    by: str
    parties: tuple[str, ...] = ()
    cycle: str | None = None
    dry_run: bool = False


class Told(Fact, frozen=True, kw_only=True):
    """One document of a run: `new`, or (where there is a number) in force before; without a number
    what it would be. `document` is there when it is new. `differs_micros`: what the ledger says of
    the very days that an older one covers, less what that one says; transfers that were booked
    after it was issued are the only way."""

    kind: DocumentKind
    party: str
    currency: str
    total_micros: int
    line_count: int
    new: bool
    number: str = ""
    document: Document | None = None
    differs_micros: int = 0


Tell = Callable[[Told], None]
Tick = Callable[[int], None]


async def issue(
    asked: Asked,
    *,
    books: Books,
    store: Store,
    clock: Clock,
    house: HouseTerms,
    tell: Tell,
    tick: Tick = lambda lines: None,
) -> None:
    """Issue what the asked period comes to, and tell of each document. Raises `NotIssued` for a
    period that has not ended, and for a party that is not there."""
    now = clock.now()
    if not asked.dry_run and now < asked.period.until + SETTLED:
        raise NotIssued(f"the period ends {asked.period.until:%Y-%m-%d %H:%M %Z}; issue it after")
    billed = await _billed(asked, books)
    issuing = Issuing(
        period=asked.period,
        issued_on=now.astimezone(asked.period.zone).date(),
        issued_by=asked.by,
        house=house,
    )
    in_force = await books.in_force(list(billed)) if asked.dry_run else ()
    run = _Run(asked, issuing, store=store, clock=clock, tell=tell, in_force=in_force)
    party, found = None, dict[str, list[DocumentLine]]()
    async for party_id, currency, line in books.lines(asked.period, list(billed)):
        if party_id != party:
            if party is not None:
                tick(await run.add(billed[party], found))
            party, found = party_id, {}
        found.setdefault(currency, []).append(line)
    if party is not None:
        tick(await run.add(billed[party], found))
    await run.write()


async def _billed(asked: Asked, books: Books) -> dict[int, Billed]:
    """Whom it concerns, by id."""
    wanted = [key.rpartition(":")[2] for key in asked.parties]
    found = await books.parties(wanted or None)
    for key in asked.parties:
        if not any(_is_named(one, (key,)) for one in found):
            raise NotIssued(f"there is no buyer or seller {key}")
    return {
        one.party.id: one
        for one in found
        if (asked.cycle is None or one.cycle == asked.cycle) and _is_named(one, asked.parties)
    }


def _is_named(one: Billed, keys: Sequence[str]) -> bool:
    return not keys or bool({one.party.key, f"{one.party.kind}:{one.party.key}"} & set(keys))


class _Run:
    """The batches of one run."""

    def __init__(
        self,
        asked: Asked,
        issuing: Issuing,
        *,
        store: Store,
        clock: Clock,
        tell: Tell,
        in_force: Sequence[InForce],
    ) -> None:
        self._asked, self._issuing, self._store = asked, issuing, store
        self._clock, self._tell, self._in_force = clock, tell, in_force
        self._drafts: list[Draft] = []
        self._lines = 0

    async def add(self, billed: Billed, lines: Mapping[str, Sequence[DocumentLine]]) -> int:
        """Take a party's lines; answers how many. Writes when there are enough for a batch."""
        count = 0
        for currency in sorted(lines):
            self._drafts += drafts(billed, currency, lines[currency])
            count += len(lines[currency])
        self._lines += count
        if self._lines >= LINES_AT_ONCE:
            await self.write()
        return count

    async def write(self) -> None:
        """Issue what was taken."""
        batch, self._drafts, self._lines = self._drafts, [], 0
        if not batch:
            return
        covered: dict[int, InForce] = {}
        made: list[Document] = []
        if self._asked.dry_run:
            for place, draft in enumerate(batch):
                if before := _covering(draft, self._in_force, self._issuing.period):
                    covered[place] = before
        else:
            made = await self._issued(batch, covered)
        self._told(batch, made, covered)

    async def _issued(self, batch: Sequence[Draft], covered: dict[int, InForce]) -> list[Document]:
        def make(last: Mapping[DocumentKind, int], in_force: Sequence[InForce]) -> list[Document]:
            covered.clear()
            return self._made(batch, dict(last), in_force, covered)

        parties = sorted({draft.billed.party.id for draft in batch})
        year = self._issuing.issued_on.year
        return await self._store.issue(year, parties, make, by=self._asked.by)

    def _made(
        self,
        batch: Sequence[Draft],
        last: dict[DocumentKind, int],
        in_force: Sequence[InForce],
        covered: dict[int, InForce],
    ) -> list[Document]:
        """Each draft with the next number of its kind, but for those that are covered already."""
        made: list[Document] = []
        known: dict[int, list[InForce]] = {}
        for kept in in_force:
            known.setdefault(kept.party_id, []).append(kept)
        for place, draft in enumerate(batch):
            mine = known.setdefault(draft.billed.party.id, [])
            before = _covering(draft, mine, self._issuing.period)
            if before is not None:
                covered[place] = before
                continue
            last[draft.kind] += 1
            one = issued(draft, last[draft.kind], self._clock.new_id(), self._issuing, mine)
            made.append(one)
            mine.append(_as_in_force(one))
        return made

    def _told(
        self, batch: Sequence[Draft], made: Sequence[Document], covered: Mapping[int, InForce]
    ) -> None:
        new = iter(made)
        for place, draft in enumerate(batch):
            before = covered.get(place)
            document = None if before is not None or self._asked.dry_run else next(new)
            self._tell(
                Told(
                    kind=draft.kind,
                    party=draft.billed.party.key,
                    currency=draft.currency,
                    total_micros=draft.total_micros,
                    line_count=len(draft.lines),
                    new=before is None,
                    number=before.number if before else document.number if document else "",
                    document=document,
                    differs_micros=self._difference(draft, before),
                )
            )

    def _difference(self, draft: Draft, before: InForce | None) -> int:
        period = self._issuing.period
        if before is None or (before.since, before.until) != (period.since, period.until):
            return 0
        return draft.total_micros - before.total_micros


def _covering(draft: Draft, in_force: Sequence[InForce], period: Period) -> InForce | None:
    """The document in force that covers days of this draft."""
    wanted = draft.kind, draft.billed.party.id, draft.currency
    for one in in_force:
        is_same = (one.kind, one.party_id, one.currency) == wanted
        if is_same and one.since < period.until and one.until > period.since:
            return one
    return None


def _as_in_force(one: Document) -> InForce:
    return InForce(
        kind=one.kind,
        party_id=one.party_id,
        currency=one.currency,
        number=one.number,
        total_micros=one.total_micros,
        since=one.since,
        until=one.until,
    )


async def cancel(
    number: str, *, by: str, store: Store, clock: Clock, house: HouseTerms
) -> Document:
    """Issue the document that takes another back. Raises `NotIssued`."""
    kept = await store.one(number)
    if kept is None:
        raise NotIssued(f"there is no document {number}")
    if kept.cancelled_by is not None:
        raise NotIssued(f"{number} is cancelled by {kept.cancelled_by}")
    one = kept.document
    if one.kind == "cancellation":
        raise NotIssued(f"{number} is a cancellation: issue the period anew")
    period = Period(first=one.first_day, last=one.last_day, zone=ZoneInfo(one.zone))
    issuing = Issuing(
        period=period, issued_on=clock.now().astimezone(period.zone).date(), issued_by=by,
        house=house,
    )  # fmt: skip
    document_id = clock.new_id()

    def make(last: Mapping[DocumentKind, int], _: Sequence[InForce]) -> list[Document]:
        serial = last["cancellation"] + 1
        return [cancellation(one, kept.content(), serial, document_id, issuing)]

    try:
        (made,) = await store.issue(
            issuing.issued_on.year, [one.party_id], make, by=by, action="cancel"
        )
    except Fenced as refused:
        raise NotIssued(f"{number} cannot be cancelled: {refused}") from None
    return made
