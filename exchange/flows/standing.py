"""What this process knows at this moment: the book in force, who may be asked, and how to reach
them.

A contract that is full, out of hours, unhealthy or braked is a cleared bit here, never a trip to
Valkey on the path of a ping. The bits are read again once a second (`refresh`), and at once when a
post learns something (`note_full`, `note_doubt`, `note_answer`).

Every set of bits gets a `mask_id`, which the records carry, so that `explain` can re-run the filter
as it stood. `take_masks` hands new ones to whoever writes them: the journal, before the records.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, Protocol

import msgspec

from exchange.core.auction import Factors, price_most
from exchange.core.book import Book
from exchange.core.brake import Doubts, is_braked, trial_is_due
from exchange.core.caps import Window
from exchange.core.filters import Index, buyers_mask, closed_mask
from exchange.core.model import Buyer, Contract, Ping
from exchange.core.reasons import NonBid
from exchange.core.source_pauses import Feed
from exchange.core.wallets import wallet_currency
from exchange.effects.buyers import Buyers, Endpoint

KINDS = ("ping", "post", "status")
"""What a buyer has an endpoint for; each is kept under `ID.KIND`."""

Gates = tuple[tuple[NonBid, int], ...]
WHOLE = Factors(by_contract={}, usual=1_000_000)
"""Nothing is known to be lost: bids rank by payout."""


class Seat(msgspec.Struct, frozen=True):
    """A contract's place in an auction: how to ask it, with what of its request prebuilt, the most
    it can bid (`None`: unknown), and whether it is told the least price that can win."""

    contract: Contract
    buyer: Buyer
    endpoint: Endpoint
    dialect: ModuleType
    prefix: bytes
    price_most: int | None
    shows_floor: bool = False


class Secrets(Protocol):
    """Where buyers' secrets are read: by the name the market file gives."""

    def __call__(self, name: str) -> bytes | None: ...


class FullWindow(msgspec.Struct, frozen=True):
    """A cap window found full: whose, and the segment it is full for (`each`, value); or a wallet
    with nothing left, by its `currency`."""

    contract_id: int
    buyer_id: int
    win: str
    segment: tuple[str, Any] | None
    currency: str | None = None

    @classmethod
    def of(cls, contract: Contract, window: Window, fields: Mapping[str, Any]) -> "FullWindow":
        """The window of a contract, as a lead or ping with these fields found it."""
        currency = wallet_currency(window.win)
        each = None if currency else contract.caps[window.cap_index].each
        return cls(
            contract_id=contract.id,
            buyer_id=contract.buyer_id,
            win=window.win,
            segment=None if each is None else (each, fields.get(each)),
            currency=currency,
        )


class MaskDoc(msgspec.Struct, frozen=True):
    """A set of cleared bits as it is kept for `explain`: reason code -> hex mask over the slots of
    the vertical's index in `book_version`, per full segment its own mask, and per source (or
    sub_id) that is paused at buyers the mask of theirs."""

    mask_id: int
    vertical_id: int
    book_version: int
    gates: dict[str, str]
    segments: list[tuple[str, Any, str]]
    sources: list[tuple[int, str | None, str]] = []


class Standing:
    """The state of one worker. Not shared: every worker keeps its own and learns from the same
    places."""

    def __init__(
        self,
        book: Book,
        *,
        buyers: Buyers,
        dialects: Mapping[str, ModuleType],
        brake_count: int,
        brake_s: int,
        trial_s: int,
        worker_number: int,
        masks_max: int = 10_000,
    ) -> None:
        """`masks_max`: how many masks wait to be written while the database is away; then the
        oldest is dropped, and `explain` cannot re-run the filter of its pings."""
        self.book = book
        self.adopted_at_ms = 0
        self._buyers = buyers
        self._dialects = dialects
        self._brake_count, self._brake_s, self._trial_s = brake_count, brake_s, trial_s
        self._seats: dict[int, Seat] = {}
        self._reached: set[int] = set()
        self._full: dict[tuple[int, str], FullWindow] = {}
        self._doubts: dict[int, Doubts] = {}
        self._hours: dict[int, tuple[Index, int, int]] = {}
        self._gates: dict[int, Gates] = {}
        self._segments: dict[int, dict[str, dict[Any, int]]] = {}
        self._paused: dict[int, dict[Feed, int]] = {}
        self._factors: Mapping[tuple[int, int], Factors] = {}
        self._mask_ids: dict[int, int] = {}
        self._saved: dict[int, tuple[Any, ...]] = {}
        self._worker_number, self._masks_max = worker_number, masks_max
        self.masks_to_save: list[MaskDoc] = []

    # --- asking ---------------------------------------------------------------------------------

    def seat(self, contract: Contract) -> Seat:
        """How to ask this contract; built at first use and again when the market changed it."""
        seat = self._seats.get(contract.id)
        buyer = self.book.buyers[contract.buyer_id]
        if seat is None or seat.contract is not contract or seat.buyer is not buyer:
            seat = self._seats[contract.id] = self._seated(contract, buyer)
        return seat

    def seats(self, contracts: Sequence[Contract]) -> list[Seat]:
        """How to ask each of these."""
        known, buyers = self._seats, self.book.buyers
        seats = []
        for contract in contracts:
            seat = known.get(contract.id)
            if (
                seat is None
                or seat.contract is not contract
                or seat.buyer is not buyers[contract.buyer_id]
            ):
                seat = self.seat(contract)
            seats.append(seat)
        return seats

    def _seated(self, contract: Contract, buyer: Buyer) -> Seat:
        dialect = self._dialects[buyer.terms.dialect]
        return Seat(
            contract=contract,
            buyer=buyer,
            endpoint=self.endpoint(buyer, "ping"),
            dialect=dialect,
            prefix=dialect.ping_prefix(contract.key),
            shows_floor=contract.terms.show_floor,
            price_most=price_most(contract),
        )

    def endpoint(self, buyer: Buyer, kind: str) -> Endpoint:
        """The buyer's endpoint for `ping`, `post` or `status`."""
        terms = buyer.terms
        url = {"ping": terms.ping_url, "post": terms.post_url, "status": terms.status_url}[kind]
        if url is None:
            raise LookupError(f"buyer {buyer.key} has no {kind} url")
        self._reached.add(buyer.id)
        return self._buyers.endpoint(
            key=f"{buyer.id}.{kind}",
            url=url,
            headers=terms.headers,
            in_flight_max=terms.in_flight_max,
            tls_ca=terms.tls_ca,
            pool="ping" if kind == "ping" else "post",
        )

    def dialect(self, buyer: Buyer) -> ModuleType:
        """How this buyer speaks."""
        return self._dialects[buyer.terms.dialect]

    # --- the cleared bits -------------------------------------------------------------------------

    def gates(self, ping: Ping) -> Gates:
        """The contracts nobody needs to ask now, as one mask per reason."""
        gates = self._gates.get(ping.vertical_id, ())
        if self._paused:
            gates += self._paused_gate(ping)
        segments = self._segments.get(ping.vertical_id)
        if not segments:
            return gates
        mask = 0
        for field, by_value in segments.items():
            mask |= by_value.get(ping.fields.get(field), 0)
        return (*gates, (NonBid.CAP_FULL, mask)) if mask else gates

    def _paused_gate(self, ping: Ping) -> Gates:
        """The contracts of buyers at which this ping's source, or its sub_id, is paused."""
        by_feed = self._paused.get(ping.vertical_id, {})
        mask = by_feed.get((ping.source_id, None), 0)
        if ping.sub_id is not None:
            mask |= by_feed.get((ping.source_id, ping.sub_id), 0)
        return ((NonBid.SOURCE_PAUSED_HERE, mask),) if mask else ()

    def mask_id(self, vertical_id: int) -> int:
        """The id of the bits in force for this vertical."""
        return self._mask_ids.get(vertical_id, 0)

    def take_masks(self) -> list[MaskDoc]:
        """The masks that are not saved yet, for whoever saves them now."""
        masks, self.masks_to_save = self.masks_to_save, []
        return masks

    def adopt(self, book: Book, now: datetime) -> None:
        """Put a new book in force between two pings. Seats are rebuilt as they are asked for; those
        of contracts that left the market are given up, and so are their buyers' connections."""
        self.book = book
        self._gave_up()
        self.adopted_at_ms = int(now.timestamp() * 1000)
        self.refresh(now)

    def _gave_up(self) -> None:
        contracts, buyers = self.book.contracts, self.book.buyers
        gone = {
            each for each in self._reached if (buyer := buyers.get(each)) is None or buyer.closed
        }
        for seat in tuple(self._seats.values()):
            contract = contracts.get(seat.contract.id)
            if contract is None or contract.closed or contract.buyer_id in gone:
                del self._seats[seat.contract.id]
        self._buyers.retire(f"{buyer_id}.{kind}" for buyer_id in gone for kind in KINDS)
        self._reached -= gone

    def refresh(self, now: datetime) -> None:
        """Compute the bits again for every vertical; cheap when nothing changed."""
        self._refresh(self.book.indexes, now)

    def _refresh(self, verticals: Iterable[int], now: datetime) -> None:
        resting = [b for b in self._asked_buyers() if not self._seats_healthy(b)]
        braked = [b for b in self._doubts if self._shut(b, now)]
        for vertical_id in verticals:
            index = self.book.indexes[vertical_id]
            full, segments = self._full_masks(index)
            gates = (
                (NonBid.BUYER_BRAKED, buyers_mask(index, braked)),
                (NonBid.OUT_OF_HOURS, self._closed(vertical_id, index, now)),
                (NonBid.CAP_FULL, full),
                (NonBid.OUT_OF_CREDIT, buyers_mask(index, self._out_of_credit(index))),
                (NonBid.UNHEALTHY, buyers_mask(index, resting)),
            )
            self._gates[vertical_id] = tuple(gate for gate in gates if gate[1])
            self._segments[vertical_id] = segments
            self._note_paused(vertical_id, index)
            self._note_mask(vertical_id, now)

    def _note_paused(self, vertical_id: int, index: Index) -> None:
        """`_paused` stays empty, and costs a ping nothing, while no source is paused at a buyer."""
        masks = {
            feed: mask
            for feed, buyers in self.book.pauses.at_buyers.items()
            if (mask := buyers_mask(index, buyers))
        }
        if masks:
            self._paused[vertical_id] = masks
        else:
            self._paused.pop(vertical_id, None)

    def _asked_buyers(self) -> set[int]:
        return {seat.buyer.id for seat in self._seats.values()}

    def _seats_healthy(self, buyer_id: int) -> bool:
        return self._buyers.is_healthy(f"{buyer_id}.ping")

    def _closed(self, vertical_id: int, index: Index, now: datetime) -> int:
        minute = int(now.timestamp()) // 60
        known = self._hours.get(vertical_id)
        if known is None or known[0] is not index or known[1] != minute:
            known = self._hours[vertical_id] = (index, minute, closed_mask(index, now))
        return known[2]

    def _out_of_credit(self, index: Index) -> list[int]:
        """The buyers with nothing left in the wallet of this vertical's currency."""
        currency = index.vertical.terms.currency
        return [full.buyer_id for full in self._full.values() if full.currency == currency]

    def _full_masks(self, index: Index) -> tuple[int, dict[str, dict[Any, int]]]:
        whole = 0
        segments: dict[str, dict[Any, int]] = {}
        for full in self._full.values():
            slot = index.slot_of.get(full.contract_id)
            if slot is None or full.currency is not None:
                continue
            if full.segment is None:
                whole |= 1 << slot
            else:
                by_value = segments.setdefault(full.segment[0], {})
                by_value[full.segment[1]] = by_value.get(full.segment[1], 0) | 1 << slot
        return whole, segments

    def _note_mask(self, vertical_id: int, now: datetime) -> None:
        """A new id when the bits differ from those last recorded (or the slots were renumbered)."""
        segments = [
            (field, value, f"{mask:x}")
            for field, by_value in sorted(self._segments[vertical_id].items())
            for value, mask in by_value.items()
        ]
        gates = {str(int(reason)): f"{mask:x}" for reason, mask in self._gates[vertical_id]}
        paused = self._paused.get(vertical_id, {})
        sources = [(*feed, f"{mask:x}") for feed, mask in paused.items()]
        state = (self.book.version, gates, segments, sources)
        if self._saved.get(vertical_id) == state:
            return
        self._saved[vertical_id] = state
        mask_id = self._new_mask_id(now)
        self._mask_ids[vertical_id] = mask_id
        self.masks_to_save.append(
            MaskDoc(
                mask_id=mask_id,
                vertical_id=vertical_id,
                book_version=self.book.version,
                gates=gates,
                segments=segments,
                sources=sources,
            )
        )
        del self.masks_to_save[: -self._masks_max]

    def _new_mask_id(self, now: datetime) -> int:
        """Unique without asking anyone: milliseconds, the worker's number in the low ten bits.
        Below 2^53, for it stands in custody events."""
        at_ms = int(now.timestamp() * 1000)
        previous = max(self._mask_ids.values(), default=0) >> 10
        return max(at_ms, previous + 1) << 10 | (self._worker_number & 1023)

    # --- learning ---------------------------------------------------------------------------------

    def note_full(self, full: FullWindow, now: datetime) -> None:
        """A reserve answered that this window is full: bits of its own vertical alone change, those
        of a wallet in all."""
        self._full[(full.buyer_id, full.win)] = full
        contract = self.book.contracts.get(full.contract_id)
        if full.currency is not None:
            self.refresh(now)
        elif contract is not None and contract.vertical_id in self.book.indexes:
            self._refresh((contract.vertical_id,), now)

    def full_windows(self) -> Iterable[FullWindow]:
        """The windows thought full, to be read again."""
        return tuple(self._full.values())

    def forget_full(self, full: FullWindow) -> None:
        """The window has room again, or its period is over."""
        self._full.pop((full.buyer_id, full.win), None)

    @property
    def needs_factors(self) -> bool:
        """Whether any vertical ranks by expected value."""
        return any(one.terms.ranking == "expected_value" for one in self.book.verticals.values())

    def factors(self, ping: Ping) -> Factors:
        """What remains of bids for this ping's source, as last learned."""
        known = self._factors.get((ping.vertical_id, ping.source_id))
        return known or self._factors.get((ping.vertical_id, 0), WHOLE)

    def learn_factors(self, found: Iterable[tuple[int, int, int, int]]) -> None:
        """The factors of every source (vertical, source, contract, millionths), at once: an auction
        ranks by the old or by the new."""
        usual: dict[int, int] = {}
        by_source: dict[tuple[int, int], dict[int, int]] = {}
        for vertical_id, source_id, contract_id, millionths in found:
            if source_id:
                by_source.setdefault((vertical_id, source_id), {})[contract_id] = millionths
            else:
                usual[vertical_id] = millionths
        self._factors = {
            (vertical_id, 0): Factors(by_contract={}, usual=millionths)
            for vertical_id, millionths in usual.items()
        } | {
            key: Factors(by_contract=contracts, usual=usual.get(key[0], WHOLE.usual))
            for key, contracts in by_source.items()
        }

    def doubts(self, buyer_id: int) -> Doubts:
        """What is known of this buyer's unanswered posts."""
        return self._doubts.get(buyer_id, Doubts())

    def learn_doubts(self, doubts: Mapping[int, Doubts]) -> None:
        """The doubts of all buyers, as the database has them (every worker's posts)."""
        self._doubts = dict(doubts)

    def note_doubt(self, buyer_id: int, now: datetime) -> None:
        """A post to this buyer was sent and never clearly answered."""
        at_ms = int(now.timestamp() * 1000)
        self._doubts[buyer_id] = self.doubts(buyer_id).with_unknown(at_ms)
        self.refresh(now)

    def note_answer(self, buyer_id: int, now: datetime) -> None:
        """The buyer answered a post clearly: if it was braked, it is open again."""
        if self.is_braked(buyer_id, now):
            self._doubts[buyer_id] = self.doubts(buyer_id).reopened(int(now.timestamp() * 1000))
            self.refresh(now)

    def is_braked(self, buyer_id: int, now: datetime) -> bool:
        """Whether posting to this buyer has stopped (a trial may still be due)."""
        if buyer_id not in self._doubts:
            return False
        return is_braked(
            self._doubts[buyer_id],
            now_ms=int(now.timestamp() * 1000),
            count=self._brake_count,
            within_s=self._brake_s,
        )

    def trial_is_due(self, buyer_id: int, now: datetime) -> bool:
        """Whether the braked buyer may be tried with one lead."""
        return trial_is_due(
            self.doubts(buyer_id), now_ms=int(now.timestamp() * 1000), after_s=self._trial_s
        )

    def _shut(self, buyer_id: int, now: datetime) -> bool:
        return self.is_braked(buyer_id, now) and not self.trial_is_due(buyer_id, now)
