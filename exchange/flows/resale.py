"""Offering a returned lead again: by itself where the terms say so, or by hand.

```
returned in full ─ may it be? ─ open the record ─ auction among those who never had it
    ─ first INTENT: sold -> selling, its slot, its chain, and the resale, in one commit
    ─ from there as any sale: RESULT, or the next, or a doubt that reconcile ends
```
Before that commit nothing has changed: a process that dies there leaves a sold lead, and the next
turn begins anew. After it, the lead is one under way like any other. Two that try at once meet in
the commit: the lead moves once.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec

from exchange.core import resale
from exchange.core.attempts import Selling
from exchange.core.book import Book
from exchange.core.consent import named_buyers, of_ping
from exchange.core.custody import Chain, invited_body, reoffered_body
from exchange.core.fields import Problem
from exchange.core.labels import consent_without_persons
from exchange.core.model import Fact, Offer, Ping, Seller, Source, Vertical
from exchange.core.reasons import Loss
from exchange.core.records import LeadPrivateRow, PrivateDoc, ResaleRow
from exchange.core.resale import LASTING, Resold, ReturnedLead, Rule
from exchange.core.terms import ResellTerms
from exchange.effects.clock import Clock
from exchange.effects.doubts import SealedLeads
from exchange.effects.failpoints import At
from exchange.effects.leads import Leads
from exchange.effects.leases import Lease, Leases
from exchange.effects.resales import Resales
from exchange.effects.vault import Sealed, Vault
from exchange.flows.deal import Deal
from exchange.flows.opening import Body, Openings, hidden, lead_of
from exchange.flows.ping import Pings
from exchange.flows.selling import Sales
from exchange.flows.standing import Standing

BY_JOB: Final = "terms"


class ResaleLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`tmax_ms`: how long buyers are waited for; nobody else waits. `batch_max`: leads taken up in
    one turn, `at_once_max` at a time."""

    releases_max: int
    post_deadline_ms: int
    tmax_ms: int = 3_000
    batch_max: int = 100
    at_once_max: int = 4


_KINDS: Final[dict[str, Literal["sold", "in_doubt"]]] = {"sold": "sold", "pending": "in_doubt"}


class _Market(Fact, frozen=True, kw_only=True):
    """Where the lead belongs, in the book in force."""

    seller: Seller
    source: Source
    vertical: Vertical
    terms: ResellTerms | None


class _Record(Fact, frozen=True, kw_only=True):
    """The lead's record, opened, and the key that it is sealed with."""

    body: Body
    ping_fields: dict[str, Any]
    private: LeadPrivateRow

    def __repr__(self) -> str:
        return "<record>"


class Reselling:
    """Offers returned leads again."""

    def __init__(
        self,
        *,
        clock: Clock,
        standing: Standing,
        store: Resales,
        sealed: SealedLeads,
        vault: Vault,
        leads: Leads,
        openings: Openings,
        pings: Pings,
        sales: Sales,
        recorded: Callable[[Resold], None],
        limits: ResaleLimits,
        boot_id: str,
        at: At,
    ) -> None:
        self._clock, self._standing, self._store = clock, standing, store
        self._sealed, self._vault, self._leads = sealed, vault, leads
        self._openings, self._pings, self._sales = openings, pings, sales
        self._recorded, self._limits = recorded, limits
        self._boot_id, self._at = boot_id, at

    async def resell(self, lead_id: str, *, by: str, why: str) -> Resold:
        """Offer a returned lead again by hand. Raises `CommitsDown`, `DatabaseDown`,
        `VaultError`."""
        await self._store.audit(by=by, lead_id=lead_id, why=why)
        return await self._resold(lead_id, by=by, why=why, by_hand=True)

    def job(self, leases: Leases) -> Callable[[Lease], Any]:
        """The job that offers what the terms say, under its lease: how many leads it took up. One
        that fails is tried again at the next turn; the first failure is raised at the end."""

        async def turn(lease: Lease) -> int:
            found = await self._due()
            gate = asyncio.Semaphore(self._limits.at_once_max)

            async def one(lead_id: str) -> Resold:
                async with gate:
                    await leases.renew(lease)
                    return await self._resold(lead_id, by=BY_JOB, why="returned", by_hand=False)

            done = await asyncio.gather(*map(one, found), return_exceptions=True)
            for each in done:
                if isinstance(each, BaseException):
                    raise each
            return len(done)

        return turn

    async def _due(self) -> tuple[str, ...]:
        """The leads to look at: nothing is asked where no terms speak of it."""
        book = self._standing.book
        verticals = [one.terms.resell for one in book.verticals.values()]
        sellers = [one.terms.resell for one in book.sellers.values()]
        said = [terms for terms in (*verticals, *sellers) if terms is not None]
        if not said:
            return ()
        hours = max(terms.within_hours for terms in said)
        reasons = sorted({reason for terms in said for reason in terms.reasons})
        since = self._clock.now() - timedelta(hours=hours)
        return await self._store.due(since, reasons, limit=self._limits.batch_max)

    # --- one lead ---------------------------------------------------------------------------------

    async def _resold(self, lead_id: str, *, by: str, why: str, by_hand: bool) -> Resold:
        lead = await self._store.lead(lead_id, by_hand=by_hand)
        if lead is None:
            return Resold(lead_id=lead_id, kind="refused", rule="no_such_lead")
        row = ResaleRow(
            resale_id=self._clock.new_id(),
            lead_id=lead.lead_id,
            return_id=lead.return_id or lead.lead_id,
            leg=lead.leg,
            released=True,
            rule="",
            book_version=self._standing.book.version,
            by=by,
            why=why,
            at=self._clock.now(),
        )
        came = await self._offered(lead, row, by_hand=by_hand)
        if not isinstance(came, Resold):
            if came in LASTING and lead.return_id is not None and not lead.tried:
                await self._store.note(msgspec.structs.replace(row, released=False, rule=came))
            came = Resold(lead_id=lead.lead_id, kind="refused", rule=came)
        self._recorded(came)
        return came

    async def _offered(self, lead: ReturnedLead, row: ResaleRow, *, by_hand: bool) -> Resold | Rule:
        market = _market(lead, self._standing.book)
        terms = None if market is None else market.terms
        why_not = resale.refusal(
            lead,
            terms,
            now=self._clock.now(),
            releases_max=self._limits.releases_max,
            by_hand=by_hand,
        )
        if why_not is not None:
            return why_not
        if market is None or not _is_traded(market, lead, self._standing.book):
            return "source_paused"
        record = await self._opened(lead, market)
        if not isinstance(record, _Record):
            return record
        claims = self._openings.claims(record.body, market.vertical, lead.lead_id)
        if claims and await self._leads.was_sold_before(claims):
            return "sold_meanwhile"
        await self._at("resale_opened")
        offer = await self._auctioned(lead, market, record, row)
        await self._at("resale_auctioned")
        return await self._sold(self._deal(lead, market, record, row, offer, claims), row)

    async def _opened(self, lead: ReturnedLead, market: _Market) -> _Record | Rule:
        kept = await self._sealed.sealed(lead.lead_id)
        if kept is None:
            return "record_gone"
        key_epoch, wrapped_dek, sealed = kept
        box = Sealed(key_epoch=key_epoch, wrapped_dek=wrapped_dek, sealed=sealed)
        plain = self._vault.open(lead.lead_id, box)
        doc = msgspec.json.decode(plain, type=PrivateDoc)
        schema = self._standing.book.schemas[market.vertical.id]
        record = {name: value for name, value in doc.lead.items() if name in schema.terms}
        fields, named = schema.lead(record), named_buyers(doc.consent)
        gated = schema.gate(record, mode="strip", pseudonym=self._vault.pseudonym)
        if isinstance(fields, tuple) or isinstance(gated, tuple) or isinstance(named, Problem):
            return "record_outdated"
        if market.vertical.terms.consent != "none" and not doc.consent:
            return "record_outdated"
        keys = {buyer.id: buyer.key for buyer in self._standing.book.buyers.values()}
        allowed = resale.names_allowed(named, lead, keys)
        if market.vertical.terms.consent == "named" and not allowed:
            return "record_outdated"
        body = Body(fields=fields, consent=doc.consent, chain=doc.chain, named=allowed)
        private = LeadPrivateRow(
            lead_id=lead.lead_id,
            key_epoch=key_epoch,
            wrapped_dek="\\x" + wrapped_dek.hex(),
            sealed="",
        )
        return _Record(body=body, ping_fields=gated.fields, private=private)

    async def _auctioned(
        self, lead: ReturnedLead, market: _Market, record: _Record, row: ResaleRow
    ) -> Offer:
        """An auction under an id of its own, so that buyers and the journal tell it from the
        first; those who had the lead are not asked."""
        kind, body = market.vertical.terms.consent, record.body
        consent, _ = consent_without_persons(of_ping(body.consent, body.named, kind=kind))
        ping = Ping(
            ping_id=row.resale_id,
            seller_id=lead.seller_id,
            source_id=lead.source_id,
            vertical_id=lead.vertical_id,
            fields=record.ping_fields,
            received_at=self._clock.now(),
            tmax_ms=self._limits.tmax_ms,
            sub_id=lead.sub_id,
            floor_micros=max(lead.floor_micros, market.source.floor_micros),
            consent=consent if body.consent or body.named else None,
            external_id=lead.external_id,
            direct=True,
        )
        return await self._pings.direct(ping, began=self._clock.loop_time(), had=lead.had)

    def _deal(
        self,
        lead: ReturnedLead,
        market: _Market,
        record: _Record,
        row: ResaleRow,
        offer: Offer,
        claims: tuple[Any, ...],
    ) -> Deal:
        now = self._clock.now()
        chain = Chain(lead_id=lead.lead_id, seq=lead.custody_seq, head=lead.custody_head)
        again = reoffered_body(resale_id=row.resale_id, return_id=row.return_id, leg=row.leg)
        chain = chain.append("reoffered", now, again)
        chain = chain.append("invited", now, invited_body(offer, hidden=hidden(market.vertical)))
        began = self._clock.loop_time()
        return Deal(
            lead=msgspec.structs.replace(lead_of(lead.lead_id, record.body), ping_id=row.resale_id),
            fields=record.body.fields,
            seller=market.seller,
            source_id=lead.source_id,
            sub_id=lead.sub_id,
            vertical=market.vertical,
            candidates=tuple(one for one in offer.candidates if one.buyer_id not in lead.had),
            promised_micros=offer.floor_micros,
            selling=Selling(
                lead_id=lead.lead_id,
                seller_id=lead.seller_id,
                idem_key=lead.idem_key,
                chain=chain,
                boot_id=self._boot_id,
                state="sold",
                claims=claims,
                currency=lead.currency,
                resale=row,
            ),
            opening=None,
            pinged_at=now,
            began=began,
            deadline=began + self._limits.post_deadline_ms / 1000,
            direct=True,
            test=False,
            named=record.body.named,
            private=record.private,
            leg=row.leg,
            releases_before=len(lead.attempts),
            notice_id=self._clock.new_id() if market.seller.terms.webhook_url else None,
        )

    async def _sold(self, deal: Deal, row: ResaleRow) -> Resold | Rule:
        sold = await self._sales.sell(deal)
        record = sold.record
        if all(step.delivery is None for step in record.steps) and record.status != "pending":
            if record.status == "duplicate":
                return "sold_meanwhile"
            return "busy" if sold.reply is None else "no_buyer"
        return Resold(
            lead_id=record.lead_id,
            kind=_KINDS.get(record.status, "unsold"),
            resale_id=row.resale_id,
            buyer_id=next((one.buyer_id for one in record.steps if one.loss == Loss.WON), None),
            payout_micros=record.payout_micros,
            price_micros=record.price_micros,
            currency=record.currency,
        )


def _market(lead: ReturnedLead, book: Book) -> _Market | None:
    """`None` when something of it has left the market."""
    seller, vertical = book.sellers.get(lead.seller_id), book.verticals.get(lead.vertical_id)
    source = book.parties.sources.get(lead.source_id)
    if seller is None or vertical is None or source is None or vertical.closed:
        return None
    terms = resale.terms_of(seller.terms.resell, vertical.terms.resell)
    return _Market(seller=seller, source=source, vertical=vertical, terms=terms)


def _is_traded(market: _Market, lead: ReturnedLead, book: Book) -> bool:
    """Whether leads of its source, and sub_id, are sold now."""
    is_off = market.vertical.terms.paused or book.pauses.stop(lead.source_id, lead.sub_id)
    return not is_off and book.takes_from(market.seller, market.source)
