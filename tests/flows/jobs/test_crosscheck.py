"""The books compared with themselves: sales that were made agree everywhere, and whichever side is
changed behind the exchange's back is named, with what mends it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from exchange.core.caps import held_windows, windows
from exchange.effects.clock import Clock
from exchange.effects.crosscheck import Crosscheck
from exchange.effects.wallets import WalletStore
from exchange.flows.crosscheck import Checked, crosscheck
from exchange.flows.entries import Booking

if TYPE_CHECKING:
    from tests.flows.jobs.conftest import Stage

pytestmark = pytest.mark.real


class Books:
    """Two sales at acme and one post in doubt, and how they compare."""

    def __init__(self, stage: "Stage", owner: asyncpg.Connection) -> None:
        self.stage, self.owner = stage, owner
        self.attempts: list[str] = []

    async def checked(self, buyer: str | None = None) -> dict[str, Checked]:
        async def pause() -> None:
            """Nothing is under way in this test."""

        buyers = {one.key: one.id for one in self.stage.book.buyers.values()}
        found = await crosscheck(
            buyer_id=None if buyer is None else buyers[buyer],
            postgres=Crosscheck(self.stage.database),
            caps=self.stage.caps,
            wallets=WalletStore(self.stage.database),
            book=self.stage.book,
            now=self.stage.clock.now,
            pause=pause,
        )
        return {one.check: one for one in found}

    async def wrong(self) -> dict[str, int]:
        return {name: one.wrong for name, one in (await self.checked()).items() if one.wrong}

    async def behind(self, text: str, *args: Any) -> None:
        """A change past every fence."""
        await self.owner.execute("SET session_replication_role = replica")
        await self.owner.execute(text, *args)
        await self.owner.execute("SET session_replication_role = origin")


@pytest.fixture
async def books(stage: "Stage", database_url: str) -> AsyncIterator[Books]:
    owner = await asyncpg.connect(database_url)
    made = Books(stage, owner)
    await made.behind("DELETE FROM cap_claim")
    await made.behind("DELETE FROM cap_window")
    await made.behind("DELETE FROM attempt")
    for _ in range(2):
        began = await stage.begin("w-1")
        await stage.sold_untold(began)
        await stage.tell(began, "sold")
        made.attempts.append(began.attempt.attempt_id)
    await stage.doubt(await stage.begin("w-1"))
    yield made
    await owner.close()


async def test_what_the_exchange_itself_wrote_agrees(books: Books) -> None:
    found = await books.checked()
    assert await books.wrong() == {}
    assert list(found) == ["ledger", "claims", "windows", "valkey", "wallets", "journal"]
    assert (found["ledger"].looked, found["claims"].looked, found["valkey"].looked) == (3, 6, 2)
    assert (await books.checked("beacon"))["ledger"].looked == 0
    assert all(one.margin for one in found.values())


async def test_a_price_that_was_corrected_agrees(books: Books) -> None:
    booking = Booking(books.stage.database, clock=Clock())
    for price in ("30.00", "1.00", "4.50"):
        await booking.correct(books.attempts[0], price, by="me", why="agreed by phone")
        assert await books.wrong() == {}


@pytest.mark.parametrize(("change", "check", "mends"), [
    ("DELETE FROM transfer WHERE attempt_id = $1", "ledger", "exchange ledger prove"),
    ("UPDATE cap_claim SET state = 'released' WHERE attempt_id = $1", "claims", "exchange explain"),
    ("UPDATE attempt SET state = 'rejected' WHERE attempt_id = $1", "claims", "exchange explain"),
    ("UPDATE cap_window SET used = used + 1 WHERE $1::uuid IS NOT NULL", "windows", "caps show"),
])  # fmt: skip
async def test_a_side_that_was_changed_is_named(
    books: Books, change: str, check: str, mends: str
) -> None:
    await books.behind(change, books.attempts[0])
    found = (await books.checked())[check]
    assert found.wrong == len(found.differences) > 0
    assert {one.buyer for one in found.differences} == {"acme"}
    assert all(mends in one.mends for one in found.differences)


async def test_valkeys_count_is_mended_by_a_rebuild(books: Books) -> None:
    """A sale that Valkey forgot: it holds one lead, and its price, less."""
    stage = books.stage
    row = await stage.database.fetchrow(
        "SELECT buyer_id, windows FROM attempt WHERE attempt_id = $1", books.attempts[0]
    )
    await stage.caps.undo(row["buyer_id"], books.attempts[0], held_windows(row["windows"]))
    found = (await books.checked())["valkey"]
    assert found.wrong == 2
    assert {one.mends for one in found.differences} == {"exchange caps rebuild acme"}
    await stage.caps.rebuild(row["buyer_id"])
    assert (await books.checked())["valkey"].wrong == 0


async def test_what_has_moved_by_the_second_look_is_not_told(books: Books) -> None:
    stage = books.stage
    row = await stage.database.fetchrow(
        "SELECT buyer_id FROM attempt WHERE attempt_id = $1", books.attempts[0]
    )
    contract = next(one for one in stage.book.contracts.values() if one.key == "acme-auto")
    held = windows(
        contract, fields={}, price_micros=1, at=stage.clock.now(), zone=contract.time_zone
    )
    token = stage.clock.new_id()
    await stage.caps.reserve(row["buyer_id"], token, held, 60_000)

    async def pause() -> None:
        """Its INTENT failed meanwhile, and the room was given back."""
        await stage.caps.release(row["buyer_id"], token)

    found = await crosscheck(
        buyer_id=None,
        postgres=Crosscheck(stage.database),
        caps=stage.caps,
        wallets=WalletStore(stage.database),
        book=stage.book,
        now=stage.clock.now,
        pause=pause,
    )
    assert [one.wrong for one in found if one.check == "valkey"] == [0]


async def test_a_sale_that_the_journal_does_not_know_is_named(books: Books) -> None:
    """One ping is kept, of a sale of two hours ago whose bid was another; the other sale's is
    gone."""
    known, lost = books.attempts
    ago = books.stage.clock.now() - timedelta(hours=2)
    await books.behind("UPDATE attempt SET created_at = $1 WHERE state = 'sold'", ago)
    await books.behind(
        "INSERT INTO ping (ping_id, day, seller_id, source_id, vertical_id, test, direct,"
        " received_at, fields, gated, outcome, floor_micros, eligible, bids, reason_counts,"
        " book_version, mask_id, took_ms, waited_ms, added_ms, late_ms, worker)"
        " SELECT a.lead_id, a.day, a.seller_id, l.source_id, l.vertical_id, false, false, $2,"
        " '{}', '{}', 'offer', 0, 1, convert_to('{\"ranking\": []}', 'UTF8'), '{}', 1, 0, 1, 1, 1,"
        " 0, 'w' FROM attempt a JOIN lead l USING (lead_id, day) WHERE a.attempt_id = $1",
        known,
        ago,
    )
    found = (await books.checked())["journal"]
    assert {one.subject: one.detail for one in found.differences} == {
        known: "the journal has no such bid",
        lost: "no ping of it is in the journal",
    }
    assert found.looked == 2
