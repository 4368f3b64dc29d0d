"""Everything that the database kept of one ping and lead, read for `explain`."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from exchange.core.custody import stored_row
from exchange.core.material import (
    AttemptFacts,
    EventFacts,
    LeadFacts,
    NoticeFacts,
    ResaleKept,
    ReturnKept,
    TransferFacts,
)
from exchange.core.model import Candidate, ContractAnswer, Fact, Offer, Ping
from exchange.core.records import CustodyRow
from exchange.core.source_pauses import PauseTold
from exchange.effects.sql import queries

Kind = TypeVar("Kind", bound=Fact)


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...


class Bids(Fact, frozen=True, kw_only=True):
    """A journal row's packed bids."""

    answers: tuple[ContractAnswer, ...] = ()
    ranking: tuple[Candidate, ...] = ()


class LeadKept(Fact, frozen=True, kw_only=True):
    """A lead, with what it carries of its ping."""

    facts: LeadFacts
    offer: Offer


class Mask(Fact, frozen=True, kw_only=True):
    """The contracts cleared: reason code -> hex mask; per full segment `[field, value, mask]`;
    per source paused at buyers `[source, sub_id, mask]`."""

    book_version: int
    gates: dict[str, str]
    segments: list[tuple[str, Any, str]]
    sources: tuple[tuple[int, str | None, str], ...] = ()


class Stories:
    """Reads what was kept. Nothing here opens a sealed record."""

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._sql = queries("stories")

    async def ping(self, ping_id: str) -> tuple[dict[str, Any], Bids] | None:
        """The journal's row (columns by name) and its bids; `None` when the journal lost it."""
        row = await self._database.fetchrow(self._sql["ping"], ping_id)
        if row is None:
            return None
        return dict(row), msgspec.json.decode(row["bids"], type=Bids)

    async def lead(self, lead_id: str) -> LeadKept | None:
        """The lead; `None` when there is none."""
        row = await self._database.fetchrow(self._sql["lead"], lead_id)
        if row is None:
            return None
        columns = dict(row)
        facts = LeadFacts(**{name: columns[name] for name in LeadFacts.__struct_fields__})
        return LeadKept(facts=facts, offer=msgspec.convert(row["offer"], Offer))

    async def attempts(self, lead_id: str) -> tuple[AttemptFacts, ...]:
        """Its attempts, in the order they were made."""
        return await self._all("attempts", lead_id, AttemptFacts)

    async def events(self, lead_id: str) -> tuple[EventFacts, ...]:
        """What happened to its attempts and to itself, in order."""
        return await self._all("events", lead_id, EventFacts)

    async def transfers(self, lead_id: str) -> tuple[TransferFacts, ...]:
        """The money it moved."""
        return await self._all("transfers", lead_id, TransferFacts)

    async def returns(self, lead_id: str) -> tuple[ReturnKept, ...]:
        """The returns of its sales."""
        return await self._all("returns", lead_id, ReturnKept)

    async def resales(self, lead_id: str) -> tuple[ResaleKept, ...]:
        """The times that it was offered again."""
        return await self._all("resales", lead_id, ResaleKept)

    async def pauses(self, ping: Ping) -> tuple[PauseTold, ...]:
        """What paused its source when it came."""
        rows = await self._database.fetch(
            self._sql["pauses"], ping.source_id, ping.sub_id, ping.received_at
        )
        return tuple(PauseTold(**dict(row)) for row in rows)

    async def notices(self, lead_id: str) -> tuple[NoticeFacts, ...]:
        """The webhooks about it."""
        return await self._all("notices", lead_id, NoticeFacts)

    async def custody(self, lead_id: str) -> tuple[CustodyRow, ...]:
        """Its chain of custody."""
        rows = await self._database.fetch(self._sql["custody"], lead_id)
        return tuple(stored_row(row) for row in rows)

    async def mask(self, mask_id: int, vertical_id: int) -> Mask | None:
        """The cleared bits of that id; `None` when they were not kept."""
        row = await self._database.fetchrow(self._sql["mask"], mask_id, vertical_id)
        if row is None:
            return None
        gates = dict(row["gates"])
        segments = gates.pop("segments", None) or row["segments"] or ()
        return Mask(
            book_version=row["book_version"],
            gates=gates,
            segments=[tuple(one) for one in segments],
            sources=tuple(tuple(one) for one in row["sources"]),
        )

    async def _all(self, query: str, lead_id: str, kind: type[Kind]) -> tuple[Kind, ...]:
        rows = await self._database.fetch(self._sql[query], lead_id)
        return tuple(kind(**dict(row)) for row in rows)
