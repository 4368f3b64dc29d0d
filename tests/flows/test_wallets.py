"""Wallets on the real servers: a buyer that pays ahead buys what it paid for, and no more."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.core.caps import Window
from exchange.core.ledger import TransferCode, derived_id
from exchange.core.market import read_market
from exchange.core.reasons import Delivery
from exchange.core.records import CommitAnswer
from exchange.core.wallets import WHOLE, wallet_currency, wallet_win
from exchange.effects.book import BookStore
from exchange.effects.caps import Caps, Full, Reserved
from exchange.effects.clock import Clock
from exchange.effects.commits import Commits
from exchange.effects.postgres import Database, connect
from exchange.effects.wallets import WalletStore
from exchange.flows import market
from exchange.flows.wallets import Wallets
from tests.effects.capping import opened
from tests.effects.sales import PRICE, Sale, new_id

real = pytest.mark.real
USD = wallet_win("USD")
MARKET = """
[verticals.auto]
currency = "USD"
fields.zip = { type = "us_zip", ping = true }
[sellers.s]
sources = ["web"]
[buyers.b]
ping_url = "https://b.example/ping"
post_url = "https://b.example/post"
prepaid = true
[contracts.b-auto]
buyer = "b"
vertical = "auto"
"""
MOVE = """
WITH made AS (
    INSERT INTO account (party_id, kind, currency)
    VALUES ($1, $2, 'USD'), ($3, $4, 'USD') ON CONFLICT DO NOTHING RETURNING id, party_id, kind
), known AS (
    SELECT id, party_id, kind FROM made
    UNION SELECT id, party_id, kind FROM account WHERE currency = 'USD'
)
INSERT INTO transfer (transfer_id, lead_id, day, subject, code, debit_account, credit_account,
                      amount_micros, currency, at)
SELECT $5, $6, lead_day($6), 'payment', $7, d.id, c.id, $8, 'USD', now()
FROM known d, known c
WHERE (d.party_id, d.kind) = ($1, $2) AND (c.party_id, c.kind) = ($3, $4)
"""


class House:
    """A market with one buyer that pays ahead, and all that reads and moves its wallet."""

    def __init__(
        self, database: Database, connection: asyncpg.Connection, commits: Commits, caps: Caps
    ) -> None:
        self.database, self.connection = database, connection
        self.commits, self.caps = commits, caps
        self.store = WalletStore(database)
        self.job = Wallets(store=self.store, caps=caps)
        self.buyer_id = self.seller_id = 0

    async def begin(self) -> None:
        """Put the market in force, once per database; the wallet is emptied of what a test left."""
        if not await self.database.fetchval("SELECT count(*) FROM market_version"):
            await market.apply(
                BookStore(self.database), MARKET, by="t", why="", at=datetime.now(UTC)
            )
        rows = await self.database.fetch("SELECT key, id FROM party")
        ids = {row["key"]: row["id"] for row in rows}
        self.buyer_id, self.seller_id = ids["b"], ids["s"]
        left = await self.left()
        if left > 0:
            await self.moved(TransferCode.REFUND, left)
        assert await self.left() == 0

    async def left(self) -> int:
        """What the wallet has left, on which window and ledger must agree."""
        (wallet,) = await self.store.wallets("b")
        assert wallet.difference_micros == 0
        return wallet.left_micros

    async def moved(self, code: TransferCode, amount: int) -> str:
        """A payment ahead, a refund, a payment of what is owed, a correction to its disfavour."""
        buyer, house = self.buyer_id, 1
        sides = {
            TransferCode.PREPAID: (house, "cash", buyer, "prepaid"),
            TransferCode.REFUND: (buyer, "prepaid", house, "cash"),
            TransferCode.PAYMENT: (house, "cash", buyer, "receivable"),
            TransferCode.ADJUSTMENT: (buyer, "receivable", house, "adjustment"),
            TransferCode.PREPAID_USED: (buyer, "prepaid", buyer, "receivable"),
        }[code]
        subject = new_id()
        transfer_id = derived_id(subject, int(code), 0)
        await self.connection.execute(MOVE, *sides, transfer_id, subject, int(code), amount)
        return transfer_id

    async def bought(self) -> CommitAnswer:
        """The INTENT of a sale at `PRICE`, and its RESULT where there was room."""
        sale = Sale()
        unit = sale.intent(buyer_id=self.buyer_id, windows=((USD, WHOLE, PRICE),))
        assert sale.attempt is not None
        contract_id = await self.database.fetchval("SELECT id FROM contract")
        attempt = replace(sale.attempt, seller_id=self.seller_id, contract_id=contract_id)
        answer = await self.commits.commit(replace(unit, attempts=(attempt,)))
        if answer.kind == "done":
            sale.attempt = attempt
            await self.commits.commit(sale.result())
        return answer


@pytest.fixture
async def house(database_url: str, valkey_url: str) -> AsyncIterator[House]:
    database = await Database.open(database_url, role="exchange_app", size=4)
    connection = await connect(database_url, role="exchange_app", application_name="tests")
    valkey, commits = await opened(valkey_url), await Commits.open(database_url)
    caps = Caps(valkey, database, Clock(), retell_ms=1, market=lambda: 1)
    house = House(database, connection, commits, caps)
    await house.begin()
    yield house
    await caps.close()
    await commits.close()
    await valkey.close()
    await connection.close()
    await database.close()


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3))
def test_the_name_of_a_wallet_says_its_currency(currency: str) -> None:
    assert wallet_currency(wallet_win(currency)) == currency


def test_the_window_of_a_cap_is_no_wallet() -> None:
    assert wallet_currency("7.0.d2026-11-01") is None


def test_a_buyer_that_pays_ahead_needs_the_fence_of_the_database() -> None:
    read = read_market(MARKET + 'cap_mode = "fast"\n')
    assert [problem.path for problem in read.problems] == ["contracts.b-auto.cap_mode"]
    assert not read_market(MARKET).problems


@real
async def test_database_and_code_name_a_wallet_alike(house: House) -> None:
    assert await house.database.fetchval("SELECT wallet_win('USD')") == USD


@real
async def test_a_new_wallet_is_empty_and_buys_nothing(house: House) -> None:
    assert await house.left() == 0
    answer = await house.bought()
    assert (answer.kind, answer.win) == ("cap", USD)


@real
async def test_what_was_paid_ahead_is_spent_and_not_exceeded_by_many_at_once(house: House) -> None:
    await house.moved(TransferCode.PREPAID, 7 * PRICE + PRICE // 2)
    answers = await asyncio.gather(*(house.bought() for _ in range(30)))
    assert sorted(answer.kind for answer in answers) == ["cap"] * 23 + ["done"] * 7
    assert await house.left() == PRICE // 2


@real
async def test_using_what_was_paid_ahead_for_an_invoice_changes_nothing(house: House) -> None:
    await house.moved(TransferCode.PREPAID, 2 * PRICE)
    await house.bought()
    await house.moved(TransferCode.PREPAID_USED, PRICE)
    assert await house.left() == PRICE


@real
async def test_payments_credits_and_corrections_reach_the_wallet_in_their_own_transaction(
    house: House,
) -> None:
    await house.moved(TransferCode.PREPAID, 3 * PRICE)
    await house.moved(TransferCode.ADJUSTMENT, PRICE)
    assert await house.left() == 2 * PRICE
    await house.moved(TransferCode.PAYMENT, PRICE)
    assert await house.left() == 3 * PRICE


@real
async def test_no_more_is_refunded_than_is_left(house: House) -> None:
    await house.moved(TransferCode.PREPAID, PRICE)
    with pytest.raises(asyncpg.RestrictViolationError):
        await house.moved(TransferCode.REFUND, PRICE + 1)
    assert await house.left() == PRICE
    await house.moved(TransferCode.REFUND, PRICE)
    assert await house.left() == 0


@real
async def test_valkey_hears_of_a_payment_and_of_a_refund_once(house: House) -> None:
    window = (Window(win=USD, limit=WHOLE, amount=PRICE, cap_index=-1),)
    while await house.job.turn(None):  # type: ignore[arg-type]
        pass
    assert isinstance(await house.caps.reserve(house.buyer_id, new_id(), window, 9_000), Full)
    await house.moved(TransferCode.PREPAID, 2 * PRICE)
    assert await house.job.turn(None) == 1  # type: ignore[arg-type]
    assert await house.job.turn(None) == 0  # type: ignore[arg-type]
    held = new_id()
    assert isinstance(await house.caps.reserve(house.buyer_id, held, window, 9_000), Reserved)
    await house.caps.release(house.buyer_id, held)
    await house.moved(TransferCode.REFUND, 2 * PRICE)
    assert await house.job.turn(None) == 1  # type: ignore[arg-type]
    assert isinstance(await house.caps.reserve(house.buyer_id, new_id(), window, 9_000), Full)


@real
async def test_what_is_said_again_after_a_rebuild_is_what_the_ledger_says(house: House) -> None:
    await house.moved(TransferCode.PREPAID, 2 * PRICE)
    await house.bought()
    await house.caps.rebuild(house.buyer_id)
    used = await house.caps.used(house.buyer_id, [USD])
    assert used == {USD: (WHOLE - PRICE, 0)}
    assert await house.store.recount("b") == 1
    assert await house.left() == PRICE


@real
async def test_a_refused_post_gives_the_price_back(house: House) -> None:
    await house.moved(TransferCode.PREPAID, PRICE)
    sale = Sale()
    unit = sale.intent(buyer_id=house.buyer_id, windows=((USD, WHOLE, PRICE),))
    assert (await house.commits.commit(unit)).kind == "done"
    assert await house.left() == 0
    await house.commits.commit(sale.result(Delivery.REJECTED, "unsold"))
    assert await house.left() == PRICE
