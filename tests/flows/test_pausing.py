"""Pausing sources on the real Postgres: in force with every worker's book, told and audited."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from exchange.core.book import Book
from exchange.core.messages import Refusal
from exchange.effects.book import BookStore
from exchange.effects.pauses import PauseStore
from exchange.flows.pausing import Paused, Pausing
from tests.effects.sales import BUYER
from tests.flows.returning import HOOKED, Trade, trading

pytestmark = pytest.mark.real
IN_FORCE_S = 2.0


@pytest.fixture
async def trade(database_url: str) -> AsyncIterator[Trade]:
    async with trading(database_url) as trade:
        await trade.admin.execute(
            "SET session_replication_role = replica; TRUNCATE source_pause; RESET ALL"
        )
        trade.book = HOOKED
        yield trade


def pausing(trade: Trade) -> Pausing:
    store = PauseStore(trade.database)
    return Pausing(store=store, clock=trade.clock, book=lambda: trade.book)


def asked(**more: str) -> Paused:
    return Paused(**{"source": "s/web", "by": "Dana", "why": "nobody is reached"} | more)


async def test_a_pause_and_its_end_are_in_force_in_two_workers_within_two_seconds(
    trade: Trade,
) -> None:
    store = BookStore(trade.database)
    current = await store.load()
    workers = [store.watch(current) for _ in range(2)]

    async def next_books() -> list[Book]:
        return await asyncio.gather(*(anext(worker) for worker in workers))

    [source] = trade.book.parties.sources.values()
    watching = asyncio.create_task(next_books())
    await asyncio.sleep(0)
    assert await pausing(trade).pause(asked(sub_id="aff")) is True
    async with asyncio.timeout(IN_FORCE_S):
        for book in await watching:
            assert book.pauses.stop(source.id, "aff")
            assert not book.pauses.stop(source.id, "other")
    watching = asyncio.create_task(next_books())
    assert await pausing(trade).resume(asked(sub_id="aff")) == 1
    async with asyncio.timeout(IN_FORCE_S):
        assert not any(book.pauses.stop(source.id, "aff") for book in await watching)
    for worker in workers:
        await worker.aclose()


async def test_what_is_paused_is_paused_once_and_resumed_only_where_it_was_paused(
    trade: Trade,
) -> None:
    flow = pausing(trade)
    assert [await flow.pause(asked(buyer="b")) for _ in range(2)] == [True, False]
    assert await flow.resume(asked()) == 0
    [row] = await flow.listing("s/web")
    assert (row.seller, row.source, row.buyer, row.by) == ("s", "web", "b", "Dana")
    assert await flow.resume(asked(buyer="b", by="Sam")) == 1
    assert await flow.listing("s/web") == ()
    [row] = await flow.listing("s/web", lifted=True)
    assert (row.lifted_by, row.lifted_why) == ("Sam", "nobody is reached")
    said = await trade.admin.fetch(
        "SELECT by, action, subject, detail FROM audit WHERE action LIKE 'source.%' ORDER BY id"
    )
    assert [(one["by"], one["action"]) for one in said[-2:]] == [
        ("Dana", "source.pause"),
        ("Sam", "source.resume"),
    ]
    assert json.loads(said[-1]["detail"])["buyer"] == "b"


async def test_what_an_incident_holds_is_not_resumed_by_hand(trade: Trade) -> None:
    await trade.admin.execute(
        "INSERT INTO source_pause (pause_id, source_id, incident_id, by, why) "
        "VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'x', 'why')"
    )
    assert await pausing(trade).resume(asked()) == 0


async def test_every_mistake_is_told_at_once_and_nothing_is_paused(trade: Trade) -> None:
    wrong = asked(
        source="s/nowhere", sub_id="jane.doe@mail.example", buyer="nobody", by=" ", why="!"
    )
    refused = await pausing(trade).pause(wrong)
    assert isinstance(refused, Refusal)
    assert {one.field for one in refused.problems} == {"source", "sub_id", "buyer", "by", "why"}
    assert await pausing(trade).listing() == ()


async def test_a_lifted_pause_stays_lifted(trade: Trade) -> None:
    await pausing(trade).pause(asked(buyer="b"))
    await pausing(trade).resume(asked(buyer="b"))
    for wrong in ("SET lifted_at = NULL, lifted_by = NULL", "SET lifted_by = 'somebody'"):
        with pytest.raises(Exception, match="has had its end"):
            await trade.admin.execute(f"UPDATE source_pause {wrong} WHERE buyer_id = {BUYER}")
