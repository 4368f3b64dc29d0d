"""A source paid net of returns gives back its part of any granted return, whenever it is asked for;
another of the same seller what its clawback terms say."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.flows.returning import PAYOUT, Trade, terms, trading

pytestmark = pytest.mark.real


@pytest.fixture
async def trade(database_url: str) -> AsyncIterator[Trade]:
    async with trading(database_url) as made:
        yield made


async def test_a_return_takes_all_of_the_payout_of_a_source_paid_net(trade: Trade) -> None:
    contract = await trade.contract(terms(window_hours=500))
    early, late, net = await trade.sold(contract, 3)
    assert (await trade.asked(early)).case.clawback_micros == PAYOUT * 8 // 10
    trade.clock.ahead = timedelta(hours=400)  # the seller's window of 48 hours is over
    assert (await trade.asked(late)).case.clawback_micros == 0
    await trade.admin.execute(
        "INSERT INTO source_version (source_id, version, market_version, doc)"
        """ SELECT id, 1, 1, '{"payout": {"net_of_returns": true}}' FROM source"""
    )
    assert (await trade.asked(net)).case.clawback_micros == PAYOUT
    moved = await trade.moved(net)
    assert (moved["seller.payable"], moved["buyer.receivable"]) == (0, 0)
