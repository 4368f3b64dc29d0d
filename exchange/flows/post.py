"""The two ways in for a full record: a post that takes up an offer, and a direct lead.

Both end in `selling.Sales.sell`. A post sells only to the candidates of its offer, and never below
the promised payout unless it says so; a direct lead is made durable first (RECEIVED), then
auctioned, and falls as far as its floor. A retried key is answered with the stored reply and sends
nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from exchange.core import attempts
from exchange.core.attempts import Selling
from exchange.core.consent import named_buyers, of_ping
from exchange.core.custody import invited_body
from exchange.core.fields import Problem, json_form
from exchange.core.labels import consent_without_persons, without_persons
from exchange.core.messages import LeadRequest, PostReply, PostRequest, Refusal, Replayed
from exchange.core.model import Offer, Ping, Seller, Source, Vertical
from exchange.core.money import micros_of
from exchange.core.payouts import guaranteed_micros
from exchange.core.reasons import Reason
from exchange.core.records import PostRecord
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits, CommitsDown
from exchange.effects.failpoints import At
from exchange.effects.leads import Leads
from exchange.effects.offers import Offers
from exchange.effects.postgres import DatabaseDown
from exchange.flows.deal import (
    Deal,
    Way,
    mismatched,
    not_to_be_had,
    pending,
    replay,
    without_sale,
)
from exchange.flows.opening import Body, Openings, hidden, lead_of
from exchange.flows.ping import SOURCE_PAUSED, Pings, floor_of, invalid, unknown_names
from exchange.flows.replies import Replies
from exchange.flows.selling import Sales
from exchange.flows.standing import Standing

Outcome = PostReply | Refusal | Replayed
"""What a full record comes to: an answer, a request that cannot be carried out, or what its key was
told before."""


PENDING_GRACE_S = 0.25
"""After the post's deadline the RESULT may still be on its way to disk; then the seller hears
`pending`."""


class PostLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers a post needs; their meaning stands in `config.Limits`."""

    post_deadline_ms: int
    tmax_ms: int
    tmax_ms_min: int
    tmax_direct_ms_max: int
    offer_ttl_ms: int


class Posts:
    """The flow of full records in one worker."""

    def __init__(
        self,
        *,
        clock: Clock,
        standing: Standing,
        pings: Pings,
        offers: Offers,
        sales: Sales,
        commits: Commits,
        leads: Leads,
        openings: Openings,
        replies: Replies,
        pseudonym: Callable[[str, str], str],
        recorded: Callable[[PostRecord], None],
        limits: PostLimits,
        boot_id: str,
        at: At,
    ) -> None:
        self._clock, self._standing, self._pings = clock, standing, pings
        self._offers, self._sales, self._commits = offers, sales, commits
        self._leads, self._openings, self._replies = leads, openings, replies
        self._pseudonym, self._recorded = pseudonym, recorded
        self._limits, self._boot_id = limits, boot_id
        self._at = at
        self._running: set[asyncio.Task[Outcome]] = set()

    async def post(
        self, request: PostRequest, seller: Seller, *, key: str, fingerprint: str, began: float
    ) -> Outcome:
        """Take up an offer. Raises `CommitsDown` while nothing has been released."""
        way = Way()
        work = self._post(request, seller, way, key=key, fingerprint=fingerprint, began=began)
        return await self._within(work, request.ping_id, seller, way, began)

    async def direct(
        self, request: LeadRequest, seller: Seller, *, key: str, fingerprint: str, began: float
    ) -> Outcome:
        """Ping and post in one call: RECEIVED, auction, then as a post, down to the floor."""
        lead_id = self._clock.new_id()
        work = self._direct(request, seller, lead_id, key=key, fingerprint=fingerprint, began=began)
        vertical = self._standing.book.vertical_by_key.get(request.vertical)
        way = Way(vertical.terms.currency if vertical else "")
        return await self._within(work, lead_id, seller, way, began)

    async def lead(self, lead_id: str, seller: Seller) -> dict[str, Any] | None:
        """What became of a seller's lead; `None` when it has no such lead."""
        return await self._replies.lead(lead_id, seller.id, self._standing.book)

    async def drain(self) -> None:
        """Wait for every post under way: their answers are owed."""
        while self._running:
            await asyncio.wait(self._running)
        await self._sales.drain()

    async def _within(
        self,
        work: Coroutine[Any, Any, Outcome],
        lead_id: str,
        seller: Seller,
        way: Way,
        began: float,
    ) -> Outcome:
        """The outcome, or `pending` when it takes longer than a seller waits. The work goes on in a
        task of its own: neither a seller that hangs up nor the deadline may cut a sale in two."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        left = began + self._limits.post_deadline_ms / 1000 + PENDING_GRACE_S
        await asyncio.wait({task}, timeout=left - self._clock.loop_time())
        if task.done():
            return task.result()
        task.add_done_callback(_retrieved)
        return await self._now(lead_id, seller, way)

    async def _now(self, lead_id: str, seller: Seller, way: Way) -> PostReply:
        """What can be said at once of a lead whose sale is still at work."""
        with suppress(DatabaseDown, TimeoutError):
            async with asyncio.timeout(PENDING_GRACE_S):
                if reply := await self.lead(lead_id, seller):
                    return msgspec.convert(reply, PostReply)
        return pending(lead_id, way.currency)

    # --- two-step ---------------------------------------------------------------------------------

    async def _post(
        self,
        request: PostRequest,
        seller: Seller,
        way: Way,
        *,
        key: str,
        fingerprint: str,
        began: float,
    ) -> Outcome:
        if not self._commits.up:
            raise CommitsDown
        offer = await self._offers.take(request.ping_id, seller.id, key)
        if isinstance(offer, Reason):
            return await self._no_offer(offer, request.ping_id, seller, key, fingerprint)
        way.currency = offer.currency
        await self._at("taken")
        outcome: Body | Outcome = self._agreed(request, offer)
        if isinstance(outcome, Body):
            outcome = await self._dealt(request, offer, outcome, seller, key, fingerprint, began)
        if isinstance(outcome, Refusal) or (
            isinstance(outcome, PostReply) and outcome.status in ("rejected", "duplicate")
        ):
            await self._given_back(offer, seller, key)
        return outcome

    async def _given_back(self, offer: Offer, seller: Seller, key: str) -> None:
        """Another key may take the offer, unless this one has already sold it or is about to."""
        kept = await self._leads.kept(seller.id, key)
        if kept is None or kept.lead_id != offer.ping_id:
            await self._offers.give_back(offer.ping_id, key)

    async def _no_offer(
        self, reason: Reason, ping_id: str, seller: Seller, key: str, fingerprint: str
    ) -> Refusal | Replayed:
        """No offer to take: a retry of a post that ended is still told its end."""
        return await self._replies.replayed(seller.id, key, fingerprint) or not_to_be_had(reason)

    async def _dealt(
        self,
        request: PostRequest,
        offer: Offer,
        body: Body,
        seller: Seller,
        key: str,
        fingerprint: str,
        began: float,
    ) -> Outcome:
        """Sell a record, if it may be; the database is asked about it while rows are made."""
        vertical = self._standing.book.verticals[offer.vertical_id]
        if why := self._unwanted(body, vertical, offer, named=offer.named or bool(body.named)):
            return without_sale(offer.ping_id, "rejected", offer.currency, why)
        claims = () if offer.test else self._openings.claims(body, vertical, offer.ping_id)
        asked = asyncio.create_task(self._leads.was_sold_before(claims)) if claims else None
        try:
            if asked is not None:
                await asyncio.sleep(0)  # the question leaves
            deal = self._deal_of_offer(request, offer, body, seller, key, fingerprint, began)
            if asked is not None and await asked:
                return without_sale(offer.ping_id, "duplicate", offer.currency, Reason.DUPLICATE)
        finally:
            if asked is not None:
                asked.cancel()
        return await self._sold(deal, seller, key, fingerprint)

    def _agreed(self, request: PostRequest, offer: Offer) -> Body | Refusal:
        """The record, if it is valid and agrees with its ping."""
        vertical = self._standing.book.verticals[offer.vertical_id]
        body = self._decoded(request.lead, request.consent, request.chain, vertical)
        if isinstance(body, Refusal):
            return body
        schema = self._standing.book.schemas[vertical.id]
        wrong = schema.mismatches(offer.fields, body.fields, pseudonym=self._pseudonym)
        return mismatched(wrong, schema) if wrong else body

    def _decoded(
        self,
        lead: Mapping[str, Any],
        consent: dict[str, Any],
        chain: Sequence[dict[str, Any]],
        vertical: Vertical,
    ) -> Body | Refusal:
        fields = self._standing.book.schemas[vertical.id].lead(lead)
        if isinstance(fields, tuple):
            return invalid("The lead's fields are not valid.", fields)
        named = named_buyers(consent)
        if isinstance(named, Problem):
            return invalid("The lead's consent is not valid.", (named,))
        return Body(fields=fields, consent=consent, chain=chain, named=named)

    def _unwanted(
        self, body: Body, vertical: Vertical, pinged: Offer | Ping, *, named: bool
    ) -> Reason | None:
        """Why no buyer is tried at all. A source paused since its ping sells nothing any more."""
        if self._standing.book.pauses.stop(pinged.source_id, pinged.sub_id):
            return Reason.SOURCE_PAUSED
        return Reason.CONSENT_MISSING if _lacks_consent(body, vertical, named=named) else None

    async def _barred(self, body: Body, vertical: Vertical, ping: Ping) -> PostReply | None:
        """The house's own refusals of a direct lead: what `_unwanted` says, or a consumer sold
        here within the duplicate window. Answered 200, as an outcome, and nothing is
        kept. (Most duplicates are found so, without a hold or an INTENT; the fence is in the
        INTENT's own transaction, `Selling.claims`.)"""
        lead_id, currency = ping.ping_id, vertical.terms.currency
        if why := self._unwanted(body, vertical, ping, named=bool(body.named)):
            return without_sale(lead_id, "rejected", currency, why)
        claims = () if ping.test else self._openings.claims(body, vertical, lead_id)
        if claims and await self._leads.was_sold_before(claims):
            return without_sale(lead_id, "duplicate", currency, Reason.DUPLICATE)
        return None

    def _deal_of_offer(
        self,
        request: PostRequest,
        offer: Offer,
        body: Body,
        seller: Seller,
        key: str,
        fingerprint: str,
        began: float,
    ) -> Deal:
        vertical = self._standing.book.verticals[offer.vertical_id]
        promised = offer.payout_micros
        if request.min_payout is not None:
            promised = min(promised, micros_of(request.min_payout))
        opening, chain = self._openings.opening(
            offer,
            body,
            vertical,
            key,
            fingerprint,
            state="selling",
            promised_micros=promised,
            direct=False,
        )
        return Deal(
            lead=lead_of(offer.ping_id, body),
            fields=body.fields,
            seller=seller,
            source_id=offer.source_id,
            sub_id=offer.sub_id,
            vertical=vertical,
            candidates=offer.candidates,
            promised_micros=promised,
            selling=Selling(
                lead_id=offer.ping_id,
                seller_id=seller.id,
                idem_key=key,
                chain=chain,
                boot_id=self._boot_id,
                claims=() if offer.test else self._openings.claims(body, vertical, offer.ping_id),
                guaranteed_micros=offer.guaranteed_micros,
                currency=offer.currency,
            ),
            opening=opening,
            pinged_at=datetime.fromtimestamp(offer.received_at_ms / 1000, UTC),
            began=began,
            deadline=began + self._limits.post_deadline_ms / 1000,
            direct=False,
            test=offer.test,
            named=body.named,
            private=opening.private,
        )

    # --- direct -----------------------------------------------------------------------------------

    async def _direct(
        self,
        request: LeadRequest,
        seller: Seller,
        lead_id: str,
        *,
        key: str,
        fingerprint: str,
        began: float,
    ) -> Outcome:
        if not self._commits.up:
            raise CommitsDown
        book = self._standing.book
        vertical = book.vertical_by_key.get(request.vertical)
        source = book.sources.get((seller.id, request.source))
        if vertical is None or source is None:
            return unknown_names(request.vertical, vertical, request.source, source)
        if not book.takes_from(seller, source):
            return SOURCE_PAUSED
        body = self._decoded(request.lead, request.consent, request.chain, vertical)
        if isinstance(body, Refusal):
            return body
        ping = self._ping_of(request, body, lead_id, vertical, source, seller)
        if isinstance(ping, Refusal):
            return ping
        barred = await self._barred(body, vertical, ping)
        if barred is not None:
            return await self._replies.replayed(seller.id, key, fingerprint) or barred
        return await self._received(ping, body, seller, key, fingerprint, began)

    def _ping_of(
        self,
        request: LeadRequest,
        body: Body,
        lead_id: str,
        vertical: Vertical,
        source: Source,
        seller: Seller,
    ) -> Ping | Refusal:
        """What buyers may see of a direct lead before they win: the same gate as for a ping, which
        here drops what may not be pinged without a word."""
        schema = self._standing.book.schemas[vertical.id]
        gated = schema.gate(request.lead, mode="strip", pseudonym=self._pseudonym)
        if isinstance(gated, tuple):
            return invalid("The lead's fields are not valid.", gated)
        tmax_ms = request.tmax_ms or source.terms.tmax_ms or self._limits.tmax_ms
        request, dropped = without_persons(request)
        consent = of_ping(request.consent, body.named, kind=vertical.terms.consent)
        consent, _ = consent_without_persons(consent)
        return Ping(
            ping_id=lead_id,
            seller_id=seller.id,
            source_id=source.id,
            vertical_id=vertical.id,
            fields=gated.fields,
            received_at=self._clock.now(),
            tmax_ms=min(max(tmax_ms, self._limits.tmax_ms_min), self._limits.tmax_direct_ms_max),
            sub_id=request.sub_id,
            floor_micros=floor_of(request.floor, source),
            consent=consent if request.consent else None,
            external_id=request.external_id,
            test=request.test,
            direct=True,
            gated=dropped,
        )

    async def _received(
        self, ping: Ping, body: Body, seller: Seller, key: str, fingerprint: str, began: float
    ) -> Outcome:
        draft = self._draft_offer(ping)
        vertical = self._standing.book.verticals[ping.vertical_id]
        opening, chain = self._openings.opening(
            draft,
            body,
            vertical,
            key,
            fingerprint,
            state="received",
            promised_micros=0,
            direct=True,
        )
        selling = Selling(
            lead_id=ping.ping_id,
            seller_id=seller.id,
            idem_key=key,
            chain=chain,
            boot_id=self._boot_id,
            claims=() if ping.test else self._openings.claims(body, vertical, ping.ping_id),
            guaranteed_micros=draft.guaranteed_micros,
            currency=draft.currency,
        )
        unit, selling = attempts.opened(opening, selling)
        answer = await self._commits.commit(unit)
        if answer.kind != "done":
            known = await self._replies.replayed(seller.id, key, fingerprint)
            return known or replay(ping.ping_id, vertical.terms.currency)
        await self._at("received")
        offer = await self._pings.direct(ping, began=self._clock.loop_time())
        chain = selling.chain.append(
            "invited", self._clock.now(), invited_body(offer, hidden=hidden(vertical))
        )
        deal = Deal(
            lead=lead_of(ping.ping_id, body),
            fields=body.fields,
            seller=seller,
            source_id=ping.source_id,
            sub_id=ping.sub_id,
            vertical=vertical,
            candidates=offer.candidates,
            promised_micros=ping.floor_micros,
            selling=replace(selling, chain=chain),
            opening=None,
            pinged_at=ping.received_at,
            began=began,
            deadline=self._clock.loop_time() + self._limits.post_deadline_ms / 1000,
            direct=True,
            test=ping.test,
            named=body.named,
            private=opening.private,
        )
        return await self._sold(deal, seller, key, fingerprint)

    def _draft_offer(self, ping: Ping) -> Offer:
        """The offer of a direct lead before its auction: nothing is promised yet, but what its
        seller's terms guarantee of an accepted lead."""
        book = self._standing.book
        terms = book.parties.payout(ping.seller_id, ping.source_id)
        return Offer(
            ping_id=ping.ping_id,
            seller_id=ping.seller_id,
            source_id=ping.source_id,
            vertical_id=ping.vertical_id,
            payout_micros=0,
            currency=book.verticals[ping.vertical_id].terms.currency,
            expires_at_ms=0,
            received_at_ms=int(ping.received_at.timestamp() * 1000),
            fields=json_form(ping.fields),
            candidates=(),
            book_version=book.version,
            mask_id=self._standing.mask_id(ping.vertical_id),
            floor_micros=ping.floor_micros,
            sub_id=ping.sub_id,
            external_id=ping.external_id,
            test=ping.test,
            guaranteed_micros=guaranteed_micros(terms, test=ping.test),
        )

    # --- shared -----------------------------------------------------------------------------------

    async def _sold(self, deal: Deal, seller: Seller, key: str, fingerprint: str) -> Outcome:
        sold = await self._sales.sell(deal)
        self._recorded(sold.record)
        if sold.reply is not None:
            return sold.reply
        known = await self._replies.replayed(seller.id, key, fingerprint)
        if known is not None or deal.direct:
            return known or replay(deal.lead.lead_id, deal.vertical.terms.currency)
        return not_to_be_had(Reason.OFFER_TAKEN)


def _lacks_consent(body: Body, vertical: Vertical, *, named: bool) -> bool:
    """`named`: whether companies are named, as some verticals need."""
    wanted = vertical.terms.consent
    return (wanted != "none" and not body.consent) or (wanted == "named" and not named)


def _retrieved(task: "asyncio.Task[Outcome]") -> None:
    """A post that outlived its request: its end is in the database; a failure is not re-raised."""
    if not task.cancelled():
        task.exception()
