"""The jobs process: reconcile, inspection, webhooks, lapses, incidents, terms, resales, balances,
partitions and more, each under a lease."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec

from exchange.app.dials import ground_dials, heard, inspected, trying
from exchange.app.ground import BEAT_S, DEAD_AFTER_S, Ground, Urls, cancelled, ground, replies_of
from exchange.app.incidents import auto_pause_of, incidents_of
from exchange.app.resale import reselling
from exchange.app.worker import returns_of
from exchange.config import Limits, Settings
from exchange.effects.doubts import Doubts, SealedLeads
from exchange.effects.epochs import Epochs
from exchange.effects.inspection import Looks
from exchange.effects.leases import Boots, Lease, Leases
from exchange.effects.outbox import Outbox
from exchange.effects.postgres import Database
from exchange.effects.retention import Forgetting
from exchange.effects.rollups import Rollups
from exchange.effects.settlements import Settlements
from exchange.effects.sums import SumStore
from exchange.effects.tallies import TallyStore
from exchange.effects.wallets import WalletStore
from exchange.flows.doubt import Endings
from exchange.flows.inquiry import Inquiries, InquiryLimits
from exchange.flows.inspection import Inspection, InspectionLimits
from exchange.flows.jobs import Job, partitions
from exchange.flows.jobs import run as run_jobs
from exchange.flows.outbox import WebhookLimits, Webhooks
from exchange.flows.quality import Qualities
from exchange.flows.reconcile import Pace, Reconcile, Turn
from exchange.flows.retention import Retention, RetentionLimits
from exchange.flows.rollups import KeepingDays
from exchange.flows.rotation import Rotation
from exchange.flows.settling import Settling
from exchange.flows.tallies import Tallies
from exchange.flows.wallets import Wallets

LEASE_S = 5.0
"""A job whose process fell silent is taken over after this long."""
TALLY_TIMEOUT_MS = 600_000
"""An hour of a busy journal takes seconds to add up; longer than ten minutes is a fault."""


async def jobs(settings: Settings, urls: Urls, stop: asyncio.Event) -> None:
    """The jobs process, until `stop` is set."""
    async with (
        ground(settings, urls, kind="jobs", number=0, beats=False) as base,
        AsyncExitStack() as stack,
    ):
        sealed = await Database.open(
            urls.database_url, role="exchange_sealed", size=2, application_name="jobs-sealed"
        )
        stack.push_async_callback(sealed.close)
        leases = Leases(base.database, boot_id=base.boot_id, ttl_s=LEASE_S)
        boots = Boots(base.database, dead_after_s=DEAD_AFTER_S)
        reconcile = _reconcile(base, sealed, leases, boots)
        stack.push_async_callback(reconcile.stop)
        inspection = Inspection(
            looks=Looks(base.database), clock=base.clock, limits=InspectionLimits()
        )
        selling = await stack.enter_async_context(reselling(base, settings, urls, sealed))
        ground_dials(base)
        inspected(base, inspection.seen, lambda: inspection.leads)
        trials = asyncio.create_task(trying(base), name="trying")
        stack.push_async_callback(cancelled, trials)
        await run_jobs(
            [
                *_jobs(base, reconcile, inspection),
                Job(name="resale", every_s=5.0, turn=selling.job(leases)),
                *await _forgetting(stack, base, sealed, urls, settings.limits),
                *await _reporting(stack, base, urls),
            ],
            leases=leases,
            boots=boots,
            boot_id=base.boot_id,
            beat_every_s=BEAT_S,
            stop=stop,
            say=heard(base),
        )


def _reconcile(base: Ground, sealed: Database, leases: Leases, boots: Boots) -> Reconcile:
    endings = Endings(
        commits=base.commits,
        caps=base.caps,
        replies=replies_of(base),
        clock=base.clock,
        book=lambda: base.standing.book,
        at=base.at,
    )
    inquiries = Inquiries(
        desk=base.standing,
        buyers=base.buyers,
        sealed=SealedLeads(sealed),
        vault=base.vault,
        secret=base.secret,
        clock=base.clock,
        limits=InquiryLimits(),
    )
    return Reconcile(
        doubts=Doubts(base.database),
        boots=boots,
        leases=leases,
        endings=endings,
        inquiries=inquiries,
        caps=base.caps,
        desk=base.standing,
        clock=base.clock,
        pace=Pace(dead_after_s=DEAD_AFTER_S),
    )


def _jobs(base: Ground, reconcile: Reconcile, inspection: Inspection) -> list[Job]:
    webhooks = Webhooks(
        outbox=Outbox(base.database, per_party_max=100, batch_max=500),
        buyers=base.buyers,
        book=lambda: base.standing.book,
        secret=base.secret,
        clock=base.clock,
        limits=WebhookLimits(),
    )
    return [
        Job(name="reconcile", every_s=0.5, turn=_counted(base, reconcile)),
        Job(name="inspection", every_s=5.0, turn=inspection.turn),
        Job(name="outbox", every_s=1.0, turn=webhooks.turn),
        Job(
            name="wallets",
            every_s=0.5,
            turn=Wallets(store=WalletStore(base.database), caps=base.caps).turn,
        ),
        Job(name="incidents", every_s=5.0, turn=incidents_of(base).turn),
        Job(name="auto_pause", every_s=300.0, turn=auto_pause_of(base).turn),
        Job(name="lapses", every_s=60.0, turn=returns_of(base, base.database).lapse),
        Job(
            name="terms",
            every_s=3_600.0,
            turn=Settling(settlements=Settlements(base.database), clock=base.clock).turn,
        ),
        Job(
            name="balances",
            every_s=300.0,
            turn=KeepingDays(days=Rollups(base.database), clock=base.clock).turn,
        ),
        Job(
            name="partitions",
            every_s=3_600.0,
            turn=partitions(base.database, base.clock, days_ahead=7),
        ),
    ]


async def _forgetting(
    stack: AsyncExitStack, base: Ground, sealed: Database, urls: Urls, limits: Limits
) -> list[Job]:
    """The jobs that end what is kept for a time only: keys of sellers, records, master keys."""
    pruner = await Database.open(
        urls.database_url, role="exchange_pruner", size=1, application_name="jobs-pruner"
    )
    stack.push_async_callback(pruner.close)
    retention = Retention(
        forgetting=Forgetting(app=base.database, sealed=sealed, pruner=pruner),
        clock=base.clock,
        limits=RetentionLimits(
            idem_kept_days=limits.idem_kept_days,
            sealed_unsold_days=limits.sealed_unsold_days,
            sealed_ended_days=limits.sealed_ended_days,
        ),
    )
    rotation = Rotation(epochs=Epochs(app=base.database, sealed=sealed), vault=base.vault)
    return [
        Job(name="rotation", every_s=600.0, turn=rotation.turn),
        Job(name="forget_keys", every_s=3_600.0, turn=retention.forget_keys),
        Job(name="shred", every_s=86_400.0, turn=retention.shred),
    ]


async def _reporting(stack: AsyncExitStack, base: Ground, urls: Urls) -> list[Job]:
    """The jobs that add up the trade, on a connection of their own: a day made anew takes long."""
    database = await Database.open(
        urls.database_url,
        role="exchange_app",
        size=1,
        application_name="jobs-tallies",
        statement_timeout_ms=TALLY_TIMEOUT_MS,
    )
    stack.push_async_callback(database.close)
    tallies = Tallies(store=TallyStore(database), clock=base.clock)
    qualities = Qualities(sums=SumStore(database), clock=base.clock)
    return [
        Job(name="tallies", every_s=30.0, turn=tallies.turn),
        Job(name="quality", every_s=600.0, turn=qualities.turn),
    ]


def _counted(base: Ground, reconcile: Reconcile) -> Callable[[Lease], Awaitable[Turn]]:
    async def turn(lease: Lease) -> Turn:
        done = await reconcile.turn(lease)
        base.metrics.reconciled(msgspec.structs.asdict(done))
        return done

    return turn
