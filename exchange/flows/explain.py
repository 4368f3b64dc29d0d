"""Explaining one ping or lead: gathers what was kept, runs the filter again on the book and the
cleared bits of that moment, and tells it as a `Story`.

The journal may have lost the ping's row in a crash; then what the lead carries of its ping stands
in, and the story says so.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from exchange.core.book import Book
from exchange.core.caps import Window, resets_at
from exchange.core.filters import Gate, closed_mask, why_not
from exchange.core.material import AttemptFacts, Heard, Material, Used
from exchange.core.model import (
    Contract,
    ContractAnswer,
    Fact,
    Offer,
    Ping,
    PingConsent,
    Value,
    is_id,
)
from exchange.core.reasons import NonBid, Reason
from exchange.core.story import Story, story_of
from exchange.core.wallets import WALLET_INDEX, is_counted, sale_windows
from exchange.effects.caps import Caps
from exchange.effects.clock import Clock
from exchange.effects.stories import Bids, LeadKept, Mask, Stories

CAPS_TOLD_MAX = 20
"""Contracts whose caps are told: the ranked ones and those that were full; a page has an end."""
_FULL = frozenset({NonBid.CAP_FULL, NonBid.OUT_OF_CREDIT})


class NoSuchStory(Fact, frozen=True, kw_only=True):
    """Neither a ping nor a lead of this id was kept."""

    id: str


class Explain:
    """Tells stories. `caps` may be `None` where Valkey is not at hand; then no usage is told."""

    def __init__(
        self,
        *,
        stories: Stories,
        load_book: Callable[[int], Awaitable[Book]],
        caps: Caps | None,
        clock: Clock,
        invited_max: int,
    ) -> None:
        self._stories, self._load_book, self._caps = stories, load_book, caps
        self._clock, self._invited_max = clock, invited_max

    async def story(self, ping_or_lead_id: str) -> Story | NoSuchStory:
        """The whole story of a ping and the lead that came of it (they share their id, and it is
        that of their trace)."""
        id = with_dashes(ping_or_lead_id)
        if not is_id(id):
            return NoSuchStory(id=id)
        kept = await self._stories.lead(id)
        found = await self._heard(id, kept)
        if found is None:
            return NoSuchStory(id=id)
        heard, book = found
        attempts = await self._stories.attempts(id) if kept else ()
        not_asked, is_exact = await self._not_asked(heard, book)
        material = Material(
            heard=heard,
            lead=kept.facts if kept else None,
            attempts=attempts,
            events=await self._stories.events(id) if kept else (),
            transfers=await self._stories.transfers(id) if kept else (),
            custody=await self._stories.custody(id) if kept else (),
            notices=await self._stories.notices(id) if kept else (),
            returns=await self._stories.returns(id) if kept else (),
            resales=await self._stories.resales(id) if kept else (),
            pauses=await self._stories.pauses(heard.ping),
            not_asked=not_asked,
            is_exact=is_exact,
            caps=await self._used(heard, attempts, not_asked, book),
        )
        return story_of(material, book, now=self._clock.now())

    async def _heard(self, id: str, kept: LeadKept | None) -> tuple[Heard, Book] | None:
        """The ping and the book it was filtered with; from the lead when the journal lost it."""
        row = await self._stories.ping(id)
        if row is not None:
            columns, bids = row
            book = await self._load_book(columns["book_version"])
            return heard_of_row(columns, bids, book), book
        if kept is not None:
            book = await self._load_book(kept.offer.book_version)
            return heard_of_offer(kept.offer, book, kept.facts.direct), book
        return None

    async def _not_asked(self, heard: Heard, book: Book) -> tuple[Mapping[int, NonBid], bool]:
        """The reason of every contract that was not asked, by the filter run again; and whether the
        cleared bits of that moment were kept. Without them, only hours are known."""
        ping = heard.ping
        index = book.indexes.get(ping.vertical_id)
        if index is None:
            return {}, False
        if heard.reason == Reason.SOURCE_PAUSED:
            return {one.id: NonBid.SOURCE_PAUSED for one in index.contracts}, True
        mask = await self._stories.mask(heard.mask_id, ping.vertical_id)
        gates = gates_of(mask, ping, book.version)
        is_exact = gates is not None
        if gates is None:
            gates = ((NonBid.OUT_OF_HOURS, closed_mask(index, ping.received_at)),)
        reasons = why_not(
            ping, index, gates=gates, at=ping.received_at, invited_max=self._invited_max
        )
        return reasons, is_exact

    async def _used(
        self,
        heard: Heard,
        attempts: Sequence[AttemptFacts],
        not_asked: Mapping[int, NonBid],
        book: Book,
    ) -> tuple[Used, ...]:
        """The cap windows that mattered, as they stand now."""
        if self._caps is None:
            return ()
        prices = {one.contract_id: one.price_micros for one in heard.ranking}
        prices |= {one.contract_id: one.price_micros for one in attempts}
        full = [key for key, code in not_asked.items() if code in _FULL]
        told: list[Used] = []
        for contract_id in [*prices, *full][:CAPS_TOLD_MAX]:
            contract = book.contracts.get(contract_id)
            if contract is not None and is_counted(contract):
                told += await self._used_by(contract, prices.get(contract_id, 0), heard, book)
        return tuple(told)

    async def _used_by(
        self, contract: Contract, price_micros: int, heard: Heard, book: Book
    ) -> list[Used]:
        buyer = book.buyers.get(contract.buyer_id)
        zone = contract.time_zone or (buyer.terms.time_zone if buyer else None)
        at = heard.ping.received_at
        held = sale_windows(
            contract,
            fields=heard.ping.fields,
            price_micros=price_micros,
            at=at,
            zone=zone,
            currency=book.verticals[contract.vertical_id].terms.currency,
        )
        used = await self._amounts(contract.buyer_id, held)
        return [
            Used(
                contract_id=contract.id,
                cap_index=window.cap_index,
                win=window.win,
                used=used[window.win][0],
                held=used[window.win][1],
                limit=window.limit,
                resets_at=None
                if window.cap_index == WALLET_INDEX
                else resets_at(contract.caps[window.cap_index], at, zone),
            )
            for window in held
            if window.win in used
        ]

    async def _amounts(
        self, buyer_id: int, held: Sequence[Window]
    ) -> Mapping[str, tuple[int, int]]:
        if self._caps is None or not held:
            return {}
        return await self._caps.used(buyer_id, [window.win for window in held])


# --- pure: from rows to what was heard ------------------------------------------------------------


def heard_of_row(row: Mapping[str, Any], bids: Bids, book: Book) -> Heard:
    """The ping as the journal kept it."""
    consent = row["consent"]
    ping = Ping(
        ping_id=row["ping_id"],
        seller_id=row["seller_id"],
        source_id=row["source_id"],
        vertical_id=row["vertical_id"],
        fields=typed(row["fields"], row["vertical_id"], book),
        received_at=row["received_at"],
        tmax_ms=row["tmax_ms"],
        sub_id=row["sub_id"],
        floor_micros=row["floor_micros"],
        consent=msgspec.convert(consent, PingConsent) if consent else None,
        external_id=row["external_id"],
        test=row["test"],
        direct=row["direct"],
        gated=tuple(row["gated"]),
    )
    return Heard(
        ping=ping,
        outcome=row["outcome"],
        reason=row["reason"],
        answers=bids.answers,
        ranking=bids.ranking,
        payout_micros=row["payout_micros"],
        expires_at=row["expires_at"],
        book_version=row["book_version"],
        mask_id=row["mask_id"],
        took_ms=row["took_ms"],
        late_ms=row["late_ms"],
    )


def heard_of_offer(offer: Offer, book: Book, direct: bool) -> Heard:
    """The ping as its lead carries it, when the journal has no row of it."""
    ping = Ping(
        ping_id=offer.ping_id,
        seller_id=offer.seller_id,
        source_id=offer.source_id,
        vertical_id=offer.vertical_id,
        fields=typed(offer.fields, offer.vertical_id, book),
        received_at=datetime.fromtimestamp(offer.received_at_ms / 1000, UTC),
        tmax_ms=0,
        sub_id=offer.sub_id,
        floor_micros=offer.floor_micros,
        consent=offer.consent,
        external_id=offer.external_id,
        test=offer.test,
        direct=direct,
    )
    prices = {one.contract_id: one.price_micros for one in offer.candidates}
    invited = dict.fromkeys((*offer.invited, *prices))
    return Heard(
        ping=ping,
        outcome="offer",
        reason=None,
        answers=tuple(
            ContractAnswer(
                contract_id=contract_id,
                buyer_id=book.contracts[contract_id].buyer_id,
                non_bid=None,
                price_micros=prices.get(contract_id),
            )
            for contract_id in invited
            if contract_id in book.contracts
        ),
        ranking=offer.candidates,
        payout_micros=None if direct else offer.payout_micros,
        expires_at=None if direct else datetime.fromtimestamp(offer.expires_at_ms / 1000, UTC),
        book_version=offer.book_version,
        mask_id=offer.mask_id,
        took_ms=0.0,
        late_ms=0.0,
        is_journaled=False,
    )


def typed(fields: Mapping[str, Any], vertical_id: int, book: Book) -> dict[str, Value]:
    """Fields from their JSON form: dates are dates again."""
    vertical = book.verticals.get(vertical_id)
    terms = vertical.terms.fields if vertical else {}
    return {
        name: date.fromisoformat(value)
        if name in terms and terms[name].type == "date" and isinstance(value, str)
        else value
        for name, value in fields.items()
    }


def gates_of(mask: Mask | None, ping: Ping, book_version: int) -> tuple[Gate, ...] | None:
    """The cleared bits as the ping met them; `None` when they were not kept or belong to another
    book (their slots would be other contracts)."""
    if mask is None or mask.book_version != book_version:
        return None
    gates = [(NonBid(int(code)), int(bits, 16)) for code, bits in mask.gates.items()]
    full = 0
    for field, value, bits in mask.segments:
        if ping.fields.get(field) == value:
            full |= int(bits, 16)
    if full:
        gates.append((NonBid.CAP_FULL, full))
    for source_id, sub_id, bits in mask.sources:
        if source_id == ping.source_id and sub_id in (None, ping.sub_id):
            gates.append((NonBid.SOURCE_PAUSED_HERE, int(bits, 16)))
    return tuple(gates)


def with_dashes(id: str) -> str:
    """Traces, and the exemplars of metrics, spell an id without its dashes."""
    if len(id) != 32:
        return id
    return "-".join((id[:8], id[8:12], id[12:16], id[16:20], id[20:]))
