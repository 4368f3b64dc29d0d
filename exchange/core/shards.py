"""An immutable mapping from small ints that changes cheaply: a dict of dicts of 1,024 neighbours.

A copy of a dict of 100,000 entries takes three milliseconds at once, which is too long for a turn
of the loop; here a change copies the shards it touches, about 20 us each.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

Item = TypeVar("Item")
_BITS: Final = 10


class Shards(Mapping[int, Item]):
    """A persistent mapping; `with_items` makes the next one and shares what did not change."""

    __slots__ = ("_shards", "_size")

    def __init__(self, items: Iterable[tuple[int, Item]] = ()) -> None:
        self._shards: dict[int, dict[int, Item]] = {}
        for key, item in items:
            self._shards.setdefault(key >> _BITS, {})[key] = item
        self._size = sum(map(len, self._shards.values()))

    def __getitem__(self, key: int) -> Item:
        return self._shards[key >> _BITS][key]

    def __iter__(self) -> Iterator[int]:
        return (key for shard in self._shards.values() for key in shard)

    def __len__(self) -> int:
        return self._size

    def put(self, key: int, item: Item) -> None:
        """Add a new key in place: only while the mapping is being made and nobody else has it."""
        self._shards.setdefault(key >> _BITS, {})[key] = item
        self._size += 1

    def with_items(
        self, items: Iterable[tuple[int, Item]], *, without: Iterable[int] = ()
    ) -> "Shards[Item]":
        """The mapping with these items put in and these keys, if there, taken out."""
        new: Shards[Item] = Shards()
        new._shards = dict(self._shards)
        touched: set[int] = set()
        for key, item in items:
            _own(new._shards, key >> _BITS, touched)[key] = item
        for key in without:
            _own(new._shards, key >> _BITS, touched).pop(key, None)
        new._size = sum(map(len, new._shards.values()))
        return new


def _own(shards: dict[int, dict[int, Item]], number: int, touched: set[int]) -> dict[int, Item]:
    """The shard, copied the first time it is touched."""
    if number not in touched:
        touched.add(number)
        shards[number] = dict(shards.get(number, ()))
    return shards[number]
