"""What a sheet of returns needs of Postgres: the buyer's posts that its lines may mean, and what
its words were learnt to mean. Of the sheet's persons only keyed hashes come here, and those are
asked for and never written."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Protocol, TypeVar

from exchange.core.partner_lines import Person
from exchange.core.return_matching import Found, Posted
from exchange.core.return_sheet import ReturnLine
from exchange.core.sheet_words import SheetWord
from exchange.effects.sql import queries

BATCH: Final = 500
"""Lines asked for at once: a statement that takes some tens of milliseconds."""
T = TypeVar("T")


class Rows(Protocol):
    """The part of `postgres.Database` used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def execute(self, sql: str, *args: Any) -> str: ...


class ReturnSheets:
    """Reads posts and words; writes words and the audit. Acts as exchange_app."""

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._sql = queries("return_sheets")

    async def words(self, buyer_id: int) -> tuple[SheetWord, ...]:
        """What was learnt of a buyer's sheets, the oldest first."""
        rows = await self._database.fetch(self._sql["words"], buyer_id)
        return tuple(SheetWord(**dict(row)) for row in rows)

    async def learn(self, buyer_id: int, words: Sequence[SheetWord], *, by: str) -> None:
        """Remember more of them."""
        if words:
            columns = ([one.kind for one in words], [one.said for one in words])
            meant = [one.meaning for one in words]
            await self._database.execute(self._sql["learn"], buyer_id, *columns, meant, by)

    async def note(self, by: str, buyer: str, detail: dict[str, Any]) -> None:
        """A booked import, in the audit."""
        await self._database.execute(self._sql["note"], by, buyer, detail)

    async def found(
        self,
        buyer_id: int,
        lines: Sequence[ReturnLine],
        *,
        since: date,
        until: date,
        around_days: int,
        tick: Callable[[int], None],
    ) -> Found:
        """The posts to a buyer that these lines may mean, from one day to another; a line with a
        day is looked for only so many days around it."""
        by_id = await self._by_ids(buyer_id, [line for line in lines if line.our_id], tick)
        by_reference = await self._by_references(
            buyer_id,
            {line.reference for line in lines if line.reference and not line.our_id},
            since,
        )
        persons: dict[Person, tuple[date, date]] = {}
        for line in lines:
            if not line.our_id and line.reference not in by_reference:
                first = max(since, line.on - timedelta(days=around_days)) if line.on else since
                last = min(until, line.on + timedelta(days=around_days)) if line.on else until
                for one in line.persons:
                    known = persons.get(one, (first, last))
                    persons[one] = min(known[0], first), max(known[1], last)
        by_person = await self._by_persons(buyer_id, persons, tick)
        return Found(by_id=by_id, by_reference=by_reference, by_person=by_person)

    async def _by_ids(
        self, buyer_id: int, lines: Sequence[ReturnLine], tick: Callable[[int], None]
    ) -> dict[str, list[Posted]]:
        found: defaultdict[str, list[Posted]] = defaultdict(list)
        for some in _parts(lines):
            ids = [line.our_id for line in some]
            for row in await self._database.fetch(self._sql["by_ids"], buyer_id, ids):
                if all(one.attempt_id != row["attempt_id"] for one in found[row["named"]]):
                    found[row["named"]].append(_posted(row))
            tick(len(some))
        return dict(found)

    async def _by_references(
        self, buyer_id: int, references: set[str], since: date
    ) -> dict[str, list[Posted]]:
        """All at once: the buyer's posts are read through, for no index knows its references."""
        found: defaultdict[str, list[Posted]] = defaultdict(list)
        if references:
            after = datetime.combine(since, time(), UTC)
            sql = self._sql["by_references"]
            for row in await self._database.fetch(sql, buyer_id, after, sorted(references)):
                found[row["named"]].append(_posted(row))
        return dict(found)

    async def _by_persons(
        self,
        buyer_id: int,
        persons: dict[Person, tuple[date, date]],
        tick: Callable[[int], None],
    ) -> dict[Person, list[Posted]]:
        found: defaultdict[Person, list[Posted]] = defaultdict(list)
        for some in _parts(list(persons.items())):
            columns = (
                [kind for (kind, _), _ in some],
                [digest for (_, digest), _ in some],
                [first for _, (first, _) in some],
                [last for _, (_, last) in some],
            )
            for row in await self._database.fetch(self._sql["by_persons"], buyer_id, *columns):
                found[row["kind"], row["hmac"]].append(_posted(row))
            tick(len(some))
        return dict(found)


def _parts(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    return (whole[begin : begin + BATCH] for begin in range(0, len(whole), BATCH))


def _posted(row: Any) -> Posted:
    return Posted(
        attempt_id=row["attempt_id"],
        lead_id=row["lead_id"],
        contract_id=row["contract_id"],
        seller=row["seller"],
        state=row["state"],
        posted_at=row["posted_at"],
        persons=tuple(zip(row["kinds"] or (), row["hashes"] or (), strict=True)),
        external_id=row["external_id"],
    )
