"""A market that changes which windows sales count in: what was sold before counts in the windows
that are open now, and nothing is sold before it does."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from exchange.core.book import EMPTY
from exchange.core.caps import Window, windows
from exchange.effects.book import BookStore
from exchange.effects.caps import Caps, Full, Reserved, Unreadable
from exchange.effects.postgres import Database
from exchange.effects.recount import Recounts
from exchange.effects.valkey import Valkey
from exchange.flows.market import apply
from tests.effects.capping import BUYERS, LONG_MS, attempt, new_id

pytestmark = pytest.mark.real

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
"""In Kiritimati (UTC+14) that is tomorrow's 2 o'clock, in Pago Pago (UTC-11) today's 1 o'clock."""
AHEAD, BEHIND = "Pacific/Kiritimati", "Pacific/Pago_Pago"
MARKET = """
[verticals.auto]
currency = "USD"
fields.state = {{ type = "enum", values = ["CA", "NV"], ping = true }}
[buyers.{key}]
time_zone = "{zone}"
ping_url = "https://a.example/ping"
post_url = "https://a.example/post"
[contracts.{key}-auto]
buyer = "{key}"
vertical = "auto"
cap_mode = "{mode}"
caps = [ {caps} ]
{more}
"""
THREE = '{ leads = 3, per = "day" }'


class HandClock:
    """Stands still at noon."""

    def new_id(self) -> str:
        return new_id()

    def now(self) -> datetime:
        return NOON


class House:
    """One buyer, one contract, a market that is changed under a process's feet."""

    def __init__(
        self, store: BookStore, valkey: Valkey, database: Database, rows, key: str
    ) -> None:
        self.store, self.valkey, self.database = store, valkey, database
        self.rows, self.key = rows, key
        self.book = EMPTY
        self.caps = self.process()

    def process(self) -> Caps:
        return Caps(
            self.valkey,
            self.database,
            HandClock(),
            recount=Recounts(self.database).recount,
            market=lambda: self.book.version,
        )

    async def apply(
        self, *, zone: str = AHEAD, caps: str = THREE, mode: str = "fast", more: str = ""
    ) -> None:
        """A market in the database; nobody has taken it up yet."""
        text = MARKET.format(key=self.key, zone=zone, caps=caps, mode=mode, more=more)
        await apply(self.store, text, by="test", why="", at=NOON, mode="discard_live")

    async def adopt(self) -> None:
        self.book = await self.store.load()

    @property
    def contract(self):
        return next(one for one in self.book.contracts.values() if one.key == f"{self.key}-auto")

    def windows(self, *, at: datetime = NOON, state: str = "CA") -> tuple[Window, ...]:
        contract = self.contract
        return windows(
            contract,
            fields={"state": state},
            price_micros=20_000_000,
            at=at,
            zone=contract.time_zone,
        )

    async def reserve(self) -> Reserved | Full | Unreadable:
        return await self.caps.reserve(self.contract.buyer_id, new_id(), self.windows(), LONG_MS)

    async def sell(self, count: int, *, at: datetime = NOON, state: str = "CA") -> list[str]:
        """Sales as posts make them: in Valkey, and in the database with what the ping said."""
        buyer_id, held, sold = self.contract.buyer_id, self.windows(at=at, state=state), []
        for _ in range(count):
            lead = await self.rows.add("lead", offer={"fields": {"state": state}}, state="sold")
            if held:
                reserved = await self.caps.reserve(buyer_id, lead["lead_id"], held, LONG_MS)
                assert isinstance(reserved, Reserved)
            token = await attempt(
                self.rows,
                buyer_id,
                "sold",
                *held,
                lead_id=lead["lead_id"],
                attempt_id=lead["lead_id"],
                contract_id=self.contract.id,
                created_at=at,
                price_micros=20_000_000,
                payout_micros=20_000_000,
                fee_micros=0,
            )
            if held:
                assert await self.caps.commit(buyer_id, token, held)
            sold.append(token)
        return sold

    async def used(self) -> list[int]:
        """What each open window counts in Valkey, by name; the database must count the same."""
        buyer_id, wins = self.contract.buyer_id, [one.win for one in self.windows()]
        used = await self.caps.used(buyer_id, wins)
        booked = await self.caps.booked(buyer_id)
        assert used == {win: booked.get(win, (0, 0)) for win in wins}
        return [used[win][0] for win in wins]


@pytest.fixture
async def house(database, valkey, rows) -> AsyncIterator[House]:
    house = House(BookStore(database), valkey, database, rows, f"b{next(BUYERS)}")
    yield house
    await house.caps.close()


async def test_three_sold_in_one_zone_fill_a_cap_of_three_in_another(house) -> None:
    await house.apply(zone=AHEAD)
    await house.adopt()
    await house.sell(3)
    (before,) = house.windows()
    assert await house.reserve() == Full(win=before.win)

    await house.apply(zone=BEHIND)
    await house.adopt()

    (after,) = house.windows()
    assert after.win != before.win
    assert await house.reserve() == Full(win=after.win)
    assert await house.used() == [3]


async def test_without_the_recount_the_fourth_would_be_sold(house, monkeypatch) -> None:
    async def forgotten(*_: object) -> None:
        pass

    monkeypatch.setattr(house.caps, "_recount", forgotten)
    await house.apply(zone=AHEAD)
    await house.adopt()
    await house.sell(3)
    await house.apply(zone=BEHIND)
    await house.adopt()
    assert isinstance(await house.reserve(), Reserved)


@pytest.mark.parametrize("mode", ["fast", "strict"])
async def test_the_fence_counts_what_the_recount_carried(house, mode) -> None:
    await house.apply(mode=mode)
    await house.adopt()
    await house.sell(3)
    await house.apply(mode=mode, zone=BEHIND)
    await house.adopt()
    assert await house.used() == [3]
    fenced = await house.database.fetchval(
        "SELECT used FROM cap_window WHERE buyer_id = $1 AND win = $2",
        house.contract.buyer_id,
        house.windows()[0].win,
    )
    assert fenced == 3


async def test_there_and_back_again_counts_as_before(house) -> None:
    await house.apply(zone=AHEAD)
    await house.adopt()
    await house.sell(2)
    for zone in (BEHIND, AHEAD):
        await house.apply(zone=zone)
        await house.adopt()
        assert await house.used() == [2]
    await house.sell(1)
    assert await house.used() == [3]
    assert isinstance(await house.reserve(), Full)


async def test_a_window_of_the_same_name_gives_up_what_it_counts_no_more(house) -> None:
    """Sold yesterday evening in Pago Pago, which was today in UTC."""
    await house.apply(zone="UTC")
    await house.adopt()
    await house.sell(2, at=NOON - timedelta(hours=11, minutes=30))
    await house.sell(1)
    await house.apply(zone=BEHIND)
    await house.adopt()
    assert await house.used() == [1]


async def test_a_contracts_own_zone_moves_its_windows_too(house) -> None:
    await house.apply()
    await house.adopt()
    await house.sell(3)
    await house.apply(more=f'time_zone = "{BEHIND}"')
    await house.adopt()
    assert await house.used() == [3]


async def test_a_new_kind_of_cap_counts_what_was_sold_before_it(house) -> None:
    await house.apply(caps="")
    await house.adopt()
    await house.sell(2)
    await house.sell(1, state="NV")
    caps = (
        f'{THREE}, {{ leads = 2, per = "month", each = "state" }}, {{ money = "90", per = "day" }}'
    )
    await house.apply(caps=caps)
    await house.adopt()
    (full,) = [one.win for one in house.windows() if one.limit == 2]
    assert sorted(await house.used()) == [2, 3, 60_000_000]
    assert isinstance(await house.reserve(), Full)
    assert full in {one.win for one in house.windows()}


async def test_a_live_attempt_is_carried_and_a_returned_sale_is_not(house) -> None:
    await house.apply()
    await house.adopt()
    _, returned = await house.sell(2)
    await attempt(
        house.rows,
        house.contract.buyer_id,
        "unknown",
        *house.windows(),
        contract_id=house.contract.id,
        created_at=NOON,
    )
    win = house.windows()[0].win
    await house.rows.add(
        "cap_claim",
        buyer_id=house.contract.buyer_id,
        win=win,
        attempt_id=returned,
        state="released",
    )
    await house.apply(zone=BEHIND)
    await house.adopt()
    assert await house.used() == [2]


async def test_another_limit_needs_no_recount(house) -> None:
    await house.apply()
    await house.adopt()
    await house.sell(3)
    await house.apply(caps='{ leads = 4, per = "day" }')
    await house.adopt()
    rebuilds = house.caps.rebuilds
    assert isinstance(await house.reserve(), Reserved)
    assert isinstance(await house.reserve(), Full)
    assert house.caps.rebuilds == rebuilds


async def test_a_process_that_goes_by_the_old_market_is_shut_once_another_has_recounted(
    house,
) -> None:
    await house.apply()
    await house.adopt()
    await house.sell(2)
    old = house.book
    late = Caps(house.valkey, house.database, HandClock(), market=lambda: old.version)
    token, held = new_id(), house.windows()
    assert isinstance(await late.reserve(house.contract.buyer_id, token, held, LONG_MS), Reserved)
    await house.apply(zone=BEHIND)
    await house.adopt()
    assert await house.used() == [2]

    assert isinstance(
        await late.reserve(house.contract.buyer_id, new_id(), held, LONG_MS), Unreadable
    )
    old = house.book
    assert isinstance(
        await late.reserve(house.contract.buyer_id, new_id(), house.windows(), LONG_MS), Reserved
    )
    await late.close()


async def test_a_recount_that_cannot_be_done_leaves_the_buyer_shut(house, monkeypatch) -> None:
    async def away(*_: object) -> None:
        raise OSError

    await house.apply()
    await house.adopt()
    await house.sell(1)
    await house.apply(zone=BEHIND)
    await house.adopt()
    with monkeypatch.context() as broken:
        broken.setattr(house.caps, "_recount", away)
        assert isinstance(await house.reserve(), Unreadable)
    assert isinstance(await house.reserve(), Reserved)
    assert await house.caps.booked(house.contract.buyer_id) != {}
