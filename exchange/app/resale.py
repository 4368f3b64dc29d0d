"""The parts that offer returned leads again: those of a worker that auctions and sells, without its
doors. Used by the jobs process and by the command."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from exchange.app.ground import Ground, Urls, cancelled
from exchange.app.outlets import Outlets
from exchange.app.worker import pings_of, resolving_of, sales_of, watch_of
from exchange.config import Settings
from exchange.core.resale import Resold
from exchange.effects.doubts import SealedLeads
from exchange.effects.journal import Journal
from exchange.effects.leads import Leads
from exchange.effects.offers import Offers
from exchange.effects.postgres import Database
from exchange.effects.resales import Resales
from exchange.flows.opening import Openings
from exchange.flows.resale import ResaleLimits, Reselling


@asynccontextmanager
async def reselling(
    base: Ground, settings: Settings, urls: Urls, sealed: Database
) -> AsyncIterator[Reselling]:
    """Who offers returned leads again. `sealed` acts as exchange_sealed: it opens their records."""
    limits, leads = settings.limits, Leads(base.database)
    journal = Journal(
        queue_max=limits.journal_queue_max,
        on_batch=Outlets(base, None).pings,
        masks=base.standing.take_masks,
    )
    offers = Offers(
        base.valkey,
        answer_s=limits.valkey_timeout_ms / 1000,
        open_max=limits.offers_max,
        limit_hit=base.metrics.limit_hit,
    )
    sales = sales_of(base, resolving_of(base), limits)
    watch = watch_of(base, leads, limits)
    await journal.start(urls.database_url)
    with suppress(ConnectionError, TimeoutError):
        await watch.learn()  # else it learns when the servers are back
    watching = asyncio.create_task(watch.run(), name="watch")
    try:
        yield Reselling(
            clock=base.clock,
            standing=base.standing,
            store=Resales(base.database),
            sealed=SealedLeads(sealed),
            vault=base.vault,
            leads=leads,
            openings=Openings(clock=base.clock, vault=base.vault, boot_id=base.boot_id),
            pings=pings_of(base, offers, journal, limits),
            sales=sales,
            recorded=lambda resold: _told(base, resold),
            limits=ResaleLimits(
                releases_max=limits.releases_max, post_deadline_ms=limits.post_deadline_ms
            ),
            boot_id=base.boot_id,
            at=base.at,
        )
    finally:
        await sales.drain()
        await cancelled(watching)
        await journal.stop()


def _told(base: Ground, resold: Resold) -> None:
    """The metrics and the log line of a lead that was looked at."""
    base.metrics.resold(resold)
    base.say(
        "resale",
        lead_id=resold.lead_id,
        resale_id=resold.resale_id,
        outcome=resold.kind,
        reason=resold.rule,
        price_micros=resold.price_micros,
        payout_micros=resold.payout_micros,
        currency=resold.currency,
    )
