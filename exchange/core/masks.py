"""Sets of contracts as Python ints, one bit per slot, and tables that answer with the set that
accepts a value.

Three tables, by what a criterion can say about a field:

- `Exact`   few values (enum, bool, state, seller, source): one mask per value;
- `Ranges`  ints and dates: the line is cut where any criterion begins or ends, one mask per piece;
- `Heads`   many values (ZIPs, codes): one mask per first one to three characters, a superset that
            a test on the survivors makes exact. (Masks per ZIP would be 548 MB at 100,000
            contracts.)

A table is immutable. `placed` describes how one contract lies in it; an edit rewrites that one bit
in every mask (an int is copied whole, so a mask of 100,000 bits costs about a microsecond), in
slices: generators yield after at most `SLICE_BITS` of work so that no turn of the loop is long.
"""

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final, Literal

import msgspec

from exchange.core.criteria import Test
from exchange.core.model import Fact, Value

HEAD_CHARS: Final = 3
"""A ZIP's first three digits name its sectional centre: about 900 masks at most."""
KEYS_MAX: Final = 1_200
"""Most masks a table grows to; a criterion that would need more is tested on the survivors alone.
At 100,000 contracts a full table is 15 MB."""
BREAKS_MAX: Final = 512
"""As `KEYS_MAX`, for the pieces of a range table."""
SLICE_BITS: Final = 3_000_000
"""Mask bits rewritten between two yields: about half a millisecond."""

Steps = Generator[None, None, Any]


class Slots:
    """A set of slots under construction. Setting a bit in an int copies it; in a bytearray not."""

    __slots__ = ("_bytes",)

    def __init__(self, size: int) -> None:
        self._bytes = bytearray((size >> 3) + 1)

    def add(self, slot: int) -> None:
        self._bytes[slot >> 3] |= 1 << (slot & 7)

    def toggle(self, slot: int) -> None:
        self._bytes[slot >> 3] ^= 1 << (slot & 7)

    def mask(self) -> int:
        return int.from_bytes(self._bytes, "little")


def mask_of(slots: Sequence[int]) -> int:
    """The mask of these slots."""
    if not slots:
        return 0
    mask = Slots(max(slots))
    for slot in slots:
        mask.add(slot)
    return mask.mask()


def slots_of(mask: int, limit: int | None = None) -> list[int]:
    """The slots in a mask, lowest first, at most `limit`.

    Walks 64-bit words: `mask & -mask` copies the whole int for every bit, which at 100,000 slots
    and 300 bits is a millisecond.
    """
    words = memoryview(mask.to_bytes((mask.bit_length() + 63 >> 6) << 3, "little")).cast("Q")
    slots: list[int] = []
    base = -64
    for word in words:
        base += 64
        while word:
            low = word & -word
            slots.append(base + low.bit_length() - 1)
            word ^= low
        if limit is not None and len(slots) >= limit:
            return slots[:limit]
    return slots


class Edit(msgspec.Struct, frozen=True):
    """One bit to change in every mask of an index: written over, put in between (later slots move
    up), or taken out (later slots move down)."""

    kind: Literal["set", "insert", "delete"]
    slot: int

    def applied(self, mask: int, on: bool) -> int:
        """The mask after the edit; `on`: whether the contract is in it."""
        slot = self.slot
        if self.kind == "set":
            bit = 1 << slot
            return mask | bit if on else mask & ~bit
        low = mask & ((1 << slot) - 1)
        if self.kind == "insert":
            return low | (mask >> slot << (slot + 1)) | (int(on) << slot)
        return low | (mask >> (slot + 1) << slot)


class Place(Fact, frozen=True, kw_only=True):
    """How one contract lies in a table: accepted when the field is `absent`, for every value not
    named otherwise (`default`), for `keys`, not for `minus`. `cuts` are the points of the line from
    which on it is accepted or not."""

    absent: bool = True
    default: bool = True
    keys: frozenset[Value] = frozenset()
    minus: frozenset[Value] = frozenset()
    cuts: tuple[tuple[int, bool], ...] = ()

    def has(self, key: Value) -> bool:
        return key in self.keys or (self.default and key not in self.minus)

    def covers(self, point: int | None) -> bool:
        """Whether the piece of the line that begins at `point` (`None`: the first) is accepted."""
        accepted = self.default
        if point is not None:
            for cut, on in self.cuts:
                if cut > point:
                    break
                accepted = on
        return accepted


FREE: Final = Place()
"""No criterion on the field: always accepted."""


class Exact(Fact, frozen=True, kw_only=True):
    absent: int
    other: int
    by_value: dict[Value, int]

    def accepts(self, value: Value | None) -> int:
        return self.absent if value is None else self.by_value.get(value, self.other)

    def edited(self, edit: Edit, place: Place, size: int) -> Steps:
        by_value = dict(self.by_value)
        for key in place.keys | place.minus:
            by_value.setdefault(key, self.other)
        every = max(1, SLICE_BITS // (size + 64))
        for number, (key, mask) in enumerate(by_value.items()):
            by_value[key] = edit.applied(mask, place.has(key))
            if number % every == every - 1:
                yield
        return Exact(
            absent=edit.applied(self.absent, place.absent),
            other=edit.applied(self.other, place.default),
            by_value=by_value,
        )


class Heads(Fact, frozen=True, kw_only=True):
    """`accepts` is a superset: the contracts that may accept a value with this head."""

    absent: int
    other: int
    by_value: dict[Value, int]

    def accepts(self, value: Value | None) -> int:
        if value is None:
            return self.absent
        text, by_value = str(value), self.by_value
        mask = self.other
        for length in range(1, min(len(text), HEAD_CHARS) + 1):
            if found := by_value.get(text[:length]):
                mask |= found
        return mask

    def edited(self, edit: Edit, place: Place, size: int) -> Steps:
        by_value = dict(self.by_value)
        for key in place.keys:
            by_value.setdefault(key, 0)
        every = max(1, SLICE_BITS // (size + 64))
        for number, (key, mask) in enumerate(by_value.items()):
            by_value[key] = edit.applied(mask, key in place.keys)
            if number % every == every - 1:
                yield
        return Heads(
            absent=edit.applied(self.absent, place.absent),
            other=edit.applied(self.other, place.default),
            by_value=by_value,
        )


class Ranges(Fact, frozen=True, kw_only=True):
    """`masks[n]` accepts from `breaks[n - 1]` up to before `breaks[n]`; dates as ordinals."""

    absent: int
    breaks: tuple[int, ...]
    masks: tuple[int, ...]

    def accepts(self, value: Value | None) -> int:
        if value is None:
            return self.absent
        return self.masks[bisect_right(self.breaks, point_of(value))]

    def edited(self, edit: Edit, place: Place, size: int) -> Steps:
        breaks = sorted({*self.breaks, *(cut for cut, _ in place.cuts)})
        points: list[int | None] = [None, *breaks]
        every = max(1, SLICE_BITS // (size + 64))
        masks = []
        for number, point in enumerate(points):
            old = 0 if point is None else bisect_right(self.breaks, point)
            masks.append(edit.applied(self.masks[old], place.covers(point)))
            if number % every == every - 1:
                yield
        return Ranges(
            absent=edit.applied(self.absent, place.absent),
            breaks=tuple(breaks),
            masks=tuple(masks),
        )


Table = Exact | Heads | Ranges


def point_of(value: Any) -> int:
    """An int or date as a point of the line."""
    return value.toordinal() if isinstance(value, date) else value


# --- building a whole table -----------------------------------------------------------------------


def exact(places: Mapping[int, Place], size: int) -> Steps:
    """The table of contracts by slot; slots not in `places` accept everything."""
    return (yield from _keyed(Exact, places, size))


def heads(places: Mapping[int, Place], size: int) -> Steps:
    """As `exact`, over the first characters."""
    return (yield from _keyed(Heads, places, size))


def _keyed(kind: type[Exact] | type[Heads], places: Mapping[int, Place], size: int) -> Steps:
    named: dict[Value, Slots] = {}
    refused: dict[Value, Slots] = {}
    absent, default, free = Slots(size), Slots(size), Slots(size)
    for number, slot in enumerate(range(size)):
        place = places.get(slot)
        if place is None:
            free.add(slot)
        else:
            _add_all(named, place.keys, slot, size)
            _add_all(refused, place.minus, slot, size)
            if place.absent:
                absent.add(slot)
            if place.default:
                default.add(slot)
        if number % 128 == 127:
            yield
    everything = free.mask()
    other = everything | default.mask()
    base = other if kind is Exact else 0
    by_value: dict[Value, int] = {}
    for key in {**named, **refused}:
        mask = base & ~refused[key].mask() if key in refused else base
        by_value[key] = mask | named[key].mask() if key in named else mask
        if len(by_value) % 64 == 0:
            yield
    return kind(absent=everything | absent.mask(), other=other, by_value=by_value)


def _add_all(into: dict[Value, Slots], keys: Iterable[Value], slot: int, size: int) -> None:
    for key in keys:
        slots = into.get(key)
        if slots is None:
            slots = into[key] = Slots(size)
        slots.add(slot)


def ranges(places: Mapping[int, Place], size: int) -> Steps:
    """As `exact`, over a line: sweeps from the lowest cut to the highest, toggling."""
    line, absent = Slots(size), Slots(size)
    toggles: dict[int, list[int]] = {}
    for number, slot in enumerate(range(size)):
        place = places.get(slot, FREE)
        if place.absent:
            absent.add(slot)
        if place.default:
            line.add(slot)
        _note_toggles(toggles, place, slot)
        if number % 1024 == 1023:
            yield
    breaks = sorted(toggles)
    masks = [line.mask()]
    for point in breaks:
        for slot in toggles[point]:
            line.toggle(slot)
        masks.append(line.mask())
        if len(masks) % 4 == 0:
            yield
    return Ranges(absent=absent.mask(), breaks=tuple(breaks), masks=tuple(masks))


def _note_toggles(toggles: dict[int, list[int]], place: Place, slot: int) -> None:
    accepted = place.default
    for cut, on in place.cuts:
        if on != accepted:
            toggles.setdefault(cut, []).append(slot)
            accepted = on


# --- how a test lies in a table -------------------------------------------------------------------


def closed_place(test: Test, domain: Iterable[Value]) -> Place:
    """In an `Exact` table of a field whose values are all known."""
    met = frozenset(value for value in domain if test.met(value))
    return Place(absent=test.only_excludes, default=False, keys=met)


def open_place(test: Test) -> tuple[Place, bool]:
    """In an `Exact` table of a field whose values are not all known, and whether that says all of
    the test."""
    if test.among is not None:
        named = frozenset(value for value in test.among if test.met(value))
        return Place(absent=False, default=False, keys=named), True
    place = Place(absent=test.only_excludes, minus=test.none_of)
    return place, test.only_excludes


def head_place(test: Test) -> tuple[Place, bool]:
    """In a `Heads` table, and whether that says all of the test."""
    if test.among is None and not test.prefixes:
        return Place(absent=test.only_excludes), False
    texts: Iterator[str] = (str(value) for value in test.among or test.prefixes)
    keys = frozenset(text[:HEAD_CHARS] for text in texts)
    alone = test.among is None and test.regex is None and not test.none_of
    whole = alone and all(len(prefix) <= HEAD_CHARS for prefix in test.prefixes)
    return Place(absent=False, default=False, keys=keys), whole


def range_place(test: Test, *, dates: bool) -> Place:
    """In a `Ranges` table. The test is constant between its own cuts, so it is asked once in each
    piece."""
    named = [point_of(value) for value in (*(test.among or ()), *test.none_of)]
    cuts = {point for value in named for point in (value, value + 1)}
    if test.low is not None:
        cuts.add(point_of(test.low))
    if test.high is not None:
        cuts.add(point_of(test.high) + 1)
    default = test.among is None and test.low is None
    points = tuple((cut, test.met(_value_at(cut, dates))) for cut in sorted(cuts))
    return Place(absent=test.only_excludes, default=default, cuts=points)


def _value_at(point: int, dates: bool) -> Value:
    return date.fromordinal(min(point, date.max.toordinal())) if dates else point
