"""When Valkey forgets, remembers an older state, or is away: closed, not wrong, until the
database's count is loaded; and what Valkey could not be told, it is told."""

import asyncio
import signal
from datetime import UTC, datetime

import pytest

from exchange.effects.caps import Caps, Full, Rebuilt, Reserved, Unreadable
from exchange.effects.clock import Clock
from exchange.effects.postgres import Database
from tests.effects.capping import (
    DAY,
    LONG_MS,
    NOW_MS,
    TOTAL,
    added_buyer,
    attempt,
    lead,
    new_id,
    opened,
    until,
    window,
)

pytestmark = pytest.mark.real


# --- when Valkey forgets --------------------------------------------------------------------------


async def test_a_flushed_valkey_is_loaded_from_postgres_before_anything_is_sold(
    caps, valkey, rows, buyer
):
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    for state in ("sold", "sold", "unknown", "posting"):
        await attempt(rows, buyer, state, window())
    await attempt(rows, buyer, "rejected", window())
    await attempt(rows, buyer, "sold", window(), test=True)
    await valkey.call("", "FLUSHALL")
    assert isinstance(await caps.reserve(buyer, new_id(), lead(5), LONG_MS), Reserved)
    assert await caps.reserve(buyer, new_id(), lead(5), LONG_MS) == Full(win=DAY)
    assert await caps.counters(buyer) == {DAY: (2, 3)}
    assert await caps.booked(buyer) == {DAY: (2, 2)}  # the last reserve has no INTENT yet


async def test_holds_loaded_from_postgres_stay_until_their_attempts_end(caps, valkey, rows, buyer):
    tokens = [await attempt(rows, buyer, state, window()) for state in ("unknown", "posting")]
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 2)}
    assert await caps.commit(buyer, tokens[0], lead())
    assert await caps.release(buyer, tokens[1])
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}


async def test_a_restarted_valkey_begins_a_new_generation(caps, valkey, rows, buyer, servers):
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    await attempt(rows, buyer, "sold", window())
    servers.restart("valkey")
    await until(lambda: not valkey.up)
    await until(lambda: valkey.up)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    assert caps.rebuilds == 2
    # The hold that was not in Postgres came back with the append-only file, and was carried over.
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 2)}


async def test_an_older_state_betrays_itself_by_its_sequence(caps, valkey, rows, buyer):
    slot = f"{{b:{buyer}}}:c"
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    older = await valkey.call(slot, "DUMP", slot)
    for _ in range(3):
        token = await attempt(rows, buyer, "sold", window())
        await caps.reserve(buyer, token, lead(), LONG_MS)
        await caps.commit(buyer, token, lead())
    await valkey.call(slot, "RESTORE", slot, 0, older, "REPLACE")
    before = caps.rebuilds
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    assert caps.rebuilds == before + 1
    assert await caps.used(buyer, [DAY]) == {DAY: (3, 2)}


async def test_a_sale_that_was_counted_by_a_rebuild_is_not_counted_again(caps, rows, buyer):
    token = await attempt(rows, buyer, "sold", window())
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}
    assert await caps.commit(buyer, token, lead())
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}
    assert await caps.undo(buyer, token, lead())
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 0)}


async def test_a_hold_on_its_way_to_postgres_survives_a_rebuild(caps, buyer):
    running, expired = new_id(), new_id()
    await caps.reserve(buyer, running, lead(), LONG_MS)
    await caps.reserve(buyer, expired, lead(), NOW_MS)
    assert isinstance(await caps.rebuild(buyer), Rebuilt)
    assert await caps.counters(buyer) == {DAY: (0, 1)}
    assert await caps.commit(buyer, running, lead())
    assert await caps.counters(buyer) == {DAY: (1, 0)}


async def test_a_sale_whose_hold_is_still_there_is_counted_once_by_a_rebuild(caps, rows, buyer):
    token = new_id()
    await caps.reserve(buyer, token, lead(), LONG_MS)
    await attempt(rows, buyer, "sold", window(), attempt_id=token)
    await caps.rebuild(buyer)
    assert await caps.counters(buyer) == {DAY: (1, 0)}
    assert await caps.commit(buyer, token, lead())
    assert await caps.counters(buyer) == {DAY: (1, 0)}


async def test_a_refusal_that_the_database_hears_of_late_leaves_no_hold_behind(caps, rows, buyer):
    """A worker told Valkey of the refusal and died before the database knew; a rebuild meanwhile
    holds the room again, and reconcile's release must give it back."""
    token = new_id()
    await caps.reserve(buyer, token, lead(), LONG_MS)
    await attempt(rows, buyer, "unknown", window(), attempt_id=token)
    await caps.release(buyer, token)
    await caps.rebuild(buyer)
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 1)}
    assert await caps.release(buyer, token)
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 0)}


async def test_a_doubt_whose_hold_had_expired_is_held_again_from_postgres(caps, rows, buyer):
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    token = await attempt(rows, buyer, "unknown", window())
    assert await caps.keep(buyer, token)
    assert await caps.counters(buyer) == {DAY: (0, 2)}


async def test_the_fence_of_strict_caps_counts_where_it_has_more(caps, rows, buyer):
    await rows.add("cap_window", buyer_id=buyer, win=DAY, used=4)
    await attempt(rows, buyer, "sold", window(), cap_mode="strict")
    await attempt(rows, buyer, "posting", window(), cap_mode="strict")
    assert await caps.counters(buyer) == {DAY: (3, 1)}


async def test_an_undone_sale_is_not_counted_by_a_rebuild(caps, rows, buyer):
    await attempt(rows, buyer, "sold", window())
    undone = await attempt(rows, buyer, "sold", window())
    await rows.add("cap_claim", buyer_id=buyer, win=DAY, attempt_id=undone, state="released")
    assert await caps.counters(buyer) == {DAY: (1, 0)}
    assert await caps.undo(buyer, undone, lead())
    assert await caps.counters(buyer) == {DAY: (1, 0)}


async def test_totals_count_sales_older_than_any_month(caps, rows, buyer):
    await rows.add("vertical", id=buyer, key=f"v{buyer}")
    await rows.add("contract", id=buyer, key=f"c{buyer}", buyer_id=buyer, vertical_id=buyer)
    await rows.add("market_version", version=buyer, toml="", source="file", by="test")
    old = datetime(2026, 1, 1, tzinfo=UTC)
    await attempt(rows, buyer, "sold", window(win=TOTAL), created_at=old)
    assert await caps.counters(buyer) == {}
    await rows.add(
        "contract_version",
        contract_id=buyer,
        version=1,
        market_version=buyer,
        doc={"caps": [{"leads": 5, "per": "total"}]},
    )
    await caps.rebuild(buyer)
    assert await caps.counters(buyer) == {TOTAL: (1, 0)}


async def test_thousands_of_segments_are_loaded(caps, rows, buyer):
    wins = [f"{n}.{DAY[2:]}" for n in range(1_200)]
    for start in range(0, 1_200, 400):
        part = [window(win=win) for win in wins[start : start + 400]]
        await attempt(rows, buyer, "sold", *part)
    counters = await caps.counters(buyer)
    assert counters == dict.fromkeys(wins, (1, 0))


# --- one rebuilder, the others wait --------------------------------------------------------------


async def test_of_two_processes_one_rebuilds_and_the_other_takes_over(
    caps, valkey, valkey_url, database, buyer
):
    other_valkey = await opened(valkey_url)
    other = Caps(other_valkey, database, Clock())
    results = await asyncio.gather(
        *(one.reserve(buyer, new_id(), lead(37), LONG_MS) for one in (caps, other) * 50)
    )
    assert sum(isinstance(one, Reserved) for one in results) == 37
    assert caps.rebuilds + other.rebuilds == 1
    await other.rebuild(buyer)
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 37)}
    assert caps.rebuilds + other.rebuilds == 2
    await other.close()
    await other_valkey.close()


async def test_while_another_rebuilds_a_buyer_is_closed_a_bounded_time(
    valkey, database, buyer, app, rows
):
    caps, other = Caps(valkey, database, Clock(), wait_ms=50), await added_buyer(rows)
    await app.execute("INSERT INTO cap_generation (buyer_id) VALUES ($1)", buyer)
    elected = app.transaction()
    await elected.start()
    await app.execute("SELECT FROM cap_generation WHERE buyer_id = $1 FOR UPDATE", buyer)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Unreadable)
    assert isinstance(await caps.reserve(other, new_id(), lead(), LONG_MS), Reserved)
    await elected.rollback()
    await until(lambda: not caps._rebuilds)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    await caps.close()


async def test_the_late_calls_of_an_older_rebuild_are_refused(caps, valkey, buyer):
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    keys = [f"{{b:{buyer}}}:{part}" for part in "chx"]
    assert (await valkey.script("restore", keys, ("begin", "older", 0)))[0] == b"OK"
    assert (await valkey.script("restore", keys, ("begin", "newer", 0)))[0] == b"OK"
    for late in (("load", "older", "used", DAY, "9@0"), ("open", "older", 1, 1_000)):
        assert await valkey.script("restore", keys, late) == [b"STALE"]
    # Nobody opened it: the buyer is closed until the next rebuild.
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    assert caps.rebuilds == 2


async def test_sales_during_which_valkey_is_flushed_end_with_both_counting_the_same(
    caps, valkey, rows, buyer, database
):
    """Beyond the limit at most those posts that were between reserve and INTENT at the flush."""
    limit, between, at_flush = 37, set(), []

    async def post(number: int) -> bool:
        token = new_id()
        if number == 60:
            await valkey.call("", "FLUSHALL")
            at_flush.append(len(between))
        if not isinstance(await caps.reserve(buyer, token, lead(limit), LONG_MS), Reserved):
            return False
        between.add(token)
        async with writing:
            await attempt(rows, buyer, "sold", window(limit), attempt_id=token)
        between.discard(token)
        return await caps.commit(buyer, token, lead(limit))

    writing = asyncio.Lock()
    sold = []
    for start in range(0, 120, 20):
        sold += await asyncio.gather(*(post(start + n) for n in range(20)))
    assert 37 <= sum(sold) <= 37 + at_flush[0]
    assert await caps.counters(buyer) == await caps.booked(buyer) == {DAY: (sum(sold), 0)}


# --- when a server is away -----------------------------------------------------------------------


async def test_without_valkey_nothing_is_sold_and_what_happened_is_told_afterwards(
    caps, valkey, rows, buyer, servers
):
    sold, unsold = [await attempt(rows, buyer, "posting", window()) for _ in range(2)]
    for token in (sold, unsold):
        await caps.reserve(buyer, token, lead(), LONG_MS)
    servers.kill("valkey")
    try:
        await until(lambda: not valkey.up)
        assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Unreadable)
        assert not await caps.commit(buyer, sold, lead())
        assert not await caps.release(buyer, unsold)
        assert await caps.used(buyer, [DAY]) == {}
        assert isinstance(await caps.counters(buyer), Unreadable)
        assert isinstance(await caps.rebuild(buyer), Unreadable)
        assert caps.untold == 2
    finally:
        servers.restart("valkey")
    await until(lambda: not caps.untold)
    assert await caps.counters(buyer) == {DAY: (1, 0)}


async def test_a_reserve_without_an_answer_is_released_when_valkey_hears_again(
    valkey_url, database, buyer, servers
):
    valkey = await opened(valkey_url, timeout_ms=300)
    caps = Caps(valkey, database, Clock(), retell_ms=1)
    await caps.reserve(buyer, new_id(), lead(), NOW_MS)  # the server knows the script from here on
    servers.kill("valkey", signal.SIGSTOP)
    try:
        answer = await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    finally:
        servers.kill("valkey", signal.SIGCONT)
    assert isinstance(answer, Unreadable)
    await until(lambda: not caps.untold)
    assert await caps.counters(buyer) == {DAY: (0, 0)}
    assert caps.rebuilds == 1
    await caps.close()
    await valkey.close()


@pytest.mark.parametrize("is_retried", [True, False])
async def test_a_hold_that_came_with_an_offer_outlives_a_fault_and_is_found_by_the_retry(
    valkey_url, database, buyer, servers, is_retried
):
    """What is released never holds again: so a retry would find its own token ended."""
    valkey = await opened(valkey_url, timeout_ms=300)
    caps, token = Caps(valkey, database, Clock(), retell_ms=1), new_id()
    await caps.reserve(buyer, token, lead(1), LONG_MS)
    servers.kill("valkey", signal.SIGSTOP)
    try:
        fault = await caps.reserve(buyer, token, lead(1), LONG_MS, is_retried=is_retried)
    finally:
        servers.kill("valkey", signal.SIGCONT)
    assert isinstance(fault, Unreadable)
    await until(lambda: not caps.untold)
    retry = await caps.reserve(buyer, token, lead(1), LONG_MS, is_retried=is_retried)
    assert isinstance(retry, Reserved if is_retried else Unreadable)
    assert await caps.counters(buyer) == {DAY: (0, 1 if is_retried else 0)}
    await caps.close()
    await valkey.close()


async def test_a_release_that_nobody_waits_for_is_told_all_the_same(caps, buyer):
    token = new_id()
    await caps.reserve(buyer, token, lead(1), LONG_MS)
    caps.release_soon(buyer, token)
    assert caps.untold == 1
    await until(lambda: not caps.untold)
    assert await caps.counters(buyer) == {DAY: (0, 0)}


async def test_without_postgres_a_forgetful_valkey_stays_closed(
    valkey, valkey_url, database_url, buyer
):
    database = await Database.open(database_url, role="exchange_app", size=1)
    caps = Caps(valkey, database, Clock())
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    await database.close()
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    await valkey.call("", "FLUSHALL")
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Unreadable)
    assert not await caps.commit(buyer, new_id(), lead())
    await caps.close()


async def test_a_buyer_that_the_market_does_not_know_has_no_room(caps):
    assert isinstance(await caps.reserve(999_999, new_id(), lead(), LONG_MS), Unreadable)


async def test_what_is_untold_has_a_bound_and_what_falls_out_is_counted(
    valkey, database_url, buyer
):
    database = await Database.open(database_url, role="exchange_app", size=1)
    await database.close()
    caps = Caps(valkey, database, Clock(), untold_max=2, retell_ms=LONG_MS)
    for _ in range(3):
        assert not await caps.release(buyer, new_id())
    assert (caps.untold, caps.dropped) == (2, 1)
    await caps.close()
