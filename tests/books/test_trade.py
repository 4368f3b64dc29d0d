"""The simulated trade is what the exchange itself would have written: its own proof holds on it."""

import pytest

from exchange.effects.postgres import connect
from exchange.effects.proof import proven
from tests.books.trade import Trade, trade

pytestmark = pytest.mark.real


async def test_simulated_trade_passes_the_proof_of_the_ledger(database_url: str) -> None:
    traded = await trade(database_url, Trade(sales=600, sellers=4, buyers=6), keep=True)
    connection = await connect(
        database_url, role="exchange_reader", party_id=1, application_name="tests"
    )
    found = await proven(connection)
    await connection.close()
    assert (found.wrong, traded.sales, len(traded.sold)) == (0, 600, 600)
    assert {one.currency for one in found.sums} == {"USD", "CAD", "GBP"}
    assert traded.price_micros == {"USD": 6_834_090_000, "CAD": 6_813_840_000, "GBP": 5_658_770_000}
