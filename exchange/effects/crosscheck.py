"""What Postgres says of one thing in several places, compared there. It finds; it mends nothing."""

from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol

from exchange.core.model import Fact
from exchange.effects.sql import queries

JOURNAL_LAG_S: Final = 60
"""The journal is written behind the answers, in batches: a sale so young may wait for its ping."""
OFFERED_AGAIN_S: Final = 3_600
"""A lead sold so long after its ping was sold by another auction than the ping's: no offer lives a
tenth of that."""

Place = Literal["ledger", "claims", "windows", "journal"]
PLACES: Final[tuple[Place, ...]] = ("ledger", "claims", "windows", "journal")


class Looked(Fact, frozen=True, kw_only=True):
    """One comparison: how much was looked at, how much is wrong, and the first of that as rows."""

    place: Place
    looked: int
    wrong: int
    first: tuple[dict[str, Any], ...]


class Rows(Protocol):
    """The part of the database used here."""

    async def fetchrow(self, sql: str, *args: Any) -> Any: ...


class Crosscheck:
    """Compares within Postgres; one snapshot a comparison."""

    def __init__(self, database: Rows) -> None:
        self._database, self._sql = database, queries("crosscheck")

    async def looked(self, place: Place, buyer_id: int | None, *, named_max: int) -> Looked:
        """One comparison, for a buyer or for all."""
        more = (JOURNAL_LAG_S, OFFERED_AGAIN_S) if place == "journal" else ()
        row = await self._database.fetchrow(self._sql[place], buyer_id, named_max, *more)
        first: Sequence[dict[str, Any]] = row["first"] or ()
        return Looked(place=place, looked=row["looked"], wrong=row["wrong"], first=tuple(first))
