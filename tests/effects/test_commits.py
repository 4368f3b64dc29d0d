"""The group-commit writer on a real Postgres: all of a unit or nothing, once, and caps exact."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest
from msgspec.structs import replace

from exchange.core.reasons import Delivery
from exchange.core.records import CommitAnswer, CommitUnit
from exchange.effects.commits import Commits, CommitsDown
from tests.effects.sales import (
    BUYER,
    OTHER_BUYER,
    PAYOUT,
    PRICE,
    SELLER,
    Sale,
    add_parties,
    new_id,
    state_of,
)

pytestmark = pytest.mark.real


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await add_parties(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def commits(database_url: str, database: asyncpg.Connection) -> AsyncIterator[Commits]:
    commits = await Commits.open(database_url)
    yield commits
    await commits.close()


async def together(commits: Commits, units: list[CommitUnit]) -> list[CommitAnswer]:
    """The answers to units that arrive within one turn of the loop."""
    return list(await asyncio.gather(*(commits.commit(unit) for unit in units)))


async def used(database: asyncpg.Connection, win: str) -> int | None:
    found: int | None = await database.fetchval("SELECT used FROM cap_window WHERE win = $1", win)
    return found


# --- what a unit writes ---------------------------------------------------------------------------


async def test_a_sale_is_written_whole(commits: Commits, database: asyncpg.Connection) -> None:
    sale = Sale()
    assert (await commits.commit(sale.intent())).kind == "done"
    assert (await state_of(database, sale.lead_id)) == {
        "state": "selling", "custody_seq": 2, "custody_head": sale.selling.chain.head,
        "attempts": ["posting"], "transferred": 0, "events": 2, "facts": 1, "idem": "running",
        "slots": [True],
    }  # fmt: skip
    assert (await commits.commit(sale.result(buyer_ref="r\x00f"))).kind == "done"
    assert (await state_of(database, sale.lead_id)) == {
        "state": "sold", "custody_seq": 3, "custody_head": sale.selling.chain.head,
        "attempts": ["sold"], "transferred": PRICE, "events": 3, "facts": 2, "idem": "done",
        "slots": [True],
    }  # fmt: skip
    rows = await database.fetch(
        """SELECT d.party_id AS debit, c.party_id AS credit, t.amount_micros AS amount
           FROM transfer t JOIN account d ON d.id = debit_account
           JOIN account c ON c.id = credit_account WHERE lead_id = $1 ORDER BY amount DESC""",
        sale.lead_id,
    )
    assert [tuple(row) for row in rows] == [(BUYER, SELLER, PAYOUT), (BUYER, 1, PRICE - PAYOUT)]
    booked = await database.fetchrow(
        "SELECT buyer_ref, booked_on = (now() AT TIME ZONE 'UTC')::date AS today FROM attempt "
        "WHERE lead_id = $1",
        sale.lead_id,
    )
    assert booked is not None
    assert tuple(booked) == ("rf", True)  # Postgres holds no NUL; the sale is booked all the same


async def test_after_a_refusal_the_slot_passes_to_the_next_buyer(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sale = Sale()
    await commits.commit(sale.intent())
    next_intent = sale.intent(buyer_id=OTHER_BUYER, refused=True)
    assert (await commits.commit(next_intent)).kind == "done"
    slots = await database.fetch(
        "SELECT slot, attempt_id::text FROM sale_slot WHERE lead_id = $1", sale.lead_id
    )
    assert [tuple(row) for row in slots] == [(1, next_intent.attempts[0].attempt_id)]
    assert (await commits.commit(sale.result(Delivery.NOT_SENT, "unsold"))).kind == "done"
    found = await state_of(database, sale.lead_id)
    assert found["attempts"] == ["rejected", "voided"]
    assert (found["slots"], found["transferred"], found["state"]) == ([False], 0, "unsold")


async def test_the_same_buyer_may_be_next_after_its_own_refusal(commits: Commits) -> None:
    sale = Sale()
    await commits.commit(sale.intent())
    assert (await commits.commit(sale.intent(refused=True))).kind == "done"


async def test_a_lead_nobody_may_buy_is_opened_and_closed_at_once(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sale = Sale()
    assert (await commits.commit(sale.result(state="unsold"))).kind == "done"
    found = await state_of(database, sale.lead_id)
    assert (found["idem"], found["events"], found["slots"]) == ("done", 2, None)


# --- when nothing of it is written ----------------------------------------------------------------


async def test_a_unit_whose_lead_or_attempt_has_moved_on_is_stale(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sale = Sale()
    await commits.commit(sale.intent())
    held = sale.selling
    result = sale.result()
    await commits.commit(result)
    before = await state_of(database, sale.lead_id)
    assert (await commits.commit(result)).kind == "stale"
    late = Sale(lead_id=sale.lead_id)
    late.selling, late.opening, late.attempt = held, None, sale.attempt
    assert (await commits.commit(late.result(Delivery.REJECTED, "unsold"))).kind == "stale"
    assert await state_of(database, sale.lead_id) == before


async def test_a_unit_whose_chain_does_not_follow_is_stale(commits: Commits) -> None:
    sale = Sale()
    await commits.commit(sale.intent())
    result = sale.result()
    assert result.lead_move is not None
    gap = replace(result, lead_move=replace(result.lead_move, custody_seq=7))
    assert (await commits.commit(gap)).kind == "stale"
    assert (await commits.commit(result)).kind == "done"


async def test_a_batch_that_is_not_as_it_says_is_undone_and_all_others_are_written(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sales = [Sale() for _ in range(5)]
    await together(commits, [sale.intent() for sale in sales])
    results = [sale.result() for sale in sales]
    await commits.commit(results[2])
    answers = await together(commits, [*results, Sale().intent()])
    kinds = [one.kind for one in answers]
    assert kinds == ["done", "done", "stale", "done", "done", "done"]
    for sale in sales:
        state = await state_of(database, sale.lead_id)
        assert (state["state"], state["transferred"], state["events"]) == ("sold", PRICE, 3)


async def test_a_key_or_a_lead_that_exists_is_a_conflict(
    commits: Commits, database: asyncpg.Connection
) -> None:
    first, key = Sale(), new_id()
    await commits.commit(first.intent())
    taken = Sale(key=key)
    await commits.commit(taken.intent())
    same_key, same_lead = Sale(key=key), Sale(lead_id=first.lead_id, key=new_id())
    assert (await commits.commit(same_key.intent())).kind == "conflict"
    assert await state_of(database, same_key.lead_id) == {}
    assert (await commits.commit(same_lead.intent())).kind == "conflict"
    assert (await state_of(database, first.lead_id))["events"] == 2


async def test_of_many_requests_with_one_key_one_wins(commits: Commits) -> None:
    key = new_id()
    answers = await together(commits, [Sale(key=key).intent() for _ in range(9)])
    assert Counter(one.kind for one in answers) == {"done": 1, "conflict": 8}


def poisoned(unit: CommitUnit, poison: str) -> CommitUnit:
    """A unit that Postgres must refuse."""
    attempt = unit.attempts[0]
    match poison:
        case "a price that is not payout and fee":
            return replace(unit, attempts=(replace(attempt, fee_micros=1),))
        case "an id that is none":
            return replace(unit, attempts=(replace(attempt, attempt_id="nonsense"),))
        case "a second opening of one lead":
            return replace(unit, custody=(*unit.custody, unit.custody[-1]))
        case "a day outside time":
            return replace(unit, lead_id="ffffffff-ffff-7000-8000-000000000001")
        case "text that is no Unicode":
            return replace(unit, attempts=(replace(attempt, buyer_bid_ref="\ud800"),))
        case _:
            raise LookupError(poison)


@pytest.mark.parametrize(
    "poison",
    ["a price that is not payout and fee", "an id that is none", "a second opening of one lead",
     "a day outside time", "text that is no Unicode"],
)  # fmt: skip
async def test_a_poisoned_unit_alone_is_refused(
    commits: Commits, database: asyncpg.Connection, poison: str
) -> None:
    sales = [Sale() for _ in range(8)]
    units = [sale.intent() for sale in sales]
    units[5] = poisoned(units[5], poison)
    answers = await together(commits, units)
    assert [one.kind for one in answers] == ["done"] * 5 + ["conflict"] + ["done"] * 2
    assert commits.stats.halved >= 1
    for number, sale in enumerate(sales):
        assert bool(await state_of(database, sale.lead_id)) == (number != 5)


async def test_transfers_to_unknown_parties_are_refused_with_all_else(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sale = Sale()
    await commits.commit(sale.intent())
    result = sale.result()
    strange = tuple(replace(one, debit_party=9_999) for one in result.transfers)
    assert (await commits.commit(replace(result, transfers=strange))).kind == "conflict"
    assert (await state_of(database, sale.lead_id))["state"] == "selling"
    assert (await commits.commit(result)).kind == "done"


# --- batches --------------------------------------------------------------------------------------


async def test_what_piles_up_goes_together_but_never_two_units_of_one_lead(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sales = [Sale() for _ in range(50)]
    units = [unit for sale in sales for unit in (sale.intent(), sale.result())]
    answers = await together(commits, units)
    assert {one.kind for one in answers} == {"done"}
    assert commits.stats.units == 100
    assert commits.stats.batches <= 4
    assert commits.stats.units_max <= 50
    for sale in sales:
        assert (await state_of(database, sale.lead_id))["transferred"] == PRICE


async def test_a_batch_is_never_larger_than_its_limit(
    database_url: str, database: asyncpg.Connection
) -> None:
    commits = await Commits.open(database_url, batch_max=7)
    await together(commits, [Sale().intent() for _ in range(30)])
    assert commits.stats.units_max == 7
    await commits.close()


async def test_a_unit_is_carried_out_though_its_caller_gave_up(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sales = [Sale() for _ in range(20)]
    tasks = [asyncio.create_task(commits.commit(sale.intent())) for sale in sales]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await commits.drain()
    for sale in sales:
        assert (await state_of(database, sale.lead_id))["attempts"] == ["posting"]


async def test_a_full_queue_refuses_and_writes_nothing(
    database_url: str, database: asyncpg.Connection
) -> None:
    commits = await Commits.open(database_url, queue_max=3)
    sales = [Sale() for _ in range(5)]
    answers = await asyncio.gather(
        *(commits.commit(sale.intent()) for sale in sales), return_exceptions=True
    )
    assert [type(one) for one in answers] == [CommitAnswer] * 3 + [CommitsDown] * 2
    assert await state_of(database, sales[4].lead_id) == {}
    await commits.close()
    with pytest.raises(CommitsDown, match="stopping"):
        await commits.commit(Sale().intent())


# --- strict caps ----------------------------------------------------------------------------------


async def test_a_cap_of_37_sells_exactly_37_times_to_400_racers_on_two_writers(
    database_url: str, database: asyncpg.Connection
) -> None:
    writers = [await Commits.open(database_url, batch_max=23) for _ in range(2)]
    sales = [Sale() for _ in range(400)]
    answers = await asyncio.gather(
        *(
            writers[number % 2].commit(
                sale.intent(windows=(("race.leads", 37, 1), ("race.money", 10**12, PRICE)))
            )
            for number, sale in enumerate(sales)
        )
    )
    assert Counter(one.kind for one in answers) == {"done": 37, "cap": 363}
    assert {one.win for one in answers if one.kind == "cap"} == {"race.leads"}
    assert await used(database, "race.leads") == 37
    assert await used(database, "race.money") == 37 * PRICE
    claims = await database.fetchval("SELECT count(*) FROM cap_claim WHERE win = 'race.leads'")
    assert claims == 37
    for sale, answer in zip(sales[:60], answers, strict=False):
        assert bool(await state_of(database, sale.lead_id)) == (answer.kind == "done")
    for writer in writers:
        await writer.close()


async def test_room_is_given_out_in_the_order_of_asking_all_windows_or_none(
    commits: Commits, database: asyncpg.Connection
) -> None:
    asked = [
        (("order.a", 5, 3),),
        (("order.a", 5, 3), ("order.b", 9, 1)),
        (("order.a", 5, 2), ("order.b", 9, 1)),
        (("order.a", 5, 1),),
        (("order.b", 9, 1),),
    ]
    answers = await together(commits, [Sale().intent(windows=windows) for windows in asked])
    assert [(one.kind, one.win) for one in answers] == [
        ("done", None), ("cap", "order.a"), ("done", None), ("cap", "order.a"), ("done", None),
    ]  # fmt: skip
    assert (await used(database, "order.a"), await used(database, "order.b")) == (5, 2)


async def test_a_refusal_gives_its_room_back_and_a_sale_does_not(
    commits: Commits, database: asyncpg.Connection
) -> None:
    windows = (("back", 1, 1),)
    refused, sold, late = Sale(), Sale(), Sale()
    await commits.commit(refused.intent(windows=windows))
    assert (await commits.commit(sold.intent(windows=windows))).kind == "cap"
    await commits.commit(refused.result(Delivery.REJECTED, "unsold"))
    assert await used(database, "back") == 0
    again = Sale()
    assert (await commits.commit(again.intent(windows=windows))).kind == "done"
    await commits.commit(again.result())
    assert (await commits.commit(late.intent(windows=windows))).kind == "cap"
    states = await database.fetch("SELECT state FROM cap_claim WHERE win = 'back' ORDER BY at")
    assert sorted(row["state"] for row in states) == ["released", "used"]


async def test_a_doubt_keeps_its_room_until_it_ends(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sale = Sale()
    await commits.commit(sale.intent(windows=(("doubt", 1, 1),)))
    await commits.commit(sale.result(Delivery.UNKNOWN, "in_doubt"))
    assert await used(database, "doubt") == 1
    assert (await commits.commit(Sale().intent(windows=(("doubt", 1, 1),)))).kind == "cap"


async def test_room_taken_and_given_back_in_one_unit_is_counted_once(
    commits: Commits, database: asyncpg.Connection
) -> None:
    sale = Sale()
    await commits.commit(sale.intent(windows=(("both", 9, 4),)))
    next_intent = sale.intent(windows=(("both", 9, 5),), buyer_id=BUYER, refused=True)
    assert (await commits.commit(next_intent)).kind == "done"
    assert await used(database, "both") == 5


async def test_a_stale_unit_takes_no_room_from_those_behind_it(
    commits: Commits, database: asyncpg.Connection
) -> None:
    windows = (("stale", 1, 1),)
    ahead = Sale()
    await commits.commit(ahead.intent())
    stale = ahead.intent(windows=windows, buyer_id=OTHER_BUYER, refused=True)
    assert stale.lead_move is not None
    stale = replace(stale, lead_move=replace(stale.lead_move, old="in_doubt"))
    stale = replace(stale, attempts=(replace(stale.attempts[0], buyer_id=BUYER),))
    behind = [Sale().intent(windows=windows) for _ in range(2)]
    answers = await together(commits, [stale, *behind])
    assert [one.kind for one in answers] == ["stale", "done", "cap"]
    assert await used(database, "stale") == 1


async def test_fast_caps_are_not_the_databases_business(
    commits: Commits, database: asyncpg.Connection
) -> None:
    units = [Sale().intent(windows=(("fast", 1, 1),), cap_mode="fast") for _ in range(3)]
    assert {one.kind for one in await together(commits, units)} == {"done"}
    assert await used(database, "fast") is None


# --- two writers ----------------------------------------------------------------------------------


async def test_two_writers_ending_the_same_leads_in_opposite_order_each_end_a_lead_once(
    database_url: str, database: asyncpg.Connection
) -> None:
    writers = [await Commits.open(database_url, batch_max=16) for _ in range(2)]
    sales = [Sale() for _ in range(60)]
    windows = [(("x", 10**6, 1),), (("y", 10**6, 1),)]
    await together(
        writers[0], [sale.intent(windows=windows[n % 2]) for n, sale in enumerate(sales)]
    )
    results = [sale.result() for sale in sales]
    found = await asyncio.gather(
        *(writers[0].commit(unit) for unit in results),
        *(writers[1].commit(unit) for unit in reversed(results)),
    )
    assert Counter(one.kind for one in found) == {"done": 60, "stale": 60}
    for sale in sales:
        found_state = await state_of(database, sale.lead_id)
        assert (found_state["transferred"], found_state["facts"]) == (PRICE, 2)
    for writer in writers:
        await writer.close()
