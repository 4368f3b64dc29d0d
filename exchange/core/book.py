"""The book: one immutable snapshot of the market in force, compiled so that a ping needs no other
look at it. A change makes a new book that shares all that did not change; the old one serves until
the moment the new one is put in its place, so no ping sees half of a change.

`Rows` is what the store read: everything at boot, or only what a newer version changed.
`compile_book` and `edited` make a book of it; `edited` in slices, as `indexing` explains.

Closed objects stay in the book for look-ups (a post in doubt still needs its contract's policy),
but a closed contract is in no index.
"""

from collections.abc import Generator, Iterable, Mapping
from heapq import merge
from typing import Any, Final

from msgspec.structs import replace

from exchange.core import indexing
from exchange.core.criteria import BadCriterion
from exchange.core.fields import Schema
from exchange.core.filters import Index, Parties, slot_order
from exchange.core.indexing import finished
from exchange.core.model import ApiKey, Buyer, Cap, Contract, Fact, Seller, Source, Vertical
from exchange.core.money import AMOUNT_MICROS_MAX, micros_of
from exchange.core.payouts import payout_of
from exchange.core.shards import Shards
from exchange.core.source_pauses import NONE, SourcePauses
from exchange.core.terms import ContractTerms, MarketDoc, SellerTerms, SourceTerms

EDITS_MAX: Final = 24
"""More changed contracts than this in one vertical compile its index anew: an edit rewrites every
mask, which for a small index costs about 1/50 of compiling it."""

Steps = Generator[None, None, "Book"]
Switch = tuple[str, int]
"""`(scope, id)`: house, vertical, seller, source, buyer or contract; the house's id is 0."""


class Rows(Fact, frozen=True, kw_only=True):
    """Rows of the market as read from the store. `keys`, `switched_off` and `pauses` are whole
    sets, `None` when they did not change. `refused` says which rows could not be read."""

    version: int
    verticals: tuple[Vertical, ...] = ()
    sellers: tuple[Seller, ...] = ()
    sources: tuple[Source, ...] = ()
    buyers: tuple[Buyer, ...] = ()
    contracts: tuple[Contract, ...] = ()
    keys: tuple[ApiKey, ...] | None = None
    switched_off: frozenset[Switch] | None = None
    pauses: SourcePauses | None = None
    refused: tuple[str, ...] = ()


class Book(Fact, frozen=True, kw_only=True):
    """The market in force. `version` is the market version; keys, switches and pauses change
    without one.
    `refused` says in a sentence which contracts could not be compiled."""

    version: int
    verticals: dict[int, Vertical]
    vertical_by_key: dict[str, Vertical]
    sellers: dict[int, Seller]
    sources: dict[tuple[int, str], Source]
    buyers: dict[int, Buyer]
    contracts: Shards[Contract]
    keys: dict[str, ApiKey]
    schemas: dict[int, Schema]
    indexes: dict[int, Index]
    parties: Parties
    pauses: SourcePauses = NONE
    refused: tuple[str, ...] = ()

    def is_off(self, scope: str, object_id: int) -> bool:
        """Whether a switch pauses this object or the whole house."""
        off = self.parties.switched_off
        return ("house", 0) in off or (scope, object_id) in off

    def takes_from(self, seller: Seller, source: Source) -> bool:
        """Whether pings of this source are taken now: nothing of it closed or paused."""
        return not (
            seller.closed
            or source.closed
            or seller.terms.paused
            or source.terms.paused
            or self.is_off("seller", seller.id)
            or self.is_off("source", source.id)
            or self.pauses.stop(source.id, None)
        )


EMPTY: Final = Book(
    version=0,
    verticals={},
    vertical_by_key={},
    sellers={},
    sources={},
    buyers={},
    contracts=Shards(),
    keys={},
    schemas={},
    indexes={},
    parties=Parties(buyers={}, sellers={}, sources={}),
)
"""The book of a house that has no market yet."""


def compile_book(rows: Rows) -> Book:
    """The book of a whole market, at once: for boot and tests."""
    return finished(edited(EMPTY, rows))


def book_of(doc: MarketDoc, *, version: int = 1) -> Book:
    """The book of a market document that no store has seen: ids are given in its order."""
    return compile_book(rows_of(doc, version=version))


def edited(book: Book, rows: Rows) -> Steps:
    """The book after these rows, made in slices: iterate it, let the loop turn between the steps,
    and put the returned book in force."""
    verticals = {**book.verticals, **{row.id: row for row in rows.verticals}}
    buyers = {**book.buyers, **{row.id: row for row in rows.buyers}}
    sellers = {**book.sellers, **{row.id: row for row in rows.sellers}}
    contracts = book.contracts.with_items((row.id, row) for row in rows.contracts)
    yield
    sources = {**book.parties.sources, **{row.id: row for row in rows.sources}}
    parties = Parties(
        buyers=buyers,
        sellers=sellers,
        sources=sources,
        payouts={
            row.id: payout_of(sellers[row.seller_id].terms, row.terms)
            for row in sources.values()
            if row.terms.margin is not None or row.terms.payout is not None
        },
        switched_off=(
            book.parties.switched_off if rows.switched_off is None else rows.switched_off
        ),
    )
    schemas = _schemas(book, rows.verticals)
    refused: list[str] = list(rows.refused)
    indexes = dict(book.indexes)
    for vertical in verticals.values():
        changed = [row for row in rows.contracts if row.vertical_id == vertical.id]
        indexes[vertical.id] = yield from _edited_index(
            book, vertical, schemas[vertical.id], parties, changed, refused
        )
    return replace(
        book,
        version=rows.version,
        verticals=verticals,
        vertical_by_key={row.key: row for row in verticals.values() if not row.closed},
        sellers=sellers,
        sources={(row.seller_id, row.key): row for row in parties.sources.values()},
        buyers=buyers,
        contracts=contracts,
        keys=book.keys if rows.keys is None else {key.id: key for key in rows.keys},
        schemas=schemas,
        indexes=indexes,
        parties=parties,
        pauses=book.pauses if rows.pauses is None else rows.pauses,
        refused=_refused(book.refused, refused, rows.contracts),
    )


def _schemas(book: Book, changed: Iterable[Vertical]) -> dict[int, Schema]:
    schemas = dict(book.schemas)
    for vertical in changed:
        old = book.verticals.get(vertical.id)
        if old is None or old.terms.fields != vertical.terms.fields:
            schemas[vertical.id] = Schema(vertical.terms)
    return schemas


def _edited_index(
    book: Book,
    vertical: Vertical,
    schema: Schema,
    parties: Parties,
    changed: list[Contract],
    refused: list[str],
) -> Generator[None, None, Index]:
    old = book.indexes.get(vertical.id)
    if old is None or old.schema is not schema or len(changed) > EDITS_MAX:
        before = () if old is None else old.contracts
        if old is not None and old.schema is not schema:
            before = _all_open(book, vertical)
        ordered = _in_slot_order(before, changed)
        return (yield from indexing.compile_index(vertical, schema, parties, ordered, refused))
    index = yield from _with_parties(old, vertical, parties)
    for contract in changed:
        try:
            if contract.closed:
                index = yield from indexing.without_contract(index, contract.id)
            else:
                index = yield from indexing.with_contract(index, contract)
        except BadCriterion as error:
            refused.append(f"{contract.key}: {error}")
            index = yield from indexing.without_contract(index, contract.id)
    return index


def _with_parties(old: Index, vertical: Vertical, parties: Parties) -> Generator[None, None, Index]:
    """Only what bears on the contracts' bits (buyers, switches, the vertical's pause) is computed
    again; sellers and sources are looked up by the filter itself."""
    same = (
        old.parties.buyers == parties.buyers
        and old.parties.switched_off == parties.switched_off
        and old.vertical.terms.paused == vertical.terms.paused
    )
    if same:
        return replace(old, vertical=vertical, parties=parties)
    return (yield from indexing.with_parties(old, vertical, parties))


def _all_open(book: Book, vertical: Vertical) -> tuple[Contract, ...]:
    """Every open contract of a vertical, those once refused too: other fields may accept them."""
    mine = (c for c in book.contracts.values() if c.vertical_id == vertical.id and not c.closed)
    return tuple(sorted(mine, key=slot_order))


def _in_slot_order(before: Iterable[Contract], changed: Iterable[Contract]) -> Iterable[Contract]:
    """The contracts before, with the changed ones in their new places; closed ones left out."""
    new = {contract.id: contract for contract in changed}
    kept = (contract for contract in before if contract.id not in new)
    opened = sorted((c for c in new.values() if not c.closed), key=slot_order)
    return merge(kept, opened, key=slot_order)


def _refused(
    before: tuple[str, ...], now: list[str], rows: tuple[Contract, ...]
) -> tuple[str, ...]:
    touched = tuple(f"{row.key}: " for row in rows)
    return (*(text for text in before if not text.startswith(touched)), *now)


# --- from terms to facts --------------------------------------------------------------------------


def seller_of(
    seller_id: int, key: str, terms: SellerTerms, *, version: int = 1, closed: bool = False
) -> Seller:
    """A seller in force; its sources are facts of their own."""
    return Seller(
        id=seller_id,
        key=key,
        terms=terms,
        payout=payout_of(terms),
        version=version,
        closed=closed,
    )


def source_of(
    source_id: int,
    seller_id: int,
    key: str,
    terms: SourceTerms,
    *,
    version: int = 1,
    closed: bool = False,
) -> Source:
    """A source in force."""
    return Source(
        id=source_id,
        seller_id=seller_id,
        key=key,
        terms=terms,
        floor_micros=micros_of(terms.floor),
        version=version,
        closed=closed,
    )


def contract_of(
    contract_id: int,
    key: str,
    terms: ContractTerms,
    *,
    buyer: Buyer,
    vertical_id: int,
    version: int = 1,
    closed: bool = False,
) -> Contract:
    """A contract in force: money in micros, its zone its own or its buyer's."""
    return Contract(
        id=contract_id,
        key=key,
        buyer_id=buyer.id,
        vertical_id=vertical_id,
        terms=terms,
        price_micros=None if terms.price == "bid" else micros_of(terms.price),
        bid_min_micros=micros_of(terms.bid_min),
        bid_max_micros=None if terms.bid_max is None else micros_of(terms.bid_max),
        caps=tuple(_cap(index, cap) for index, cap in enumerate(terms.caps)),
        time_zone=terms.time_zone or buyer.terms.time_zone,
        prepaid=buyer.terms.prepaid,
        version=version,
        closed=closed,
    )


def _cap(index: int, terms: Any) -> Cap:
    leads = terms.leads is not None
    return Cap(
        index=index,
        unit="leads" if leads else "money",
        limit=terms.leads if leads else micros_of(terms.money, most_micros=AMOUNT_MICROS_MAX),
        per=terms.per,
        each=terms.each,
    )


def source_terms(terms: SellerTerms) -> Mapping[str, SourceTerms]:
    """A seller's sources by key, whether it wrote a list of names or a table of terms."""
    if isinstance(terms.sources, dict):
        return terms.sources
    return {name: SourceTerms() for name in terms.sources}


def rows_of(doc: MarketDoc, *, version: int = 1) -> Rows:
    """The rows of a document: verticals, sources and contracts numbered from 1 in its order,
    parties from 2 (1 is the house), sellers before buyers."""
    verticals = {
        key: Vertical(id=n, key=key, terms=terms)
        for n, (key, terms) in enumerate(doc.verticals.items(), 1)
    }
    sellers = tuple(
        seller_of(n, key, terms) for n, (key, terms) in enumerate(doc.sellers.items(), 2)
    )
    feeds = [(seller, item) for seller in sellers for item in source_terms(seller.terms).items()]
    buyers = {
        key: Buyer(id=n, key=key, terms=buyer)
        for n, (key, buyer) in enumerate(doc.buyers.items(), 2 + len(sellers))
    }
    return Rows(
        version=version,
        verticals=tuple(verticals.values()),
        sellers=sellers,
        sources=tuple(
            source_of(n, seller.id, key, terms) for n, (seller, (key, terms)) in enumerate(feeds, 1)
        ),
        buyers=tuple(buyers.values()),
        contracts=tuple(
            contract_of(
                n,
                key,
                terms,
                buyer=buyers[terms.buyer],
                vertical_id=verticals[terms.vertical].id,
            )
            for n, (key, terms) in enumerate(doc.contracts.items(), 1)
        ),
        keys=(),
        switched_off=frozenset(),
    )
