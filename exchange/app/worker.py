"""A worker: the API, the flows behind it, and what keeps them informed."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from aiohttp import web

from exchange.api import bulk_returns as bulk_api
from exchange.api import buyer as buyer_api
from exchange.api import finance as finance_api
from exchange.api import lists as lists_api
from exchange.api import operator as operator_api
from exchange.api import ops as ops_api
from exchange.api import seller as seller_api
from exchange.api.bulk_returns import BulkApi
from exchange.api.buyer import BuyerApi
from exchange.api.door import Door, Limit
from exchange.api.finance import FinanceApi
from exchange.api.lists import ListsApi
from exchange.api.operator import OperatorApi
from exchange.api.ops import OpsApi
from exchange.api.seller import SellerApi
from exchange.api.serving import Runner
from exchange.app import documents, incidents, periods, reports
from exchange.app.dials import dials, trying
from exchange.app.ground import Ground, Urls, cancelled, ground, replies_of
from exchange.app.outlets import Outlets, outlets
from exchange.config import Limits, Settings
from exchange.core.attempts import STATE_OF, Ended
from exchange.core.reasons import Delivery
from exchange.core.records import ReturnRecord
from exchange.effects.customers import CustomerLists
from exchange.effects.doubts import Doubts
from exchange.effects.journal import Journal
from exchange.effects.leads import Leads
from exchange.effects.offers import Offers
from exchange.effects.postgres import Database
from exchange.effects.returns import ReturnStore
from exchange.effects.stories import Stories
from exchange.effects.sums import SumStore
from exchange.flows.admission import Admission
from exchange.flows.customers import CustomersOf
from exchange.flows.doubt import Endings, Resolving
from exchange.flows.explain import Explain
from exchange.flows.holding import Holding
from exchange.flows.opening import Openings
from exchange.flows.ping import PingLimits, Pings
from exchange.flows.post import PostLimits, Posts
from exchange.flows.reconcile import Pace
from exchange.flows.returns import ReturnLimits, Returns
from exchange.flows.selling import Sales, SellLimits
from exchange.flows.watch import Watch

ROUTES = (
    *seller_api.ROUTES,
    *buyer_api.ROUTES,
    *bulk_api.ROUTES,
    *lists_api.ROUTES,
    *finance_api.ROUTES,
    *operator_api.ROUTES,
    *incidents.ROUTES,
    *reports.ROUTES,
    *documents.ROUTES,
    *periods.ROUTES,
    *ops_api.ROUTES,
)
"""Every call of the API."""
YOUNG_MAX = 10_000
"""New objects between two looks for garbage. Almost all of a ping's objects go by reference count,
and those of the journal's batch live on: Python's own 700 would look through them every few pings,
a twentieth of a ping's time. A look at so many takes about half a millisecond."""
RETURNS_AT_ONCE = 4
"""Connections for returns alone: decisions of one contract wait for each other, holding theirs, and
must not hold up what a post asks the database."""
DRAIN_S = 30.0
"""How long a stopping worker waits for the requests under way."""


async def runner(settings: Settings, urls: Urls, number: int) -> web.AppRunner:
    """A worker as aiohttp runs it: set up by whoever serves the sockets."""
    app = web.Application(client_max_size=settings.limits.body_bytes_max)
    app.cleanup_ctx.append(_worker(settings, urls, number))
    return Runner(
        app,
        access_log=None,
        head_read_s=settings.limits.head_read_ms / 1000,
        keepalive_timeout=settings.limits.keep_alive_s,
        lingering_time=settings.limits.body_read_ms / 1000,
        max_field_size=settings.limits.header_bytes_max,
        max_line_size=settings.limits.header_bytes_max,
        handler_cancellation=False,
        shutdown_timeout=DRAIN_S,
    )


def _worker(
    settings: Settings, urls: Urls, number: int
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def worker(app: web.Application) -> AsyncIterator[None]:
        async with (
            ground(settings, urls, kind="serve", number=number) as base,
            outlets(base, settings) as told,
            _served(app, base, told, settings, urls),
        ):
            gc.collect()
            gc.freeze()  # the book and the code never become garbage: don't look at them again
            gc.set_threshold(YOUNG_MAX)
            yield

    return worker


@asynccontextmanager
async def _served(
    app: web.Application, base: Ground, told: Outlets, settings: Settings, urls: Urls
) -> AsyncIterator[None]:
    limits = settings.limits
    leads = Leads(base.database)
    offers = Offers(
        base.valkey,
        answer_s=limits.valkey_timeout_ms / 1000,
        open_max=limits.offers_max,
        limit_hit=base.metrics.limit_hit,
    )

    journal = Journal(
        queue_max=limits.journal_queue_max, on_batch=told.pings, masks=base.standing.take_masks
    )
    await journal.start(urls.database_url)
    pings = pings_of(base, offers, journal, limits)
    resolving = resolving_of(base)
    posts = _posts(base, told, pings, offers, leads, resolving, limits)
    watch = watch_of(base, leads, limits)
    returning = await Database.open(
        urls.database_url,
        role="exchange_app",
        size=RETURNS_AT_ONCE,
        application_name="serve-returns",
        by_key=True,
    )
    returns = returns_of(base, returning)
    _routed(app, base, pings, posts, resolving, returns, settings)
    dials(base, journal)
    watching = asyncio.create_task(watch.run(), name="watch")
    trials = asyncio.create_task(trying(base), name="trying")
    try:
        yield
    finally:
        await cancelled(watching)
        await cancelled(trials)
        await posts.drain()
        await journal.stop()
        await base.commits.drain()
        await returning.close()


def pings_of(base: Ground, offers: Offers, journal: Journal, limits: Limits) -> Pings:
    """Who auctions."""
    return Pings(
        clock=base.clock,
        standing=base.standing,
        buyers=base.buyers,
        offers=offers,
        holding=Holding(
            clock=base.clock,
            standing=base.standing,
            caps=base.caps,
            ttl_ms=limits.offer_ttl_ms + limits.post_deadline_ms + limits.hold_margin_ms,
        ),
        journal=journal,
        pseudonym=base.vault.pseudonym,
        limits=PingLimits(
            tmax_ms=limits.tmax_ms,
            tmax_ms_min=limits.tmax_ms_min,
            tmax_ms_max=limits.tmax_ms_max,
            answer_reserve_ms=limits.answer_reserve_ms,
            invited_max=limits.invited_max,
            ranking_kept=limits.ranking_kept,
            offer_ttl_ms=limits.offer_ttl_ms,
        ),
        worker=base.boot_id,
    )


def _posts(
    base: Ground,
    told: Outlets,
    pings: Pings,
    offers: Offers,
    leads: Leads,
    resolving: Resolving,
    limits: Limits,
) -> Posts:
    return Posts(
        clock=base.clock,
        standing=base.standing,
        pings=pings,
        offers=offers,
        sales=sales_of(base, resolving, limits),
        commits=base.commits,
        leads=leads,
        openings=Openings(clock=base.clock, vault=base.vault, boot_id=base.boot_id),
        replies=replies_of(base),
        pseudonym=base.vault.pseudonym,
        recorded=told.post,
        limits=PostLimits(
            post_deadline_ms=limits.post_deadline_ms,
            tmax_ms=limits.tmax_ms,
            tmax_ms_min=limits.tmax_ms_min,
            tmax_direct_ms_max=limits.tmax_direct_ms_max,
            offer_ttl_ms=limits.offer_ttl_ms,
        ),
        boot_id=base.boot_id,
        at=base.at,
    )


def sales_of(base: Ground, resolving: Resolving, limits: Limits) -> Sales:
    """Who sells what was auctioned."""

    async def tell_late(end: Ended) -> None:
        """Reconcile was faster: what the buyer said after all is one more way to resolve."""
        if end.delivery in (Delivery.ACCEPTED, Delivery.REJECTED):
            await resolving.resolve(
                end.attempt.attempt_id,
                "sold" if STATE_OF[end.delivery] == "sold" else "rejected",
                by="post",
                buyer_ref=end.buyer_ref,
                buyer_reason=end.buyer_reason,
            )

    return Sales(
        clock=base.clock,
        standing=base.standing,
        buyers=base.buyers,
        caps=base.caps,
        commits=base.commits,
        replies=replies_of(base),
        secret=base.secret,
        claim_trial=_trials(base, limits),
        tell_late=tell_late,
        limits=SellLimits(
            post_deadline_ms=limits.post_deadline_ms,
            hold_margin_ms=limits.hold_margin_ms,
            releases_max=limits.releases_max,
        ),
        boot_id=base.boot_id,
        worker=base.boot_id,
        at=base.at,
    )


def _trials(base: Ground, limits: Limits) -> Callable[[int], Awaitable[bool]]:
    """One trial lead at a time for a braked buyer, over all workers; none while Valkey is away."""

    async def claim(buyer_id: int) -> bool:
        key = f"{{b:{buyer_id}}}:trial"
        ttl_ms = limits.doubt_trial_s * 1000
        try:
            return await base.valkey.call(key, "SET", key, "1", "NX", "PX", str(ttl_ms)) is not None
        except ConnectionError:
            return False

    return claim


def watch_of(base: Ground, leads: Leads, limits: Limits) -> Watch:
    """Who keeps what the process knows of buyers up to date."""
    return Watch(
        clock=base.clock,
        standing=base.standing,
        caps=base.caps,
        leads=leads,
        say=base.say,
        every_ms=limits.bits_refresh_ms,
        brake_count=limits.doubt_brake_count,
        brake_s=limits.doubt_brake_s,
        factors=SumStore(base.database),
    )


def explainer(base: Ground, invited_max: int) -> Explain:
    """Who tells the story of a ping or lead."""
    return Explain(
        stories=Stories(base.database),
        load_book=base.store.load_version,
        caps=base.caps,
        clock=base.clock,
        invited_max=invited_max,
    )


def resolving_of(base: Ground) -> Resolving:
    """Who ends doubts on somebody's word."""
    endings = Endings(
        commits=base.commits,
        caps=base.caps,
        replies=replies_of(base),
        clock=base.clock,
        book=lambda: base.standing.book,
    )
    return Resolving(
        doubts=Doubts(base.database),
        endings=endings,
        clock=base.clock,
        grace=timedelta(seconds=Pace().grace_s),
    )


def customers_of(base: Ground) -> CustomersOf:
    """Who takes in buyers' lists of customers."""
    return CustomersOf(lists=CustomerLists(base.database), vault=base.vault, clock=base.clock)


def returns_of(base: Ground, database: Database) -> Returns:
    """Who decides on returns, over these connections."""

    def recorded(record: ReturnRecord) -> None:
        base.metrics.returned(record)
        base.log.returned(record)

    limits = ReturnLimits()
    return Returns(
        store=ReturnStore(database, had_before_days=limits.had_before_days),
        clock=base.clock,
        book=lambda: base.standing.book,
        recorded=recorded,
        limits=limits,
        at=base.at,
    )


def _routed(
    app: web.Application,
    base: Ground,
    pings: Pings,
    posts: Posts,
    resolving: Resolving,
    returns: Returns,
    settings: Settings,
) -> None:
    limits = settings.limits

    def recorded(record: Any) -> None:
        base.metrics.request(record)
        base.log.request(record)

    def failed(kind: str, place: str) -> None:
        base.say("request_failed", fault=kind, place=place)

    door = Door(
        clock=base.clock,
        admission=Admission(clock=base.clock, standing=base.standing, workers=settings.workers),
        recorded=recorded,
        failed=failed,
        limit_hit=base.metrics.limit_hit,
        body_read_ms=limits.body_read_ms,
    )
    app.middlewares.append(door.unrouted)
    SellerApi(
        pings=pings,
        posts=posts,
        standing=base.standing,
        vault=base.vault,
        pings_limit=Limit("pings_running_max", limits.pings_running_max),
        posts_limit=Limit("posts_running_max", limits.posts_running_max),
    ).add_to(app.router, door)
    _buyers_calls(app, base, resolving, returns, door, limits)
    FinanceApi(returns=returns, book=lambda: base.standing.book).add_to(app.router, door)
    OperatorApi(
        explain=explainer(base, limits.invited_max),
        doubts=Doubts(base.database),
        resolving=resolving,
        book=lambda: base.standing.book,
    ).add_to(app.router, door)
    incidents.add_to(app.router, door, base)
    reports.add_to(app.router, door, base)
    documents.add_to(app.router, door, base, documents.house_of(settings))
    periods.add_to(app.router, door, base)
    OpsApi(
        missing=lambda: _missing(base),
        scrape=base.metrics.scrape,
        routes=ROUTES,
        version=version("lead-exchange"),
    ).add_to(app.router)


def _buyers_calls(
    app: web.Application,
    base: Ground,
    resolving: Resolving,
    returns: Returns,
    door: Door,
    limits: Limits,
) -> None:
    at_once = Limit("returns_running_max", limits.returns_running_max)
    most = limits.bulk_bytes_max
    BuyerApi(resolving=resolving, returns=returns, returns_limit=at_once).add_to(app.router, door)
    BulkApi(returns=returns, limit=at_once, lines_max=limits.bulk_lines_max, bytes_max=most).add_to(
        app.router, door
    )
    lists = ListsApi(customers=customers_of(base), limit=at_once, bytes_max=most)
    lists.add_to(app.router, door)


def _missing(base: Ground) -> list[str]:
    """What keeps this worker from being ready. Valkey is not among it: without it direct leads of
    contracts without caps are still sold."""
    missing = []
    if not base.commits.up:
        missing.append("postgres")
    if base.standing.book.version == 0:
        missing.append("market: apply one with `exchange apply`")
    return missing
