"""The trade of a day added up: what pings and answers come to, by source and by contract.

A tally only ever adds, so a day may be folded in any pieces and in any order, and comes to the
same. Journal rows are told apart cheaply: of the packed bids only what is counted is decoded.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

import msgspec

from exchange.core.reasons import NonBid

NO_CURRENCY: Final = "ZZZ"
"""No currency has this code: of pings whose vertical's terms are not known."""
_NO_BIDS: Final = frozenset({int(NonBid.NO_BID), int(NonBid.DUPLICATE)})
_TIMEOUT: Final = int(NonBid.TIMEOUT)
_BELOW_FLOOR: Final = int(NonBid.BELOW_FLOOR)
_EARLY_CLOSED: Final = int(NonBid.EARLY_CLOSED)


class PackedAnswer(msgspec.Struct, array_like=True, gc=False):
    """The part of a `ContractAnswer` that is counted."""

    contract_id: int
    buyer_id: int
    non_bid: int | None = None
    price_micros: int | None = None
    buyer_ref: msgspec.Raw = msgspec.Raw(b"")
    waited_ms: float = 0.0


class PackedCandidate(msgspec.Struct, gc=False):
    """The part of a `Candidate` that is counted."""

    contract_id: int


class PackedBids(msgspec.Struct, gc=False):
    """A journal row's bids."""

    answers: list[PackedAnswer] = []
    ranking: list[PackedCandidate] = []


class Journaled(NamedTuple):
    """A journal row, as far as it is counted; `currency` is its vertical's when it came."""

    seller_id: int
    source_id: int
    vertical_id: int
    currency: str
    has_offer: bool
    payout_micros: int
    is_late: bool
    bids: bytes


class PingKey(NamedTuple):
    seller_id: int
    source_id: int
    vertical_id: int
    currency: str


class TradeKey(NamedTuple):
    seller_id: int
    source_id: int
    vertical_id: int
    buyer_id: int
    contract_id: int
    currency: str


class PingSums(msgspec.Struct, gc=False):
    """The columns of `ping_daily` that pings add to."""

    pings: int = 0
    offers: int = 0
    offered_micros: int = 0
    late: int = 0


class BidSums(msgspec.Struct, gc=False):
    """The columns of `trade_daily` that answers add to. What is no bid, no refusal, no time-out and
    no error was cut short, for the auction had been decided."""

    invited: int = 0
    bids: int = 0
    bid_micros: int = 0
    below_floor: int = 0
    no_bids: int = 0
    timeouts: int = 0
    errors: int = 0
    wins: int = 0
    waited_ms: float = 0.0

    def add(self, answer: PackedAnswer) -> None:
        """One more invitation and how it ended."""
        self.invited += 1
        self.waited_ms += answer.waited_ms
        code = answer.non_bid
        if code is None or code == _BELOW_FLOOR:
            self.bids += 1
            self.bid_micros += answer.price_micros or 0
            self.below_floor += code is not None
        elif code in _NO_BIDS:
            self.no_bids += 1
        elif code == _TIMEOUT:
            self.timeouts += 1
        elif code != _EARLY_CLOSED:
            self.errors += 1


class Folded:
    """Journal rows of one day, added up."""

    def __init__(self) -> None:
        self.pings: dict[PingKey, PingSums] = {}
        self.bids: dict[TradeKey, BidSums] = {}
        self._decode = msgspec.json.Decoder(PackedBids).decode

    def add(self, rows: Iterable[Journaled]) -> None:
        """Add these rows."""
        for row in rows:
            key = PingKey(row.seller_id, row.source_id, row.vertical_id, row.currency)
            sums = self.pings.get(key)
            if sums is None:
                sums = self.pings[key] = PingSums()
            sums.pings += 1
            sums.late += row.is_late
            packed = self._decode(row.bids)
            for answer in packed.answers:
                self._bids(key, answer.buyer_id, answer.contract_id).add(answer)
            if row.has_offer:
                sums.offers += 1
                sums.offered_micros += row.payout_micros
                self._won(key, packed)

    def _won(self, key: PingKey, packed: PackedBids) -> None:
        """The first of the ranking stands behind the offer; the rest are there if it falls."""
        best = packed.ranking[0].contract_id if packed.ranking else None
        for answer in packed.answers:
            if answer.contract_id == best:
                self._bids(key, answer.buyer_id, best).wins += 1

    def _bids(self, key: PingKey, buyer_id: int, contract_id: int) -> BidSums:
        found = TradeKey(key[0], key[1], key[2], buyer_id, contract_id, key[3])
        sums = self.bids.get(found)
        if sums is None:
            sums = self.bids[found] = BidSums()
        return sums


class Currencies:
    """The currency of a vertical at a market version: that of its newest terms up to then."""

    def __init__(self, versions: Iterable[tuple[int, int, str | None]]) -> None:
        """`versions`: vertical, market version, currency."""
        self._by_vertical: dict[int, list[tuple[int, str]]] = {}
        for vertical_id, version, currency in sorted(versions, key=lambda one: one[:2]):
            said = (version, currency or NO_CURRENCY)
            self._by_vertical.setdefault(vertical_id, []).append(said)
        self._known: dict[tuple[int, int], str] = {}

    def of(self, vertical_id: int, version: int) -> str:
        """The currency; `NO_CURRENCY` when the vertical's terms are not known."""
        known = self._known.get((vertical_id, version))
        if known is None:
            found = [c for v, c in self._by_vertical.get(vertical_id, ()) if v <= version]
            known = self._known[vertical_id, version] = found[-1] if found else NO_CURRENCY
        return known


def slices(
    since: datetime, until: datetime, span: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """The time between, in pieces of at most `span` that cross no UTC midnight."""
    while since < until:
        midnight = datetime.combine(since.date() + timedelta(days=1), time(), since.tzinfo)
        end = min(since + span, midnight, until)
        yield since, end
        since = end


def days(first: date, last: date) -> tuple[date, ...]:
    """Every day, both ends included."""
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def facts_gone(facts: Mapping[str, int], tally: Mapping[str, int]) -> tuple[str, ...]:
    """What a day's tally counts and its facts have nothing of any more: their partition was dropped
    for its age, and the tally is all that is left."""
    return tuple(name for name, count in facts.items() if not count and tally.get(name, 0))


def wrong_sums(facts: Mapping[str, int], tally: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """What a day's facts count and its tally counts, where they differ."""
    return {
        name: (count, tally.get(name, 0))
        for name, count in facts.items()
        if count != tally.get(name, 0)
    }
