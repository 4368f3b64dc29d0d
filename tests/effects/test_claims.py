"""One consumer, many leads at once: the fence lets one of them be sold."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import asyncpg
import pytest

from exchange.core.reasons import Delivery
from exchange.effects.commits import Commits
from tests.effects.conftest import Rows
from tests.effects.sales import Sale, add_parties

pytestmark = pytest.mark.real

RACERS = 40
Windows = tuple[tuple[str, int, int], ...]
_numbers = count(1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await add_parties(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def writers(database_url: str, database: asyncpg.Connection) -> AsyncIterator[list[Commits]]:
    """Three workers' writers."""
    writers = [await Commits.open(database_url) for _ in range(3)]
    yield writers
    for writer in writers:
        await writer.close()


@pytest.fixture(params=[(), (("claims.1.total", 10_000, 1),)], ids=["no caps", "a strict cap"])
def windows(request: pytest.FixtureRequest) -> Windows:
    """What the INTENTs hold: with strict caps they are written by another statement."""
    found: Windows = request.param
    return found


def consumer() -> str:
    """Somebody new."""
    return "\\x" + f"{next(_numbers):064x}"


async def kinds(writers: list[Commits], sales: list[Sale], windows: Windows = ()) -> Counter[str]:
    """What the INTENTs of these leads are answered, sent all at once and by turns."""
    units = [sale.intent(windows=windows) for sale in sales]
    answers = await asyncio.gather(
        *(writers[n % len(writers)].commit(unit) for n, unit in enumerate(units))
    )
    return Counter(answer.kind for answer in answers)


async def test_of_many_leads_of_one_consumer_one_is_sold(
    writers: list[Commits], database: asyncpg.Connection, windows: Windows
) -> None:
    who = consumer()
    sales = [Sale(consumer=who) for _ in range(RACERS)]
    assert await kinds(writers, sales, windows) == {"done": 1, "duplicate": RACERS - 1}
    leads = await database.fetch(
        "SELECT lead_id FROM person_key WHERE hmac = $1", bytes.fromhex(who[2:])
    )
    assert len(leads) == 1, "nothing is kept of a lead that was refused"


async def test_many_consumers_of_two_leads_each_are_sold_once_each(
    writers: list[Commits], windows: Windows
) -> None:
    people = [consumer() for _ in range(RACERS)]
    sales = [Sale(consumer=who) for who in people + people[::-1]]
    assert await kinds(writers, sales, windows) == {"done": RACERS, "duplicate": RACERS}


async def test_direct_leads_are_fenced_when_they_leave_not_when_they_arrive(
    writers: list[Commits], windows: Windows
) -> None:
    who = consumer()
    sales = [Sale(consumer=who) for _ in range(6)]
    for sale in sales:
        assert (await writers[0].commit(sale.received())).kind == "done"
    assert await kinds(writers, sales, windows) == {"done": 1, "duplicate": 5}


@pytest.mark.parametrize(
    ("delivery", "state", "second"),
    [
        (Delivery.REJECTED, "unsold", "done"),
        (Delivery.ACCEPTED, "sold", "duplicate"),
        (Delivery.UNKNOWN, "in_doubt", "duplicate"),
    ],
)
async def test_once_the_first_ended_unsold_the_second_may_be_sold(
    writers: list[Commits], delivery: Delivery, state: Any, second: str
) -> None:
    who = consumer()
    first = Sale(consumer=who)
    await kinds(writers, [first])
    assert await kinds(writers[1:], [Sale(consumer=who)]) == {"duplicate": 1}, "it is being sold"
    await writers[0].commit(first.result(delivery, state))
    assert await kinds(writers[1:], [Sale(consumer=who)]) == {second: 1}


async def test_the_next_buyer_of_one_lead_is_no_duplicate_of_the_one_before(
    writers: list[Commits],
) -> None:
    sale = Sale(consumer=consumer())
    await kinds(writers, [sale])
    assert (await writers[1].commit(sale.intent(buyer_id=4, refused=True))).kind == "done"


async def test_what_is_committed_while_a_claim_waits_is_seen_and_others_do_not_wait(
    writers: list[Commits], app: asyncpg.Connection, database: asyncpg.Connection, windows: Windows
) -> None:
    who, first = consumer(), Sale()
    async with app.transaction():
        await app.execute(
            "SELECT claim_persons(jsonb_build_array(jsonb_build_object('lead_id', $1::text,"
            " 'vertical_id', 1, 'hmac', $2::text, 'since', now())), current_date, current_date)",
            first.lead_id,
            who,
        )
        waiting = asyncio.create_task(kinds(writers[:1], [Sale(consumer=who)], windows))
        while not await database.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
        ):
            assert not waiting.done()
        assert await kinds(writers[1:2], [Sale(consumer=consumer())], windows) == {"done": 1}
        rows = Rows(app)
        await rows.add("lead", lead_id=first.lead_id)
        await rows.add(
            "person_key",
            lead_id=first.lead_id,
            vertical_id=1,
            kind="phone",
            pepper_epoch=1,
            hmac=bytes.fromhex(who[2:]),
        )
    assert await waiting == {"duplicate": 1}
