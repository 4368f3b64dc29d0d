"""Sources paused by their return rate on the real Postgres: once, told, and never flapping."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from exchange.core.book import Book
from exchange.core.source_pauses import SourcePause, pauses_of
from exchange.core.terms import AutoPauseTerms
from exchange.effects.leases import Lease, Leases
from exchange.effects.pauses import PauseStore
from exchange.flows.auto_pause import AutoPause, AutoPauses
from exchange.flows.pausing import Paused, Pausing
from tests.effects.sales import BUYER, SELLER, new_id
from tests.flows.returning import HOOKED, Trade, terms, trading
from tests.flows.test_incidents import Desk

pytestmark = pytest.mark.real
RULE = {"return_rate": Decimal("0.3"), "sales_min": 10, "each": "sub_id"}


class Ruled(Desk):
    """A desk whose buyer has a rule; each has a sub_id and a contract to itself."""

    def __init__(self, trade: Trade) -> None:
        super().__init__(trade)
        self.store = PauseStore(trade.database)
        self.counted: list[int] = []
        self.book: Book = HOOKED
        self.lease = Lease(job="auto_pause", epoch=0)
        self.contract_id = 0

    async def begin(self) -> None:
        boot = Leases(self.trade.database, boot_id=new_id(), ttl_s=0.0)
        lease = await boot.acquire("auto_pause")
        assert lease is not None
        self.lease = lease
        self.contract_id = await self.trade.contract(terms())

    def ruled(self, **more: Any) -> None:
        """From now on this rule stands in the buyer's terms."""
        buyer = HOOKED.buyers[BUYER]
        rule = AutoPauseTerms(**(RULE | more))
        with_rule = replace(buyer, terms=replace(buyer.terms, auto_pause=rule))
        self.book = replace(HOOKED, buyers={BUYER: with_rule})

    async def turn(self) -> AutoPauses:
        flow = AutoPause(
            store=self.store,
            clock=self.trade.clock,
            book=lambda: self.book,
            counted=self.counted.append,
        )
        return await flow.turn(self.lease)

    async def trade_with(self, sales: int, returns: int, **more: Any) -> None:
        made = await self.sold(self.contract_id, sales, **more)
        for sale in made[:returns]:
            assert (await self.trade.asked(sale)).case.state == "granted"

    async def mine(self) -> list[Any]:
        """The pauses of this desk's sub_id, the oldest first."""
        return await self.fetch(
            "SELECT * FROM source_pause WHERE sub_id = $1 ORDER BY since", self.sub_id
        )


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Ruled]:
    async with trading(database_url) as trade:
        await trade.admin.execute(
            "SET session_replication_role = replica; TRUNCATE source_pause; "
            "DELETE FROM job_lease WHERE job = 'auto_pause'; RESET ALL"
        )
        desk = Ruled(trade)
        await desk.begin()
        yield desk


async def paused_subs(desk: Ruled) -> list[str | None]:
    done = await desk.turn()
    return [one.sub_id for one in done.paused if one.sub_id == desk.sub_id]


@pytest.mark.parametrize(
    ("sales", "returns", "is_paused"), [(10, 4, True), (10, 3, False), (9, 9, False)]
)
async def test_a_source_is_paused_above_the_rate_of_sales_enough(
    desk: Ruled, sales: int, returns: int, is_paused: bool
) -> None:
    desk.ruled()
    await desk.trade_with(sales, returns)
    assert await paused_subs(desk) == [desk.sub_id] * is_paused
    rows = await desk.mine()
    assert [(row["by"], row["buyer_id"], row["lift_at"]) for row in rows] == (
        [("rule", BUYER, None)] * is_paused
    )


async def test_everybody_is_told_with_the_numbers_and_the_seller_not_which_buyer(
    desk: Ruled,
) -> None:
    desk.ruled()
    await desk.trade_with(10, 5)
    await desk.turn()
    [pause] = await desk.mine()
    assert pause["why"].startswith("5 of 10 sales of the last 14 days were returned: 50.0 %")
    assert desk.counted.count(BUYER) >= 1
    told = await desk.fetch("SELECT * FROM outbox WHERE lead_id = $1", pause["pause_id"])
    assert {one["party_id"] for one in told} == {SELLER, BUYER}
    body = json.loads(told[0]["body"])
    assert (body["source"], body["sales"], body["returns"]) == ("s/web", 10, 5)
    assert "buyer" not in body
    [said] = await desk.fetch(
        "SELECT by, action FROM audit WHERE detail->>'sub_id' = $1", desk.sub_id
    )
    assert (said["by"], said["action"]) == ("rule", "source.pause")


async def test_a_paused_source_is_not_paused_again_nor_one_that_a_person_paused(
    desk: Ruled,
) -> None:
    desk.ruled()
    await desk.trade_with(10, 5)
    assert len(await paused_subs(desk)) == 1
    assert await paused_subs(desk) == []
    desk.book = replace(
        desk.book, pauses=pauses_of([SourcePause(1, desk.sub_id, BUYER), SourcePause(1)])
    )
    assert await paused_subs(desk) == []
    assert len(await desk.mine()) == 1


async def test_what_a_person_resumed_is_judged_by_new_sales_alone(desk: Ruled) -> None:
    desk.ruled()
    await desk.trade_with(10, 5)
    await desk.turn()
    flow = Pausing(store=desk.store, clock=desk.trade.clock, book=lambda: HOOKED)
    asked = Paused(source="s/web", sub_id=desk.sub_id, buyer="b", by="Dana", why="talked to them")
    assert await flow.resume(asked) == 1
    assert await paused_subs(desk) == []
    await desk.trade_with(10, 2)
    assert await paused_subs(desk) == []
    await desk.trade_with(10, 9)
    assert await paused_subs(desk) == [desk.sub_id]


async def test_a_rules_pause_ends_by_itself_after_its_days_and_does_not_flap(
    desk: Ruled,
) -> None:
    desk.ruled(lift_after_days=3, days=30)
    await desk.trade_with(10, 5)
    await desk.turn()
    desk.trade.clock.ahead = timedelta(days=2)
    assert (await desk.turn()).lifted == 0
    desk.trade.clock.ahead = timedelta(days=3, seconds=1)
    assert (await desk.turn()).lifted >= 1
    [pause] = await desk.mine()
    assert (pause["lifted_by"], pause["lifted_why"]) == ("rule", "its days are over")
    assert await paused_subs(desk) == []


async def test_a_deposed_job_lifts_nothing(desk: Ruled) -> None:
    desk.ruled(lift_after_days=1)
    await desk.trade_with(10, 5)
    await desk.turn()
    desk.trade.clock.ahead = timedelta(days=2)
    desk.lease = Lease(job="auto_pause", epoch=desk.lease.epoch - 1)
    assert (await desk.turn()).lifted == 0


@pytest.mark.parametrize(
    ("rule", "is_paused"),
    [
        ({"reasons": ("fraud",)}, False),
        ({"reasons": ("wrong_person",)}, True),
        ({"return_rate": Decimal("0.6")}, False),
        ({"each": "source", "sales_min": 100_000}, False),
    ],
)
async def test_only_what_the_rule_names_is_counted(
    desk: Ruled, rule: dict[str, Any], is_paused: bool
) -> None:
    desk.ruled(**rule)
    await desk.trade_with(10, 5)
    assert await paused_subs(desk) == [desk.sub_id] * is_paused


async def test_what_an_incident_made_good_pauses_nobody(desk: Ruled) -> None:
    desk.ruled()
    await desk.trade_with(12, 0)
    await desk.booked(await desk.open())
    assert await paused_subs(desk) == []
