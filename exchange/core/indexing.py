"""Making an `Index`, whole or by one change: how each contract lies in each table.

Everything here is a generator that yields between slices of about half a millisecond and returns
the new index, so that a market of any size changes under traffic without holding up a ping. The old
index stays in force until the new one is whole. `finished` runs one to its end at once.

An edit touches the contract's own bit; where it comes to lie between others, theirs move up.
"""

from bisect import bisect_left
from collections.abc import Collection, Generator, Iterable, Mapping
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from exchange.core import hours, masks
from exchange.core.criteria import PARTY_FIELDS, Test, test_of
from exchange.core.fields import Schema
from exchange.core.filters import Index, Parties, SlotOf, Tests, slot_order
from exchange.core.masks import (
    BREAKS_MAX,
    FREE,
    KEYS_MAX,
    Edit,
    Exact,
    Heads,
    Place,
    Ranges,
    Slots,
    Table,
)
from exchange.core.model import Contract, Fact, Vertical
from exchange.core.shards import Shards

Answer = TypeVar("Answer")
Steps = Generator[None, None, Index]

_LINES: Final = frozenset({"int", "date"})
_CLOSED: Final = frozenset({"enum", "bool"})
_OPEN: Final = frozenset({"seller", "source"})
_SLICE: Final = 8
"""Contracts laid out between two yields; one takes 10 to 60 us."""


class Layout(Fact, frozen=True, kw_only=True):
    """How one contract lies in the index of its vertical."""

    places: dict[str, Place]
    tests: Tests
    price: Place
    week: tuple[hours.Week, str] | None
    paused: bool
    test_only: bool


def finished(steps: Generator[None, None, Answer]) -> Answer:
    """The answer of a sliced work, done at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


# --- one contract ---------------------------------------------------------------------------------


def tests_of(contract: Contract, schema: Schema) -> Tests:
    """The tests of a contract's criteria that a ping can be held against. Raises `BadCriterion`."""
    return tuple(
        (field, test_of(criterion, schema.types.get(field, "code")))
        for field, criterion in contract.terms.where.items()
        if field in schema.pingable or field in PARTY_FIELDS
    )


def layout(contract: Contract, index: Index, known: Mapping[str, Collection[Any]]) -> Layout:
    """Where a contract lies. `known` are the keys or breaks each table already has: a contract that
    would make one too large is tested on the survivors instead. Raises `BadCriterion`."""
    places: dict[str, Place] = {}
    tests: list[tuple[str, Test]] = []
    for field, test in tests_of(contract, index.schema):
        place, whole = _place(field, test, index.schema)
        if not _fits(place, known.get(field, ())):
            place, whole = Place(absent=test.only_excludes), False
        places[field] = place
        if not whole:
            tests.append((field, test))
    price = _price_place(contract)
    return Layout(
        places=places,
        tests=tuple(tests),
        price=price if _fits(price, known.get("", ())) else FREE,
        week=_week(contract),
        paused=is_paused(contract, index.vertical, index.parties),
        test_only=index.parties.buyers[contract.buyer_id].terms.test,
    )


def _place(field: str, test: Test, schema: Schema) -> tuple[Place, bool]:
    """The place of a test in its field's table, and whether that says all of it."""
    if field in _OPEN:
        return masks.open_place(test)
    kind = schema.types.get(field, "code")
    if kind in _LINES:
        return masks.range_place(test, dates=kind == "date"), True
    if kind == "bool":
        return masks.closed_place(test, (True, False)), True
    if kind == "enum":
        terms = schema.terms.get(field)
        domain = terms.values if terms else tuple(sorted(set(schema.states.values())))
        return masks.closed_place(test, domain), True
    return masks.head_place(test)


def _fits(place: Place, known: Collection[Any]) -> bool:
    cuts = {cut for cut, _ in place.cuts}
    if cuts:
        return len(cuts.union(known)) <= BREAKS_MAX
    return len(place.keys.union(place.minus, known)) <= KEYS_MAX


def _price_place(contract: Contract) -> Place:
    """The floors (as least prices) a contract can reach: up to its fixed or highest price."""
    most = contract.price_micros if contract.price_micros is not None else contract.bid_max_micros
    return FREE if most is None else Place(cuts=((most + 1, False),))


def _week(contract: Contract) -> tuple[hours.Week, str] | None:
    week = hours.week_of(contract.terms.hours)
    return None if week is None else (week, contract.time_zone or "UTC")


def is_paused(contract: Contract, vertical: Vertical, parties: Parties) -> bool:
    """Whether the contract, its buyer or its vertical is paused, in the file or by a switch."""
    off = parties.switched_off
    return (
        contract.terms.paused
        or parties.buyers[contract.buyer_id].terms.paused
        or vertical.terms.paused
        or ("contract", contract.id) in off
        or ("buyer", contract.buyer_id) in off
        or ("vertical", contract.vertical_id) in off
        or ("house", 0) in off
    )


# --- a whole index --------------------------------------------------------------------------------


def empty_index(vertical: Vertical, schema: Schema, parties: Parties) -> Index:
    """A vertical without contracts."""
    return Index(
        vertical=vertical,
        schema=schema,
        parties=parties,
        contracts=(),
        slot_of=SlotOf((), Shards()),
        every=0,
        paused=0,
        test_only=0,
        buyer_mask={},
        tables={},
        price=Ranges(absent=0, breaks=(), masks=(0,)),
        tested=Shards(),
        to_test=0,
        hours={},
    )


def compile_index(
    vertical: Vertical,
    schema: Schema,
    parties: Parties,
    contracts: Iterable[Contract],
    refused: list[str],
) -> Steps:
    """The index of contracts given in `slot_order`. One whose criteria cannot be read is left out
    and named in `refused`, with why: a bad row never fails a ping."""
    index = empty_index(vertical, schema, parties)
    parts = yield from _laid_out(index, contracts, refused)
    size = len(parts.contracts)
    tables: dict[str, Table] = {}
    while parts.places:  # taken apart as they are used: freeing them all at once takes long, too
        field, places = parts.places.popitem()
        tables[field] = yield from _table(field, schema)(places, size)
    slots = tuple(parts.contracts)
    return replace(
        index,
        contracts=slots,
        slot_of=SlotOf(slots, parts.by_id),
        every=(1 << size) - 1,
        paused=(yield from _mask(parts.paused, size)),
        test_only=(yield from _mask(parts.test_only, size)),
        buyer_mask=(yield from _grouped(parts.buyers, size)),
        tables=tables,
        price=(yield from masks.ranges(parts.prices, size)),
        tested=parts.tested,
        to_test=(yield from _mask(parts.to_test, size)),
        hours=(yield from _grouped(parts.weeks, size)),
    )


class _Parts:
    """The layouts of a whole index by part, as they are gathered."""

    def __init__(self) -> None:
        self.contracts: list[Contract] = []
        self.by_id: Shards[Contract] = Shards()
        self.places: dict[str, dict[int, Place]] = {}
        self.known: dict[str, set[Any]] = {}
        self.prices: dict[int, Place] = {}
        self.tested: Shards[Tests] = Shards()
        self.paused: list[int] = []
        self.test_only: list[int] = []
        self.to_test: list[int] = []
        self.buyers: list[tuple[int, int]] = []
        self.weeks: list[tuple[int, Any]] = []
        self._interned: dict[Any, Any] = {}

    def add(self, contract: Contract, made: Layout) -> None:
        """Equal parts are kept once: ten thousand contracts with one ZIP list share one set."""
        slot, same = len(self.contracts), self._interned.setdefault
        self.contracts.append(contract)
        self.by_id.put(contract.id, contract)
        self.buyers.append((slot, contract.buyer_id))
        for field, place in made.places.items():
            self.places.setdefault(field, {})[slot] = same(place, place)
            self._know(field, place)
        if made.price is not FREE:
            self.prices[slot] = made.price
            self._know("", made.price)
        if made.tests:
            self.tested.put(contract.id, tuple((name, same(t, t)) for name, t in made.tests))
            self.to_test.append(slot)
        if made.paused:
            self.paused.append(slot)
        if made.test_only:
            self.test_only.append(slot)
        if made.week is not None:
            self.weeks.append((slot, made.week))

    def _know(self, field: str, place: Place) -> None:
        self.known.setdefault(field, set()).update(place.keys, place.minus, dict(place.cuts))


def _laid_out(
    index: Index, contracts: Iterable[Contract], refused: list[str]
) -> Generator[None, None, _Parts]:
    parts = _Parts()
    for number, contract in enumerate(contracts):
        try:
            parts.add(contract, layout(contract, index, parts.known))
        except ValueError as error:
            refused.append(f"{contract.key}: {error}")
        if number % _SLICE == 0:
            yield
    return parts


def _table(field: str, schema: Schema) -> Any:
    kind = "enum" if field in _OPEN else schema.types.get(field, "code")
    if kind in _LINES:
        return masks.ranges
    return masks.exact if kind in _CLOSED else masks.heads


def _mask(slots: Iterable[int], size: int) -> Generator[None, None, int]:
    groups = yield from _grouped(((slot, None) for slot in slots), size)
    return groups.get(None, 0)


def _grouped(pairs: Iterable[tuple[int, Any]], size: int) -> Generator[None, None, dict[Any, int]]:
    groups: dict[Any, Slots] = {}
    for number, (slot, key) in enumerate(pairs):
        if key not in groups:
            groups[key] = Slots(size)
        groups[key].add(slot)
        if number % 1024 == 1023:
            yield
    return {key: slots.mask() for key, slots in groups.items()}


# --- one change -----------------------------------------------------------------------------------


def with_contract(index: Index, contract: Contract) -> Steps:
    """The index with a contract added, or put in the place of its former version. Raises
    `BadCriterion` when its criteria cannot be read."""
    layout(contract, index, {})
    slot = index.slot_of.get(contract.id)
    if slot is not None:
        old = index.contracts[slot]
        if slot_order(old) == slot_order(contract):
            return (yield from _edited(index, Edit("set", slot), old, contract))
        index = yield from _edited(index, Edit("delete", slot), old, None)
    slot = bisect_left(index.contracts, slot_order(contract), key=slot_order)
    return (yield from _edited(index, Edit("insert", slot), None, contract))


def without_contract(index: Index, contract_id: int) -> Steps:
    """The index without a contract; the same index if it is not there."""
    slot = index.slot_of.get(contract_id)
    if slot is None:
        return index
    return (yield from _edited(index, Edit("delete", slot), index.contracts[slot], None))


def with_parties(index: Index, vertical: Vertical, parties: Parties) -> Steps:
    """The index after a change of buyers, sellers, sources or pauses, its contracts unchanged."""
    size = len(index.contracts)
    paused, test_only = Slots(size), Slots(size)
    for slot, contract in enumerate(index.contracts):
        if is_paused(contract, vertical, parties):
            paused.add(slot)
        if parties.buyers[contract.buyer_id].terms.test:
            test_only.add(slot)
        if slot % 512 == 511:
            yield
    return replace(
        index,
        vertical=vertical,
        parties=parties,
        paused=paused.mask(),
        test_only=test_only.mask(),
    )


def _edited(index: Index, edit: Edit, old: Contract | None, new: Contract | None) -> Steps:
    known = _known(index)
    before = layout(old, index, known) if old and edit.kind == "set" else None
    after = layout(new, index, known) if new else None
    tables = yield from _edited_tables(index, edit, before, after)
    place = after.price if after else FREE
    price = index.price
    if before is None or before.price != place:
        price = yield from index.price.edited(edit, place, len(index.contracts))
    buyers = yield from _edited_groups(index.buyer_mask, edit, new.buyer_id if new else None)
    weeks = yield from _edited_groups(index.hours, edit, after.week if after else None)
    yield
    contracts = _edited_contracts(index.contracts, edit, new)
    yield
    return replace(
        index,
        contracts=contracts,
        slot_of=index.slot_of.moved_to(contracts, old, new),
        every=(1 << len(contracts)) - 1,
        paused=edit.applied(index.paused, after is not None and after.paused),
        test_only=edit.applied(index.test_only, after is not None and after.test_only),
        buyer_mask=buyers,
        tables=tables,
        price=price,
        tested=_edited_tests(index.tested, old, new, after),
        to_test=edit.applied(index.to_test, after is not None and bool(after.tests)),
        hours=weeks,
    )


def _known(index: Index) -> dict[str, Collection[Any]]:
    known: dict[str, Collection[Any]] = {"": index.price.breaks}
    for field, table in index.tables.items():
        known[field] = table.breaks if isinstance(table, Ranges) else table.by_value
    return known


def _edited_tables(
    index: Index, edit: Edit, before: Layout | None, after: Layout | None
) -> Generator[None, None, dict[str, Table]]:
    size = len(index.contracts)
    tables = dict(index.tables)
    for field in {*tables, *(after.places if after else ())}:
        place = after.places.get(field, FREE) if after else FREE
        if before is not None and before.places.get(field, FREE) == place:
            continue
        table = tables.get(field) or _free_table(field, index)
        tables[field] = yield from table.edited(edit, place, size)
    return tables


def _free_table(field: str, index: Index) -> Table:
    """A table nobody has a criterion in yet."""
    every = index.every
    make = _table(field, index.schema)
    if make is masks.ranges:
        return Ranges(absent=every, breaks=(), masks=(every,))
    kind = Exact if make is masks.exact else Heads
    return kind(absent=every, other=every, by_value={})


def _edited_groups(
    groups: dict[Any, int], edit: Edit, member_of: Any
) -> Generator[None, None, dict[Any, int]]:
    edited: dict[Any, int] = {}
    for number, (key, mask) in enumerate(groups.items()):
        if moved := edit.applied(mask, key == member_of):
            edited[key] = moved
        if number % 64 == 63:
            yield
    if member_of is not None and member_of not in edited:
        edited[member_of] = edit.applied(0, True)
    return edited


def _edited_contracts(
    contracts: tuple[Contract, ...], edit: Edit, new: Contract | None
) -> tuple[Contract, ...]:
    middle = () if new is None else (new,)
    rest = edit.slot if edit.kind == "insert" else edit.slot + 1
    return contracts[: edit.slot] + middle + contracts[rest:]


def _edited_tests(
    tested: Shards[Tests], old: Contract | None, new: Contract | None, after: Layout | None
) -> Shards[Tests]:
    if new is not None and after is not None and after.tests:
        return tested.with_items(((new.id, after.tests),))
    contract = new or old
    return tested if contract is None else tested.with_items((), without=(contract.id,))
