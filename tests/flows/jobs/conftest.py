"""A stage for the jobs on the real Postgres and Valkey: a clock that is set by hand, leads cut off
where a test wants it, and the parts of reconcile joined."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchange.core import attempts
from exchange.core.attempts import Ended, Opening, Selling
from exchange.core.book import Book, book_of
from exchange.core.caps import windows
from exchange.core.custody import (
    Chain,
    invited_body,
    offered_body,
    received_body,
    stored_row,
    verify,
)
from exchange.core.model import Candidate, Lead, Offer, Personal
from exchange.core.reasons import Delivery
from exchange.core.records import AttemptRow, IdemRow, LeadPrivateRow, LeadRow, PrivateDoc
from exchange.dialects import json as house
from exchange.effects.buyers import Buyers
from exchange.effects.caps import Caps, Reserved
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits
from exchange.effects.doubts import Doubts, SealedLeads
from exchange.effects.leads import Leads
from exchange.effects.leases import Boots, Leases
from exchange.effects.postgres import Database
from exchange.effects.valkey import Valkey
from exchange.effects.vault import Vault
from exchange.flows.doubt import Endings, Resolving, tell_caps
from exchange.flows.inquiry import Inquiries, InquiryLimits
from exchange.flows.reconcile import Pace, Reconcile
from exchange.flows.replies import Replies

LEFTOVERS = (
    "UPDATE attempt SET state = 'written_off' WHERE state = 'unknown'",
    "UPDATE attempt SET state = 'voided' WHERE state = 'posting'",
    "UPDATE lead SET state = 'unsold' WHERE state IN ('received', 'selling', 'in_doubt')",
    "UPDATE outbox SET state = 'dead' WHERE state = 'pending'",
)
"""Ends what an earlier test of the module left open: a turn of reconcile takes up everything."""
CANARY = "4155550199"


class StageClock(Clock):
    """The real clock, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Desk:
    """How buyers are reached, without a worker."""

    def __init__(self, book: Book, buyers: Buyers) -> None:
        self.book = book
        self._buyers = buyers

    def endpoint(self, buyer: Any, kind: str) -> Any:
        url = {"post": buyer.terms.post_url, "status": buyer.terms.status_url}[kind]
        return self._buyers.endpoint(
            key=f"{buyer.id}.{kind}",
            url=url,
            headers={},
            in_flight_max=64,
            tls_ca=None,
            pool="post",
        )

    def dialect(self, _buyer: Any) -> Any:
        return house


class Began(msgspec.Struct):
    """A lead with one attempt begun on this stage."""

    attempt: AttemptRow
    lead: Lead
    selling: Selling
    used_before: dict[str, tuple[int, int]]


class Stage:
    """Everything that reconcile touches."""

    guaranteed_micros = 0  # what the leads begun from now on are guaranteed

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)
        self.consent: dict[str, Any] = {"kind": "none"}

    def in_force(self, *, policy: tuple[str, ...]) -> None:
        """Another market: another policy."""
        self.desk.book = book_of(self.scripts.market(policy=policy))

    @property
    def book(self) -> Book:
        return self.desk.book

    def buyer(self, key: str) -> Any:
        return next(one for one in self.book.buyers.values() if one.key == key)

    def contract(self, key: str) -> Any:
        return next(one for one in self.book.contracts.values() if one.key == key)

    async def boot(self, name: str, *, is_dead: bool) -> str:
        """A worker, alive or ended."""
        await self.boots.register(name, "serve")
        if is_dead:
            await self.boots.leave(name)
        return name

    def opening(self, lead_id: str, boot_id: str, *, test: bool = False) -> tuple[Opening, Chain]:
        now = self.clock.now()
        offer = self.offer(lead_id, test=test)
        chain = Chain.begin(lead_id).append("received", now, received_body(offer, {}, direct=False))
        chain = chain.append("invited", now, invited_body(offer))
        chain = chain.append("offered", now, offered_body(offer))
        private = PrivateDoc(
            lead={"state": "CA", "phone": CANARY}, consent=self.consent, chain=[], salts={}
        )
        sealed = self.vault.seal(lead_id, msgspec.json.encode(private))
        row = LeadRow(
            lead_id=lead_id,
            seller_id=offer.seller_id,
            source_id=offer.source_id,
            sub_id=None,
            vertical_id=1,
            external_id=None,
            state="selling",
            mode="exclusive",
            max_sales=1,
            direct=False,
            promised_payout_micros=offer.payout_micros,
            min_payout_micros=offer.payout_micros,
            floor_micros=0,
            currency="USD",
            consent_kind="none",
            custody_seq=chain.seq,
            custody_head=chain.head,
            book_version=1,
            mask_id=0,
            offer=msgspec.to_builtins(offer),
            boot_id=boot_id,
            test=test,
            received_at=now,
        )
        return (
            Opening(
                lead=row,
                idem=IdemRow(
                    seller_id=offer.seller_id,
                    key=lead_id,
                    fingerprint="\\x" + "ab" * 16,
                    lead_id=lead_id,
                ),
                private=LeadPrivateRow(
                    lead_id=lead_id,
                    key_epoch=sealed.key_epoch,
                    wrapped_dek="\\x" + sealed.wrapped_dek.hex(),
                    sealed="\\x" + sealed.sealed.hex(),
                ),
            ),
            chain,
        )

    def offer(self, lead_id: str, *, test: bool = False) -> Offer:
        now_ms = int(self.clock.now().timestamp() * 1000)
        return Offer(
            ping_id=lead_id,
            seller_id=2,
            source_id=1,
            vertical_id=1,
            payout_micros=21_250_000,
            currency="USD",
            expires_at_ms=now_ms + 120_000,
            received_at_ms=now_ms,
            fields={"state": "CA", "age": 40},
            candidates=(
                self.candidate("acme-auto", 1, 25_000_000),
                self.candidate("beacon-auto", 2, 20_000_000),
            ),
            book_version=1,
            mask_id=0,
            test=test,
            invited=(self.contract("acme-auto").id, self.contract("beacon-auto").id),
            guaranteed_micros=0 if test else self.guaranteed_micros,
        )

    def candidate(self, contract: str, rank: int, price_micros: int) -> Candidate:
        found = self.contract(contract)
        payout = price_micros * 85 // 100
        return Candidate(
            contract_id=found.id,
            buyer_id=found.buyer_id,
            rank=rank,
            price_micros=price_micros,
            payout_micros=payout,
            fee_micros=price_micros - payout,
            buyer_ref="bid-1",
        )

    def attempt(
        self, lead_id: str, candidate: Candidate, boot_id: str, *, test: bool = False
    ) -> AttemptRow:
        contract = self.book.contracts[candidate.contract_id]
        now = self.clock.now()
        held = windows(
            contract,
            fields={"state": "CA"},
            price_micros=candidate.price_micros,
            at=now,
            zone=contract.time_zone,
        )
        deadline_at = now + timedelta(seconds=10)
        return AttemptRow(
            attempt_id=self.clock.new_id(),
            lead_id=lead_id,
            seller_id=2,
            buyer_id=candidate.buyer_id,
            contract_id=contract.id,
            contract_version=1,
            rank=candidate.rank,
            leg=1,
            price_micros=candidate.price_micros,
            payout_micros=candidate.payout_micros,
            fee_micros=candidate.fee_micros,
            currency="USD",
            buyer_bid_ref=candidate.buyer_ref,
            bid_expires_at=None,
            deadline_at=deadline_at,
            next_check_at=deadline_at,
            boot_id=boot_id,
            cap_mode=contract.terms.cap_mode,
            cap_sq=0,
            windows=[] if test else [[one.win, one.limit, one.amount] for one in held],
            slots=[1],
            test=test,
            created_at=now,
        )

    async def begin(self, boot_id: str, *, test: bool = False) -> Began:
        """Reserve and INTENT at acme: from here on it may have the lead."""
        lead_id = self.clock.new_id()
        opening, chain = self.opening(lead_id, boot_id, test=test)
        attempt = self.attempt(
            lead_id, self.candidate("acme-auto", 1, 25_000_000), boot_id, test=test
        )
        used_before = await self.used(attempt)
        await self.reserve(attempt)
        selling = Selling(
            lead_id=lead_id, seller_id=2, idem_key=lead_id, chain=chain, boot_id=boot_id
        )
        unit, selling = attempts.intent(selling, attempt, at=attempt.created_at, opening=opening)
        assert (await self.commits.commit(unit)).kind == "done"
        lead = Lead(
            lead_id=lead_id,
            fields=Personal({"state": "CA", "phone": CANARY}),
            consent=Personal({"kind": "none"}),
        )
        return Began(attempt=attempt, lead=lead, selling=selling, used_before=used_before)

    async def received(self, boot_id: str) -> str:
        """A direct lead, durable and not yet offered to anyone."""
        lead_id = self.clock.new_id()
        opening, chain = self.opening(lead_id, boot_id)
        lead = msgspec.structs.replace(opening.lead, state="received", direct=True)
        opening = msgspec.structs.replace(opening, lead=lead)
        selling = Selling(
            lead_id=lead_id, seller_id=2, idem_key=lead_id, chain=chain, boot_id=boot_id
        )
        unit, _ = attempts.opened(opening, selling)
        assert (await self.commits.commit(unit)).kind == "done"
        return lead_id

    async def used(self, attempt: AttemptRow) -> dict[str, tuple[int, int]]:
        wins = [win for win, _, _ in attempt.windows]
        return await self.caps.used(attempt.buyer_id, wins) if wins else {}

    async def reserve(self, attempt: AttemptRow) -> None:
        if attempt.windows:
            contract = self.book.contracts[attempt.contract_id]
            held = windows(
                contract,
                fields={"state": "CA"},
                price_micros=attempt.price_micros,
                at=attempt.created_at,
                zone=contract.time_zone,
            )
            reserved = await self.caps.reserve(attempt.buyer_id, attempt.attempt_id, held, 70_000)
            assert isinstance(reserved, Reserved)

    async def send(self, began: Began) -> Any:
        """The bytes leave; what the dialect makes of the answer."""
        buyer = self.book.buyers[began.attempt.buyer_id]
        body = house.post_body(
            began.lead,
            attempt_id=began.attempt.attempt_id,
            contract_key="acme-auto",
            buyer_ref="bid-1",
            price_micros=began.attempt.price_micros,
            custody={},
            test=began.attempt.test,
        )
        answer = await self.buyers.send(
            self.desk.endpoint(buyer, "post"),
            headers=house.post_headers(
                attempt_id=began.attempt.attempt_id, timestamp=1, body=body, secret=None
            ),
            body=body,
            deadline=self.clock.loop_time() + 5,
        )
        return house.read_delivery(answer)

    async def doubt(self, began: Began) -> None:
        """The worker itself gives up: RESULT, unknown."""
        now = self.clock.now()
        end = Ended(attempt=began.attempt, delivery=Delivery.UNKNOWN, at=now, next_check_at=now)
        unit, _ = attempts.ended(began.selling, "in_doubt", at=now, last=end, reply=None)
        assert (await self.commits.commit(unit)).kind == "done"
        await self.caps.keep(began.attempt.buyer_id, began.attempt.attempt_id)

    async def refused(self, began: Began, *, is_told: bool = True) -> None:
        """The buyer said no, and the worker had not yet chosen the next (nor told Valkey)."""
        now = self.clock.now()
        end = Ended(attempt=began.attempt, delivery=Delivery.REJECTED, at=now)
        unit, _ = attempts.ended(began.selling, "selling", at=now, last=end, reply=None)
        assert (await self.commits.commit(unit)).kind == "done"
        if is_told:
            await self.caps.release(began.attempt.buyer_id, began.attempt.attempt_id)

    async def sold_untold(self, began: Began) -> None:
        """A sale is durable, and Valkey has not heard of it."""
        now = self.clock.now()
        end = Ended(attempt=began.attempt, delivery=Delivery.ACCEPTED, at=now)
        unit, _ = attempts.ended(began.selling, "sold", at=now, last=end, reply={"status": "sold"})
        assert (await self.commits.commit(unit)).kind == "done"

    async def tell(self, began: Began, state: str) -> None:
        """Valkey hears what became of the attempt."""
        attempt = began.attempt
        await tell_caps(
            self.caps,
            buyer_id=attempt.buyer_id,
            attempt_id=attempt.attempt_id,
            state=state,
            held=attempt.windows,
        )

    async def turn(self) -> Any:
        """One round of reconcile under its lease."""
        lease = await self.leases.acquire("reconcile")
        assert lease is not None
        return await self.reconcile.turn(lease)

    async def now(self, began: Began) -> dict[str, Any]:
        """What everyone would say of the lead at this moment: state, money, caps, reply, chain."""
        lead_id, attempt = began.lead.lead_id, began.attempt
        lead = await self.database.fetchrow(
            "SELECT *, encode(custody_head, 'hex') AS head FROM lead WHERE lead_id = $1", lead_id
        )
        row = await self.database.fetchrow(
            "SELECT * FROM attempt WHERE attempt_id = $1", attempt.attempt_id
        )
        idem = await self.database.fetchrow("SELECT * FROM idem WHERE lead_id = $1", lead_id)
        chain = await self.database.fetch(
            "SELECT * FROM custody_event WHERE lead_id = $1 ORDER BY seq", lead_id
        )
        rows = tuple(stored_row(one) for one in chain)
        assert verify(rows, head=(lead["custody_seq"], lead["head"])) is None
        wins = [win for win, _, _ in attempt.windows]
        used, before = await self.used(attempt), began.used_before
        for win in wins:  # the fence in Postgres says the same as Valkey
            fenced = await self.database.fetchval(
                "SELECT used FROM cap_window WHERE buyer_id = $1 AND win = $2",
                attempt.buyer_id,
                win,
            )
            assert fenced == sum(used[win]), win
        return {
            "lead": lead["state"],
            "attempt": row["state"],
            "by": row["resolved_by"],
            "billed": await self.database.fetchval(
                "SELECT coalesce(sum(amount_micros), 0)::bigint FROM transfer WHERE lead_id = $1",
                lead_id,
            ),
            "used": [used[win][0] - before[win][0] for win in wins],
            "held": [used[win][1] - before[win][1] for win in wins],
            "told": (idem["reply"] or {}).get("status"),
        }


async def register(database: Database, book: Book) -> None:
    """The parties that accounts and caps refer to."""
    for kind, parties in (("seller", book.sellers), ("buyer", book.buyers)):
        for party in parties.values():
            await database.execute(
                "INSERT INTO party (id, kind, key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                party.id,
                kind,
                party.key,
            )
            await database.execute(
                f"INSERT INTO {kind} (id, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                party.id,
                party.key,
            )


@pytest.fixture
async def stage(
    scripts: Any, database_url: str, valkey_url: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        ground = await connected(stack, database_url, valkey_url)
        book = book_of(scripts.market())
        await register(ground["database"], book)
        for leftover in LEFTOVERS:
            await ground["database"].execute(leftover)
        vault = Vault.open_file(tmp_path / "master", create=True)
        yield joined(scripts, book, vault, **ground)


async def connected(stack: AsyncExitStack, database_url: str, valkey_url: str) -> dict[str, Any]:
    """What touches the world, each closed when the stack unwinds."""
    clock = StageClock()
    database = await Database.open(database_url, role="exchange_app", size=4)
    stack.push_async_callback(database.close)
    sealed = await Database.open(database_url, role="exchange_sealed", size=1)
    stack.push_async_callback(sealed.close)
    valkey = await Valkey.open(valkey_url, queue_max=1_000, timeout_ms=2_000)
    stack.push_async_callback(valkey.close)
    commits = await Commits.open(database_url)
    stack.push_async_callback(commits.close)
    buyers = Buyers(lab=True)
    stack.push_async_callback(buyers.close)
    caps = Caps(valkey, database, clock)
    stack.push_async_callback(caps.close)
    return {
        "clock": clock, "database": database, "sealed": sealed, "commits": commits,
        "buyers": buyers, "caps": caps,
    }  # fmt: skip


def joined(scripts: Any, book: Book, vault: Vault, **ground: Any) -> Stage:
    """The parts of reconcile, as the jobs process joins them."""
    clock, database, buyers = ground["clock"], ground["database"], ground["buyers"]
    commits, caps = ground["commits"], ground["caps"]
    desk = Desk(book, buyers)
    boots = Boots(database, dead_after_s=60)
    leases = Leases(database, boot_id="jobs-1", ttl_s=30)
    doubts = Doubts(database)
    replies = Replies(vault=vault, leads=Leads(database))
    endings = Endings(
        commits=commits, caps=caps, replies=replies, clock=clock, book=lambda: desk.book
    )
    inquiries = Inquiries(
        desk=desk,
        buyers=buyers,
        sealed=SealedLeads(ground["sealed"]),
        vault=vault,
        secret=lambda _name: None,
        clock=clock,
        limits=InquiryLimits(),
    )
    reconcile = Reconcile(
        doubts=doubts,
        boots=boots,
        leases=leases,
        endings=endings,
        inquiries=inquiries,
        caps=caps,
        desk=desk,
        clock=clock,
        pace=Pace(),
    )
    resolving = Resolving(doubts=doubts, endings=endings, clock=clock, grace=timedelta(seconds=5))
    return Stage(
        **ground, scripts=scripts, acme=scripts.acme, beacon=scripts.beacon, desk=desk,
        boots=boots, leases=leases, doubts=doubts, vault=vault, endings=endings,
        resolving=resolving, reconcile=reconcile, replies=replies, inquiries=inquiries,
    )  # fmt: skip
