"""The path of a ping: gate, invite, ask, rank, promise, record.

Postgres is not touched, Valkey once (the offer). Everything the exchange decides here is in the
`PingRecord` that the flow ends in; the reply, metrics, the log, the journal and `explain` read it.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from exchange.core.auction import (
    Ranking,
    offer_expires_at_ms,
    rank,
)
from exchange.core.book import Book
from exchange.core.fields import Problem, json_form
from exchange.core.filters import Gate, Index, Invited, buyers_mask, invite, nobody
from exchange.core.labels import consent_without_persons, without_persons
from exchange.core.messages import PingRequest, Refusal
from exchange.core.model import ContractAnswer, Offer, Ping, PingConsent, Seller, Source, Vertical
from exchange.core.money import micros_of
from exchange.core.payouts import guaranteed_micros, least_price
from exchange.core.reasons import NonBid, Reason
from exchange.core.records import PingRecord
from exchange.effects.buyers import Buyers, Endpoint
from exchange.effects.clock import Clock
from exchange.effects.journal import Journal
from exchange.effects.offers import Offers
from exchange.flows.asking import Asking
from exchange.flows.holding import Holding
from exchange.flows.standing import Seat, Standing

SOURCE_PAUSED = Refusal(
    status=403, title="Source paused", detail="Nothing of this source is traded now."
)


class PingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers a ping needs; their meaning stands in `config.Limits`."""

    tmax_ms: int
    tmax_ms_min: int
    tmax_ms_max: int
    answer_reserve_ms: int
    invited_max: int
    ranking_kept: int
    offer_ttl_ms: int


class Auctioned(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An auction that has ended. `book_version` and `mask_id` are what it was invited by; the
    market may have changed while buyers were waited for."""

    book_version: int
    mask_id: int
    invited: Invited
    answers: tuple[ContractAnswer, ...]
    ranking: Ranking
    guaranteed_micros: int
    waited_ms: float


class Pings:
    """The flow of pings in one worker."""

    def __init__(
        self,
        *,
        clock: Clock,
        standing: Standing,
        buyers: Buyers,
        offers: Offers,
        holding: Holding,
        journal: Journal,
        pseudonym: Callable[[str, str], str],
        limits: PingLimits,
        worker: str,
    ) -> None:
        self._clock, self._standing, self._buyers = clock, standing, buyers
        self._offers, self._holding, self._journal = offers, holding, journal
        self._pseudonym = pseudonym
        self._limits, self._worker = limits, worker

    async def ping(
        self, request: PingRequest, seller: Seller, *, began: float
    ) -> PingRecord | Refusal:
        """Ask the market. `began` is the loop time at which the request was read; every deadline
        counts from there. A request that cannot be carried out answers a `Refusal`."""
        ping = self._admitted(request, seller)
        if isinstance(ping, Refusal):
            return ping
        auctioned = await self.auction(ping, began=began)
        deadline = began + ping.tmax_ms / 1000
        if self._holding.is_asked(ping, auctioned.ranking):
            auctioned = await self._with_room(ping, auctioned, deadline=deadline)
        expires_at_ms = await self._promised(ping, auctioned, deadline=deadline)
        record = self._record(ping, auctioned, expires_at_ms, began=began)
        self._journal.put(record)
        return record

    async def direct(self, ping: Ping, *, began: float, had: frozenset[int] = frozenset()) -> Offer:
        """The auction of a direct lead: nothing is promised and nothing kept; what a post would
        find in an offer is handed over at once. `had`: buyers that have the lead already."""
        auctioned = await self.auction(ping, began=began, had=had)
        expires_at_ms = self._clock.now_ms() + self._limits.offer_ttl_ms
        record = self._record(
            ping,
            auctioned,
            expires_at_ms if auctioned.ranking.candidates else None,
            began=began,
        )
        self._journal.put(record)
        return self.offer_of(ping, auctioned, expires_at_ms)

    # --- 1: decode and gate -----------------------------------------------------------------------

    def _admitted(self, request: PingRequest, seller: Seller) -> Ping | Refusal:
        book = self._standing.book
        vertical = book.vertical_by_key.get(request.vertical)
        source = book.sources.get((seller.id, request.source))
        if vertical is None or source is None:
            return unknown_names(request.vertical, vertical, request.source, source)
        if not book.takes_from(seller, source):
            return SOURCE_PAUSED
        gated = book.schemas[vertical.id].gate(
            request.fields, mode=source.terms.gate, pseudonym=self._pseudonym
        )
        if isinstance(gated, tuple):
            return invalid("The ping's fields are not valid.", gated)
        request, dropped = without_persons(request)
        consent, unsaid = _consent_of(request)
        if (dropped or unsaid) and source.terms.gate == "refuse":
            return invalid("The ping names a person.", [_personal(n) for n in (*dropped, *unsaid)])
        return Ping(
            ping_id=self._clock.new_id(),
            seller_id=seller.id,
            source_id=source.id,
            vertical_id=vertical.id,
            fields=gated.fields,
            received_at=self._clock.now(),
            tmax_ms=self._tmax_ms(request.tmax_ms, source),
            sub_id=request.sub_id,
            floor_micros=floor_of(request.floor, source),
            consent=consent,
            external_id=request.external_id,
            test=request.test,
            gated=(*gated.gated, *dropped, *unsaid),
        )

    def _tmax_ms(self, asked: int | None, source: Source) -> int:
        """The seller's own wish within the limits, else its source's, else the house's."""
        tmax_ms = asked or source.terms.tmax_ms or self._limits.tmax_ms
        return min(max(tmax_ms, self._limits.tmax_ms_min), self._limits.tmax_ms_max)

    # --- 2 to 4: invite, ask, rank ----------------------------------------------------------------

    async def auction(
        self, ping: Ping, *, began: float, had: frozenset[int] = frozenset()
    ) -> Auctioned:
        """Invite, ask every invited contract at once, and rank what came back; buyers that `had`
        the lead are not asked."""
        standing = self._standing
        book = standing.book
        vertical, index = book.verticals[ping.vertical_id], book.indexes[ping.vertical_id]
        mask_id = standing.mask_id(ping.vertical_id)
        invited = self._invited(ping, book, index, had)
        asking = Asking(
            standing.seats(invited.contracts),
            now_ms=self._clock.now_ms(),
            close_early=may_close_early(ping, vertical),
        )
        if asking.seats:
            await self._buyers.ask(
                self._calls(ping, asking.seats, vertical),
                deadline=began + (ping.tmax_ms - self._limits.answer_reserve_ms) / 1000,
                on_answer=asking.on_answer,
            )
            asking.read()
        terms = book.parties.payout(ping.seller_id, ping.source_id)
        ranking = rank(
            ping.ping_id,
            asking.bids,
            terms=terms,
            floor_micros=ping.floor_micros,
            kept=self._limits.ranking_kept,
            factors=standing.factors(ping) if _by_value(vertical) else None,
        )
        return Auctioned(
            book_version=book.version,
            mask_id=mask_id,
            invited=invited,
            answers=asking.answers(ranking.below_floor),
            ranking=ranking,
            guaranteed_micros=guaranteed_micros(terms, test=ping.test),
            waited_ms=asking.waited_ms,
        )

    def _invited(self, ping: Ping, book: Book, index: Index, had: frozenset[int]) -> Invited:
        if book.pauses.stop(ping.source_id, ping.sub_id):
            return nobody(index, NonBid.SOURCE_PAUSED)
        gates = self._standing.gates(ping)
        return invite(
            ping,
            index,
            gates=(*gates, *had_gate(index, had)) if had else gates,
            at=ping.received_at,
            invited_max=self._limits.invited_max,
        )

    def _calls(
        self, ping: Ping, seats: Sequence[Seat], vertical: Vertical
    ) -> list[tuple[Endpoint, bytes]]:
        """One request per contract: its prebuilt prefix and the bytes its dialect shares.
        Pseudonyms stay here: they match a post to its ping, and are nobody else's."""
        fields = self._standing.book.schemas[vertical.id].shown(ping.fields)
        shown = ping if fields is ping.fields else replace(ping, fields=fields)
        shared = {
            dialect: dialect.ping_shared(
                shown,
                vertical_key=vertical.key,
                tmax_ms=ping.tmax_ms - self._limits.answer_reserve_ms,
            )
            for dialect in {seat.dialect for seat in seats}
        }
        return [
            (
                seat.endpoint,
                seat.prefix + self._floor_shown(seat, ping) + shared[seat.dialect]
                if seat.shows_floor
                else seat.prefix + shared[seat.dialect],
            )
            for seat in seats
        ]

    def _floor_shown(self, seat: Seat, ping: Ping) -> bytes:
        """The least price whose payout reaches the seller's floor, for a contract that is told."""
        parties = self._standing.book.parties
        least = least_price(ping.floor_micros, parties.payout(ping.seller_id, ping.source_id))
        floor: bytes = seat.dialect.ping_floor(least) if least else b""
        return floor

    # --- 5: promise -------------------------------------------------------------------------------

    async def _with_room(self, ping: Ping, auctioned: Auctioned, *, deadline: float) -> Auctioned:
        """Room held for the best candidate, where its contract asks for that. What is not held by
        the deadline is not promised; should it be held after all, it is given back."""
        try:
            async with asyncio.timeout_at(deadline):
                ranking = await self._holding.held(ping, auctioned.ranking)
        except TimeoutError:
            ranking = replace(auctioned.ranking, candidates=())
        return replace(auctioned, ranking=ranking)

    async def _promised(self, ping: Ping, auctioned: Auctioned, *, deadline: float) -> int | None:
        """Keep the offer in Valkey; its expiry (Unix ms), or `None` when there is nothing to
        promise, or nowhere to keep it by the deadline."""
        ranking = auctioned.ranking
        if not ranking.candidates:
            return None
        now_ms = self._clock.now_ms()
        expires_at_ms = offer_expires_at_ms(
            ranking, now_ms=now_ms, ttl_ms=self._limits.offer_ttl_ms
        )
        offer = self.offer_of(ping, auctioned, expires_at_ms)
        ttl_ms = expires_at_ms - now_ms
        kept = await self._offers.put(offer, ttl_ms=ttl_ms, deadline=deadline)
        if not kept:
            self._holding.let_go(ranking)
        return expires_at_ms if kept else None

    def offer_of(self, ping: Ping, auctioned: Auctioned, expires_at_ms: int) -> Offer:
        """The promise as it is kept: what a post needs, nothing personal."""
        book = self._standing.book
        payout = auctioned.ranking.payout_micros
        return Offer(
            ping_id=ping.ping_id,
            seller_id=ping.seller_id,
            source_id=ping.source_id,
            vertical_id=ping.vertical_id,
            payout_micros=payout or 0,
            currency=book.verticals[ping.vertical_id].terms.currency,
            expires_at_ms=expires_at_ms,
            received_at_ms=int(ping.received_at.timestamp() * 1000),
            fields=json_form(ping.fields),
            candidates=auctioned.ranking.candidates,
            book_version=auctioned.book_version,
            mask_id=auctioned.mask_id,
            floor_micros=ping.floor_micros,
            sub_id=ping.sub_id,
            external_id=ping.external_id,
            named=needs_names(ping, book.verticals[ping.vertical_id]),
            test=ping.test,
            consent=ping.consent,
            invited=tuple(contract.id for contract in auctioned.invited.contracts),
            guaranteed_micros=auctioned.guaranteed_micros,
        )

    # --- 6: the record ----------------------------------------------------------------------------

    def _record(
        self, ping: Ping, auctioned: Auctioned, expires_at_ms: int | None, *, began: float
    ) -> PingRecord:
        took_ms = (self._clock.loop_time() - began) * 1000
        ranking, invited = auctioned.ranking, auctioned.invited
        reason = None if expires_at_ms is not None else no_offer_reason(auctioned)
        return PingRecord(
            ping=ping,
            outcome="no_offer" if expires_at_ms is None else "offer",
            reason=reason,
            answers=auctioned.answers,
            ranking=ranking.candidates,
            payout_micros=None if expires_at_ms is None else ranking.payout_micros,
            expires_at_ms=expires_at_ms,
            eligible=invited.eligible,
            reason_counts={int(code): mask.bit_count() for code, mask in invited.masks.items()},
            book_version=auctioned.book_version,
            mask_id=auctioned.mask_id,
            took_ms=took_ms,
            waited_ms=auctioned.waited_ms,
            added_ms=took_ms - auctioned.waited_ms,
            late_ms=max(0.0, took_ms - ping.tmax_ms),
            worker=self._worker,
        )


def had_gate(index: Index, had: frozenset[int]) -> tuple[Gate, ...]:
    """The contracts of buyers that have a lead already."""
    mask = buyers_mask(index, had)
    return ((NonBid.DUPLICATE, mask),) if mask else ()


def may_close_early(ping: Ping, vertical: Vertical) -> bool:
    """Whether the auction may end as soon as its winner is certain. A direct lead falls through to
    lower bids, and named consent shows them to the consumer, so there they are waited for; the
    bids below a promised payout are of no use to a post. By expected value the highest price need
    not win, so nobody is ever certain before all have answered."""
    return not (ping.direct or needs_names(ping, vertical) or _by_value(vertical))


def _by_value(vertical: Vertical) -> bool:
    return vertical.terms.ranking == "expected_value"


def no_offer_reason(auctioned: Auctioned) -> int:
    """Why there is no offer, as a `Reason` code."""
    if auctioned.ranking.candidates:
        return int(Reason.OFFERS_UNAVAILABLE)
    if NonBid.SOURCE_PAUSED in auctioned.invited.masks:
        return int(Reason.SOURCE_PAUSED)
    if not auctioned.invited.contracts:
        return int(Reason.NO_CONTRACT)
    if all(answer.non_bid == NonBid.TIMEOUT for answer in auctioned.answers):
        return int(Reason.DEADLINE)
    return int(Reason.NO_BIDS)


def needs_names(ping: Ping, vertical: Vertical) -> bool:
    """Whether the seller must know the buyers by name: its consumer was shown companies, or is yet
    to be."""
    return vertical.terms.consent == "named" or bool(ping.consent and ping.consent.buyers)


def _consent_of(request: PingRequest) -> tuple[PingConsent | None, tuple[str, ...]]:
    if request.consent is None:
        return None, ()
    said = request.consent
    consent = PingConsent(
        kind=said.kind,
        captured_at=said.captured_at,
        text_version=said.text_version,
        ping_url=said.ping_url,
        buyers=said.buyers,
    )
    return consent_without_persons(consent)


def _personal(field: str) -> Problem:
    hint = "send a name of your own that says nothing of the consumer"
    return Problem(field=field, message="carries personal data", hint=hint, personal=True)


def floor_of(asked: str | None, source: Source) -> int:
    """The floor in micros: the higher of the request's and the source's."""
    return max(micros_of(asked) if asked else 0, source.floor_micros)


def unknown_names(
    vertical_key: str, vertical: Vertical | None, source_key: str, source: Source | None
) -> Refusal:
    """The refusal of a request that names what this seller does not have."""
    problems = []
    if vertical is None:
        problems.append(
            Problem(
                field="vertical",
                message="there is no such vertical",
                hint="use the key of a vertical in the market, such as auto_insurance",
            )
        )
    if source is None:
        problems.append(
            Problem(
                field="source",
                message="you have no such source",
                hint="use one of the sources agreed with the operator",
            )
        )
    return invalid("The request names something unknown.", problems)


def invalid(detail: str, problems: Sequence[Problem]) -> Refusal:
    """A 422 with its problems."""
    return Refusal(status=422, title="Request not valid", detail=detail, problems=tuple(problems))
