"""Pauses of sources: which source or sub_id is paused, everywhere or at one buyer.

They stand beside the book's switches, are as few as a person (or a rule) makes them, and are asked
about by every ping: without any, nothing is looked up.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from exchange.core.model import Fact

Feed = tuple[int, str | None]
"""A source's id and a sub_id of it; `None`: all of the source."""


class SourcePause(NamedTuple):
    """One pause in force. Without `sub_id` all of the source, without `buyer_id` everywhere."""

    source_id: int
    sub_id: str | None = None
    buyer_id: int | None = None


class PauseTold(Fact, frozen=True, kw_only=True):
    """A pause that a ping met, as its story tells it. Without `buyer` it held everywhere; `until`:
    when it ended, or will by itself."""

    buyer: str | None
    sub_id: str | None
    since: datetime
    by: str
    why: str
    until: datetime | None


class SourcePauses(Fact, frozen=True, kw_only=True):
    """The pauses in force."""

    everywhere: frozenset[Feed] = frozenset()
    at_buyers: Mapping[Feed, tuple[int, ...]] = {}

    def stop(self, source_id: int, sub_id: str | None) -> bool:
        """Whether nothing of this source, or of this sub_id of it, is sold to anyone."""
        off = self.everywhere
        return bool(off) and ((source_id, sub_id) in off or (source_id, None) in off)

    def buyers(self, source_id: int, sub_id: str | None) -> frozenset[int]:
        """The buyers that are not asked about this source, or this sub_id of it."""
        off = self.at_buyers
        if not off:
            return NOBODY
        return frozenset((*off.get((source_id, sub_id), ()), *off.get((source_id, None), ())))


NOBODY: Final[frozenset[int]] = frozenset()
NONE: Final = SourcePauses()
"""No pause at all."""


def pauses_of(pauses: Iterable[SourcePause]) -> SourcePauses:
    """The pauses, as they are asked for. The same one may be made for several causes."""
    at_buyers: dict[Feed, tuple[int, ...]] = {}
    everywhere: set[Feed] = set()
    for source_id, sub_id, buyer_id in sorted(set(pauses), key=str):
        if buyer_id is None:
            everywhere.add((source_id, sub_id))
        else:
            at_buyers[source_id, sub_id] = (*at_buyers.get((source_id, sub_id), ()), buyer_id)
    return SourcePauses(everywhere=frozenset(everywhere), at_buyers=at_buyers)
