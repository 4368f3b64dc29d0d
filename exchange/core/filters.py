"""Whom to ask: contracts' criteria compiled to bitmaps, one `Index` per vertical.

A contract is a bit. Its slot is its place in (tier, priority, id) order, so the lowest set bits are
those to invite when too many are eligible. A ping is matched by looking up one mask per field that
any contract speaks of and AND-ing them: a few microseconds for a thousand contracts, whatever they
say. What no mask says exactly (ZIP lists, regexes) is tested on the survivors.

`invite` gives one mask per reason for those not asked, never a list of reasons: a list of a
thousand costs four hundred microseconds, the masks two. `why_not` turns them into a reason per
contract, for `explain`.

Reasons are told in the order of the list in `reasons.py`, with one exception: a criterion tested
only on the survivors comes after all masks. `why_not` keeps the order without exception.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from exchange.core import hours, masks
from exchange.core.criteria import PARTY_FIELDS, BadCriterion, Test, test_of
from exchange.core.fields import Schema
from exchange.core.masks import Table, mask_of, slots_of
from exchange.core.model import (
    Buyer,
    Contract,
    Fact,
    Payout,
    Ping,
    Seller,
    Source,
    Value,
    Vertical,
)
from exchange.core.payouts import PLAIN, least_price
from exchange.core.reasons import NonBid
from exchange.core.shards import Shards
from exchange.core.terms import Criterion

Gate = tuple[NonBid, int]
"""A reason and the contracts it clears, as the process knows them (full, resting, braked ...)."""
Tests = tuple[tuple[str, Test], ...]

_PAUSED, _UNFIT, _UNWANTED = NonBid.PAUSED, NonBid.OUT_OF_CRITERIA, NonBid.SOURCE_BLOCKED
_TEST_ONLY, _BELOW, _EXCLUDED = (
    NonBid.TEST_ONLY,
    NonBid.PRICE_BELOW_FLOOR,
    NonBid.CONSENT_EXCLUDES,
)
"""Named once: in Python 3.11 a member taken from its enum costs as much as a set of contracts."""


class Parties(Fact, frozen=True, kw_only=True):
    """What the filter must know of the rest of the market. Shared by all indexes of a book."""

    buyers: Mapping[int, Buyer]
    sellers: Mapping[int, Seller]
    sources: Mapping[int, Source]
    payouts: Mapping[int, Payout] = {}  # of sources with terms of their own
    switched_off: frozenset[tuple[str, int]] = frozenset()

    def payout(self, seller_id: int, source_id: int) -> Payout:
        """The terms by which leads of this source are paid: its own, else its seller's."""
        own = self.payouts.get(source_id)
        if own is not None:
            return own
        seller = self.sellers.get(seller_id)
        return seller.payout if seller is not None else PLAIN


class Index(Fact, frozen=True, kw_only=True):
    """The contracts of one vertical, compiled. Immutable; `indexing` makes one and the next.

    `contracts` is by slot. `tables` has one table per field some contract speaks of. `tested` has
    the tests no table says exactly, by contract id, and `to_test` the slots that have any. `hours`
    has the slots that share one week and zone.
    """

    vertical: Vertical
    schema: Schema
    parties: Parties
    contracts: tuple[Contract, ...]
    slot_of: "SlotOf"
    every: int
    paused: int
    test_only: int
    buyer_mask: dict[int, int]
    tables: dict[str, Table]
    price: masks.Ranges
    tested: Shards[Tests]
    to_test: int
    hours: dict[tuple[hours.Week, str], int]


class SlotOf(Mapping[int, int]):
    """Contract id -> slot, found by halving (about 4 us): a table would have to be renumbered
    whenever a contract comes to lie between others, which at 100,000 takes tens of ms."""

    __slots__ = ("_by_id", "_contracts")

    def __init__(self, contracts: tuple[Contract, ...], by_id: Shards[Contract]) -> None:
        self._contracts, self._by_id = contracts, by_id

    def __getitem__(self, contract_id: int) -> int:
        wanted = slot_order(self._by_id[contract_id])
        return bisect_left(self._contracts, wanted, key=slot_order)

    def __iter__(self) -> Iterator[int]:
        return (contract.id for contract in self._contracts)

    def __len__(self) -> int:
        return len(self._contracts)

    def moved_to(
        self, contracts: tuple[Contract, ...], old: Contract | None, new: Contract | None
    ) -> "SlotOf":
        """The same for the contracts after an edit of one of them."""
        gone = () if old is None else (old.id,)
        come = () if new is None else ((new.id, new),)
        by_id = self._by_id.with_items((), without=gone).with_items(come)
        return SlotOf(contracts, by_id)


def slot_order(contract: Contract) -> tuple[int, int, int]:
    """What the slots are numbered by."""
    return contract.terms.tier, contract.terms.priority, contract.id


class Invited(Fact, frozen=True, kw_only=True, gc=False):
    """Whom to ask, best slots first; how many were eligible (those beyond the most that are invited
    count untested); who was not asked, a mask a reason."""

    contracts: tuple[Contract, ...]
    eligible: int
    masks: dict[NonBid, int]


def invite(
    ping: Ping, index: Index, *, gates: Sequence[Gate], at: datetime, invited_max: int
) -> Invited:
    """The contracts to ask about a ping. `gates` are cleared contracts by reason, over this index's
    slots, opening hours among them (`closed_mask`, at the same `at`)."""
    told: dict[NonBid, int] = {}
    alive = _cleared(index.every, (*gates, *_own_gates(ping, index)), told)
    if alive & index.to_test:
        alive = _cleared(alive, _failed_of_first(ping, index, alive, invited_max), told)
    eligible = alive.bit_count()
    slots = slots_of(alive, invited_max)
    if eligible > len(slots):
        rest = alive >> (slots[-1] + 1) << (slots[-1] + 1) if slots else alive
        told[NonBid.NOT_INVITED] = rest
    contracts = index.contracts
    return Invited(
        contracts=tuple([contracts[slot] for slot in slots]), eligible=eligible, masks=told
    )


def nobody(index: Index, reason: NonBid) -> Invited:
    """No contract is asked, all for one reason."""
    return Invited(contracts=(), eligible=0, masks={reason: index.every})


def buyers_mask(index: Index, buyer_ids: Iterable[int]) -> int:
    """All contracts of these buyers."""
    mask = 0
    for buyer_id in buyer_ids:
        mask |= index.buyer_mask.get(buyer_id, 0)
    return mask


def why_not(
    ping: Ping, index: Index, *, gates: Sequence[Gate], at: datetime, invited_max: int
) -> dict[int, NonBid]:
    """The reason of every contract that was not asked, by contract id: the first in the order of
    the list. Slow (every contract is tested in full)."""
    failed = _failed(ping, index, index.to_test)
    strict = invite(ping, index, gates=(*gates, *failed), at=at, invited_max=invited_max)
    return {
        index.contracts[slot].id: reason
        for reason, mask in strict.masks.items()
        for slot in slots_of(mask)
    }


def closed_mask(index: Index, at: datetime) -> int:
    """The contracts that do not buy at this hour. Changes at most once a minute."""
    mask = 0
    for (week, zone), members in index.hours.items():
        if not hours.is_open(week, zone, at):
            mask |= members
    return mask


# --- a ping against the masks ---------------------------------------------------------------------


def _cleared(alive: int, gates: Sequence[Gate], told: dict[NonBid, int]) -> int:
    """`alive` less every gate, in the order of the reasons; what each took is noted in `told`."""
    for reason, mask in sorted(gates):
        if hit := alive & mask:
            alive ^= hit
            told[reason] = told.get(reason, 0) | hit
    return alive


def _own_gates(ping: Ping, index: Index) -> list[Gate]:
    every, fields = index.every, ping.fields
    fits, wanted = every, every
    for field, table in index.tables.items():
        if field in PARTY_FIELDS:
            wanted &= table.accepts(_party_value(field, ping, index))
        else:
            fits &= table.accepts(fields.get(field))
    unfit_for_test = every ^ index.test_only if ping.test else index.test_only
    gates = [(_UNFIT, every ^ fits)]
    if index.paused:
        gates.append((_PAUSED, index.paused))
    if wanted != every:
        gates.append((_UNWANTED, every ^ wanted))
    if unfit_for_test:
        gates.append((_TEST_ONLY, unfit_for_test))
    terms = index.parties.payout(ping.seller_id, ping.source_id)
    if ping.floor_micros > 0 or terms.fixed_micros is not None:
        gates.append((_BELOW, every ^ _affordable(ping, terms, index)))
    if ping.consent is not None and ping.consent.buyers:
        gates.append((_EXCLUDED, every ^ _named(ping.consent.buyers, index)))
    return gates


def _party_value(field: str, ping: Ping, index: Index) -> Value | None:
    if field == "sub_id":
        return ping.sub_id
    party = (
        index.parties.sellers.get(ping.seller_id)
        if field == "seller"
        else index.parties.sources.get(ping.source_id)
    )
    return party.key if party else None


def _affordable(ping: Ping, terms: Payout, index: Index) -> int:
    price = least_price(ping.floor_micros, terms)
    return index.price.masks[-1] if price is None else index.price.accepts(price)


def _named(names: Sequence[str], index: Index) -> int:
    wanted = {name.casefold() for name in names}
    mask = 0
    for buyer_id, members in index.buyer_mask.items():
        buyer = index.parties.buyers[buyer_id]
        if buyer.key.casefold() in wanted or buyer.terms.name.casefold() in wanted:
            mask |= members
    return mask


def _failed_of_first(ping: Ping, index: Index, alive: int, wanted: int) -> list[Gate]:
    """As `_failed`, of the lowest slots until `wanted` of them pass: whoever comes behind is not
    invited, whatever a test would say."""
    failed: list[Gate] = []
    while alive.bit_count() > wanted > 0:
        beyond = slots_of(alive, wanted)[-1] + 1
        behind = alive >> beyond << beyond
        gates = _failed(ping, index, (alive ^ behind) & index.to_test)
        failed += gates
        wanted -= ((alive ^ behind) & ~gates[0][1] & ~gates[1][1]).bit_count()
        alive = behind
    if wanted > 0:
        failed += _failed(ping, index, alive & index.to_test)
    return failed


def _failed(ping: Ping, index: Index, to_test: int) -> tuple[Gate, ...]:
    """The contracts of a mask that fail a test no table says exactly."""
    unfit: list[int] = []
    unwanted: list[int] = []
    contracts, tested, fields = index.contracts, index.tested, ping.fields
    for slot in slots_of(to_test):
        for field, test in tested[contracts[slot].id]:
            if field in PARTY_FIELDS:
                if not test.met(_party_value(field, ping, index)):
                    unwanted.append(slot)
            elif not test.met(fields.get(field)):
                unfit.append(slot)
    return (
        (_UNFIT, mask_of(unfit)),
        (_UNWANTED, mask_of(unwanted)),
    )


# --- criteria at the post -------------------------------------------------------------------------


def criteria_after_ping(contract: Contract, schema: Schema) -> tuple[str, ...]:
    """The fields of a contract's criteria that no ping carries: they are tested at the post."""
    known = schema.pingable.union(PARTY_FIELDS)
    return tuple(field for field in contract.terms.where if field not in known)


def meets(contract: Contract, lead_fields: Mapping[str, Value]) -> bool:
    """Whether a full record meets a contract's criteria (those on who sent it aside). A criterion
    that cannot be read is not met."""
    return all(
        _is_met(criterion, lead_fields.get(field))
        for field, criterion in contract.terms.where.items()
        if field not in PARTY_FIELDS
    )


def _is_met(criterion: Criterion, value: Value | None) -> bool:
    if value is None:
        return isinstance(criterion, Mapping) and set(criterion) == {"not"}
    kind = {bool: "bool", int: "int", str: "code"}.get(type(value), "date")
    try:
        return test_of(criterion, kind).met(value)
    except BadCriterion:
        return False
