"""A stage on which leads are sold, given back and offered again: the flow of resales on the real
servers, with buyers that bid and answer by their script."""

from typing import Any

import msgspec

from exchange.core.book import book_of
from exchange.core.records import PingRecord
from exchange.core.resale import Resold
from exchange.core.terms import MarketDoc
from exchange.dialects import dialects
from exchange.effects.doubts import SealedLeads
from exchange.effects.failpoints import At, nowhere
from exchange.effects.leads import Leads
from exchange.effects.proof import proven
from exchange.effects.resales import Resales
from exchange.effects.returns import ReturnStore
from exchange.flows.holding import Holding
from exchange.flows.opening import Openings
from exchange.flows.ping import PingLimits, Pings
from exchange.flows.resale import ResaleLimits, Reselling
from exchange.flows.returns import ReturnLimits, Returns
from exchange.flows.selling import Sales, SellLimits
from exchange.flows.standing import Standing

RETURNS = {"reasons": {name: {"evidence": [], "to_person": False} for name in (
    "existing_customer", "language", "wrong_person", "no_consent",
)}, "max_rate": "1"}  # fmt: skip


def with_terms(doc: MarketDoc, resell: dict[str, Any] | None) -> MarketDoc:
    """The market of the scripts with returns at every contract, a third buyer, and terms of
    re-offering; without caps."""
    plain = msgspec.to_builtins(doc)
    plain["buyers"]["cedar"] = plain["buyers"]["beacon"]
    plain["contracts"]["cedar-auto"] = {"buyer": "cedar", "vertical": "auto"}
    for contract in plain["contracts"].values():
        contract["returns"] = RETURNS
        contract.pop("caps", None)
        contract.setdefault("time_zone", "America/Chicago")
    if resell is not None:
        plain["verticals"]["auto"]["resell"] = resell
    return msgspec.convert(plain, MarketDoc, strict=False)


class Journal:
    """Keeps the pings."""

    def __init__(self) -> None:
        self.pings: list[PingRecord] = []

    def put(self, record: PingRecord) -> None:
        self.pings.append(record)


class Again:
    """The parts of a resale, joined on a stage of jobs."""

    def __init__(self, stage: Any, *, boot_id: str = "again", at: At = nowhere) -> None:
        self.stage, self.at, self.told = stage, at, list[Resold]()
        self.journal = Journal()
        any_: Any = self
        standing = Standing(
            stage.book, buyers=stage.buyers, dialects=dialects(), brake_count=1_000, brake_s=300,
            trial_s=30, worker_number=7,
        )  # fmt: skip
        standing.adopt(stage.book, stage.clock.now())
        self.standing = standing
        pings = Pings(
            clock=stage.clock, standing=standing, buyers=stage.buyers, offers=any_,
            holding=Holding(clock=stage.clock, standing=standing, caps=stage.caps, ttl_ms=1),
            journal=any_.journal, pseudonym=stage.vault.pseudonym,
            limits=PingLimits(
                tmax_ms=1_000, tmax_ms_min=50, tmax_ms_max=5_000, answer_reserve_ms=10,
                invited_max=50, ranking_kept=10, offer_ttl_ms=60_000,
            ),
            worker="w",
        )  # fmt: skip
        self.sales = Sales(
            clock=stage.clock, standing=standing, buyers=stage.buyers, caps=stage.caps,
            commits=stage.commits, replies=stage.replies, secret=lambda _: None,
            claim_trial=self._nothing, tell_late=self._nothing,
            limits=SellLimits(post_deadline_ms=5_000, hold_margin_ms=1_000, releases_max=3),
            boot_id=boot_id, worker="w", at=self._at,
        )  # fmt: skip
        self.reselling = Reselling(
            clock=stage.clock, standing=standing, store=Resales(stage.database),
            sealed=SealedLeads(stage.sealed), vault=stage.vault, leads=Leads(stage.database),
            openings=Openings(clock=stage.clock, vault=stage.vault, boot_id=boot_id),
            pings=pings, sales=self.sales, recorded=self.told.append,
            limits=ResaleLimits(releases_max=3, post_deadline_ms=5_000), boot_id=boot_id,
            at=self._at,
        )  # fmt: skip

    async def _nothing(self, *_: Any) -> Any:
        return False

    async def _at(self, place: str) -> None:
        await self.at(place)

    async def resell(self, lead_id: str) -> Resold:
        came = await self.reselling.resell(lead_id, by="Dana", why="tests")
        await self.sales.drain()
        return came

    async def turn(self) -> int:
        lease = await self.stage.leases.acquire("resale")
        assert lease is not None
        done: int = await self.reselling.job(self.stage.leases)(lease)
        await self.sales.drain()
        return done


def returns_of(stage: Any) -> Returns:
    return Returns(
        store=ReturnStore(stage.database, had_before_days=90),
        clock=stage.clock,
        book=lambda: stage.book,
        recorded=lambda _: None,
        limits=ReturnLimits(),
    )


async def state(stage: Any, lead_id: str) -> dict[str, Any]:
    """The lead, its attempts by buyer, who holds its slot."""
    lead = await stage.database.fetchval("SELECT state FROM lead WHERE lead_id = $1", lead_id)
    rows = await stage.database.fetch(
        "SELECT a.attempt_id, b.key, a.state, a.leg, a.credited_micros = a.price_micros AS is_back"
        " FROM attempt a JOIN buyer b ON b.id = a.buyer_id WHERE a.lead_id = $1"
        " ORDER BY a.created_at",
        lead_id,
    )
    slot = await stage.database.fetchval(
        "SELECT attempt_id FROM sale_slot WHERE lead_id = $1", lead_id
    )
    return {
        "lead": lead,
        "attempts": [(row["key"], row["state"], row["leg"]) for row in rows],
        "slot": next((row["key"] for row in rows if row["attempt_id"] == slot), None),
        "live": [row["key"] for row in rows if row["state"] == "sold" and not row["is_back"]],
    }


async def wrong(stage: Any) -> set[str]:
    """The checks of the ledger that fail."""
    return {check.name for check in (await proven(stage.database)).checks if check.wrong}


async def registered(stage: Any, doc: MarketDoc) -> None:
    """The market in the registry, as the terms of sales are looked up there."""
    run, book = stage.database.execute, stage.book
    await run(
        "INSERT INTO market_version (version, toml, source, by) VALUES (1, '', 'file', 'tests')"
        " ON CONFLICT DO NOTHING"
    )
    for vertical in book.verticals.values():
        await _row(run, "vertical", "id, key", vertical.id, vertical.key)
        await _doc(run, "vertical", vertical)
    for kind, parties in (("seller", book.sellers), ("buyer", book.buyers)):
        for party in parties.values():
            await _row(run, "party", "id, kind, key", party.id, kind, party.key)
            await _row(run, kind, "id, key", party.id, party.key)
            await _doc(run, kind, party)
    for source in book.parties.sources.values():
        await _row(run, "source", "id, seller_id, key", source.id, source.seller_id, source.key)
    for contract in book.contracts.values():
        key, buyer_id = contract.key, contract.buyer_id
        await _row(run, "contract", "id, key, buyer_id, vertical_id", contract.id, key, buyer_id, 1)
        await _doc(run, "contract", contract)


async def _row(run: Any, table: str, columns: str, *values: Any) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await run(
        f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({places})"
        " ON CONFLICT DO NOTHING",
        *values,
    )


async def _doc(run: Any, kind: str, one: Any) -> None:
    await run(
        f"INSERT INTO {kind}_version ({kind}_id, version, market_version, doc)"
        " VALUES ($1, 1, 1, $2) ON CONFLICT DO NOTHING",
        one.id,
        one.terms,
    )


__all__ = ["Again", "book_of", "registered", "returns_of", "state", "with_terms", "wrong"]
